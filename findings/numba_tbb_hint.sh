#!/bin/sh
# Numba 0.68.1 (wheels of PyPI, Linux, CPython 3.11), with NUMBA_THREADING_LAYER=tbb and no TBB:
#
#     ValueError: No threading layer could be loaded.
#     HINT:
#     Intel TBB is required, try:
#     $ conda/pip install tbb
#
# One would expect the hint to help. After `pip install tbb` (2023.2.0) the same error comes with
# the same hint: the wheel puts libtbb.so.12 into PREFIX/lib, where the loader does not look for
# what Numba's tbbpool needs (ldd: "libtbb.so.12 => not found"). It works once LD_LIBRARY_PATH names
# that folder. The script fails where this is not so any more.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet numba==0.68.1 tbb==2023.2.0
cat > "$folder/sum.py" <<'END'
import numba
import numpy as np


@numba.njit(parallel=True)
def total(x):
    s = 0.0
    for i in numba.prange(len(x)):
        s += x[i]
    return s


try:
    print(total(np.ones(9)), numba.threading_layer())
except ValueError as error:
    print(" ".join(str(error).split()))
END
export NUMBA_THREADING_LAYER=tbb
seen=$("$python" "$folder/sum.py")
helped=$(LD_LIBRARY_PATH="$folder/venv/lib" "$python" "$folder/sum.py")
echo "after pip install tbb:         $seen"
echo "with LD_LIBRARY_PATH as well:  $helped"
case "$seen" in *"try: \$ conda/pip install tbb"*) ;; *) echo "changed: the hint helps now"; exit 1 ;; esac
[ "$helped" = "9.0 tbb" ] || { echo "changed: the library's folder does not help"; exit 1; }
