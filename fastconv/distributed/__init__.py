"""Data-parallel training on MPI: several processes, on one machine or many, train one network.

Each process (a rank) makes the same network and the same Trainer, with
``distributed=DataParallel()``, and computes the gradient of its share of every batch. The sum of
these gradients, weighted by the sizes of the shares, is that of the batch. Every rank takes the
optimizer's step with it, so that all have the same weights. Batches, augmentation and dropout masks
are drawn for the whole batch on every rank, as one process draws them: the number of ranks changes
nothing but rounding. Batch normalisation is the exception: each rank normalises by its share of the
batch, unless the Trainer is told ``sync_batchnorm=True``.

Start the ranks with the launcher of an MPI: ``mpiexec -n 4 python train.py``. Needs mpi4py.
"""

from .data_parallel import DataParallel

__all__ = ["DataParallel"]
