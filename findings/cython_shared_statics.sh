#!/bin/sh
# Cython 3.2.4, two C++ extension modules that include one header, g++ on Linux, CPython:
#
#     one.count()  1
#     two.count()  2        a static variable of an inline function, each module counting for itself
#
# CPython loads extension modules with RTLD_LOCAL, so one would expect each to have the header's
# variable for itself, as `static inline` functions do. But g++ marks a static of an inline function
# (and static members of templates) as a unique symbol, STB_GNU_UNIQUE, which the loader makes one in
# the whole process whatever the flags: builds of one header for several instruction sets share it,
# and a table whose length depends on the build is then as long as the first build made it. Compiled
# with -fno-gnu-unique each module counts from 1. The script fails where this is not so any more.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet cython==3.2.4 setuptools==80.9.0
cd "$folder"
cat > counter.h <<'END'
inline int next_number() {
    static int number = 0;
    return ++number;
}
END
for name in one two; do
    cat > "$name.pyx" <<'END'
# distutils: language = c++
cdef extern from "counter.h":
    int next_number()


def count():
    return next_number()
END
done
build() {
    rm -rf build ./*.cpp ./*.so
    CFLAGS="$1" CXXFLAGS="$1" "$python" -m Cython.Build.Cythonize --quiet --inplace one.pyx two.pyx > log 2>&1 ||
        { cat log; exit 1; }
    "$python" -c 'import one, two; print(one.count(), two.count())'
}
shared=$(build "-O2 -I$folder")
apart=$(build "-O2 -I$folder -fno-gnu-unique")
echo "as usual:             $shared"
echo "with -fno-gnu-unique: $apart"
[ "$shared" = "1 2" ] || { echo "changed: the modules do not share it"; exit 1; }
[ "$apart" = "1 1" ] || { echo "changed: they share it all the same"; exit 1; }
