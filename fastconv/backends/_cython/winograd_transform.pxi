# Winograd's transforms for 3x3 filters: tiles of m x m outputs from patches of m+2 pixels squared,
# m = 2 or 4. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015).
#
#     patch d:   V = Bt d B      filter g:   U = G g Gt      tile:   y = At (U * V, summed) A
#
# Each is a line transform down the columns, then along the rows, of vectors whose lanes are
# channels. The points are 0, 1, -1, infinity, and 2, -2 for m = 4. With m = 2 the factors are 1,
# 1/2 and 1/4 only, so that small whole numbers stay exact.
#
# The rows of Bt come in pairs that share their sums: rows 0 and m+1, then 1 and 2, 3 and 4. A pair
# for all columns is at most 12 vectors in registers beside the 6 that are read; all 36 would
# not fit, and reading a pixel again is cheaper than storing a vector twice.


cdef inline void input_pair(
    int m, int pair, const vec[real]* d, vec[real]* first, vec[real]* second
) noexcept nogil:
    """A pair of rows of Bt times the m+2 values of a line."""
    cdef vec[real] a, b
    if pair == 0 and m == 2:
        first[0] = subtract(d[0], d[2])
        second[0] = subtract(d[1], d[3])
    elif pair == 0:
        first[0] = muladd(broadcast(<real> 4), d[0], muladd(broadcast(<real> -5), d[2], d[4]))
        second[0] = muladd(broadcast(<real> 4), d[1], muladd(broadcast(<real> -5), d[3], d[5]))
    elif m == 2:
        first[0] = add(d[1], d[2])
        second[0] = subtract(d[2], d[1])
    elif pair == 1:
        a = muladd(broadcast(<real> -4), d[2], d[4])
        b = muladd(broadcast(<real> -4), d[1], d[3])
        first[0] = add(a, b)
        second[0] = subtract(a, b)
    else:
        a = subtract(d[4], d[2])
        b = subtract(d[3], d[1])
        first[0] = muladd(broadcast(<real> 2), b, a)
        second[0] = muladd(broadcast(<real> -2), b, a)


cdef inline int first_of(int pair) noexcept nogil:
    return 0 if pair == 0 else 2 * pair - 1


cdef inline int second_of(int m, int pair) noexcept nogil:
    return m + 1 if pair == 0 else 2 * pair


cdef inline void input_row_pair(
    int m, int pair, const vec[real]* line, real* to, ptrdiff_t step
) noexcept nogil:
    cdef vec[real] first[1]
    cdef vec[real] second[1]
    input_pair[real](m, pair, line, first, second)
    store(to + first_of(pair) * step, first[0])
    store(to + second_of(m, pair) * step, second[0])


cdef inline void input_row(
    int m, const vec[real]* line, real* to, ptrdiff_t step
) noexcept nogil:
    input_row_pair[real](m, 0, line, to, step)
    input_row_pair[real](m, 1, line, to, step)
    if m == 4:
        input_row_pair[real](m, 2, line, to, step)


cdef inline void input_rows(
    int m, int pair, const real* patch, ptrdiff_t row, ptrdiff_t pixel, real* to, ptrdiff_t step
) noexcept nogil:
    """Two rows of V."""
    cdef vec[real] d[6]
    cdef vec[real] first[6]
    cdef vec[real] second[6]
    cdef int x, y
    for x in range(m + 2):
        for y in range(m + 2):
            d[y] = load(patch + y * row + x * pixel)
        input_pair[real](m, pair, d, first + x, second + x)
    input_row[real](m, first, to + first_of(pair) * (m + 2) * step, step)
    input_row[real](m, second, to + second_of(m, pair) * (m + 2) * step, step)


cdef inline void transform_input(
    int m, const real* patch, ptrdiff_t row, ptrdiff_t pixel, real* to, ptrdiff_t step
) noexcept nogil:
    """V of one vector of channels: frequency (fy, fx) goes to to[(fy*(m+2) + fx)*step]."""
    input_rows[real](m, 0, patch, row, pixel, to, step)
    input_rows[real](m, 1, patch, row, pixel, to, step)
    if m == 4:
        input_rows[real](m, 2, patch, row, pixel, to, step)


cdef inline void output_line(int m, const vec[real]* s, vec[real]* y) noexcept nogil:
    """At times the m+2 values of a line."""
    cdef vec[real] sum1, sum2, difference1, difference2
    sum1 = add(s[1], s[2])
    difference1 = subtract(s[1], s[2])
    if m == 2:
        y[0] = add(s[0], sum1)
        y[1] = subtract(difference1, s[3])
    else:
        sum2 = add(s[3], s[4])
        difference2 = subtract(s[3], s[4])
        y[0] = add(add(s[0], sum1), sum2)
        y[1] = muladd(broadcast(<real> 2), difference2, difference1)
        y[2] = muladd(broadcast(<real> 4), sum2, sum1)
        y[3] = add(muladd(broadcast(<real> 8), difference2, difference1), s[5])


cdef inline void transform_output(
    int m, const real* products, ptrdiff_t step, vec[real]* y
) noexcept nogil:
    """The m x m outputs of one vector of channels, from products[f*step]."""
    cdef vec[real] s[6]
    cdef vec[real] column[4]
    cdef vec[real] half[24]
    cdef int i, j
    for j in range(m + 2):
        for i in range(m + 2):
            s[i] = load(products + (i * (m + 2) + j) * step)
        output_line[real](m, s, column)
        for i in range(m):
            half[i * (m + 2) + j] = column[i]
    for i in range(m):
        output_line[real](m, half + i * (m + 2), y + i * m)


cdef inline void filter_line(int m, const vec[real]* g, vec[real]* u) noexcept nogil:
    """G times the three values of a line."""
    cdef vec[real] even, odd, factor
    if m == 2:
        factor = broadcast(<real> 0.5)
        even = times(factor, add(g[0], g[2]))
        odd = times(factor, g[1])
        u[0], u[1], u[2], u[3] = g[0], add(even, odd), subtract(even, odd), g[2]
    else:
        u[0] = times(broadcast(<real> 0.25), g[0])
        factor = broadcast(<real> (-1.0 / 6))
        even = times(factor, add(g[0], g[2]))
        odd = times(factor, g[1])
        u[1], u[2] = add(even, odd), subtract(even, odd)
        factor = broadcast(<real> (1.0 / 24))
        even = times(factor, muladd(broadcast(<real> 4), g[2], g[0]))
        odd = times(broadcast(<real> (1.0 / 12)), g[1])
        u[3], u[4], u[5] = add(even, odd), subtract(even, odd), g[2]


cdef inline void transform_filter(
    int m, const real* taps, ptrdiff_t tap, real* to, ptrdiff_t step
) noexcept nogil:
    """U of one vector of columns, from taps[(ky*3 + kx)*tap]; to as in `transform_input`."""
    cdef vec[real] g[3]
    cdef vec[real] u[6]
    cdef vec[real] half[18]
    cdef int i, j
    for j in range(3):
        for i in range(3):
            g[i] = load(taps + (3 * i + j) * tap)
        filter_line[real](m, g, u)
        for i in range(m + 2):
            half[3 * i + j] = u[i]
    for i in range(m + 2):
        filter_line[real](m, half + 3 * i, u)
        for j in range(m + 2):
            store(to + (i * (m + 2) + j) * step, u[j])
