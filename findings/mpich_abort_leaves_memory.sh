#!/bin/sh
# MPICH 5.0.2 (by mpi4py 4.1.2; CPython 3.11, Linux x86-64): what MPI_Abort leaves in /dev/shm.
#
# One would expect that the launcher, which ends all ranks and cleans up after them, also frees the memory that they
# shared. Seen: each run of two ranks that one of them ends by Abort leaves a file mpich_shm_* of 2 MB there, for good; a
# run that ends by itself leaves none, and so does memory of MPI_Win_allocate_shared. Where /dev/shm has 64 MB, as by
# default in Docker's containers, some 30 such runs fill it. The script removes the files that it caused, so it is not to
# run beside other MPI programs, and fails where an aborted run leaves none, or one that ends by itself leaves some.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet mpi4py==4.1.2 mpich==5.0.2 numpy==2.4.6
cat > "$folder/run.py" <<'END'
import sys

import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
window = MPI.Win.Allocate_shared(8 << 20, 1, comm=comm)
np.frombuffer(window.Shared_query(comm.rank)[0], np.uint8)[:] = 1
comm.Barrier()
if sys.argv[1] == "abort" and comm.rank == 1:
    comm.Abort(3)
comm.Barrier()
window.Free()
END
left() {
    find /dev/shm -name 'mpich_shm_*' | sort > "$folder/before"
    "$folder/venv/bin/mpiexec" -n 2 "$folder/venv/bin/python" "$folder/run.py" "$1" > "$folder/said" 2>&1 || true
    find /dev/shm -name 'mpich_shm_*' | sort | comm -13 "$folder/before" - > "$folder/new"
    find $(cat "$folder/new") /dev/null -maxdepth 0 -type f -printf '%s\n' | awk -v how="$1" '
        { bytes += $1 } END { printf "%s: %d files, %.1f MB\n", how, NR, bytes / 1e6 }'
    files=$(wc -l < "$folder/new")
    xargs -r rm -f < "$folder/new"
}
left end
[ "$files" = 0 ] || { echo "changed"; exit 1; }
left abort
[ "$files" = 1 ] || { echo "changed"; exit 1; }
