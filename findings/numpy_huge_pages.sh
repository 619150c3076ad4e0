#!/bin/sh
# NumPy 2.4.6 on Linux, CPython; what /proc/self/smaps says of the memory:
#
#     np.empty of 2 or 3 MiB             huge pages not asked for
#     np.empty of 4 MiB and more         asked for (flag "hg")
#     malloc of 16 MiB, as extensions    not asked for
#
# Where transparent huge pages are set to "madvise", as many distributions have it, an array that is
# as long as a huge page (2 MiB) has none, one of twice that length has, and a copy that compiled code
# makes of it never has: the same loop then reads the copy at another speed than the array. Code that
# reads large buffers again and again calls madvise(MADV_HUGEPAGE) itself. Only the request is looked
# at here, not the speed. The script fails where NumPy's limit is another.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import ctypes

import numpy as np

MIB = 1 << 20


def asked(address):
    """Whether huge pages were asked for where this address lies."""
    here = False
    with open("/proc/self/smaps") as maps:
        for line in maps:
            words = line.split()
            if not words[0].endswith(":"):
                begin, end = (int(word, 16) for word in words[0].split("-"))
                here = begin <= address < end
            elif here and words[0] == "VmFlags:":
                return "hg" in words
    raise SystemExit("smaps does not know the address")


found = {}
for size in (2, 3, 4, 16):
    array = np.empty(size * MIB, np.uint8)
    found[f"np.empty of {size} MiB"] = asked(array.ctypes.data + array.nbytes // 2)
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
found["malloc of 16 MiB"] = asked(libc.malloc(16 * MIB) + 8 * MIB)
for what, yes in found.items():
    print(what, "asked for" if yes else "not asked for")
assert list(found.values()) == [False, False, True, True, False], "another behaviour"
END
