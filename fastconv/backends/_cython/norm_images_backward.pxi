# Gradients of batch normalisation per channel, through a ReLU after it.
#
#     for pixels, in parallel:  sums += g;  products += g*(x - mean)
#     for pixels, in parallel:  dx = slope*(g - level - (x - mean)*tilt)
#
# g is dout where the gate lets it pass, else 0. Rows and tables are those of norm_images.pxi. What
# TOGETHER rows add to a column is summed in a register, in the dtype of the images, and then added
# to the column's sum, a double.


cdef inline void add_gradients(
    int ROWS, bint GATED, bint KEPT, const real* dout, const real* gate, const real* x,
    ptrdiff_t width, const real* mean, ptrdiff_t count, double* sums, double* products,
    real* kept,
) noexcept nogil:
    """Add ROWS rows to `count` columns, at most a vector of them; columns after them stay."""
    cdef vec[real] total = broadcast(<real> 0), product = broadcast(<real> 0), g
    cdef int r
    for r in range(ROWS):
        g = load_part(dout + r * width, count)
        if GATED:
            g = choose(positive(load_part(gate + r * width, count)), g, broadcast(<real> 0))
        if KEPT:
            store_part(kept + r * width, g, count)
        total = add(total, g)
        product = muladd(
            g, subtract(load_part(x + r * width, count), load_part(mean, count)), product
        )
    add_wide(sums, total)
    add_wide(products, product)


cdef inline void add_gradients_of_rows(
    int ROWS, bint GATED, bint KEPT, const real* dout, const real* gate, const real* x,
    ptrdiff_t width, const real* mean, ptrdiff_t columns, double* sums, double* products,
    real* kept,
) noexcept nogil:
    cdef ptrdiff_t whole = columns // lanes(x) * lanes(x)
    cdef ptrdiff_t j
    for j from 0 <= j < whole by lanes(x):
        add_gradients[real](
            ROWS, GATED, KEPT, dout + j, gate + j, x + j, width, mean + j, lanes(x), sums + j,
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
    ptrdiff_t width, const real* mean, double* sums, real* kept,
) noexcept nogil:
    """Sums of g, and in the next table of g*(x - mean); writes g itself where it is `KEPT`."""
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


cdef struct ImagesGradient:
    const void* dout
    const void* gate  # or NULL
    const void* x
    ptrdiff_t pixels, channels, width
    const void* mean
    const void* inv_std
    const void* gamma
    void* tables  # of mean, slope, level and tilt
    Room sums
    int parts  # of the sums
    void* kept  # or NULL
    void* dgamma
    void* dbeta
    void* dx


cdef void begin_tables(
    const real* type_of, const ImagesGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t j
    for j in range(table_size(w.width)):
        (<real*> w.tables)[j] = (<const real*> w.mean)[j % w.channels]


cdef void gradient_sums_part(
    const real* type_of, const ImagesGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t begin = share(w.pixels, t, crew.size) * w.channels
    cdef ptrdiff_t size = share(w.pixels, t + 1, crew.size) * w.channels - begin
    cdef ptrdiff_t width = w.width
    cdef const real* dout = <const real*> w.dout + begin
    cdef const real* gate = <const real*> w.gate
    cdef const real* x = <const real*> w.x + begin
    cdef const real* mean = <const real*> w.tables
    cdef double* sums = <double*> room_of(&w.sums, t)
    cdef real* kept = <real*> w.kept
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
    """dx of `count` columns of one row, as `input_gradient_vector` of _numba/norm_images.py."""
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
    """The tables of slope, level and tilt follow that of mean."""
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
    const real* type_of, const ImagesGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t begin = share(w.pixels, t, crew.size) * w.channels
    cdef ptrdiff_t size = share(w.pixels, t + 1, crew.size) * w.channels - begin
    cdef const real* dout = <const real*> w.dout + begin
    cdef const real* gate = <const real*> w.gate
    cdef const real* x = <const real*> w.x + begin
    cdef const real* tables = <const real*> w.tables
    cdef real* dx = <real*> w.dx + begin
    if gate != NULL:
        input_gradient_rows[real](True, dout, gate + begin, x, size, w.width, tables, dx)
    else:
        input_gradient_rows[real](False, dout, dout, x, size, w.width, tables, dx)


cdef void finish_tables(
    const real* type_of, const ImagesGradient* w, int t, const Crew* crew
) noexcept nogil:
    """dgamma, dbeta, and the tables that the input gradient needs."""
    cdef const real* inv_std = <const real*> w.inv_std
    cdef const real* gamma = <const real*> w.gamma
    cdef real* table = <real*> w.tables
    cdef ptrdiff_t room = table_size(w.width), c, j
    cdef double total, product
    for c in range(w.channels):
        total = column_sum(&w.sums, w.parts, 0, c, w.channels, w.width)
        product = column_sum(&w.sums, w.parts, 1, c, w.channels, w.width) * inv_std[c]
        (<real*> w.dbeta)[c], (<real*> w.dgamma)[c] = <real> total, <real> product
        # Mean and variance depend on x too: level and tilt take off what is constant over the
        # pixels, and what is proportional to x - mean.
        for j from c <= j < room by w.channels:
            table[room + j] = gamma[c] * inv_std[c]
            table[2 * room + j] = <real> (total / w.pixels)
            table[3 * room + j] = <real> (product * inv_std[c] / w.pixels)


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
    cdef ptrdiff_t width = row_width(channels), room = table_size(width)
    cdef int team = summing_team_size(threads, pixels, 2 * pixels * channels)
    cdef Scratch sums = Scratch(2 * room * sizeof(double), team)
    cdef Scratch tables = Scratch(4 * room * sizeof(real))
    cdef ImagesGradient w
    w.dout, w.gate, w.x = &dout[0, 0, 0, 0], NULL, &x[0, 0, 0, 0]
    w.pixels, w.channels, w.width = pixels, channels, width
    w.mean, w.inv_std, w.gamma = &mean[0], &inv_std[0], &gamma[0]
    w.dgamma, w.dbeta = &dgamma[0], &dbeta[0]
    w.tables, w.sums, w.parts = tables.start, sums.room(), team
    w.kept, w.dx = NULL, NULL
    if gate is not None:
        w.gate = &gate[0, 0, 0, 0]
    if dx is not None:
        w.dx = &dx[0, 0, 0, 0]
    if dresidual is not None:
        w.kept = &dresidual[0, 0, 0, 0]
    with nogil:
        run_parts(<Part> begin_tables[real], &w, 1, 0)
        run_parts(<Part> gradient_sums_part[real], &w, team, 0)
        run_parts(<Part> finish_tables[real], &w, 1, 0)
    if w.dx == NULL:
        return
    if w.kept != NULL:  # it holds g: one array to read in place of two
        w.dout, w.gate = w.kept, NULL
    with nogil:
        run_parts(<Part> input_gradient_part[real], &w, team, 0)
