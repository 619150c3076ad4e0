#!/bin/sh
# setuptools 84.2.1 (CPython 3.11): a subclass of build_ext that asks, while it builds, whether it was
# called with --inplace.
#
# One would expect self.inplace to be 1 from finalize_options to the end of run. Seen: it is 1 before
# run, 0 in build_extensions and build_extension, and 1 again when the results are copied: run takes
# the option back, builds into the build folder, and copies from there. Flags that depend on it there,
# such as -s for what is installed but not for a checkout, are those of an installation, with no word.
# The script fails where this is not so any more.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet setuptools==84.2.1
cat > "$folder/setup.py" <<'END'
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class Asks(build_ext):
    def run(self):
        print("run", int(self.inplace))
        super().run()

    def build_extension(self, ext):
        print("build_extension", int(self.inplace))

    def copy_extensions_to_source(self):
        print("copy_extensions_to_source", int(self.inplace))


setup(name="asks", version="1", ext_modules=[Extension("asks", ["asks.c"])], cmdclass={"build_ext": Asks})
END
cd "$folder"
seen=$(venv/bin/python setup.py --quiet build_ext --inplace 2>/dev/null | tr '\n' ' ')
echo "inplace: $seen"
[ "$seen" = "run 1 build_extension 0 copy_extensions_to_source 1 " ] || { echo "changed"; exit 1; }
