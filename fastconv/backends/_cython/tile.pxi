# The tile vocabulary: what a kernel does to the block of results that it keeps in registers.
#
# A tile t has R rows of K vectors, t[r*K + k]. R and K are literals wherever these words
# are called, and every word is inlined, so each loop below unrolls completely and t
# becomes R*K registers. No code above this file handles registers. Call the words inside a loop,
# if need be one over tiles: gcc unrolls an outermost loop too late to keep its t out of memory.

from libc.math cimport sqrt as double_sqrt, sqrtf
from libc.stddef cimport ptrdiff_t

ctypedef fused real:
    float
    double

ctypedef fused place:
    unsigned char
    int

cdef extern from "simd.h" nogil:
    enum:
        ROWS_1
        ROWS_2
        TILE
        REGISTERS
        VECTOR_BYTES
        SLACK
        MOST_LANES

    const char* COMPILER

    cdef cppclass vec[T]:
        pass

    cdef cppclass ivec[T]:
        pass

    ptrdiff_t lanes[T](const T*) noexcept
    const T* zeros[T](const T*) noexcept
    vec[T] load[T](const T*) noexcept
    vec[T] load_part[T](const T*, ptrdiff_t) noexcept
    void store[T](T*, vec[T]) noexcept
    void store_part[T](T*, vec[T], ptrdiff_t) noexcept
    void load_rows_part[T](T*, ptrdiff_t, ptrdiff_t, const T*, ptrdiff_t, ptrdiff_t) noexcept
    void store_rows_part[T](T*, ptrdiff_t, ptrdiff_t, const T*, ptrdiff_t, ptrdiff_t) noexcept
    void add_rows_part[T](T*, ptrdiff_t, ptrdiff_t, const T*, ptrdiff_t, ptrdiff_t) noexcept
    vec[double] load_wide[T](const T*, ptrdiff_t) noexcept
    void add_wide[T](double*, vec[T]) noexcept
    ivec[T] load_index[T, P](vec[T], const P*, ptrdiff_t) noexcept
    void store_index[T, P](P*, ivec[T], ptrdiff_t) noexcept
    vec[T] held[T](vec[T]) noexcept
    vec[T] broadcast[T](T) noexcept
    T single[T](T) noexcept
    ivec[T] broadcast_index[T](vec[T], int) noexcept
    vec[T] add[T](vec[T], vec[T]) noexcept
    vec[T] subtract[T](vec[T], vec[T]) noexcept
    vec[T] times[T](vec[T], vec[T]) noexcept
    vec[T] muladd[T](vec[T], vec[T], vec[T]) noexcept
    vec[T] relu[T](vec[T]) noexcept
    vec[T] either[T](vec[T], vec[T]) noexcept
    bint all_zero[T](vec[T]) noexcept
    ivec[T] positive[T](vec[T]) noexcept
    ivec[T] nonzero[T](ivec[T]) noexcept
    ivec[T] one_where[T](ivec[T]) noexcept
    ivec[T] beats[T](vec[T], vec[T]) noexcept
    ivec[T] equal[T](ivec[T], ivec[T]) noexcept
    vec[T] choose[T](ivec[T], vec[T], vec[T]) noexcept
    ivec[T] choose_index[T](ivec[T], ivec[T], ivec[T]) noexcept
    void transpose[T](T*, const T*, ptrdiff_t) noexcept
    void lay_runs[T](T*, const T*, const ptrdiff_t*, ptrdiff_t, ptrdiff_t) noexcept
    void add_run[T](T*, const T*, ptrdiff_t) noexcept
    void copy_past_caches[T](T*, const T*, ptrdiff_t) noexcept
    void end_past_caches() noexcept
    void fetch[T](const T*, ptrdiff_t) noexcept


cdef inline void fill_rows(vec[real]* t, int R, int K, const real* row) noexcept nogil:
    """t[r] = row[0 : K*lanes] for every r."""
    cdef int r, k
    for k in range(K):
        for r in range(R):
            t[r * K + k] = load(row + k * lanes(row))


cdef inline void clear(vec[real]* t, int R, int K) noexcept nogil:
    """t = 0."""
    cdef int i
    for i in range(R * K):
        t[i] = broadcast(<real> 0)


cdef inline void rank1(
    vec[real]* t, int R, int K, const real* x, ptrdiff_t step, const real* w
) noexcept nogil:
    """t[r] += x[r*step] * w[0 : K*lanes]."""
    cdef int r, k
    cdef vec[real] pixel
    cdef vec[real] columns[2]
    for k in range(K):
        columns[k] = held(load(w + k * lanes(w)))
    for r in range(R):
        pixel = broadcast(single(x[r * step]))
        for k in range(K):
            t[r * K + k] = muladd(pixel, columns[k], t[r * K + k])


cdef inline void add_scaled(
    vec[real]* t, int R, int K, const real* x, ptrdiff_t step, real factor
) noexcept nogil:
    """t[r] += x[r*step : r*step + K*lanes] * factor."""
    cdef int r, k
    cdef vec[real] all_lanes = broadcast(factor)
    for r in range(R):
        for k in range(K):
            t[r * K + k] = muladd(load(x + k * lanes(x)), all_lanes, t[r * K + k])
        x += step


cdef inline void plus_tile(vec[real]* t, int R, int K, const vec[real]* other) noexcept nogil:
    """t += other."""
    cdef int i
    for i in range(R * K):
        t[i] = add(t[i], other[i])


cdef inline void relu_all(vec[real]* t, int R, int K) noexcept nogil:
    """t = 0 where t <= 0."""
    cdef int i
    for i in range(R * K):
        t[i] = relu(t[i])


cdef inline void plus_rows(
    vec[real]* t, int R, int K, const real* rows, ptrdiff_t step, ptrdiff_t columns
) noexcept nogil:
    """t[r] += rows[r*step : r*step + columns], with columns cut to K*lanes."""
    cdef int r, k
    cdef char[TILE * VECTOR_BYTES] memory
    cdef real* row
    if columns >= K * lanes(rows):
        for r in range(R):
            for k in range(K):
                t[r * K + k] = add(t[r * K + k], load(rows + r * step + k * lanes(rows)))
    else:
        row = <real*> memory
        load_rows_part(row, R, K * lanes(rows), rows, step, columns)
        for r in range(R * K):
            t[r] = add(t[r], load(row + r * lanes(rows)))


cdef inline void store_all(vec[real]* t, int R, int K, real* out) noexcept nogil:
    """out[r*K*lanes : (r+1)*K*lanes] = t[r]."""
    cdef int i
    for i in range(R * K):
        store(out + i * lanes(out), t[i])


cdef inline void store_rows(
    vec[real]* t, int R, int K, real* out, ptrdiff_t step, ptrdiff_t columns
) noexcept nogil:
    """out[r*step : r*step + columns] = t[r], with columns cut to K*lanes."""
    cdef int r, k
    cdef char[TILE * VECTOR_BYTES] memory
    cdef real* row
    if columns >= K * lanes(out):
        for r in range(R):
            for k in range(K):
                store(out + r * step + k * lanes(out), t[r * K + k])
    else:
        row = <real*> memory
        store_all(t, R, K, row)
        store_rows_part(out, step, columns, row, R, K * lanes(out))


cdef inline void add_rows(
    vec[real]* t, int R, int K, real* out, ptrdiff_t step, ptrdiff_t columns
) noexcept nogil:
    """out[r*step : r*step + columns] += t[r], with columns cut to K*lanes."""
    cdef int r, k
    cdef char[TILE * VECTOR_BYTES] memory
    cdef real* row
    if columns >= K * lanes(out):
        for r in range(R):
            for k in range(K):
                row = out + r * step + k * lanes(out)
                store(row, add(load(row), t[r * K + k]))
    else:
        row = <real*> memory
        store_all(t, R, K, row)
        add_rows_part(out, step, columns, row, R, K * lanes(out))


# ---- single values ----


cdef inline real root(real x) noexcept nogil:
    if real is float:
        return sqrtf(x)
    else:
        return double_sqrt(x)
