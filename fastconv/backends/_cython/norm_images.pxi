# Batch normalisation per channel: statistics over all pixels of all images.
#
#     statistics:  for pixels, in parallel:  sums += x - first;  squares += (x - first)**2
#     apply:       for pixels, in parallel:  out = (x - centre)*scale + shift [+ residual] [ReLU]
#
# Memory is channels-last, so channels fill the vectors. A pixel of few channels would leave lanes
# empty, so the loops go over rows of whole pixels, about WIDTH columns or more, with tables that
# repeat a channel's values for each pixel of a row. Only the last row may be shorter.
#
# All this is bound by memory. Statistics read x once, less the first pixel: that is a sample of
# the same numbers, so that the squares are never large against the variance. Sums are doubles, one
# for each column and thread; TOGETHER rows go at a time, and share the cost of reading and writing
# the sums.

cdef enum:
    WIDTH = 256
    TOGETHER = 8  # rows
    ROOM = 16  # values that a table is rounded up to: the longest vector


cdef inline ptrdiff_t row_width(ptrdiff_t channels) noexcept nogil:
    """Columns of a row: whole pixels."""
    return channels * max(1, WIDTH // channels)


cdef inline ptrdiff_t table_size(ptrdiff_t width) noexcept nogil:
    return ceil_div(width, ROOM) * ROOM


cdef double column_sum(
    const Room* parts, int team, ptrdiff_t table, ptrdiff_t channel, ptrdiff_t channels,
    ptrdiff_t width,
) noexcept nogil:
    """Sum of a channel over the pixels of a row and over all threads, in table number `table`."""
    cdef double total = 0
    cdef const double* row
    cdef ptrdiff_t j
    cdef int t
    for t in range(team):
        row = <const double*> room_of(parts, t) + table * table_size(width)
        for j from channel <= j < width by channels:
            total += row[j]
    return total


# ---- statistics -----------------------------------------------------------------------


cdef inline void add_moments(
    int ROWS, const real* x, ptrdiff_t width, const double* first, ptrdiff_t count,
    double* sums, double* squares,
) noexcept nogil:
    """Add ROWS rows to `count` columns, at most a vector of them; columns after them stay."""
    cdef vec[double] total = load(sums), square = load(squares), value
    cdef int r
    for r in range(ROWS):
        value = subtract(load_wide(x + r * width, count), load_wide(first, count))
        total = add(total, value)
        square = muladd(value, value, square)
    store(sums, total)
    store(squares, square)


cdef inline void add_moments_of_rows(
    int ROWS, const real* x, ptrdiff_t width, const double* first, ptrdiff_t columns,
    double* sums, double* squares,
) noexcept nogil:
    cdef ptrdiff_t whole = columns // lanes(sums) * lanes(sums)
    cdef ptrdiff_t j
    for j from 0 <= j < whole by lanes(sums):
        add_moments[real](
            ROWS, x + j, width, first + j, lanes(sums), sums + j, squares + j
        )
    if whole < columns:
        add_moments[real](
            ROWS, x + whole, width, first + whole, columns - whole, sums + whole, squares + whole
        )


cdef void moments(
    const real* x, ptrdiff_t size, ptrdiff_t width, const double* first, double* sums
) noexcept nogil:
    """Sums of `size` values less `first`, and in the next table sums of their squares."""
    cdef double* squares = sums + table_size(width)
    memset(sums, 0, 2 * table_size(width) * sizeof(double))
    while size >= TOGETHER * width:
        add_moments_of_rows[real](TOGETHER, x, width, first, width, sums, squares)
        x += TOGETHER * width
        size -= TOGETHER * width
    while size > 0:
        add_moments_of_rows[real](1, x, width, first, min(size, width), sums, squares)
        x += width
        size -= width


cdef struct Moments:
    const void* x
    ptrdiff_t pixels, channels, width
    double* first  # pixel, repeated for each pixel of a row
    Room sums
    int parts
    void* mean
    void* variance


cdef void take_first_pixel(
    const real* type_of, const Moments* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t j
    for j in range(table_size(w.width)):
        w.first[j] = (<const real*> w.x)[j % w.channels]
        if w.first[j] - w.first[j] != 0:  # NaN or infinite: it would make all others NaN
            w.first[j] = 0


cdef void moments_part(
    const real* type_of, const Moments* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t begin = share(w.pixels, t, crew.size)
    moments[real](
        <const real*> w.x + begin * w.channels,
        (share(w.pixels, t + 1, crew.size) - begin) * w.channels, w.width, w.first,
        <double*> room_of(&w.sums, t),
    )


cdef void finish_moments(
    const real* type_of, const Moments* w, int t, const Crew* crew
) noexcept nogil:
    cdef double off, squares
    cdef ptrdiff_t c
    for c in range(w.channels):
        off = column_sum(&w.sums, w.parts, 0, c, w.channels, w.width) / w.pixels
        squares = column_sum(&w.sums, w.parts, 1, c, w.channels, w.width) / w.pixels - off * off
        (<real*> w.mean)[c] = <real> (w.first[c] + off)
        (<real*> w.variance)[c] = <real> (0 if squares < 0 else squares)


def batchnorm2d_statistics(
    const real[:, :, :, ::1] x, real[::1] mean, real[::1] variance, int threads
):
    """Mean and biased variance (C,) of x (N, H, W, C)."""
    cdef ptrdiff_t channels = x.shape[3], pixels = x.shape[0] * x.shape[1] * x.shape[2]
    cdef ptrdiff_t width = row_width(channels)
    cdef int team = summing_team_size(threads, pixels, pixels * channels)
    cdef Scratch table = Scratch(table_size(width) * sizeof(double))
    cdef Scratch sums = Scratch(2 * table_size(width) * sizeof(double), team)
    cdef Moments w
    w.x, w.pixels, w.channels, w.width = &x[0, 0, 0, 0], pixels, channels, width
    w.first, w.sums, w.parts = <double*> table.start, sums.room(), team
    w.mean, w.variance = &mean[0], &variance[0]
    with nogil:
        run_parts(<Part> take_first_pixel[real], &w, 1, 0)
        run_parts(<Part> moments_part[real], &w, team, 0)
        run_parts(<Part> finish_moments[real], &w, 1, 0)


# ---- normalised, scaled, shifted --------------------------------------------------------


cdef inline void apply_vector(
    bint ADDED, bint RELU, const real* x, const real* residual, const real* centre,
    const real* scale, const real* shift, ptrdiff_t count, real* out,
) noexcept nogil:
    """`count` columns of one row, at most a vector of them."""
    cdef vec[real] value = subtract(load_part(x, count), load(centre))
    value = muladd(value, load(scale), load(shift))
    if ADDED:
        value = add(value, load_part(residual, count))
    if RELU:
        value = relu(value)
    store_part(out, value, count)


cdef inline void apply_rows(
    bint ADDED, bint RELU, const real* x, const real* residual, ptrdiff_t size, ptrdiff_t width,
    const real* centre, const real* scale, const real* shift, real* out,
) noexcept nogil:
    cdef ptrdiff_t start, columns, whole, j
    for start from 0 <= start < size by width:
        columns = min(width, size - start)
        whole = columns // lanes(x) * lanes(x)
        for j from 0 <= j < whole by lanes(x):
            apply_vector[real](
                ADDED, RELU, x + start + j, residual + start + j, centre + j, scale + j,
                shift + j, lanes(x), out + start + j,
            )
        if whole < columns:
            j = start + whole
            apply_vector[real](
                ADDED, RELU, x + j, residual + j, centre + whole, scale + whole, shift + whole,
                columns - whole, out + j,
            )


cdef struct Apply:
    const void* x
    const void* residual  # or NULL
    bint rectified
    ptrdiff_t pixels, channels, width
    const void* tables  # of centre, scale and shift
    void* out


cdef void apply_part(const real* type_of, const Apply* w, int t, const Crew* crew) noexcept nogil:
    cdef ptrdiff_t begin = share(w.pixels, t, crew.size) * w.channels
    cdef ptrdiff_t size = share(w.pixels, t + 1, crew.size) * w.channels - begin
    cdef ptrdiff_t width = w.width
    cdef const real* x = <const real*> w.x + begin
    cdef const real* residual = <const real*> w.residual
    cdef const real* centre = <const real*> w.tables
    cdef const real* scale = centre + table_size(width)
    cdef const real* shift = scale + table_size(width)
    cdef real* out = <real*> w.out + begin
    if residual != NULL and w.rectified:
        apply_rows[real](True, True, x, residual + begin, size, width, centre, scale, shift, out)
    elif residual != NULL:
        apply_rows[real](True, False, x, residual + begin, size, width, centre, scale, shift, out)
    elif w.rectified:
        apply_rows[real](False, True, x, x, size, width, centre, scale, shift, out)
    else:
        apply_rows[real](False, False, x, x, size, width, centre, scale, shift, out)


cdef struct ApplyTable:
    const void* centre
    const void* scale
    const void* shift
    ptrdiff_t channels, room
    void* table


cdef void fill_table(
    const real* type_of, const ApplyTable* w, int t, const Crew* crew
) noexcept nogil:
    cdef real* table = <real*> w.table
    cdef ptrdiff_t j
    for j in range(w.room):
        table[j] = (<const real*> w.centre)[j % w.channels]
        table[w.room + j] = (<const real*> w.scale)[j % w.channels]
        table[2 * w.room + j] = (<const real*> w.shift)[j % w.channels]


def batchnorm2d_apply(
    const real[:, :, :, ::1] x,
    const real[::1] centre,
    const real[::1] scale,
    const real[::1] shift,
    const real[:, :, :, ::1] residual,
    bint rectified,
    real[:, :, :, ::1] out,
    int threads,
):
    """out (N, H, W, C) = (x - centre)*scale + shift, plus residual unless that is None."""
    cdef ptrdiff_t channels = x.shape[3], pixels = x.shape[0] * x.shape[1] * x.shape[2]
    cdef ptrdiff_t width = row_width(channels), room = table_size(width)
    cdef int team = team_size(threads, pixels, pixels * channels)
    cdef Scratch memory = Scratch(3 * room * sizeof(real), 1, True)
    cdef real* table = <real*> memory.start
    cdef ApplyTable p = ApplyTable(
        &centre[0], &scale[0], &shift[0], channels, room, table
    )
    cdef Apply w = Apply(
        &x[0, 0, 0, 0], NULL, rectified, pixels, channels, width, table, &out[0, 0, 0, 0]
    )
    if residual is not None:
        w.residual = &residual[0, 0, 0, 0]
    with nogil:
        run_on_weights(<Part> fill_table[real], &p, 1, 0)
        run_parts(<Part> apply_part[real], &w, team, 0)
