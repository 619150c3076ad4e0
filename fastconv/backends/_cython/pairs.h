// Products of bfloat16s, summed in float32: the only file that knows how a CPU multiplies them.
//
// Both instructions for it take two neighbours along the sum at once, a pair, which fills the
// place of a float. A product is
//
//     out[r][0 : columns] = sum over y, i of x[y][r][i] * w[y][i][0 : columns]        (i: pairs)
//
// where the pairs of x that belong to a row r are contiguous, and those of w lie [i][columns].
// For vectors (AVX512_BF16), w's pairs are lanes, and a pair of x is broadcast to all of them.
// For tiles (AMX_BF16), 16 x 16 results are summed in a tile register from up to 16 rows of x and 16
// columns of w, up to 16 pairs at a time: eight times what vectors do. Both read the same memory.

#ifndef FASTCONV_PAIRS_H
#define FASTCONV_PAIRS_H

#include "simd.h"

// Whether this build has such products, and what a kernel is told to multiply by.
#if defined(__AVX512F__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
enum { HAS_PAIRS = 1 };
#else
enum { HAS_PAIRS = 0 };
#endif
enum { NO_PAIRS, BY_VECTORS, BY_TILES };

enum { TILE_ROWS = 16, TILE_PAIRS = 16, PAIR_COLUMNS = 32 };

// Which images of a kernel lie in memory as bfloat16s.
enum { NARROW_IN = 1, NARROW_OUT = 2, NARROW_RESIDUAL = 4 };

struct PairProduct {
    int by;                   // BY_VECTORS or BY_TILES
    std::ptrdiff_t y, i;      // how many: i pairs for each y
    std::ptrdiff_t chunk;     // pairs at a time, which divide i
    std::ptrdiff_t x_y, x_i, x_r;  // steps in x, in bfloat16s; for tiles x_i is 2
    std::ptrdiff_t w_y, w_i;  // steps in w, in pairs
    std::ptrdiff_t out_r;     // step in out
    bool relu, accumulate;    // out = ReLU(t); out += t
    int narrow;               // what of out and residual are bfloat16s; steps are in values
    const float* residual;    // added to t, or NULL; laid out like the array at `origin` that has out
    const float* origin;
};

// Rows of equal lines.
struct PairLines {
    std::ptrdiff_t count, x, out;  // steps from line to line
    std::ptrdiff_t rows;           // of a line
};

typedef std::uint16_t bfloat16;

// So many values further on, of bfloat16s if they are narrow, else of floats.
static inline float* ahead(const void* from, std::ptrdiff_t values, bool narrow) {
    return (float*)((char*)from + values * (narrow ? sizeof(bfloat16) : sizeof(float)));
}

#if defined(__AVX512F__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)

#define PAIRED __attribute__((target("avx512bf16")))

// ---- rounding ---------------------------------------------------------------------------

// Two words for kernels' vectors. They name the instruction, since a function for AVX512_BF16
// cannot become part of one that is not.

// 16 floats, rounded, become 8 pairs of neighbours.
static inline void store_rounded(float* to, vec<float> v) {
    __m256i narrow;
    asm("vcvtneps2bf16 %1, %0" : "=v"(narrow) : "v"(v));
    std::memcpy(to, &narrow, sizeof narrow);
}

// 16 pairs, each of a's value and b's in one lane, rounded.
static inline void store_paired(float* to, vec<float> a, vec<float> b) {
    alignas(CACHE_LINE) static const std::uint16_t order[32] = {
        0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    __m512i both;
    asm("vcvtne2ps2bf16 %2, %1, %0" : "=v"(both) : "v"(b), "v"(a));
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(_mm512_load_si512(order), both));
}

// ---- images of bfloat16s ----------------------------------------------------------------

// The first `count` of 16 bfloat16s, zeros after them.
static inline vec<float> load_widened(const void* from, std::ptrdiff_t count) {
    const __m256i narrow = count >= 16 ? _mm256_loadu_si256(static_cast<const __m256i*>(from))
                                       : _mm256_maskz_loadu_epi16((__mmask16)((1u << count) - 1), from);
    return (vec<float>)_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16);
}

static inline void store_narrow(void* to, vec<float> v, std::ptrdiff_t count) {
    __m256i narrow;
    asm("vcvtneps2bf16 %1, %0" : "=v"(narrow) : "v"(v));
    if (count >= 16)
        _mm256_storeu_si256(static_cast<__m256i*>(to), narrow);
    else if (count > 0)
        _mm256_mask_storeu_epi16(to, (__mmask16)((1u << count) - 1), narrow);
}

// to[0 : 2*count] = from[0 : 2*count], rounded; `to` may be where `from` is.
PAIRED static void round_pairs(const float* from, std::ptrdiff_t count, void* to) {
    bfloat16* out = static_cast<bfloat16*>(to);
    std::ptrdiff_t i = 0;
    for (; i + 16 <= 2 * count; i += 16) {
        __m256i narrow = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + i));
        std::memcpy(out + i, &narrow, sizeof narrow);
    }
    if (i < 2 * count) {
        __mmask16 rest = (__mmask16)((1u << (2 * count - i)) - 1);
        __m256i narrow = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(rest, from + i));
        std::memcpy(out + i, &narrow, (2 * count - i) * sizeof *out);
    }
}

// to[0 : count] = from[0 : count] rounded, as floats.
PAIRED static void round_values(const float* from, std::ptrdiff_t count, float* to) {
    for (std::ptrdiff_t i = 0; i < count; i += 16) {
        __m256i narrow = (__m256i)_mm512_cvtneps_pbh(load_part(from + i, count - i));
        __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16);
        store_part<float>(to + i, (vec<float>)wide, count - i);
    }
}

// Pairs of two rows of whole vectors, lane by lane; `b` may be NULL for zeros, `to` may be `a`.
static void pair_rows(const float* a, const float* b, std::ptrdiff_t width, void* to) {
    float* out = static_cast<float*>(to);
    for (std::ptrdiff_t j = 0; j < width; j += 16)
        store_paired(out + j, load(a + j), b == nullptr ? vec<float>{} : load(b + j));
}

// Pixels, `step` apart, turned into planes: to[c * plane + q] = from[q * step + c], for 16 channels.
PAIRED static void turn_pixels(
    const float* from, std::ptrdiff_t step, std::ptrdiff_t count, void* to, std::ptrdiff_t plane) {
    bfloat16* out = static_cast<bfloat16*>(to);
    float square[16 * 16], rest[16 * 16];
    for (std::ptrdiff_t q = 0; q < count; q += 16) {
        std::ptrdiff_t valid = count - q < 16 ? count - q : 16;
        const float* pixels = from + q * step;
        std::ptrdiff_t apart = step;
        if (valid < 16) {
            for (std::ptrdiff_t i = 0; i < 16; ++i)
                _mm512_storeu_ps(
                    rest + i * 16,
                    i < valid ? _mm512_loadu_ps(pixels + i * step) : _mm512_setzero_ps());
            pixels = rest;
            apart = 16;
        }
        transpose(square, pixels, apart);
        for (std::ptrdiff_t c = 0; c < 16; ++c) {
            __m256i narrow = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(square + c * 16));
            std::memcpy(out + c * plane + q, &narrow, valid * sizeof *out);
        }
    }
}

// ---- vectors ----------------------------------------------------------------------------

// `columns` of a vector of sums, with what is added to them.
static inline void store_sums(
    const PairProduct* p, vec<float> v, float* to, std::ptrdiff_t columns) {
    if (p->residual != nullptr) {
        const bool narrow = p->narrow & NARROW_RESIDUAL;
        const std::ptrdiff_t bytes = (char*)to - (const char*)p->origin;
        const std::ptrdiff_t at =
            bytes / (p->narrow & NARROW_OUT ? sizeof(bfloat16) : sizeof(float));
        const float* residual = ahead(p->residual, at, narrow);
        v += narrow ? load_widened(residual, columns) : load_part(residual, columns);
    }
    if (p->relu) v = relu<float>(v);
    if (p->accumulate) v += load_part(to, columns);
    if (p->narrow & NARROW_OUT)
        store_narrow(to, v, columns);
    else
        store_part<float>(to, v, columns);
}

static void store_pairs(
    const PairProduct* p, const float* t, std::ptrdiff_t rows, const float* start, float* out,
    std::ptrdiff_t columns) {
    const bool narrow = p->narrow & NARROW_OUT;
    for (std::ptrdiff_t r = 0; r < rows; ++r) {
        for (std::ptrdiff_t j = 0; j < columns; j += lanes<float>()) {
            store_sums(p, load(t + j) + load(start + j), ahead(out, j, narrow), columns - j);
        }
        t += PAIR_COLUMNS;
        out = ahead(out, p->out_r, narrow);
    }
}

// The pair at `from`, in all lanes. With set1 of an int, clang 16 overflows its stack.
PAIRED static inline __m512bh broadcast_pair(const void* from) {
    return (__m512bh)_mm512_broadcastd_epi32(_mm_loadu_si32(from));
}

// R rows of K vectors; what is only stored, or added, goes there straight from registers.
template <int R, int K>
PAIRED static void pair_vectors(
    const PairProduct* p, const bfloat16* x, const float* w, const float* start, float* out,
    std::ptrdiff_t columns) {
    __m512 sums[R * K];
#pragma GCC unroll 32
    for (int j = 0; j < R * K; ++j) sums[j] = _mm512_setzero_ps();
    for (std::ptrdiff_t y = 0; y < p->y; ++y) {
        const bfloat16* pairs = x;
        for (std::ptrdiff_t i = 0; i < p->i; ++i) {
            __m512bh columns[K];
#pragma GCC unroll 2
            for (int k = 0; k < K; ++k)
                columns[k] = (__m512bh)_mm512_loadu_si512(w + i * p->w_i + k * 16);
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) {
                __m512bh all = broadcast_pair(pairs + r * p->x_r);
#pragma GCC unroll 2
                for (int k = 0; k < K; ++k)
                    sums[r * K + k] = _mm512_dpbf16_ps(sums[r * K + k], all, columns[k]);
            }
            pairs += p->x_i;
        }
        x += p->x_y;
        w += p->w_y;
    }
    if (p->residual == nullptr && !p->relu && !p->narrow && columns >= K * 16) {
        const bool add = p->accumulate;
#pragma GCC unroll 32
        for (int j = 0; j < R * K; ++j) {
            float* to = out + j / K * p->out_r + j % K * 16;
            sums[j] += _mm512_loadu_ps(add ? to : start + j % K * 16);
            _mm512_storeu_ps(to, sums[j]);
        }
        return;
    }
    alignas(CACHE_LINE) float t[R * PAIR_COLUMNS];
#pragma GCC unroll 32
    for (int j = 0; j < R * K; ++j)
        _mm512_store_ps(t + j / K * PAIR_COLUMNS + j % K * 16, sums[j]);
    store_pairs(p, t, R, start, out, columns);
}

template <int K, int R>
static void pair_vectors_of(
    std::ptrdiff_t rows, const PairProduct* p, const bfloat16* x, const float* w,
    const float* start, float* out, std::ptrdiff_t columns) {
    if (rows == R)
        pair_vectors<R, K>(p, x, w, start, out, columns);
    else if constexpr (R > 1)
        pair_vectors_of<K, R - 1>(rows, p, x, w, start, out, columns);
}

// All rows of all lines, each line cut into tiles of nearly equal height.
template <int K, int R>
static void pair_lines(
    const PairProduct* p, PairLines l, const bfloat16* x, const float* w, const float* start,
    float* out, std::ptrdiff_t columns) {
    const std::ptrdiff_t tiles = (l.rows + R - 1) / R;
    for (std::ptrdiff_t line = 0; line < l.count; ++line) {
        const bfloat16* from = x + line * l.x;
        float* to = ahead(out, line * l.out, p->narrow & NARROW_OUT);
        for (std::ptrdiff_t tile = 0; tile < tiles; ++tile) {
            const std::ptrdiff_t rows = l.rows / tiles + (tile < l.rows % tiles);
            pair_vectors_of<K, R>(rows, p, from, w, start, to, columns);
            from += rows * p->x_r;
            to = ahead(to, rows * p->out_r, p->narrow & NARROW_OUT);
        }
    }
}

// Few rows: reading w takes the time. out[r][j] += x[r] times w, rows of floats that are rounded and
// paired as they are read, once, STREAMED of them side by side.
enum { STREAMED = 8 };

template <int R>
PAIRED static void add_few_rows(
    const float* x, std::ptrdiff_t x_r, const float* w, std::ptrdiff_t w_row, std::ptrdiff_t depth,
    float* out, std::ptrdiff_t out_r, std::ptrdiff_t columns) {
    alignas(CACHE_LINE) static const std::uint16_t order[32] = {
        0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i interleaved = _mm512_load_si512(order);
    for (std::ptrdiff_t d = 0; d < depth; d += STREAMED) {
        const std::ptrdiff_t end = depth - d < STREAMED ? depth - d : STREAMED;
        for (std::ptrdiff_t j = 0; j < columns; j += 16) {
            __m512 sums[R];
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) sums[r] = load_part(out + r * out_r + j, columns - j);
            for (std::ptrdiff_t i = 0; i < end; i += 2) {
                const float* row = w + (d + i) * w_row + j;
                __m512 low = load_part(row, columns - j), high = _mm512_setzero_ps();
                if (i + 1 < end) high = load_part(row + w_row, columns - j);
                __m512bh pairs = (__m512bh)_mm512_permutexvar_epi16(
                    interleaved, (__m512i)_mm512_cvtne2ps_pbh(high, low));
#pragma GCC unroll 8
                for (int r = 0; r < R; ++r) {
                    __m512bh all = broadcast_pair(x + r * x_r + (d + i) / 2);
                    sums[r] = _mm512_dpbf16_ps(sums[r], all, pairs);
                }
            }
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r)
                store_part<float>(out + r * out_r + j, sums[r], columns - j);
        }
    }
}

template <int R = 8>
static void add_few_pairs(
    std::ptrdiff_t rows, const float* x, std::ptrdiff_t x_r, const float* w, std::ptrdiff_t w_row,
    std::ptrdiff_t depth, float* out, std::ptrdiff_t out_r, std::ptrdiff_t columns) {
    if (rows == R)
        add_few_rows<R>(x, x_r, w, w_row, depth, out, out_r, columns);
    else if constexpr (R > 1)
        add_few_pairs<R - 1>(rows, x, x_r, w, w_row, depth, out, out_r, columns);
}

// ---- tiles ------------------------------------------------------------------------------

// Registers 0 to 3 have results, 4 and 5 rows of x, 6 and 7 columns of w.
struct TileShapes {
    std::uint8_t palette, start, reserved[14];
    std::uint16_t row_bytes[16];
    std::uint8_t rows[16];
};

// Stores before this are done before what follows: gcc does not know what tiles read.
static inline void written(const void* what) {
    asm volatile("" : : "r"(what) : "memory");
}

static thread_local std::ptrdiff_t tile_shapes = 0;  // what this thread's registers are set to

__attribute__((target("amx-tile"))) static void shape_tiles(
    std::ptrdiff_t rows, std::ptrdiff_t pairs) {
    if (tile_shapes == rows * 64 + pairs) return;
    TileShapes s;
    std::memset(&s, 0, sizeof s);
    s.palette = 1;
    for (int i = 0; i < 8; ++i) {
        s.rows[i] = std::uint8_t(i < 6 ? rows : pairs);
        s.row_bytes[i] = std::uint16_t(i == 4 || i == 5 ? 4 * pairs : 64);
    }
    written(&s);
    _tile_loadconfig(&s);
    tile_shapes = rows * 64 + pairs;
}

// At the end of each part: a thread that keeps tiles takes longer to switch to another.
__attribute__((target("amx-tile"))) static void end_pairs(int by) {
    if (by != BY_TILES || tile_shapes == 0) return;
    _tile_release();
    tile_shapes = 0;
}

// Results t[tile][row][PAIR_COLUMNS] of `count` tiles of rows, by one or two registers of columns each:
// the more registers there are, the less each product waits for the one before it.
template <int count, bool wide>
__attribute__((target("amx-tile,amx-bf16"))) static void pair_tiles(
    const PairProduct* p, const bfloat16* const* x, const float* w, float* t) {
    constexpr int tile = TILE_ROWS * PAIR_COLUMNS;
    const std::ptrdiff_t x_step = p->x_r * sizeof(bfloat16), w_step = p->w_i * sizeof(float);
    const std::ptrdiff_t row = PAIR_COLUMNS * sizeof(float);
    written(x);
    _tile_zero(0);
    if constexpr (wide || count > 1) _tile_zero(1);
    if constexpr (wide ? count > 1 : count > 2) _tile_zero(2);
    if constexpr (wide ? count > 1 : count > 3) _tile_zero(3);
    for (std::ptrdiff_t y = 0; y < p->y; ++y) {
        for (std::ptrdiff_t i = 0; i < p->i; i += p->chunk) {
            const std::ptrdiff_t at = y * p->x_y + 2 * i;
            _tile_loadd(6, w + i * p->w_i, w_step);
            _tile_loadd(4, x[0] + at, x_step);
            _tile_dpbf16ps(0, 4, 6);
            if constexpr (wide) {
                _tile_loadd(7, w + i * p->w_i + 16, w_step);
                _tile_dpbf16ps(1, 4, 7);
            }
            if constexpr (count > 1) _tile_loadd(5, x[1] + at, x_step);
            if constexpr (wide && count > 1) {
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            } else if constexpr (count > 1) {
                _tile_dpbf16ps(1, 5, 6);
            }
            if constexpr (!wide && count > 2) {
                _tile_loadd(4, x[2] + at, x_step);
                _tile_dpbf16ps(2, 4, 6);
            }
            if constexpr (!wide && count > 3) {
                _tile_loadd(5, x[3] + at, x_step);
                _tile_dpbf16ps(3, 5, 6);
            }
        }
        w += p->w_y;
    }
    _tile_stored(0, t, row);
    if constexpr (wide) {
        _tile_stored(1, t + 16, row);
        if constexpr (count > 1) {
            _tile_stored(2, t + tile, row);
            _tile_stored(3, t + tile + 16, row);
        }
    } else {
        if constexpr (count > 1) _tile_stored(1, t + tile, row);
        if constexpr (count > 2) _tile_stored(2, t + 2 * tile, row);
        if constexpr (count > 3) _tile_stored(3, t + 3 * tile, row);
    }
}

static void pair_tiles_of(
    std::ptrdiff_t count, bool wide, const PairProduct* p, const bfloat16* const* x,
    const float* w, float* t) {
    if (wide)
        (count == 1 ? pair_tiles<1, true> : pair_tiles<2, true>)(p, x, w, t);
    else if (count == 1)
        pair_tiles<1, false>(p, x, w, t);
    else if (count == 2)
        pair_tiles<2, false>(p, x, w, t);
    else
        (count == 3 ? pair_tiles<3, false> : pair_tiles<4, false>)(p, x, w, t);
}

// ---- a block of columns -----------------------------------------------------------------

// By tiles, of one height: the last one of a line may repeat some rows of the one before it.
static void tile_lines(
    const PairProduct* p, PairLines l, const bfloat16* x, const float* w, const float* start,
    float* out, std::ptrdiff_t columns) {
    const bool wide = columns > lanes<float>();
    std::ptrdiff_t tiles = (l.rows + TILE_ROWS - 1) / TILE_ROWS;
    const std::ptrdiff_t height = (l.rows + tiles - 1) / tiles;
    tiles = (l.rows + height - 1) / height;
    alignas(CACHE_LINE) float t[4 * TILE_ROWS * PAIR_COLUMNS];
    shape_tiles(height, p->chunk);
    const std::ptrdiff_t all = l.count * tiles, most = wide ? 2 : 4;
    for (std::ptrdiff_t n = 0; n < all; n += most) {
        const std::ptrdiff_t count = all - n < most ? all - n : most;
        const bfloat16* from[4];
        float* to[4];
        std::ptrdiff_t done[4];
        for (std::ptrdiff_t m = 0; m < count; ++m) {
            const std::ptrdiff_t line = (n + m) / tiles, wanted = (n + m) % tiles * height;
            const std::ptrdiff_t first = wanted + height > l.rows ? l.rows - height : wanted;
            done[m] = wanted - first;
            from[m] = x + line * l.x + first * p->x_r;
            to[m] = ahead(out, line * l.out + first * p->out_r, p->narrow & NARROW_OUT);
        }
        pair_tiles_of(count, wide, p, from, w, t);
        for (std::ptrdiff_t m = 0; m < count; ++m)
            store_pairs(
                p, t + (m * TILE_ROWS + done[m]) * PAIR_COLUMNS, height - done[m], start,
                ahead(to[m], done[m] * p->out_r, p->narrow & NARROW_OUT), columns);
    }
}

// Up to PAIR_COLUMNS columns of all rows of all lines; `start`, of whole vectors, is added. It is
// zeros where the product accumulates.
static void multiply_pairs(
    const PairProduct* p, PairLines l, const void* x_of_all, const float* w, const float* start,
    float* out, std::ptrdiff_t columns) {
    const bfloat16* x = static_cast<const bfloat16*>(x_of_all);
    if (l.count * l.rows == 0) return;
    if (columns > PAIR_COLUMNS) columns = PAIR_COLUMNS;
    if (p->by == BY_TILES)
        tile_lines(p, l, x, w, start, out, columns);
    else if (columns > lanes<float>())
        pair_lines<2, 8>(p, l, x, w, start, out, columns);
    else
        pair_lines<1, 12>(p, l, x, w, start, out, columns);
}

#else

// Never called: glue refuses the math mode.
inline void round_pairs(const float*, std::ptrdiff_t, void*) {}
inline void round_values(const float*, std::ptrdiff_t, float*) {}
inline vec<float> load_widened(const void*, std::ptrdiff_t) { return vec<float>{}; }
inline void store_narrow(void*, vec<float>, std::ptrdiff_t) {}
inline void store_rounded(float*, vec<float>) {}
inline void store_paired(float*, vec<float>, vec<float>) {}
inline void pair_rows(const float*, const float*, std::ptrdiff_t, void*) {}
inline void turn_pixels(const float*, std::ptrdiff_t, std::ptrdiff_t, void*, std::ptrdiff_t) {}
inline void end_pairs(int) {}
inline void add_few_pairs(
    std::ptrdiff_t, const float*, std::ptrdiff_t, const float*, std::ptrdiff_t, std::ptrdiff_t,
    float*, std::ptrdiff_t, std::ptrdiff_t) {}
inline void multiply_pairs(
    const PairProduct*, PairLines, const void*, const float*, const float*, float*,
    std::ptrdiff_t) {}

#endif

#endif
