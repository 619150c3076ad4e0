# Fully connected layers: three matrix products without a BLAS, and column sums.
#
#     out = x @ weight + bias:  for block of columns, in parallel:  pack it once
#                                   for R rows:
#                                       t = bias;  for d:  t += x(row, d) * packed(d, block)
#     dx = dout @ weight.T:     the same, the block packed from rows of weight
#     dweight = x.T @ dout:     for R features, in parallel:  for block of columns:
#                                   t = 0;  for sample:  t += x(sample, R) * dout(sample, block)
#
# Tiles: see product.pxi. A threaded BLAS beside these kernels would leave its threads spinning on
# the cores that they need. dweight is summed over blocks of samples, which keeps float32 accurate
# and what is read again in the cache.

cdef enum:
    SAMPLES = 128  # in one partial sum of the weight gradient


cdef void multiply(
    const real* x, ptrdiff_t rows, ptrdiff_t depth, const real* weight, ptrdiff_t weight_row,
    ptrdiff_t weight_column, ptrdiff_t columns, const real* bias, real* out, int threads,
) except *:
    """out (rows, columns) = x (rows, depth) @ weight + bias; NULL stands for no bias.

    Element (d, j) of weight is weight[d * weight_row + j * weight_column].
    """
    cdef ptrdiff_t width = 2 * lanes(x)
    cdef ptrdiff_t blocks = ceil_div(columns, width)
    # Few columns for many threads: rows are split too, and each part packs the block anew.
    cdef ptrdiff_t parts = max(1, min(ceil_div(threads, blocks), rows // ROWS_1))
    cdef ptrdiff_t units = blocks * parts
    cdef int team = team_size(threads, units, rows * depth * blocks * 2)
    cdef Scratch packing = Scratch(depth * width * sizeof(real), team)
    cdef Scratch padding = Scratch(blocks * width * sizeof(real))
    cdef real* start = <real*> padding.start
    cdef char* packed = packing.start
    cdef ptrdiff_t packed_step = packing.step
    cdef int t
    cdef ptrdiff_t unit
    with nogil:
        memset(start, 0, blocks * width * sizeof(real))
        if bias != NULL:
            memcpy(start, bias, columns * sizeof(real))
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            for unit in range(share(units, t, team), share(units, t + 1, team)):
                multiply_block(
                    x, rows * (unit % parts) // parts, rows * (unit % parts + 1) // parts, depth,
                    weight, weight_row, weight_column, unit // parts * width, columns, start, out,
                    <real*> (packed + t * packed_step),
                )


cdef void multiply_block(
    const real* x, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t depth, const real* weight,
    ptrdiff_t weight_row, ptrdiff_t weight_column, ptrdiff_t first, ptrdiff_t columns,
    const real* start, real* out, real* packed,
) noexcept nogil:
    """Rows [begin, end) of the block of columns that begins with `first`."""
    cdef ptrdiff_t[3] shape = [1, 1, depth]
    cdef ptrdiff_t[4] strides = [0, 0, weight_row, weight_column]
    cdef Product p
    p.rows, p.run, p.accumulate, p.relu = 1, depth, False, False
    p.residual = NULL
    p.x_y, p.x_i, p.x_r = 0, 1, depth
    p.w_y, p.w_i, p.out_r = 0, block_width(columns - first, lanes(x)), columns
    pack_block(weight + first * weight_column, shape, strides, columns - first, packed)
    product_rows(
        &p, end - begin, x + begin * depth, packed, start + first,
        out + begin * columns + first, columns - first,
    )


cdef void multiply_transposed(
    const real* x, ptrdiff_t samples, ptrdiff_t features, ptrdiff_t begin, ptrdiff_t end,
    const real* dout, ptrdiff_t columns, real* dweight,
) noexcept nogil:
    """Rows [begin, end) of dweight (features, columns) = x.T @ dout, dout's rows whole vectors."""
    cdef ptrdiff_t width = padded(columns, lanes(x))
    cdef ptrdiff_t first, sample
    cdef Product p
    p.rows, p.accumulate, p.relu = 1, True, False
    p.residual = NULL
    p.x_y, p.x_i, p.x_r = 0, features, 1
    p.w_y, p.w_i, p.out_r = 0, width, columns
    memset(dweight + begin * columns, 0, (end - begin) * columns * sizeof(real))
    for sample from 0 <= sample < samples by SAMPLES:
        p.run = min(SAMPLES, samples - sample)
        for first from 0 <= first < columns by 2 * lanes(x):
            product_rows(
                &p, end - begin, x + sample * features + begin, dout + sample * width + first,
                zeros(x), dweight + begin * columns + first, columns - first,
            )


cdef void affine_weight_gradient(
    const real* dout, const real* x, ptrdiff_t samples, ptrdiff_t features, ptrdiff_t columns,
    real* dweight, real* dbias, int threads,
) except *:
    cdef ptrdiff_t width = padded(columns, lanes(x))
    cdef int team = team_size(
        threads, ceil_div(features, ROWS_1), samples * features * width // lanes(x)
    )
    cdef Scratch padding = Scratch(0 if width == columns else samples * width * sizeof(real))
    cdef const real* rows = dout
    cdef int t
    with nogil:
        if width != columns:
            pad_rows(dout, samples, columns, <real*> padding.start)
            rows = <const real*> padding.start
        memset(dbias, 0, columns * sizeof(real))
        add_column_sums(dout, samples, columns, dbias)
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            multiply_transposed(
                x, samples, features, share(features, t, team), share(features, t + 1, team),
                rows, columns, dweight,
            )


def affine_forward(
    const real[:, ::1] x,
    const real[:, ::1] weight,
    const real[::1] bias,
    real[:, ::1] out,
    int threads,
):
    """out (N, M) = x (N, D) @ weight (D, M) + bias (M,)."""
    cdef ptrdiff_t columns = weight.shape[1]
    multiply(
        &x[0, 0], x.shape[0], x.shape[1], &weight[0, 0], columns, 1, columns, &bias[0],
        &out[0, 0], threads,
    )


def affine_backward(
    const real[:, ::1] dout,
    const real[:, ::1] x,
    const real[:, ::1] weight,
    real[:, ::1] dx,
    real[:, ::1] dweight,
    real[::1] dbias,
    int threads,
):
    """dx = dout @ weight.T (or None: not needed), dweight = x.T @ dout, dbias = sum of dout."""
    cdef ptrdiff_t columns = weight.shape[1]
    if dx is not None:
        multiply(
            &dout[0, 0], x.shape[0], columns, &weight[0, 0], 1, columns, x.shape[1],
            <const real*> NULL, &dx[0, 0], threads,
        )
    affine_weight_gradient(
        &dout[0, 0], &x[0, 0], x.shape[0], x.shape[1], columns, &dweight[0, 0], &dbias[0], threads
    )
