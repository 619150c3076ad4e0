# Memory and threads of one call.
#
# A kernel cuts its work into units, thread t of a team takes units [share(t), share(t + 1)):
# fixed and contiguous, so that sums are the same in every run. What a thread writes to is
# reached by its number t. A team of one enters no parallel region, so it is safe in a
# forked child, where the threads of the parent are missing.

cdef enum:
    ALIGNMENT = 64
    GRAIN = 1 << 15  # values to touch, or vector multiply-adds, that outweigh waking a thread


cdef class Scratch:
    """Uninitialised memory for one call: `parts` of at least `bytes` each."""

    cdef void* memory
    cdef char* start
    cdef ptrdiff_t step

    def __cinit__(self, ptrdiff_t bytes, ptrdiff_t parts = 1):
        self.step = (bytes + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        self.memory = malloc(self.step * parts + ALIGNMENT)
        if self.memory == NULL:
            raise MemoryError(f"no memory for {self.step * parts} bytes of scratch")
        self.start = <char*> self.memory + ALIGNMENT - <size_t> self.memory % ALIGNMENT

    def __dealloc__(self):
        free(self.memory)


cdef inline int team_size(int threads, ptrdiff_t units, ptrdiff_t work) noexcept nogil:
    """How many threads are worth waking for so many units and so much work in all."""
    return <int> max(1, min(threads, min(units, work // GRAIN)))


cdef inline ptrdiff_t share(ptrdiff_t units, int t, int team) noexcept nogil:
    """First unit of thread t."""
    return units * t // team
