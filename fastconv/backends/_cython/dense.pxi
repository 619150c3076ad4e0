# Fully connected layers: three matrix products without a BLAS, and column sums.
#
#     out = x @ weight + bias:  for block of columns, in parallel:  pack it once
#                                   for R rows:
#                                       t = bias;  for d:  t += x(row, d) * packed(d, block)
#     dx = dout @ weight.T:     as out, without bias, the block packed from rows of weight
#     dweight = x.T @ dout:     for features, in parallel:  for block of columns:  for R features:
#                                   t = 0;  for sample:  t += x(sample, R) * dout(sample, block)
#
# With few samples, reading the weights is most of the work, and a block of columns, a narrow strip
# of their memory, is read at a third of the speed of whole rows. So forward then adds STREAMS rows
# of weight to out at a time, unless a cache holds the weights, and dx is computed transposed: rows
# of weight times columns of dout. By pairs of bfloat16s, some rows at a time are rounded before.
#
# Tiles: see product.pxi. A threaded BLAS beside these kernels would leave its threads spinning on
# the cores that they need. dweight is summed over blocks of samples, which keeps float32 accurate,
# and keeps in the cache what is read again.

cdef enum:
    SAMPLES = 128  # in one partial sum of the weight gradient
    STREAMS = 8  # rows of weight that are read side by side
    CACHED_BYTES = 1 << 19  # of weights that the second cache may hold
    ROUNDED_ROWS = 24  # of weight, at a time: whole tiles
    SUMMED_BYTES = 1 << 17  # of dweight that stay in the second cache between partial sums


cdef void multiply_block(
    const real* x, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t depth, const real* weight,
    ptrdiff_t weight_row, ptrdiff_t weight_column, ptrdiff_t first, ptrdiff_t columns,
    const real* start, real* out, real* packed,
) noexcept nogil:
    """Rows [begin, end) of the block of columns that starts with `first`."""
    cdef ptrdiff_t[3] shape = [1, 1, depth]
    cdef ptrdiff_t[4] strides = [0, 0, weight_row, weight_column]
    cdef Product p = product_of(1, depth)
    p.part = part_of(1, depth, LONGEST_SUM)
    p.x_y, p.x_i, p.x_r = 0, 1, depth
    p.w_y, p.w_i, p.out_r = 0, block_width(columns - first, lanes(x)), columns
    pack_block(weight + first * weight_column, shape, strides, columns - first, packed)
    product_rows(
        &p, end - begin, x + begin * depth, packed, start + first,
        out + begin * columns + first, columns - first,
    )


cdef struct Multiply:
    const void* x
    ptrdiff_t rows, depth
    const void* weight
    ptrdiff_t weight_row, weight_column, columns
    const void* start
    void* out
    ptrdiff_t units, parts  # of the rows
    Room packed


cdef void multiply_part(
    const real* type_of, const Multiply* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t unit
    for unit in range(share(w.units, t, crew.size), share(w.units, t + 1, crew.size)):
        multiply_block[real](
            <const real*> w.x, w.rows * (unit % w.parts) // w.parts,
            w.rows * (unit % w.parts + 1) // w.parts, w.depth, <const real*> w.weight,
            w.weight_row, w.weight_column, unit // w.parts * 2 * lanes(type_of), w.columns,
            <const real*> w.start, <real*> w.out, <real*> room_of(&w.packed, t),
        )


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
    cdef int team = team_size(threads, blocks * parts, rows * depth * blocks * 2)
    cdef Scratch packing = Scratch(depth * width * sizeof(real), team)
    cdef Scratch padding = Scratch(blocks * width * sizeof(real), 1, True)
    cdef Multiply w
    w.x, w.rows, w.depth, w.weight = x, rows, depth, weight
    w.weight_row, w.weight_column, w.columns = weight_row, weight_column, columns
    w.start, w.out, w.units, w.parts = padding.start, out, blocks * parts, parts
    w.packed = packing.room()
    took[real](AFFINE_INPUT_GRADIENT if bias == NULL else AFFINE_FORWARD, MANY_ROWS, x, team)
    with nogil:
        pad_bias[real](bias, columns, blocks * width, <real*> padding.start)
        run_parts(<Part> multiply_part[real], &w, team, 0)


cdef void multiply_rows(
    const real* x, ptrdiff_t rows, ptrdiff_t depth, const real* weight, ptrdiff_t columns,
    ptrdiff_t first, ptrdiff_t last, real* out,
) noexcept nogil:
    """Columns [first, last), whole vectors, of out (rows, columns) += x @ weight (depth, columns)."""
    cdef ptrdiff_t d, j
    cdef Product p = product_of(1, depth)
    p.accumulate = True
    p.x_y, p.x_i, p.x_r = 0, 1, depth
    p.w_y, p.w_i, p.out_r = 0, columns, columns
    for d from 0 <= d < depth by STREAMS:
        p.run = min(STREAMS, depth - d)
        for j from first <= j < last by 2 * lanes(x):
            product_rows(
                &p, rows, x + d, weight + d * columns + j, zeros(x), out + j, last - j
            )


cdef void multiply_columns(
    const real* x, ptrdiff_t rows, ptrdiff_t depth, const real* weight, ptrdiff_t columns,
    const real* bias, ptrdiff_t first, ptrdiff_t last, real* out,
) noexcept nogil:
    """Columns [first, last), at least a vector, of out (rows, columns) = x @ weight + bias.

    The last block ends where the columns do, and may overwrite some of the block before it.
    """
    cdef ptrdiff_t j = first, width
    cdef Product p = product_of(1, depth)
    p.part = part_of(1, depth, LONGEST_SUM)
    p.x_y, p.x_i, p.x_r = 0, 1, depth
    p.w_y, p.w_i, p.out_r = 0, columns, columns
    while j < last:
        width = 2 * lanes(x) if last - j >= 2 * lanes(x) else lanes(x)
        j = min(j, last - width)
        product_rows(&p, rows, x, weight + j, bias + j, out + j, width)
        j += width


cdef struct FewRows:
    const void* x
    ptrdiff_t rows, depth
    const void* weight
    ptrdiff_t columns
    const void* bias
    void* out
    void* packed  # a vector of the bias, and the columns that fill none


cdef void multiply_columns_part(
    const real* type_of, const FewRows* w, int t, const Crew* crew
) noexcept nogil:
    """A share of the whole vectors; the last part also has the columns after them."""
    cdef ptrdiff_t vectors = w.columns // lanes(type_of)
    cdef ptrdiff_t last = share(vectors, t + 1, crew.size) * lanes(type_of)
    multiply_columns[real](
        <const real*> w.x, w.rows, w.depth, <const real*> w.weight, w.columns,
        <const real*> w.bias, share(vectors, t, crew.size) * lanes(type_of),
        w.columns if t == crew.size - 1 else last, <real*> w.out,
    )


cdef void multiply_rows_part(
    const real* type_of, const FewRows* w, int t, const Crew* crew
) noexcept nogil:
    """A share of the whole vectors; the last part also has the columns after them."""
    cdef ptrdiff_t vectors = w.columns // lanes(type_of)
    cdef ptrdiff_t first = share(vectors, t, crew.size) * lanes(type_of)
    cdef ptrdiff_t last = share(vectors, t + 1, crew.size) * lanes(type_of)
    cdef ptrdiff_t rest = w.columns - last
    cdef real* out = <real*> w.out
    cdef real* packed = <real*> w.packed
    cdef ptrdiff_t r
    for r in range(w.rows):
        memcpy(
            out + r * w.columns + first, <const real*> w.bias + first,
            (last - first) * sizeof(real),
        )
    multiply_rows[real](
        <const real*> w.x, w.rows, w.depth, <const real*> w.weight, w.columns, first, last, out
    )
    if t == crew.size - 1 and rest > 0:
        memset(packed, 0, lanes(type_of) * sizeof(real))
        memcpy(packed, <const real*> w.bias + last, rest * sizeof(real))
        multiply_block[real](
            <const real*> w.x, 0, w.rows, w.depth, <const real*> w.weight, w.columns, 1, last,
            w.columns, packed - last, out, packed + lanes(type_of),
        )


cdef void forward_few(
    const real* x, ptrdiff_t rows, ptrdiff_t depth, const real* weight, ptrdiff_t columns,
    const real* bias, real* out, int threads,
) except *:
    """`multiply` for few rows; it packs the columns that fill no vector."""
    cdef ptrdiff_t vectors = columns // lanes(x)
    cdef int team = team_size(threads, vectors, rows * depth * vectors)
    cdef Scratch packing = Scratch((depth + 2) * lanes(x) * sizeof(real))
    cdef FewRows w
    w.x, w.rows, w.depth, w.weight, w.columns = x, rows, depth, weight, columns
    w.bias, w.out, w.packed = bias, out, packing.start
    if vectors > 0 and depth * columns * sizeof(real) <= CACHED_BYTES:
        took[real](AFFINE_FORWARD, FEW_ROWS_CACHED, x, team)
        with nogil:
            run_parts(<Part> multiply_columns_part[real], &w, team, 0)
        return
    took[real](AFFINE_FORWARD, FEW_ROWS, x, team)
    with nogil:
        run_parts(<Part> multiply_rows_part[real], &w, team, 0)


cdef struct FewRowsGradient:
    bint paired
    const void* dout
    ptrdiff_t rows, columns
    const void* weight
    ptrdiff_t features, width
    void* packed
    void* turned
    void* dx
    Room rounded  # rows of weight, where paired


cdef void pack_few_gradients(
    const real* type_of, const FewRowsGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t[3] shape = [1, 1, w.columns]
    cdef ptrdiff_t[4] strides = [1, 1, 1, w.columns]
    pack_block[real](<const real*> w.dout, shape, strides, w.rows, <real*> w.packed)
    if real is float:
        if w.paired:  # each pair is written where its first row was, or before it
            pair_block(
                <float*> w.packed, 1, w.columns, pairs_of(w.columns), w.width, w.packed
            )


cdef void turn_back_part(
    const real* type_of, const FewRowsGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef const real* turned = <const real*> w.turned
    cdef real* dx = <real*> w.dx
    cdef ptrdiff_t i, r
    for r in range(w.rows):
        for i in range(w.features):
            dx[r * w.features + i] = turned[i * w.width + r]


cdef void input_gradient_few_pairs(
    const FewRowsGradient* w, ptrdiff_t begin, ptrdiff_t end, int t
) noexcept nogil:
    """Features [begin, end)."""
    cdef ptrdiff_t pairs = pairs_of(w.columns), row, count, r
    cdef float* rounded = <float*> room_of(&w.rounded, t)
    cdef PairProduct p = pair_product_of(BY_VECTORS, 1, pairs)
    p.x_r, p.w_i, p.out_r = 2 * pairs, w.width, w.width
    for row from begin <= row < end by ROUNDED_ROWS:
        count = min(ROUNDED_ROWS, end - row)
        for r in range(count):
            round_row(
                <const float*> w.weight + (row + r) * w.columns, w.columns, rounded + r * pairs
            )
        multiply_pairs(
            &p, PairLines(1, 0, 0, count), rounded, <const float*> w.packed, zeros(rounded),
            <float*> w.turned + row * w.width, w.width,
        )


cdef void input_gradient_few_part(
    const real* type_of, const FewRowsGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t begin = share(w.features, t, crew.size)
    cdef Product p = product_of(1, w.columns)
    if real is float:
        if w.paired:
            input_gradient_few_pairs(w, begin, share(w.features, t + 1, crew.size), t)
            return
    p.x_y, p.x_i, p.x_r = 0, 1, w.columns
    p.w_y, p.w_i, p.out_r = 0, w.width, w.width
    product_rows[real](
        &p, share(w.features, t + 1, crew.size) - begin,
        <const real*> w.weight + begin * w.columns, <const real*> w.packed, zeros(type_of),
        <real*> w.turned + begin * w.width, w.width,
    )


cdef void input_gradient_few(
    const real* dout, ptrdiff_t rows, ptrdiff_t columns, const real* weight, ptrdiff_t features,
    real* dx, bint paired, int threads,
) except *:
    """dx (rows, features) = dout (rows, columns) @ weight.T for few rows."""
    cdef ptrdiff_t width = block_width(rows, lanes(dout))
    cdef int team = team_size(threads, features // ROWS_1, features * columns)
    cdef Scratch packing = Scratch(
        (2 * pairs_of(columns) if paired else columns) * width * sizeof(real)
    )
    cdef Scratch turned = Scratch(features * width * sizeof(real))
    cdef Scratch rounding = Scratch(
        ROUNDED_ROWS * pairs_of(columns) * sizeof(real) if paired else 0, team
    )
    cdef FewRowsGradient w
    w.paired, w.rounded = paired, rounding.room()
    w.dout, w.rows, w.columns, w.weight = dout, rows, columns, weight
    w.features, w.width, w.dx = features, width, dx
    w.packed, w.turned = packing.start, turned.start
    took[real](AFFINE_INPUT_GRADIENT, FEW_ROWS, dout, team)
    with nogil:
        run_parts(<Part> pack_few_gradients[real], &w, 1, 0)
        run_parts(<Part> input_gradient_few_part[real], &w, team, 0)
        run_parts(<Part> turn_back_part[real], &w, 1, 0)


cdef void multiply_transposed(
    const real* x, ptrdiff_t samples, ptrdiff_t features, ptrdiff_t begin, ptrdiff_t end,
    const real* dout, ptrdiff_t columns, real* dweight,
) noexcept nogil:
    """Rows [begin, end) of dweight (features, columns) = x.T @ dout, dout's rows whole vectors."""
    cdef ptrdiff_t width = padded(columns, lanes(x))
    cdef ptrdiff_t most = max(ROWS_1, SUMMED_BYTES // (columns * sizeof(real)))
    cdef ptrdiff_t first, sample, row
    cdef Product p = product_of(1, samples)
    p.x_y, p.x_i, p.x_r = 0, features, 1
    p.w_y, p.w_i, p.out_r = 0, width, columns
    if samples == 0:
        memset(dweight + begin * columns, 0, (end - begin) * columns * sizeof(real))
    for row from begin <= row < end by most:
        for sample from 0 <= sample < samples by SAMPLES:
            p.run, p.accumulate = min(SAMPLES, samples - sample), sample > 0
            for first from 0 <= first < columns by 2 * lanes(x):
                product_rows(
                    &p, min(most, end - row), x + sample * features + row,
                    dout + sample * width + first, zeros(x), dweight + row * columns + first,
                    columns - first,
                )


cdef struct AffineWeightGradient:
    const void* x
    ptrdiff_t samples, features
    const void* dout
    const void* rows  # of dout, padded to whole vectors
    void* padded  # memory for these; NULL if dout needs no padding
    ptrdiff_t columns
    void* dweight
    void* dbias


cdef void affine_bias_gradient(
    const real* type_of, const AffineWeightGradient* w, int t, const Crew* crew
) noexcept nogil:
    cdef const real* dout = <const real*> w.dout
    if w.padded != NULL:
        pad_rows[real](dout, w.samples, w.columns, <real*> w.padded)
    memset(w.dbias, 0, w.columns * sizeof(real))
    add_column_sums[real](dout, w.samples, w.columns, <real*> w.dbias)


cdef void affine_weight_gradient_part(
    const real* type_of, const AffineWeightGradient* w, int t, const Crew* crew
) noexcept nogil:
    multiply_transposed[real](
        <const real*> w.x, w.samples, w.features, share(w.features, t, crew.size),
        share(w.features, t + 1, crew.size), <const real*> w.rows, w.columns, <real*> w.dweight,
    )


cdef void affine_weight_gradient(
    const real* dout, const real* x, ptrdiff_t samples, ptrdiff_t features, ptrdiff_t columns,
    real* dweight, real* dbias, int threads,
) except *:
    cdef ptrdiff_t width = padded(columns, lanes(x))
    cdef ptrdiff_t work = features * columns + samples * features * width // lanes(x)
    cdef int team = team_size(threads, ceil_div(features, ROWS_1), work)
    cdef Scratch padding = Scratch(0 if width == columns else samples * width * sizeof(real))
    cdef AffineWeightGradient w
    w.x, w.samples, w.features, w.columns, w.dweight = x, samples, features, columns, dweight
    w.dout, w.rows, w.padded, w.dbias = dout, dout, NULL, dbias
    if width != columns:
        w.rows = w.padded = padding.start
    with nogil:
        run_parts(<Part> affine_bias_gradient[real], &w, 1, 0)
        run_parts(<Part> affine_weight_gradient_part[real], &w, team, 0)


def affine_forward(
    const real[:, ::1] x,
    const real[:, ::1] weight,
    const real[::1] bias,
    real[:, ::1] out,
    int pairs,
    int threads,
):
    """out (N, M) = x (N, D) @ weight (D, M) + bias (M,)."""
    cdef ptrdiff_t columns = weight.shape[1]
    if real is float:
        if HAS_PAIRS and pairs != NO_PAIRS:
            if x.shape[0] <= ROWS_2 and not weights_stay():
                forward_few_pairs(
                    &x[0, 0], x.shape[0], x.shape[1], &weight[0, 0], columns, &bias[0], &out[0, 0],
                    threads,
                )
            else:
                multiply_by_pairs(
                    pairs, &x[0, 0], x.shape[0], x.shape[1], &weight[0, 0], columns, 1, columns,
                    &bias[0], &out[0, 0], threads,
                )
            return
    if x.shape[0] <= ROWS_2:
        forward_few(
            &x[0, 0], x.shape[0], x.shape[1], &weight[0, 0], columns, &bias[0], &out[0, 0], threads
        )
        return
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
    int pairs,
    int threads,
):
    """dx = dout @ weight.T (or None: not needed), dweight = x.T @ dout, dbias = sum of dout."""
    cdef ptrdiff_t columns = weight.shape[1]
    if real is float:
        if HAS_PAIRS and pairs != NO_PAIRS:
            if dx is not None and pairs == BY_VECTORS and x.shape[0] <= 2 * MOST_LANES:
                input_gradient_few(
                    &dout[0, 0], x.shape[0], columns, &weight[0, 0], x.shape[1], &dx[0, 0], True,
                    threads,
                )
            elif dx is not None:
                multiply_by_pairs(
                    pairs, &dout[0, 0], x.shape[0], columns, &weight[0, 0], 1, columns, x.shape[1],
                    NULL, &dx[0, 0], threads,
                )
            affine_pair_sums(
                pairs, &dout[0, 0], &x[0, 0], x.shape[0], x.shape[1], columns, &dweight[0, 0],
                &dbias[0], threads,
            )
            return
    if dx is not None and x.shape[0] <= 2 * lanes(&x[0, 0]):
        input_gradient_few(
            &dout[0, 0], x.shape[0], columns, &weight[0, 0], x.shape[1], &dx[0, 0], False, threads
        )
    elif dx is not None:
        multiply(
            &dout[0, 0], x.shape[0], columns, &weight[0, 0], 1, columns, x.shape[1],
            <const real*> NULL, &dx[0, 0], threads,
        )
    affine_weight_gradient(
        &dout[0, 0], &x[0, 0], x.shape[0], x.shape[1], columns, &dweight[0, 0], &dbias[0], threads
    )
