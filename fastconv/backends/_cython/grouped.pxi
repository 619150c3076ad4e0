# Grouped convolution with any stride and dilation: one product for each place of the window.
#
#     for band of rows of the target, in parallel:
#         for group:
#             s = the source rows that the band reads, t = start: this group's channels alone
#             for row of the band:  for ky that reaches it:  for kx, or for all kx at once:
#                 t(pixels that the taps reach) += s(their pixels, c) * weight(taps, c)
#             target = t
#
# The channels of one group are far apart from pixel to pixel, at steps that hit few sets of the
# first cache; copied together they stay in it. The tables of window_tables.py say which pixels a
# tap reaches, and what it reads; the input gradient has the same loops and other tables. Where the
# taps of a filter row read neighbouring pixels they are one product, over source rows with zeros
# around them; else each is clipped to what it reaches. The weight gradient reverses the product,
#
#     sums(taps, c) += s(pixels, c) * dout(pixels)
#
# with separate sums for each thread, since all bands add to the same ones. Tiles: see product.pxi.

cdef struct Reach:
    ptrdiff_t groups, depth, fh, fw  # depth: source channels of a group; fw: entries of column
    ptrdiff_t joined, left, frame  # taps of an entry; see window_tables.py
    ptrdiff_t bands
    ptrdiff_t source_c, target_c, target_columns, width  # width: columns padded to whole vectors
    ptrdiff_t source_w, source_size, target_w, target_size  # pixels of a row, values of an image
    ptrdiff_t source_step, target_step  # from pixel to pixel
    const ptrdiff_t* row  # source rows by target row and ky, -1 for none
    const ptrdiff_t* column  # first target column, first column of the frame, how many
    const ptrdiff_t* band  # first target row, end, first source row, end


cdef Reach reach_of(
    const real[:, :, :, ::1] source, const real[:, :, :, ::1] target,
    const ptrdiff_t[:, ::1] rows, const ptrdiff_t[:, ::1] columns, const ptrdiff_t[:, ::1] bands,
    ptrdiff_t groups, ptrdiff_t target_step, ptrdiff_t source_step, ptrdiff_t joined,
    ptrdiff_t left, ptrdiff_t frame,
) noexcept nogil:
    cdef Reach g
    g.joined, g.left, g.frame = joined, left, frame
    g.source_c, g.target_c = source.shape[3], target.shape[3]
    g.groups, g.depth, g.target_columns = groups, g.source_c // groups, g.target_c // groups
    g.width = padded(g.target_columns, lanes(&source[0, 0, 0, 0]))
    g.fh, g.fw, g.bands = rows.shape[1], columns.shape[0], bands.shape[0]
    g.source_w, g.target_w = source.shape[2], target.shape[2]
    g.source_size = source.shape[1] * g.source_w * g.source_c
    g.target_size = target.shape[1] * g.target_w * g.target_c
    g.source_step, g.target_step = source_step, target_step
    g.row, g.column, g.band = &rows[0, 0], &columns[0, 0], &bands[0, 0]
    return g


cdef ptrdiff_t most_pixels(const Reach* g, bint of_source) noexcept nogil:
    """Pixels of the largest band."""
    cdef ptrdiff_t most = 0, i
    cdef const ptrdiff_t* band
    for i in range(g.bands):
        band = g.band + 4 * i + 2 * of_source
        most = max(most, (band[1] - band[0]) * (g.frame if of_source else g.target_w))
    return most


cdef inline void move_channels(
    const real* source, ptrdiff_t source_step, ptrdiff_t pixels, ptrdiff_t count, real* target,
    ptrdiff_t target_step,
) noexcept nogil:
    """Copy `count` channels of each pixel; the steps are from pixel to pixel."""
    cdef ptrdiff_t u, c
    for u in range(pixels):
        for c from 0 <= c < count by lanes(source):
            store_part(target + c, load_part(source + c, count - c), count - c)
        source += source_step
        target += target_step


cdef void frame_rows(
    const Reach* g, const ptrdiff_t* band, ptrdiff_t group, const real* source, real* s
) noexcept nogil:
    """The source rows of a band, the channels of one group, in frames."""
    cdef ptrdiff_t first = min(g.frame, max(0, g.left))
    cdef ptrdiff_t end = max(first, min(g.frame, g.left + g.source_w))
    cdef ptrdiff_t y
    source += group * g.depth
    for y in range(band[2], band[3]):
        memset(s, 0, first * g.depth * sizeof(real))
        move_channels[real](
            source + (y * g.source_w + first - g.left) * g.source_c, g.source_c, end - first,
            g.depth, s + first * g.depth, g.depth,
        )
        memset(s + end * g.depth, 0, (g.frame - end) * g.depth * sizeof(real))
        s += g.frame * g.depth


cdef void grouped_band(
    const Reach* g, const ptrdiff_t* band, ptrdiff_t group, const real* source, const real* taps,
    const real* start, real* target, real* s, real* t,
) noexcept nogil:
    """One group of a band, from and to whole images; taps [tap][c][width] and start are its own."""
    cdef ptrdiff_t pixels = (band[1] - band[0]) * g.target_w
    cdef ptrdiff_t v, ky, kx, first, u
    cdef const ptrdiff_t* across
    cdef const real* weight
    cdef const real* from_
    cdef real* to
    cdef Product p = product_of(1, g.joined * g.depth)
    p.accumulate = True
    p.x_y, p.x_i, p.x_r = 0, 1, g.source_step * g.depth
    p.w_y, p.w_i, p.out_r = 0, g.width, g.target_step * g.width
    frame_rows[real](g, band, group, source, s)
    for u in range(pixels):
        for first from 0 <= first < g.width by lanes(start):
            store(t + u * g.width + first, load(start + first))
    for v in range(band[0], band[1]):
        for ky in range(g.fh):
            if g.row[v * g.fh + ky] < 0:
                continue
            for kx in range(g.fw):
                across = g.column + 3 * kx
                weight = taps + (ky * g.fw + kx) * g.joined * g.depth * g.width
                from_ = s + ((g.row[v * g.fh + ky] - band[2]) * g.frame + across[1]) * g.depth
                to = t + ((v - band[0]) * g.target_w + across[0]) * g.width
                for first from 0 <= first < g.width by 2 * lanes(source):
                    product_rows[real](
                        &p, across[2], from_, weight + first, zeros(source), to + first,
                        g.width - first,
                    )
    move_channels[real](
        t, g.width, pixels, g.target_columns,
        target + band[0] * g.target_w * g.target_c + group * g.target_columns, g.target_c,
    )


cdef struct Grouped:
    Reach g
    const void* source
    const void* taps
    ptrdiff_t volume  # of the taps of a group
    const void* start
    ptrdiff_t units  # bands of all images
    void* target
    Room sources
    Room targets


cdef void grouped_part(
    const real* type_of, const Grouped* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t unit, group
    for unit in range(share(w.units, t, crew.size), share(w.units, t + 1, crew.size)):
        for group in range(w.g.groups):
            grouped_band[real](
                &w.g, w.g.band + 4 * (unit % w.g.bands), group,
                <const real*> w.source + unit // w.g.bands * w.g.source_size,
                <const real*> w.taps + group * w.volume,
                <const real*> w.start + group * w.g.width,
                <real*> w.target + unit // w.g.bands * w.g.target_size,
                <real*> room_of(&w.sources, t), <real*> room_of(&w.targets, t),
            )


def grouped(
    const real[:, :, :, ::1] source,
    const real[:, :, :, ::1] taps,
    const real[:, ::1] start,
    const ptrdiff_t[:, ::1] rows,
    const ptrdiff_t[:, ::1] columns,
    const ptrdiff_t[:, ::1] bands,
    ptrdiff_t target_step,
    ptrdiff_t source_step,
    ptrdiff_t joined,
    ptrdiff_t left,
    ptrdiff_t frame,
    real[:, :, :, ::1] target,
    int threads,
):
    """Target (N, rows, columns, C) from source and taps (group, tap, c, C of a group, padded)."""
    cdef Reach g = reach_of[real](
        source, target, rows, columns, bands, taps.shape[0], target_step, source_step,
        joined, left, frame,
    )
    cdef ptrdiff_t units = target.shape[0] * g.bands
    cdef ptrdiff_t volume = taps.shape[1] * taps.shape[2] * taps.shape[3]
    cdef ptrdiff_t pixels = target.shape[0] * target.shape[1] * g.target_w
    cdef int team = team_size(threads, units, pixels * g.groups * volume // lanes(&start[0, 0]))
    cdef Scratch sources = Scratch(most_pixels(&g, True) * g.depth * sizeof(real), team)
    cdef Scratch targets = Scratch(most_pixels(&g, False) * g.width * sizeof(real), team)
    cdef Grouped w
    w.g, w.source, w.taps, w.volume = g, &source[0, 0, 0, 0], &taps[0, 0, 0, 0], volume
    w.start, w.units, w.target = &start[0, 0], units, &target[0, 0, 0, 0]
    w.sources, w.targets = sources.room(), targets.room()
    took[real](GROUPED, DIRECT, &start[0, 0], team)
    with nogil:
        run_parts(<Part> grouped_part[real], &w, team, 0)


cdef void grouped_sums_band(
    const Reach* g, const ptrdiff_t* band, ptrdiff_t group, const real* dout, const real* x,
    real* sums, real* totals, real* s, real* t,
) noexcept nogil:
    """sums [tap][c][width] and totals [width] of a group += those of a band of two images."""
    cdef ptrdiff_t pixels = (band[1] - band[0]) * g.target_w
    cdef ptrdiff_t v, ky, kx, first
    cdef const ptrdiff_t* across
    cdef const real* from_
    cdef const real* gradient
    cdef real* to
    cdef Product p = product_of(1, 0)
    p.accumulate = True
    p.x_y, p.x_i, p.x_r = 0, g.source_step * g.depth, 1
    p.w_y, p.w_i, p.out_r = 0, g.width, g.width
    frame_rows[real](g, band, group, x, s)
    if g.width > g.target_columns:
        memset(t, 0, pixels * g.width * sizeof(real))
    move_channels[real](
        dout + band[0] * g.target_w * g.target_c + group * g.target_columns, g.target_c, pixels,
        g.target_columns, t, g.width,
    )
    add_column_sums[real](t, pixels, g.width, totals)
    for v in range(band[0], band[1]):
        for ky in range(g.fh):
            if g.row[v * g.fh + ky] < 0:
                continue
            for kx in range(g.fw):
                across = g.column + 3 * kx
                p.run = across[2]
                from_ = s + ((g.row[v * g.fh + ky] - band[2]) * g.frame + across[1]) * g.depth
                gradient = t + ((v - band[0]) * g.target_w + across[0]) * g.width
                to = sums + (ky * g.fw + kx) * g.joined * g.depth * g.width
                for first from 0 <= first < g.width by 2 * lanes(dout):
                    product_rows[real](
                        &p, g.joined * g.depth, from_, gradient + first, zeros(dout), to + first,
                        g.width - first,
                    )


cdef struct GroupedSums:
    Reach g
    const void* dout
    const void* x
    ptrdiff_t units  # bands of all images
    ptrdiff_t volume  # of the sums of a group
    void* sums
    void* totals
    Room sources
    Room targets


cdef void grouped_sums_part(
    const real* type_of, const GroupedSums* w, int t, const Crew* crew
) noexcept nogil:
    cdef ptrdiff_t volume = w.g.groups * w.volume, width = w.g.groups * w.g.width
    cdef real* sums = <real*> w.sums + t * volume
    cdef real* totals = <real*> w.totals + t * width
    cdef ptrdiff_t unit, group
    memset(sums, 0, volume * sizeof(real))
    memset(totals, 0, width * sizeof(real))
    for unit in range(share(w.units, t, crew.size), share(w.units, t + 1, crew.size)):
        for group in range(w.g.groups):
            grouped_sums_band[real](
                &w.g, w.g.band + 4 * (unit % w.g.bands), group,
                <const real*> w.dout + unit // w.g.bands * w.g.target_size,
                <const real*> w.x + unit // w.g.bands * w.g.source_size,
                sums + group * w.volume, totals + group * w.g.width,
                <real*> room_of(&w.sources, t), <real*> room_of(&w.targets, t),
            )


def grouped_sums(
    const real[:, :, :, ::1] dout,
    const real[:, :, :, ::1] x,
    const ptrdiff_t[:, ::1] rows,
    const ptrdiff_t[:, ::1] columns,
    const ptrdiff_t[:, ::1] bands,
    ptrdiff_t source_step,
    ptrdiff_t joined,
    ptrdiff_t left,
    ptrdiff_t frame,
    real[:, :, :, :, ::1] sums,
    real[:, :, ::1] totals,
    int threads,
):
    """sums (parts, group, tap, c, filters) and totals (parts, group, filters), filters padded."""
    cdef Reach g = reach_of[real](
        x, dout, rows, columns, bands, sums.shape[1], 1, source_step, joined, left, frame
    )
    cdef ptrdiff_t units = dout.shape[0] * g.bands
    cdef ptrdiff_t volume = sums.shape[2] * sums.shape[3] * sums.shape[4]
    cdef int team = <int> sums.shape[0]
    cdef Scratch sources = Scratch(most_pixels(&g, True) * g.depth * sizeof(real), team)
    cdef Scratch targets = Scratch(most_pixels(&g, False) * g.width * sizeof(real), team)
    cdef GroupedSums w
    w.g, w.dout, w.x, w.units = g, &dout[0, 0, 0, 0], &x[0, 0, 0, 0], units
    w.volume, w.sums, w.totals = volume, &sums[0, 0, 0, 0, 0], &totals[0, 0, 0]
    w.sources, w.targets = sources.room(), targets.room()
    took[real](GROUPED_SUMS, DIRECT, &totals[0, 0, 0], team)
    with nogil:
        run_parts(<Part> grouped_sums_part[real], &w, team, 0)
