# Calls of kernels that are recorded once, and run from then on without Python between them.
#
# A kernel's parts are recorded as they run (team.h): with the arrays that the call was given, in
# scratch that belongs to the recording, and with the weights that were packed for it.

cdef enum:
    AXES = 8

cdef struct Move:
    int axes
    ptrdiff_t[AXES] shape
    ptrdiff_t[AXES] source_step  # in elements
    ptrdiff_t[AXES] out_step
    const void* source
    void* out
    double factor


cdef void move_part(
    const real* type_of, const Move* m, int t, const Crew* crew
) noexcept nogil:
    """Rows of the last axis: out = source * factor."""
    cdef int last = m.axes - 1, axis
    cdef ptrdiff_t rows = 1, row, at, i
    cdef ptrdiff_t count = m.shape[last]
    cdef ptrdiff_t source_step = m.source_step[last], out_step = m.out_step[last]
    cdef real factor = <real> m.factor
    cdef const real* source
    cdef real* out
    for axis in range(last):
        rows *= m.shape[axis]
    for row in range(share(rows, t, crew.size), share(rows, t + 1, crew.size)):
        source, out, at = <const real*> m.source, <real*> m.out, row
        for axis in range(last - 1, -1, -1):
            source += at % m.shape[axis] * m.source_step[axis]
            out += at % m.shape[axis] * m.out_step[axis]
            at //= m.shape[axis]
        if m.factor == 1 and source_step == 1 and out_step == 1:
            memcpy(out, source, count * sizeof(real))
        elif m.factor == 1:
            for i in range(count):
                out[i * out_step] = source[i * source_step]
        else:
            for i in range(count):
                out[i * out_step] = source[i * source_step] * factor


def move(cnp.ndarray source, cnp.ndarray out, list axes, double factor, int threads):
    """out = source * factor, of one dtype; length and steps, in elements, of up to AXES axes."""
    cdef Move m
    cdef ptrdiff_t values = 1
    cdef int axis, team
    cdef bint single = (<object> out).itemsize == sizeof(float)
    m.axes, m.factor = len(axes), factor
    m.source, m.out = cnp.PyArray_DATA(source), cnp.PyArray_DATA(out)
    for axis in range(m.axes):
        m.shape[axis], m.source_step[axis], m.out_step[axis] = axes[axis]
        values *= m.shape[axis]
    team = team_size(threads, values, values)
    with nogil:
        if single:
            run_parts(<Part> move_part[float], &m, team, 0)
        else:
            run_parts(<Part> move_part[double], &m, team, 0)


cdef struct Look:
    const void* images
    ptrdiff_t size
    ptrdiff_t* flag


cdef void put_back_part(
    const void* type_of, const Look* w, int t, const Crew* crew
) noexcept nogil:
    w.flag[0] = 1


cdef void look_part(
    const real* type_of, const Look* w, int t, const Crew* crew
) noexcept nogil:
    """The flag becomes 0 where a value is NaN or infinite."""
    cdef const real* images = <const real*> w.images
    cdef int others = 0
    cdef ptrdiff_t i
    for i in range(share(w.size, t, crew.size), share(w.size, t + 1, crew.size)):
        others |= images[i] - images[i] != 0
    if others:
        clear_flag(w.flag)


def look_for_others(const real[::1] images, ptrdiff_t[::1] flag, int threads):
    """flag = whether all values are finite."""
    cdef Look w
    cdef int team = team_size(threads, images.shape[0], images.shape[0] // lanes(&images[0]))
    w.images, w.size, w.flag = &images[0], images.shape[0], &flag[0]
    with nogil:
        run_parts(<Part> put_back_part, &w, 1, 0)
        run_parts(<Part> look_part[real], &w, team, 0)


def only_if(ptrdiff_t[::1] flag, ptrdiff_t value):
    """What this thread records from now on runs where the flag has this value; None: always."""
    cdef const ptrdiff_t* place = NULL
    if flag is not None:
        place = &flag[0]
    record_only_if(place, value)


cdef class Program:
    """What `record` has recorded. One thread at a time may use it."""

    cdef Recording* recorded
    cdef object kept
    cdef list ways  # place in `taken`, and how often

    def __cinit__(self, bint weights_stay):
        self.recorded = new Recording()
        self.recorded.weights_stay = weights_stay

    def __dealloc__(self):
        del self.recorded

    def record(self, function, kept):
        """Call `function` and record the kernels that it calls, on arrays that are in `kept`."""
        cdef long long[WAYS] before
        memcpy(before, taken, sizeof(before))
        set_recording(self.recorded)
        try:
            function()
        finally:
            set_recording(NULL)
        self.kept = kept
        self.ways = [(i, taken[i] - before[i]) for i in range(WAYS) if taken[i] > before[i]]

    def run(self):
        """Run them again, in their order."""
        cdef int i
        for i, count in self.ways:
            taken[i] += count
        with nogil:
            self.recorded.run()
