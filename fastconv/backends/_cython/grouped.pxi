# Grouped convolution with any stride and dilation: one product for each place of the window.
#
#     for row of the target, in parallel:
#         target = start
#         for group:  for tap (ky, kx) that reaches the row:
#             target(pixels that the tap reaches) += source(their pixels, c) * weight(tap, c)
#
# What is added to, a group's channels of one row, stays in the first cache. Which pixels a tap
# reaches, and where it reads, are in the tables of window_tables.py; the input gradient has the
# same loops and other tables. The weight gradient turns the product round,
#
#     sums(tap, c) += x(pixels, c) * dout(pixels)
#
# with sums of its own for each thread, since all rows add to the same. Tiles: see product.pxi.

cdef struct Reach:
    ptrdiff_t groups, depth, fh, fw  # depth: source channels of a group
    ptrdiff_t rows  # of the target
    ptrdiff_t source_c, target_c, target_columns  # channels, and a group's of the target
    ptrdiff_t source_row, source_size, target_row  # steps in elements
    ptrdiff_t source_step, target_step  # from pixel to pixel
    const ptrdiff_t* row  # source rows by target row and ky, -1 for none
    const ptrdiff_t* column  # by kx: first target column, first source column, how many


cdef Reach reach_of(
    const real[:, :, :, ::1] source, const real[:, :, :, ::1] target,
    const ptrdiff_t[:, ::1] rows, const ptrdiff_t[:, ::1] columns, ptrdiff_t groups,
    ptrdiff_t target_step, ptrdiff_t source_step,
) noexcept nogil:
    cdef Reach g
    g.source_c, g.target_c = source.shape[3], target.shape[3]
    g.groups, g.depth, g.target_columns = groups, g.source_c // groups, g.target_c // groups
    g.rows, g.fh, g.fw = rows.shape[0], rows.shape[1], columns.shape[0]
    g.source_row, g.target_row = source.shape[2] * g.source_c, target.shape[2] * g.target_c
    g.source_size = source.shape[1] * g.source_row
    g.source_step, g.target_step = source_step * g.source_c, target_step * g.target_c
    g.row, g.column = &rows[0, 0], &columns[0, 0]
    return g


cdef void grouped_row(
    const Reach* g, ptrdiff_t v, const real* source, const real* taps, ptrdiff_t width,
    const real* start, real* target,
) noexcept nogil:
    """Row v of the target of one image; source is the image, taps [group][tap][c][width]."""
    cdef ptrdiff_t group, ky, kx, first, u
    cdef const ptrdiff_t* across
    cdef const real* weight
    cdef const real* pixels
    cdef real* to
    cdef Product p
    p.rows, p.run, p.accumulate, p.relu = 1, g.depth, True, False
    p.x_y, p.x_i, p.x_r = 0, 1, g.source_step
    p.w_y, p.w_i, p.out_r = 0, width, g.target_step
    for u from 0 <= u < g.target_row by g.target_c:
        memcpy(target + u, start, g.target_c * sizeof(real))
    for group in range(g.groups):
        for ky in range(g.fh):
            if g.row[v * g.fh + ky] < 0:
                continue
            for kx in range(g.fw):
                across = g.column + 3 * kx
                weight = taps + ((group * g.fh + ky) * g.fw + kx) * g.depth * width
                pixels = source + g.row[v * g.fh + ky] * g.source_row
                pixels += across[1] * g.source_c + group * g.depth
                to = target + across[0] * g.target_c + group * g.target_columns
                for first from 0 <= first < g.target_columns by 2 * lanes(source):
                    product_rows[real](
                        &p, across[2], pixels, weight + first, zeros(source), to + first,
                        g.target_columns - first,
                    )


def grouped(
    const real[:, :, :, ::1] source,
    const real[:, :, :, ::1] taps,
    const real[::1] start,
    const ptrdiff_t[:, ::1] rows,
    const ptrdiff_t[:, ::1] columns,
    ptrdiff_t target_step,
    ptrdiff_t source_step,
    real[:, :, :, ::1] target,
    int threads,
):
    """Target (N, rows, columns, C) from source and taps (group, tap, c, C of a group, filled)."""
    cdef Reach g = reach_of[real](
        source, target, rows, columns, taps.shape[0], target_step, source_step
    )
    cdef ptrdiff_t units = target.shape[0] * g.rows
    cdef ptrdiff_t work = taps.shape[0] * taps.shape[1] * taps.shape[2] * taps.shape[3]
    cdef int team = team_size(
        threads, units, units * target.shape[2] * work // lanes(&start[0])
    )
    cdef int t
    cdef ptrdiff_t unit
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            for unit in range(share(units, t, team), share(units, t + 1, team)):
                grouped_row[real](
                    &g, unit % g.rows, &source[0, 0, 0, 0] + unit // g.rows * g.source_size,
                    &taps[0, 0, 0, 0], taps.shape[3], &start[0],
                    &target[0, 0, 0, 0] + unit * g.target_row,
                )


cdef void grouped_sums_row(
    const Reach* g, ptrdiff_t v, const real* dout, const real* x, real* sums, real* totals
) noexcept nogil:
    """sums [group][tap][c][filters] and totals [filter] += those of row v of dout."""
    cdef ptrdiff_t group, ky, kx, first
    cdef const ptrdiff_t* across
    cdef const real* pixels
    cdef const real* gradient
    cdef real* to
    cdef Product p
    p.rows, p.accumulate, p.relu = 1, True, False
    p.x_y, p.x_i, p.x_r = 0, g.source_step, 1
    p.w_y, p.w_i, p.out_r = 0, g.target_c, g.target_columns
    add_column_sums[real](dout, g.target_row // g.target_c, g.target_c, totals)
    for group in range(g.groups):
        for ky in range(g.fh):
            if g.row[v * g.fh + ky] < 0:
                continue
            for kx in range(g.fw):
                across = g.column + 3 * kx
                p.run = across[2]
                pixels = x + g.row[v * g.fh + ky] * g.source_row
                pixels += across[1] * g.source_c + group * g.depth
                gradient = dout + across[0] * g.target_c + group * g.target_columns
                to = sums + ((group * g.fh + ky) * g.fw + kx) * g.depth * g.target_columns
                for first from 0 <= first < g.target_columns by 2 * lanes(dout):
                    product_rows[real](
                        &p, g.depth, pixels, gradient + first, zeros(dout), to + first,
                        g.target_columns - first,
                    )


def grouped_sums(
    const real[:, :, :, ::1] dout,
    const real[:, :, :, ::1] x,
    const ptrdiff_t[:, ::1] rows,
    const ptrdiff_t[:, ::1] columns,
    ptrdiff_t groups,
    ptrdiff_t source_step,
    real[:, ::1] sums,
    real[:, ::1] totals,
    int threads,
):
    """sums (parts, group x tap x c x filters) and totals (parts, filters); filters fill vectors."""
    cdef Reach g = reach_of[real](x, dout, rows, columns, groups, 1, source_step)
    cdef ptrdiff_t units = dout.shape[0] * g.rows
    cdef int team = <int> sums.shape[0]
    cdef int t
    cdef ptrdiff_t unit
    with nogil:
        for t in prange(team, num_threads=team, use_threads_if=team > 1, schedule="static"):
            memset(&sums[t, 0], 0, sums.shape[1] * sizeof(real))
            memset(&totals[t, 0], 0, totals.shape[1] * sizeof(real))
            for unit in range(share(units, t, team), share(units, t + 1, team)):
                grouped_sums_row[real](
                    &g, unit % g.rows, &dout[0, 0, 0, 0] + unit * g.target_row,
                    &x[0, 0, 0, 0] + unit // g.rows * g.source_size, &sums[t, 0], &totals[t, 0],
                )
