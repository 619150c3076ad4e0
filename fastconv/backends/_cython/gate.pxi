# How images reach a convolution, and how they leave it through the ReLU and pooling fused to it.
#
# Incoming: images, or the gradient that comes back through ReLU and pooling.
#
#     for row:  for pixel:  for vector of channels:
#         no gate:    to = dout(y, x)
#         ReLU:       to = dout(y, x)          where out(y, x) > 0,                    else 0
#         and pool:   to = dout(y//2, x//2)    where winner(y//2, x//2) = 2*(y%2) + x%2, else 0
#
# Outgoing: the convolution's output, perhaps plus a residual, then perhaps ReLU, then perhaps the
# maxima of 2x2 windows:
#
#     for window:  for vector of channels:
#         best, winner = first place;  for the other three:  where it beats best: best, winner = it
#         out = ReLU(best);  winner = 4 where best is not above 0
#
# The output before ReLU and pooling is never an array, nor is its gradient: kernels hold the
# window they work on in scratch or in registers anyway, and apply the gate there.

cdef enum:
    NO_GATE
    RELU_GATE  # `gate` is the output of ReLU
    POOL_GATE  # `gate` is the winner of each 2x2 window after ReLU, as bytes
    CLOSED = 4  # winner of a window that passes nothing

cdef struct Incoming:
    int kind
    ptrdiff_t n, h, w, c  # images as the convolution sees them, channels-last
    ptrdiff_t pixel  # channels in memory, of which c are wanted
    bint narrow  # whether dout is of bfloat16s, and not of floats; not with a gate
    ptrdiff_t ph, pw  # rows and columns of dout: h and w, or half of them after pooling
    const void* dout
    const void* gate

cdef struct Outgoing:
    int kind
    ptrdiff_t n, h, w, c
    ptrdiff_t ph, pw  # rows and columns of out
    ptrdiff_t pixel  # from pixel to pixel of out: c, or more where others' channels lie beside them
    void* out
    unsigned char* winner  # or NULL
    const void* residual  # added to the output, or NULL; not with pooling
    int narrow  # which of out and residual are of bfloat16s (pairs.h)


cdef Incoming incoming(
    int kind, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c, const void* dout, const void* gate
) noexcept nogil:
    """n images of h x w pixels and c channels, read through a gate; without one they are dout."""
    cdef Incoming d
    d.kind, d.n, d.h, d.w, d.c, d.pixel, d.dout, d.gate = kind, n, h, w, c, c, dout, gate
    d.narrow = False
    d.ph = h // 2 if kind == POOL_GATE else h
    d.pw = w // 2 if kind == POOL_GATE else w
    return d


cdef inline Incoming channels_of(
    const Incoming* whole, ptrdiff_t first, ptrdiff_t count, ptrdiff_t value_bytes
) noexcept nogil:
    """`count` channels of these images, from `first` on."""
    cdef Incoming d = whole[0]
    d.c = count
    d.dout = <const char*> whole.dout + first * value_bytes
    if whole.kind != NO_GATE:
        d.gate = <const char*> whole.gate + first * (1 if whole.kind == POOL_GATE else value_bytes)
    return d


cdef inline ptrdiff_t row_start(
    const Incoming* d, ptrdiff_t image, ptrdiff_t row
) noexcept nogil:
    """The first element of dout for a row of an image."""
    return (image * d.ph + (row // 2 if d.kind == POOL_GATE else row)) * d.pw * d.pixel


cdef Outgoing outgoing(
    int kind, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c, void* out, unsigned char* winner
) noexcept nogil:
    """n images of h x w pixels and c channels, written through a gate."""
    cdef Outgoing o
    o.kind, o.n, o.h, o.w, o.c, o.pixel, o.out, o.winner = kind, n, h, w, c, c, out, winner
    o.residual, o.narrow = NULL, 0
    o.ph = h // 2 if kind == POOL_GATE else h
    o.pw = w // 2 if kind == POOL_GATE else w
    return o


cdef inline ptrdiff_t pixel_of(const real[:, :, :, :] images) noexcept nogil:
    """From pixel to pixel of images (N, H, W, C), in values; their pixels fill no memory alone."""
    cdef int axis
    for axis in range(2, -1, -1):
        if images.shape[axis] > 1:
            return images.strides[axis] // <ptrdiff_t> sizeof(real)
    return images.shape[3]


# ---- incoming -------------------------------------------------------------------------


cdef void copy_pixels(
    const real* source, ptrdiff_t pixel, ptrdiff_t depth, ptrdiff_t pixels, real* to,
    ptrdiff_t to_pixel,
) noexcept nogil:
    """The first `depth` values of pixels, padded with zeros to `to_pixel` values."""
    cdef ptrdiff_t whole = depth - depth % lanes(source)
    cdef ptrdiff_t i, c
    if depth == pixel == to_pixel:
        memcpy(to, source, pixels * depth * sizeof(real))
        return
    if depth == 3 and to_pixel == 4:  # of a picture; a vector for each takes longer
        for i in range(pixels):
            to[4 * i], to[4 * i + 1], to[4 * i + 2] = source[0], source[1], source[2]
            to[4 * i + 3] = 0
            source += pixel
        return
    for i in range(pixels):
        for c from 0 <= c < whole by lanes(source):
            store(to + c, load(source + c))
        for c from whole <= c < to_pixel by lanes(source):
            store_part(to + c, load_part(source + c, depth - c), to_pixel - c)
        source += pixel
        to += to_pixel


cdef void widen_pixels(
    const void* source, ptrdiff_t pixel, ptrdiff_t depth, ptrdiff_t pixels, float* to,
    ptrdiff_t to_pixel,
) noexcept nogil:
    """`copy_pixels` of bfloat16s, which become floats."""
    cdef ptrdiff_t c
    if depth == pixel == to_pixel:  # one long pixel
        depth, pixels = depth * pixels, 1
        to_pixel = depth
    while pixels > 0:
        for c from 0 <= c < to_pixel by lanes(to):
            store_part(
                to + c, load_widened(ahead(source, c, True), max(depth - c, 0)), to_pixel - c
            )
        source = ahead(source, pixel, True)
        to += to_pixel
        pixels -= 1


cdef void relu_pixels(
    const real* dout, const real* out, ptrdiff_t pixel, ptrdiff_t depth, ptrdiff_t pixels,
    real* to, ptrdiff_t to_pixel,
) noexcept nogil:
    """`copy_pixels` of dout, with 0 where out is not above 0."""
    cdef ptrdiff_t i, c
    cdef vec[real] passed
    if depth == pixel == to_pixel:  # one long pixel
        depth = to_pixel = depth * pixels
        pixels = 1
    for i in range(pixels):
        for c from 0 <= c < to_pixel by lanes(dout):
            passed = choose(
                positive(load_part(out + c, depth - c)), load_part(dout + c, depth - c),
                broadcast(<real> 0),
            )
            store_part(to + c, passed, to_pixel - c)
        dout += pixel
        out += pixel
        to += to_pixel


cdef void pool_pixels(
    const real* dout, const unsigned char* winner, ptrdiff_t pixel, ptrdiff_t depth, ptrdiff_t x,
    ptrdiff_t pixels, int top, int rows, real* to, ptrdiff_t to_pixel, ptrdiff_t to_row,
) noexcept nogil:
    """Pixels from x on, in one or both rows of the windows that dout and winner belong to.

    `top` is the first row's place in its windows, 0 or 1.
    """
    cdef ptrdiff_t end = x + pixels, both, c
    cdef vec[real] passed
    cdef ivec[real] place
    cdef int i, j
    while x < end:
        both = min(2 - x % 2, end - x)  # pixels of this window in a row
        for c from 0 <= c < to_pixel by lanes(dout):
            passed = load_part(dout + x // 2 * pixel + c, depth - c)
            place = load_index(passed, winner + x // 2 * pixel + c, depth - c)
            for i in range(rows):
                for j in range(<int> both):
                    store_part(
                        to + i * to_row + j * to_pixel + c,
                        choose(
                            equal(place, broadcast_index(passed, 2 * (top + i) + x % 2 + j)),
                            passed, broadcast(<real> 0),
                        ),
                        to_pixel - c,
                    )
        to += both * to_pixel
        x += both


cdef void gated_window(
    const Incoming* d, ptrdiff_t image, ptrdiff_t top, ptrdiff_t left, ptrdiff_t rows,
    ptrdiff_t cols, real* to, ptrdiff_t to_pixel,
) noexcept nogil:
    """rows x cols pixels of one image from (top, left) on, zeros outside the image.

    Pixels are `to_pixel` >= c values apart in `to`, with zeros after the c-th.
    """
    # With pooling, an odd last row or column belongs to no window.
    cdef ptrdiff_t height = 2 * d.ph if d.kind == POOL_GATE else d.h
    cdef ptrdiff_t width = 2 * d.pw if d.kind == POOL_GATE else d.w
    cdef ptrdiff_t first = min(max(-left, 0), cols)
    cdef ptrdiff_t last = max(min(width - left, cols), first)
    cdef ptrdiff_t x = left + first
    cdef const real* dout = <const real*> d.dout
    cdef ptrdiff_t row = cols * to_pixel
    cdef real* begin
    cdef ptrdiff_t y = top, at, together, i
    while y < top + rows:
        together = 1  # rows that lie in the same windows
        if 0 <= y < height:
            begin = to + first * to_pixel
            if d.kind == POOL_GATE:
                together = min(2 - y % 2, top + rows - y)
                at = (image * d.ph + y // 2) * d.pw * d.pixel
                pool_pixels[real](
                    dout + at, <const unsigned char*> d.gate + at, d.pixel, d.c, x, last - first,
                    <int> (y % 2), <int> together, begin, to_pixel, row,
                )
            else:
                at = ((image * d.h + y) * d.w + x) * d.pixel
                if d.kind == RELU_GATE:
                    relu_pixels[real](
                        dout + at, <const real*> d.gate + at, d.pixel, d.c, last - first, begin,
                        to_pixel,
                    )
                elif d.narrow:
                    if real is float:
                        widen_pixels(
                            ahead(dout, at, True), d.pixel, d.c, last - first, begin, to_pixel
                        )
                else:
                    copy_pixels[real](dout + at, d.pixel, d.c, last - first, begin, to_pixel)
            for i in range(together):
                memset(to + i * row, 0, first * to_pixel * sizeof(real))
                memset(to + i * row + last * to_pixel, 0, (cols - last) * to_pixel * sizeof(real))
        else:
            memset(to, 0, row * sizeof(real))
        to += together * row
        y += together


cdef inline void fetch_pixels(
    const Incoming* d, ptrdiff_t first, ptrdiff_t count, const real* type_of
) noexcept nogil:
    """Prefetch `count` elements of dout and the gate from `first` on."""
    if d.narrow:
        fetch(<const unsigned short*> d.dout + first, count)
        return
    fetch(<const real*> d.dout + first, count)
    if d.kind == RELU_GATE:
        fetch(<const real*> d.gate + first, count)
    elif d.kind == POOL_GATE:
        fetch(<const unsigned char*> d.gate + first, count)


# ---- outgoing -------------------------------------------------------------------------


cdef inline real* place_of(
    const void* images, ptrdiff_t at, bint narrow, const real* type_of
) noexcept nogil:
    """Where value `at` of images lies, of bfloat16s if `narrow`."""
    if real is float:
        return ahead(images, at, narrow)
    else:
        return <real*> images + at


cdef inline void store_out(
    const Outgoing* o, ptrdiff_t at, vec[real] v, ptrdiff_t columns
) noexcept nogil:
    """Store `columns` values of a vector at value `at` of out."""
    if real is float:
        if o.narrow & NARROW_OUT:
            store_narrow(ahead(o.out, at, True), v, columns)
            return
    store_part(<real*> o.out + at, v, columns)


cdef inline vec[real] residual_at(
    const Outgoing* o, ptrdiff_t at, ptrdiff_t columns, const real* type_of
) noexcept nogil:
    """`columns` values of the residual from value `at` on, then zeros."""
    if real is float:
        if o.narrow & NARROW_RESIDUAL:
            return load_widened(ahead(o.residual, at, True), columns)
    return load_part(<const real*> o.residual + at, columns)


cdef inline void store_pooled(
    vec[real] a, vec[real] b, vec[real] c, vec[real] d, const Outgoing* o, ptrdiff_t at,
    ptrdiff_t columns,
) noexcept nogil:
    """ReLU of the maximum of a window's four places, and which it was; `at` is where they go."""
    cdef vec[real] places[4]
    cdef vec[real] best = a
    cdef ivec[real] position = broadcast_index(a, 0)
    cdef ivec[real] better
    cdef unsigned char* winner = o.winner
    cdef int i
    places[1], places[2], places[3] = b, c, d
    if winner == NULL:
        for i in range(1, 4):
            best = choose(beats(places[i], best), places[i], best)
        store_out[real](o, at, relu(best), columns)
        return
    for i in range(1, 4):
        better = beats(places[i], best)
        best = choose(better, places[i], best)
        position = choose_index(better, broadcast_index(a, i), position)
    store_out[real](o, at, relu(best), columns)
    position = choose_index(positive(best), position, broadcast_index(a, CLOSED))
    store_index(winner + at, position, columns)


cdef void pool_rows(
    const Outgoing* o, ptrdiff_t image, ptrdiff_t v, const real* rows
) noexcept nogil:
    """Row v of the pooled output, from its two rows of 2*pw pixels."""
    cdef ptrdiff_t at = (image * o.ph + v) * o.pw * o.c
    cdef ptrdiff_t row = 2 * o.pw * o.c
    cdef const real* place
    cdef ptrdiff_t u, c, rest
    for u in range(o.pw):
        for c from 0 <= c < o.c by lanes(rows):
            rest = o.c - c
            place = rows + 2 * u * o.c + c
            store_pooled[real](
                load_part(place, rest), load_part(place + o.c, rest),
                load_part(place + row, rest), load_part(place + row + o.c, rest),
                o, at + c, rest,
            )
        at += o.c
