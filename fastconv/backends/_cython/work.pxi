# Memory and threads of one call.
#
# A kernel cuts its work into units, thread t of a team takes units [share(t), share(t + 1)):
# fixed and contiguous, so that sums are the same in every run. Where each unit has outputs of its
# own, a thread that is done goes on with what others have left (`next_unit`): processors seldom
# run at one speed, and nobody should wait for the slowest. What a thread writes to is reached by its
# number t. A team of one enters no parallel region, so it is safe in a forked child, where
# the threads of the parent are missing.

cdef enum:
    ALIGNMENT = 64
    SPARES = 16
    SPARE_BYTES = 1 << 26  # of all spares

cdef ptrdiff_t grain = 1  # values to touch, or vector multiply-adds, that outweigh waking a thread


def set_grain(ptrdiff_t values):
    """So many, from now on; see `fastconv.backends.shared.work`."""
    global grain
    grain = values


# Memory that calls are done with, for the calls to come: a page that the system has just given
# costs more to touch for the first time than most kernels do with it. Guarded by the GIL.

cdef struct Spare:
    void* memory
    ptrdiff_t bytes

cdef Spare[SPARES] spares


cdef void* take_memory(ptrdiff_t* bytes) noexcept:
    """The smallest spare that has so many bytes, else new ones; NULL where there are none."""
    cdef Spare* best = NULL
    cdef void* memory
    cdef int i
    for i in range(SPARES):
        if spares[i].bytes >= bytes[0] and (best == NULL or spares[i].bytes < best.bytes):
            best = &spares[i]
    if best == NULL or best.bytes // 4 > bytes[0]:
        return malloc(bytes[0])
    memory, bytes[0] = best.memory, best.bytes
    best.memory, best.bytes = NULL, 0
    return memory


cdef void give_memory(void* memory, ptrdiff_t bytes) noexcept:
    """Keep it in the place of the smallest spare, unless it is smaller, or too much."""
    cdef Spare* least = &spares[0]
    cdef ptrdiff_t kept = 0
    cdef int i
    for i in range(SPARES):
        kept += spares[i].bytes
        if spares[i].bytes < least.bytes:
            least = &spares[i]
    if bytes < least.bytes or kept - least.bytes + bytes > SPARE_BYTES:
        free(memory)
        return
    free(least.memory)
    least.memory, least.bytes = memory, bytes


cdef class Scratch:
    """Uninitialised memory for one call: `parts` of at least `bytes` each."""

    cdef void* memory
    cdef ptrdiff_t bytes
    cdef char* start
    cdef ptrdiff_t step

    def __cinit__(self, ptrdiff_t bytes, ptrdiff_t parts = 1):
        self.step = (bytes + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        self.bytes = self.step * parts + ALIGNMENT
        self.memory = take_memory(&self.bytes)
        if self.memory == NULL:
            raise MemoryError(f"no memory for {self.step * parts} bytes of scratch")
        self.start = <char*> self.memory + ALIGNMENT - <size_t> self.memory % ALIGNMENT

    def __dealloc__(self):
        if self.memory != NULL:
            give_memory(self.memory, self.bytes)


cdef inline int team_size(int threads, ptrdiff_t units, ptrdiff_t work) noexcept nogil:
    """How many threads are worth waking for so many units and so much work in all."""
    return <int> max(1, min(threads, min(units, work // grain)))


cdef inline ptrdiff_t share(ptrdiff_t units, int t, int team) noexcept nogil:
    """First unit of thread t."""
    return units * t // team


cdef extern from * nogil:
    """
    // The next number below `end`, or one that is not; each goes to one thread only.
    static inline ptrdiff_t take(ptrdiff_t* next, ptrdiff_t end) {
        if (__atomic_load_n(next, __ATOMIC_RELAXED) >= end) return end;
        return __atomic_fetch_add(next, 1, __ATOMIC_RELAXED);
    }
    """
    ptrdiff_t take(ptrdiff_t*, ptrdiff_t) noexcept


cdef Scratch deal(ptrdiff_t units, int team):
    """The shares of all threads for `next_unit`: first unit and end, each in a line of its own."""
    cdef Scratch shares = Scratch(2 * sizeof(ptrdiff_t), team)
    cdef ptrdiff_t* one
    cdef int t
    for t in range(team):
        one = <ptrdiff_t*> (shares.start + t * shares.step)
        one[0], one[1] = share(units, t, team), share(units, t + 1, team)
    return shares


cdef inline ptrdiff_t next_unit(char* shares, int t, int team) noexcept nogil:
    """A unit of thread t's share, or else of another's, or -1 when all are taken."""
    cdef ptrdiff_t* one
    cdef ptrdiff_t unit
    cdef int i
    for i in range(team):
        one = <ptrdiff_t*> (shares + (t + i) % team * ALIGNMENT)
        unit = take(one, one[1])
        if unit < one[1]:
            return unit
    return -1
