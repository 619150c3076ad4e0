# Depthwise convolution: each channel by itself.
#
#     for row of the target, in parallel:
#         for run of pixels that read by the same taps:  for R of them:
#             for vector of channels:
#                 t = start;  for tap:  t[r] += source(pixel r, tap) * weight(tap)
#                 target = t
#
# Channels fill the vectors and no value is shared between them, so one multiply-add needs one
# load of a pixel; R pixels share the load of a weight. Memory is walked through once, in order:
# with the loop over channels outside, the next pixel would be a page away. Runs come from the
# tables of window_tables.py, and the same loops give the input gradient.
#
# The weight gradient walks by the same tables, with dout of R pixels in registers,
#
#     for vector of channels:  d = dout(R pixels);  for tap:  sum(tap) += x(pixel r, tap) * d[r]
#
# and each part adds the sums of an image to its own total, since long sums lose digits.

cdef enum:
    PIXELS = 4  # R

cdef struct Walk:
    ptrdiff_t c, lines  # channels; columns of taps, FW
    ptrdiff_t rows, column_runs  # target rows, and runs of columns
    const ptrdiff_t* row_run
    const ptrdiff_t* column_run
    ptrdiff_t target_row, source_row, source_size  # steps in elements
    ptrdiff_t target_step, source_step  # from pixel to pixel of a run
    ptrdiff_t tap_step, tap_source  # from tap to tap, and how far apart in the source


cdef Walk walk_of(
    const real[:, :, :, ::1] source, const real[:, :, :, ::1] target,
    const ptrdiff_t[:, ::1] rows, const ptrdiff_t[:, ::1] columns, ptrdiff_t lines,
    ptrdiff_t target_step, ptrdiff_t source_step, ptrdiff_t tap_step, ptrdiff_t tap_source,
) noexcept nogil:
    cdef Walk g
    g.c, g.lines = source.shape[3], lines
    g.rows, g.column_runs = rows.shape[0], columns.shape[0]
    g.row_run, g.column_run = &rows[0, 0], &columns[0, 0]
    g.target_row, g.source_row = target.shape[2] * g.c, source.shape[2] * g.c
    g.source_size = source.shape[1] * g.source_row
    g.target_step, g.source_step = target_step * g.c, source_step * g.c
    g.tap_step, g.tap_source = tap_step, tap_source
    return g


cdef inline void depthwise_vector(
    int R, ptrdiff_t NY, ptrdiff_t NX, const Walk* g, const real* source, const real* taps,
    ptrdiff_t taps_step, const real* start, ptrdiff_t count, real* target,
) noexcept nogil:
    """`count` channels of R pixels, at most a vector of them; source is at the first tap.

    NY and NX, the numbers of taps, may be literals.
    """
    cdef vec[real] t[PIXELS]
    cdef vec[real] weight
    cdef ptrdiff_t y, x
    cdef int r
    cdef const real* pixel
    for r in range(R):
        t[r] = load(start)
    for y in range(NY):
        for x in range(NX):
            pixel = source + g.tap_source * (y * g.source_row + x * g.c)
            weight = load(taps + g.tap_step * (y * g.lines + x) * taps_step)
            for r in range(R):
                t[r] = muladd(load_part(pixel + r * g.source_step, count), weight, t[r])
    for r in range(R):
        store_part(target + r * g.target_step, t[r], count)


cdef inline void depthwise_pixels(
    int R, ptrdiff_t NY, ptrdiff_t NX, const Walk* g, const real* source, const real* taps,
    const real* start, real* target,
) noexcept nogil:
    """All channels of R pixels."""
    cdef ptrdiff_t width = padded(g.c, lanes(source)), whole = g.c // lanes(source) * lanes(source)
    cdef ptrdiff_t c
    for c from 0 <= c < whole by lanes(source):
        depthwise_vector[real](
            R, NY, NX, g, source + c, taps + c, width, start + c, lanes(source), target + c
        )
    if whole < g.c:
        depthwise_vector[real](
            R, NY, NX, g, source + whole, taps + whole, width, start + whole, g.c - whole,
            target + whole,
        )


cdef void depthwise_row(
    const Walk* g, const ptrdiff_t* down, const real* source, const real* taps,
    const real* start, real* target,
) noexcept nogil:
    """One row of the target; source is its image, taps (FH*FW, C padded to vectors)."""
    cdef ptrdiff_t run, u
    cdef const ptrdiff_t* across
    cdef const real* weight
    cdef const real* place
    cdef real* to
    for run in range(g.column_runs):
        across = g.column_run + 5 * run
        weight = taps + (down[3] * g.lines + across[3]) * padded(g.c, lanes(source))
        place = source + down[2] * g.source_row + across[2] * g.c
        to = target + across[0] * g.c
        u = 0
        while u + PIXELS <= across[1]:
            if down[4] == 3 and across[4] == 3:
                depthwise_pixels[real](
                    PIXELS, 3, 3, g, place + u * g.source_step, weight, start,
                    to + u * g.target_step,
                )
            else:
                depthwise_pixels[real](
                    PIXELS, down[4], across[4], g, place + u * g.source_step, weight, start,
                    to + u * g.target_step,
                )
            u += PIXELS
        while u < across[1]:
            depthwise_pixels[real](
                1, down[4], across[4], g, place + u * g.source_step, weight, start,
                to + u * g.target_step,
            )
            u += 1


cdef struct Depthwise:
    Walk g
    const void* source
    const void* taps
    const void* start
    ptrdiff_t units  # target rows of all images
    void* target


cdef void depthwise_part(
    const real* type_of, const Depthwise* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t unit
    for unit in range(share(w.units, t, crew.size), share(w.units, t + 1, crew.size)):
        depthwise_row[real](
            &w.g, w.g.row_run + 5 * (unit % w.g.rows),
            <const real*> w.source + unit // w.g.rows * w.g.source_size, <const real*> w.taps,
            <const real*> w.start, <real*> w.target + unit * w.g.target_row,
        )


def depthwise(
    const real[:, :, :, ::1] source,
    const real[:, ::1] taps,
    const real[::1] start,
    const ptrdiff_t[:, ::1] rows,
    const ptrdiff_t[:, ::1] columns,
    ptrdiff_t lines,
    ptrdiff_t target_step,
    ptrdiff_t source_step,
    ptrdiff_t tap_step,
    ptrdiff_t tap_source,
    real[:, :, :, ::1] target,
    int threads,
):
    """Target (N, rows, columns, C) from source, by the runs of window_tables.py."""
    cdef Walk g = walk_of[real](
        source, target, rows, columns, lines, target_step, source_step, tap_step, tap_source
    )
    cdef ptrdiff_t units = target.shape[0] * g.rows
    cdef int team = team_size(threads, units, units * g.target_row)
    cdef ptrdiff_t room = padded(g.c, lanes(&start[0]))
    cdef Scratch begin = Scratch(room * sizeof(real), 1, True)
    cdef real* padded_start = <real*> begin.start
    cdef Depthwise w
    w.g, w.source, w.taps, w.start = g, &source[0, 0, 0, 0], &taps[0, 0], padded_start
    w.units, w.target = units, &target[0, 0, 0, 0]
    took[real](DEPTHWISE, DIRECT, padded_start, team)
    with nogil:
        pad_bias[real](&start[0], g.c, room, padded_start)
        run_parts(<Part> depthwise_part[real], &w, team, 0)


cdef inline void sum_vector(
    int R, const Walk* g, const ptrdiff_t* down, const ptrdiff_t* across, const real* dout,
    const real* x, ptrdiff_t count, real* sums, ptrdiff_t sums_step, real* total,
) noexcept nogil:
    """The sums of `count` channels += those of R pixels; x and sums are at the first tap."""
    cdef vec[real] d[PIXELS]
    cdef vec[real] t
    cdef ptrdiff_t j, i
    cdef int r
    cdef const real* pixel
    cdef real* sum
    t = load(total)
    for r in range(R):
        d[r] = load_part(dout + r * g.target_step, count)
        t = add(t, d[r])
    store(total, t)
    for j in range(down[4]):
        for i in range(across[4]):
            pixel = x + g.tap_source * (j * g.source_row + i * g.c)
            sum = sums + (j * g.lines + i) * sums_step
            t = load(sum)
            for r in range(R):
                t = muladd(load_part(pixel + r * g.source_step, count), d[r], t)
            store(sum, t)


cdef inline void sum_pixels(
    int R, const Walk* g, const ptrdiff_t* down, const ptrdiff_t* across, const real* dout,
    const real* x, real* sums, real* total,
) noexcept nogil:
    """The sums of all channels += those of R pixels."""
    cdef ptrdiff_t width = padded(g.c, lanes(x)), whole = g.c // lanes(x) * lanes(x)
    cdef ptrdiff_t c
    for c from 0 <= c < whole by lanes(x):
        sum_vector[real](
            R, g, down, across, dout + c, x + c, lanes(x), sums + c, width, total + c
        )
    if whole < g.c:
        sum_vector[real](
            R, g, down, across, dout + whole, x + whole, g.c - whole, sums + whole, width,
            total + whole,
        )


cdef void sum_row(
    const Walk* g, const ptrdiff_t* down, const real* dout, const real* x, real* sums, real* total
) noexcept nogil:
    """The sums (FH*FW, C padded to vectors), and total after them, += those of a row of dout."""
    cdef ptrdiff_t run, u
    cdef const ptrdiff_t* across
    cdef const real* from_
    cdef const real* place
    cdef real* to
    for run in range(g.column_runs):
        across = g.column_run + 5 * run
        from_ = dout + across[0] * g.c
        place = x + down[2] * g.source_row + across[2] * g.c
        to = sums + (down[3] * g.lines + across[3]) * padded(g.c, lanes(x))
        u = 0
        while u + PIXELS <= across[1]:
            sum_pixels[real](
                PIXELS, g, down, across, from_ + u * g.target_step, place + u * g.source_step,
                to, total,
            )
            u += PIXELS
        while u < across[1]:
            sum_pixels[real](
                1, g, down, across, from_ + u * g.target_step, place + u * g.source_step,
                to, total,
            )
            u += 1


cdef void add_to_total(real* sums, ptrdiff_t count, real* total) noexcept nogil:
    """total += sums, and sums = 0; `count` is a number of whole vectors."""
    cdef ptrdiff_t i
    for i from 0 <= i < count by lanes(sums):
        store(total + i, add(load(total + i), load(sums + i)))
        store(sums + i, broadcast(<real> 0))


cdef struct DepthwiseSums:
    Walk g
    const void* dout
    const void* x
    ptrdiff_t units  # rows of dout in all images
    ptrdiff_t volume, width  # of the totals of a part, and of a row of them
    void* totals
    Room sums  # of an image


cdef void depthwise_sums_part(
    const real* type_of, const DepthwiseSums* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t end = share(w.units, t + 1, crew.size), unit
    cdef real* sums = <real*> room_of(&w.sums, t)
    cdef real* totals = <real*> w.totals + t * w.volume
    memset(sums, 0, w.volume * sizeof(real))
    memset(totals, 0, w.volume * sizeof(real))
    for unit in range(share(w.units, t, crew.size), end):
        sum_row[real](
            &w.g, w.g.row_run + 5 * (unit % w.g.rows),
            <const real*> w.dout + unit * w.g.target_row,
            <const real*> w.x + unit // w.g.rows * w.g.source_size, sums,
            sums + w.volume - w.width,
        )
        if unit % w.g.rows == w.g.rows - 1 or unit + 1 == end:
            add_to_total[real](sums, w.volume, totals)


def depthwise_sums(
    const real[:, :, :, ::1] dout,
    const real[:, :, :, ::1] x,
    const ptrdiff_t[:, ::1] rows,
    const ptrdiff_t[:, ::1] columns,
    ptrdiff_t lines,
    ptrdiff_t source_step,
    ptrdiff_t tap_source,
    real[:, :, ::1] totals,
    int threads,
):
    """totals (parts, FH*FW + 1, C padded to vectors): sums by tap, and of dout."""
    cdef Walk g = walk_of[real](
        x, dout, rows, columns, lines, 1, source_step, 1, tap_source
    )
    cdef ptrdiff_t units = dout.shape[0] * g.rows
    cdef ptrdiff_t volume = totals.shape[1] * totals.shape[2]
    cdef int team = <int> totals.shape[0]
    cdef Scratch images = Scratch(volume * sizeof(real), team)
    cdef DepthwiseSums w
    w.g, w.dout, w.x, w.units = g, &dout[0, 0, 0, 0], &x[0, 0, 0, 0], units
    w.volume, w.width, w.totals = volume, totals.shape[2], &totals[0, 0, 0]
    w.sums = images.room()
    took[real](DEPTHWISE_SUMS, DIRECT, &totals[0, 0, 0], team)
    with nogil:
        run_parts(<Part> depthwise_sums_part[real], &w, team, 0)
