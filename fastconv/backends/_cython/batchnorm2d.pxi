# Batch normalisation per channel: statistics over all pixels of all images.
#
#     statistics:  for pixels, in parallel:  sums += x - first;  squares += (x - first)**2
#     apply:       for pixels, in parallel:  out = (x - centre)*scale + shift [+ residual] [ReLU]
#     backward:    for pixels, in parallel:  sums += g;  products += g*(x - mean)
#                  for pixels, in parallel:  dx = slope*(g - level - (x - mean)*tilt)
#
# Memory is channels-last, so channels fill the vectors. A pixel of few channels would fill few:
# what runs here is a row of whole pixels, of about WIDTH columns or more, and what belongs to a
# channel lies in a table as often as the row has pixels. Only the last row may be shorter.
#
# All this waits for memory. Statistics read x once: each value less the first pixel's, which is a
# sample of the same numbers, so that its square is never large against their variance. Sums are
# doubles, a column each and for each thread; where four rows go at a time, they are read
# and written at a quarter of the cost.

cdef enum:
    WIDTH = 256
    TOGETHER = 4  # rows
    ROOM = 16  # values that a table is rounded up to: the longest vector


cdef inline ptrdiff_t row_width(ptrdiff_t channels) noexcept nogil:
    """Columns of a row: whole pixels."""
    return channels * max(1, WIDTH // channels)


cdef inline ptrdiff_t table_size(ptrdiff_t width) noexcept nogil:
    return ceil_div(width, ROOM) * ROOM


cdef double column_sum(
    Scratch parts, int team, ptrdiff_t table, ptrdiff_t channel, ptrdiff_t channels,
    ptrdiff_t width,
):
    """Sum of a channel over the pixels of a row and over all threads, in table number `table`."""
    cdef double total = 0
    cdef const double* row
    cdef ptrdiff_t j
    cdef int t
    for t in range(team):
        row = <const double*> (parts.start + t * parts.step) + table * table_size(width)
        for j from channel <= j < width by channels:
            total += row[j]
    return total


# ---- statistics -----------------------------------------------------------------------


cdef inline void add_moments(
    int ROWS, const real* x, ptrdiff_t width, const double* first, ptrdiff_t count,
    double* sums, double* squares,
) noexcept nogil:
    """ROWS rows are added to `count` columns, at most a vector of them; columns behind stay."""
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
    """Sums of `size` values less `first`, and in the next table those of their squares."""
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


def batchnorm2d_statistics(
    const real[:, :, :, ::1] x, real[::1] mean, real[::1] variance, int threads
):
    """Mean and biased variance (C,) of x (N, H, W, C)."""
    cdef ptrdiff_t channels = x.shape[3], pixels = x.shape[0] * x.shape[1] * x.shape[2]
    cdef ptrdiff_t width = row_width(channels), j, c
    cdef int team = team_size(threads, pixels, pixels * channels)
    cdef Scratch table = Scratch(table_size(width) * sizeof(double))
    cdef Scratch sums = Scratch(2 * table_size(width) * sizeof(double), team)
    cdef double* first = <double*> table.start
    cdef char* parts = sums.start
    cdef ptrdiff_t step = sums.step, begin, end
    cdef const real* pixel = &x[0, 0, 0, 0]
    cdef double off, squares
    cdef int t
    for j in range(table_size(width)):
        first[j] = pixel[j % channels]
        if first[j] - first[j] != 0:  # NaN or infinite: it would make all others NaN
            first[j] = 0
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            begin, end = share(pixels, t, team), share(pixels, t + 1, team)
            moments(
                pixel + begin * channels, (end - begin) * channels, width, first,
                <double*> (parts + t * step),
            )
    for c in range(channels):
        off = column_sum(sums, team, 0, c, channels, width) / pixels
        squares = column_sum(sums, team, 1, c, channels, width) / pixels - off * off
        mean[c] = <real> (first[c] + off)
        variance[c] = <real> (0 if squares < 0 else squares)


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


cdef void apply_part(
    const real* x, const real* residual, bint rectified, ptrdiff_t begin, ptrdiff_t end,
    ptrdiff_t width, const real* centre, real* out,
) noexcept nogil:
    """Values [begin, end); residual may be NULL. Tables of scale and shift lie behind centre's."""
    cdef const real* scale = centre + table_size(width)
    cdef const real* shift = scale + table_size(width)
    cdef ptrdiff_t size = end - begin
    x += begin
    out += begin
    if residual != NULL and rectified:
        apply_rows[real](True, True, x, residual + begin, size, width, centre, scale, shift, out)
    elif residual != NULL:
        apply_rows[real](True, False, x, residual + begin, size, width, centre, scale, shift, out)
    elif rectified:
        apply_rows[real](False, True, x, x, size, width, centre, scale, shift, out)
    else:
        apply_rows[real](False, False, x, x, size, width, centre, scale, shift, out)


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
    cdef ptrdiff_t width = row_width(channels), room = table_size(width), begin, end, j
    cdef int team = team_size(threads, pixels, pixels * channels)
    cdef Scratch memory = Scratch(3 * room * sizeof(real))
    cdef real* table = <real*> memory.start
    cdef const real* source = &x[0, 0, 0, 0]
    cdef const real* added = NULL
    cdef real* target = &out[0, 0, 0, 0]
    cdef int t
    if residual is not None:
        added = &residual[0, 0, 0, 0]
    for j in range(room):
        table[j] = centre[j % channels]
        table[room + j] = scale[j % channels]
        table[2 * room + j] = shift[j % channels]
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            begin, end = share(pixels, t, team) * channels, share(pixels, t + 1, team) * channels
            apply_part(source, added, rectified, begin, end, width, table, target)


# ---- backward -------------------------------------------------------------------------


cdef inline void add_gradients(
    int ROWS, bint GATED, bint KEPT, const real* dout, const real* gate, const real* x,
    ptrdiff_t width, const double* mean, ptrdiff_t count, double* sums, double* products,
    real* kept,
) noexcept nogil:
    """ROWS rows are added to `count` columns, at most a vector of them; columns behind stay."""
    cdef vec[double] total = load(sums), product = load(products), g
    cdef int r
    for r in range(ROWS):
        g = load_wide(dout + r * width, count)
        if GATED:
            g = choose(
                positive(load_wide(gate + r * width, count)), g, broadcast(<double> 0)
            )
        if KEPT:
            store_narrow(kept + r * width, g, count)
        total = add(total, g)
        product = muladd(
            g, subtract(load_wide(x + r * width, count), load_wide(mean, count)), product
        )
    store(sums, total)
    store(products, product)


cdef inline void add_gradients_of_rows(
    int ROWS, bint GATED, bint KEPT, const real* dout, const real* gate, const real* x,
    ptrdiff_t width, const double* mean, ptrdiff_t columns, double* sums, double* products,
    real* kept,
) noexcept nogil:
    cdef ptrdiff_t whole = columns // lanes(sums) * lanes(sums)
    cdef ptrdiff_t j
    for j from 0 <= j < whole by lanes(sums):
        add_gradients[real](
            ROWS, GATED, KEPT, dout + j, gate + j, x + j, width, mean + j, lanes(sums), sums + j,
            products + j, kept + j,
        )
    if whole < columns:
        j = whole
        add_gradients[real](
            ROWS, GATED, KEPT, dout + j, gate + j, x + j, width, mean + j, columns - whole,
            sums + j, products + j, kept + j,
        )


cdef inline void gradient_sums(
    bint GATED, bint KEPT, const real* dout, const real* gate, const real* x, ptrdiff_t size,
    ptrdiff_t width, const double* mean, double* sums, real* kept,
) noexcept nogil:
    """Sums of g, and in the next table those of g*(x - mean); g itself where it is `KEPT`."""
    cdef double* products = sums + table_size(width)
    cdef ptrdiff_t i = 0
    memset(sums, 0, 2 * table_size(width) * sizeof(double))
    while size - i >= TOGETHER * width:
        add_gradients_of_rows[real](
            TOGETHER, GATED, KEPT, dout + i, gate + i, x + i, width, mean, width, sums, products,
            kept + i,
        )
        i += TOGETHER * width
    while i < size:
        add_gradients_of_rows[real](
            1, GATED, KEPT, dout + i, gate + i, x + i, width, mean, min(size - i, width), sums,
            products, kept + i,
        )
        i += width


cdef void gradient_sums_part(
    const real* dout, const real* gate, const real* x, ptrdiff_t begin, ptrdiff_t end,
    ptrdiff_t width, const double* mean, double* sums, real* kept,
) noexcept nogil:
    """Values [begin, end); gate and kept may be NULL."""
    cdef ptrdiff_t size = end - begin
    dout += begin
    x += begin
    if gate != NULL and kept != NULL:
        gradient_sums[real](
            True, True, dout, gate + begin, x, size, width, mean, sums, kept + begin
        )
    elif gate != NULL:
        gradient_sums[real](True, False, dout, gate + begin, x, size, width, mean, sums, NULL)
    elif kept != NULL:
        gradient_sums[real](False, True, dout, dout, x, size, width, mean, sums, kept + begin)
    else:
        gradient_sums[real](False, False, dout, dout, x, size, width, mean, sums, NULL)


cdef inline void input_gradient_vector(
    bint GATED, const real* dout, const real* gate, const real* x, const real* mean,
    const real* slope, const real* level, const real* tilt, ptrdiff_t count, real* dx,
) noexcept nogil:
    cdef vec[real] g = load_part(dout, count)
    if GATED:
        g = choose(positive(load_part(gate, count)), g, broadcast(<real> 0))
    g = subtract(g, load(level))
    g = subtract(g, times(subtract(load_part(x, count), load(mean)), load(tilt)))
    store_part(dx, times(g, load(slope)), count)


cdef inline void input_gradient_rows(
    bint GATED, const real* dout, const real* gate, const real* x, ptrdiff_t size,
    ptrdiff_t width, const real* mean, real* dx,
) noexcept nogil:
    """The tables of slope, level and tilt lie behind that of mean."""
    cdef ptrdiff_t room = table_size(width), start, columns, whole, i, j
    for start from 0 <= start < size by width:
        columns = min(width, size - start)
        whole = columns // lanes(x) * lanes(x)
        for j from 0 <= j < whole by lanes(x):
            i = start + j
            input_gradient_vector[real](
                GATED, dout + i, gate + i, x + i, mean + j, mean + room + j, mean + 2 * room + j,
                mean + 3 * room + j, lanes(x), dx + i,
            )
        if whole < columns:
            i, j = start + whole, whole
            input_gradient_vector[real](
                GATED, dout + i, gate + i, x + i, mean + j, mean + room + j, mean + 2 * room + j,
                mean + 3 * room + j, columns - whole, dx + i,
            )


cdef void input_gradient_part(
    const real* dout, const real* gate, const real* x, ptrdiff_t begin, ptrdiff_t end,
    ptrdiff_t width, const real* tables, real* dx,
) noexcept nogil:
    """Values [begin, end); gate may be NULL."""
    if gate != NULL:
        input_gradient_rows[real](
            True, dout + begin, gate + begin, x + begin, end - begin, width, tables, dx + begin
        )
    else:
        input_gradient_rows[real](
            False, dout + begin, dout, x + begin, end - begin, width, tables, dx + begin
        )


def batchnorm2d_backward(
    const real[:, :, :, ::1] dout,
    const real[:, :, :, ::1] gate,
    const real[:, :, :, ::1] x,
    const real[::1] mean,
    const real[::1] inv_std,
    const real[::1] gamma,
    real[:, :, :, ::1] dx,
    real[::1] dgamma,
    real[::1] dbeta,
    real[:, :, :, ::1] dresidual,
    int threads,
):
    """dx and dresidual (N, H, W, C), unless they are None, dgamma and dbeta (C,)."""
    cdef ptrdiff_t channels = x.shape[3], pixels = x.shape[0] * x.shape[1] * x.shape[2]
    cdef ptrdiff_t width = row_width(channels), room = table_size(width), begin, end, j, c
    cdef int team = team_size(threads, pixels, 2 * pixels * channels)
    cdef Scratch memory = Scratch(room * sizeof(double))
    cdef Scratch sums = Scratch(2 * room * sizeof(double), team)
    cdef Scratch tables = Scratch(4 * room * sizeof(real))
    cdef double* centre = <double*> memory.start
    cdef real* table = <real*> tables.start
    cdef char* parts = sums.start
    cdef ptrdiff_t step = sums.step
    cdef const real* g = &dout[0, 0, 0, 0]
    cdef const real* gates = NULL
    cdef const real* source = &x[0, 0, 0, 0]
    cdef real* target = NULL
    cdef real* kept = NULL
    cdef double total, product
    cdef int t
    if gate is not None:
        gates = &gate[0, 0, 0, 0]
    if dx is not None:
        target = &dx[0, 0, 0, 0]
    if dresidual is not None:
        kept = &dresidual[0, 0, 0, 0]
    for j in range(room):
        centre[j] = mean[j % channels]
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            begin, end = share(pixels, t, team) * channels, share(pixels, t + 1, team) * channels
            gradient_sums_part(
                g, gates, source, begin, end, width, centre, <double*> (parts + t * step), kept
            )
    for c in range(channels):
        total = column_sum(sums, team, 0, c, channels, width)
        product = column_sum(sums, team, 1, c, channels, width) * inv_std[c]
        dbeta[c], dgamma[c] = <real> total, <real> product
        # The mean and the variance depend on x too: their share of the gradient is the part
        # of g that is constant over the pixels, or proportional to x - mean.
        for j from c <= j < room by channels:
            table[j] = mean[c]
            table[room + j] = gamma[c] * inv_std[c]
            table[2 * room + j] = <real> (total / pixels)
            table[3 * room + j] = <real> (product * inv_std[c] / pixels)
    if target == NULL:
        return
    if kept != NULL:  # g as it is needed, from one array and not two
        g = kept
        gates = NULL
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            begin, end = share(pixels, t, team) * channels, share(pixels, t + 1, team) * channels
            input_gradient_part(g, gates, source, begin, end, width, table, target)
