# Memory and threads of one call.
#
# A kernel cuts its work into parts, and a team runs them (team.h): part t of a crew takes units
# [share(t), share(t + 1)), fixed and contiguous, so that sums are the same in every run. Where each
# unit has outputs of its own, who is done goes on with what others have left (`next_unit`):
# processors seldom run at one speed, and nobody should wait for the slowest. What a part writes to is
# reached by its number t. A crew of one is the caller alone.
#
#     cdef struct Things:                      all that the parts need, by value: a recording keeps
#         ...                                  a copy of it, and pointers only to arrays and Scratch
#     cdef void do_things(const real* type_of, const Things* w, int t, const Crew* crew) noexcept nogil
#     run_parts(<Part> do_things[real], &w, team, units)
#
# A recording knows of nothing else: what a kernel does with numbers outside of parts, however
# little, is not done again. So even that is a part, of a crew of one.

cdef extern from "team.h" nogil:
    cdef struct Crew:
        int size

    ctypedef void (*Part)(const void*, void*, int, const Crew*) noexcept

    cdef cppclass Recording "team::Recording":
        bint weights_stay
        void run() noexcept
        void* take_new(ptrdiff_t) noexcept
        void* take(ptrdiff_t*) noexcept
        void give(void*, ptrdiff_t) noexcept

    void* new_memory "team::new_memory" (ptrdiff_t) noexcept
    Recording* recording "team::recording" () noexcept
    void set_recording "team::set_recording" (Recording*) noexcept
    void record_only_if "team::only_if" (const ptrdiff_t*, ptrdiff_t) noexcept
    bint is_due "team::due" () noexcept
    void clear_flag "team::clear_flag" (ptrdiff_t*) noexcept
    void run_parts[Work](Part, Work*, int, ptrdiff_t) noexcept
    void run_on_weights[Work](Part, Work*, int, ptrdiff_t) noexcept
    ptrdiff_t share(ptrdiff_t, int, int) noexcept
    ptrdiff_t next_unit(const Crew*, int) noexcept

cdef enum:
    ALIGNMENT = 64
    SPARES = 16
    SPARE_BYTES = 1 << 26  # of all spares
    GUARD = 4096  # bytes at least behind each part
    GUARDED = 0x5A
    AWAKE = 8  # times as little work is worth a thread that is awake, as in a program

cdef ptrdiff_t grain = 1  # values to touch, or vector multiply-adds, that outweigh waking a thread


def set_grain(ptrdiff_t values):
    """So many, from now on; see `fastconv.backends.shared.work`."""
    global grain
    grain = values


# For tests: what is written behind a part of scratch overwrites a guard.

cdef bint guarded = False
cdef long long overruns = 0


def guard_scratch(bint on):
    """Put guards behind scratch from now on, outside of recordings; count anew."""
    global guarded, overruns
    guarded, overruns = on, 0


def scratch_overruns():
    """Behind how many parts of scratch something was written."""
    return overruns


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
        return new_memory(bytes[0])
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


cdef struct Room:
    char* start
    ptrdiff_t size  # of a part
    ptrdiff_t step  # from one part's to the next one's


cdef inline void* room_of(const Room* room, int t) noexcept nogil:
    """What is part t's."""
    return room.start + t * room.step


cdef class Scratch:
    """Uninitialised memory for one call: `parts` of at least `bytes` each.

    In a recording it is the next call's afterwards, unless it holds what is made of weights, and
    these stay as they are.
    """

    cdef void* memory
    cdef ptrdiff_t bytes
    cdef Recording* keeper
    cdef bint of_weights
    cdef char* start
    cdef ptrdiff_t size
    cdef ptrdiff_t step
    cdef ptrdiff_t guards  # how many

    def __cinit__(self, ptrdiff_t bytes, ptrdiff_t parts = 1, bint of_weights = False):
        cdef ptrdiff_t t
        self.keeper = recording()
        self.guards = parts if guarded and self.keeper == NULL else 0
        self.size = bytes
        self.step = (bytes + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        if self.guards > 0:
            self.step += GUARD
        self.bytes = self.step * parts + ALIGNMENT
        self.of_weights = of_weights and self.keeper != NULL and self.keeper.weights_stay
        if self.keeper == NULL:
            self.memory = take_memory(&self.bytes)
        elif self.of_weights:  # what other calls work in would not stay as it is
            self.memory = self.keeper.take_new(self.bytes)
        else:
            self.memory = self.keeper.take(&self.bytes)
        if self.memory == NULL:
            raise MemoryError(f"no memory for {self.step * parts} bytes of scratch")
        self.start = <char*> self.memory + ALIGNMENT - <size_t> self.memory % ALIGNMENT
        for t in range(self.guards):
            memset(self.start + t * self.step + self.size, GUARDED, self.step - self.size)

    def __dealloc__(self):
        global overruns
        cdef ptrdiff_t t, i
        if self.memory == NULL:
            return
        for t in range(self.guards):
            for i in range(self.size, self.step):
                if self.start[t * self.step + i] != GUARDED:
                    overruns += 1
                    break
        if self.keeper == NULL:
            give_memory(self.memory, self.bytes)
        elif not self.of_weights:
            self.keeper.give(self.memory, self.bytes)

    cdef Room room(self):
        cdef Room room
        room.start, room.size, room.step = self.start, self.size, self.step
        return room


cdef inline int team_size(int threads, ptrdiff_t units, ptrdiff_t work) noexcept nogil:
    """How many threads are worth waking for so many units and so much work in all."""
    cdef ptrdiff_t least = grain if recording() == NULL else max(1, grain // AWAKE)
    return <int> max(1, min(threads, min(units, work // least)))


cdef inline int summing_team_size(int threads, ptrdiff_t units, ptrdiff_t work) noexcept nogil:
    """`team_size` where each part makes a sum of its own: a program must add up as one call does."""
    return <int> max(1, min(threads, min(units, work // grain)))
