// The only file that knows vectors: their width, and one function for each thing done to them.
//
// `vec<T>` fills one register of the instruction set that the compiler was told to use.
// All else follows from the compiler's own vector arithmetic, so no instruction is named here.
// R x K tiles are kept in registers (see tile.pxi), which bounds their size: 32 registers hold
// 8 x 2 accumulators besides what feeds them, 16 registers hold 6 x 2. With one vector, 12 rows
// are as many as the general registers can address.

#ifndef FASTCONV_SIMD_H
#define FASTCONV_SIMD_H

#if !defined(__GNUC__)
#error "fastconv's Cython kernels need a compiler with GNU vector extensions: gcc or clang"
#endif

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

// The words of tile.pxi are `cdef inline`, which Cython turns into this macro. Their tile is an
// array until they are inlined, and registers afterwards, so the compiler must always inline them.
#undef CYTHON_INLINE
#define CYTHON_INLINE inline __attribute__((always_inline))

// What setup.py finds in the translation that is no kernel.
#if defined(__clang__)
#define PLAIN
#define PLAINER
#else
#define PLAIN __attribute__((optimize("O0")))
#define PLAINER __attribute__((optimize("O1")))
#endif

#if defined(__AVX512F__)
enum { VECTOR_BYTES = 64 };
#elif defined(__AVX__)
enum { VECTOR_BYTES = 32 };
#else
enum { VECTOR_BYTES = 16 };
#endif

enum { ROWS_1 = 12, CACHE_LINE = 64 };

#if defined(__clang__)
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

#if defined(__AVX512F__) || defined(__aarch64__)
enum { ROWS_2 = 8, TILE = 16, REGISTERS = 32 };
#else
enum { ROWS_2 = 6, TILE = 12, REGISTERS = 16 };
#endif

// Only the argument's type matters: Cython deduces the template from it.
template <class T>
constexpr std::ptrdiff_t lanes(const T* = nullptr) {
    return VECTOR_BYTES / sizeof(T);
}

enum { MOST_LANES = VECTOR_BYTES / sizeof(float) };

// T as vector of `count` lanes. An attribute on the alias itself would be dropped by clang.
template <class T, std::size_t count>
struct vector_of {
    typedef T type __attribute__((vector_size(count * sizeof(T))));
};

template <class T>
using vec = typename vector_of<T, VECTOR_BYTES / sizeof(T)>::type;

// Integers as wide as T: what a comparison of two vec<T> gives, all bits set where it holds.
template <class T>
using ivec = decltype(vec<T>{} < vec<T>{});

// ---- memory ---------------------------------------------------------------------------

template <class T>
inline vec<T> load(const T* from) {
    vec<T> v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <class T>
inline void store(T* to, vec<T> v) {
    std::memcpy(to, &v, sizeof v);
}

// The first `count` lanes from memory (all, if count is larger), zeros after them.
template <class T>
inline vec<T> load_part(const T* from, std::ptrdiff_t count) {
    if (count >= lanes<T>()) return load<T>(from);
    vec<T> v{};
    for (std::ptrdiff_t i = 0; i < count; ++i) v[i] = from[i];
    return v;
}

template <class T>
inline void store_part(T* to, vec<T> v, std::ptrdiff_t count) {
    if (count >= lanes<T>()) return store<T>(to, v);
    for (std::ptrdiff_t i = 0; i < count; ++i) to[i] = v[i];
}

// Rows of which only the first `columns` values exist, `step` apart, and in scratch where they are
// `width` long. For tiles that a block of columns does not fill: out of line, since each height of
// a tile would have its own otherwise.
template <class T>
static __attribute__((noinline)) void load_rows_part(
    T* to, std::ptrdiff_t rows, std::ptrdiff_t width, const T* from, std::ptrdiff_t step,
    std::ptrdiff_t columns) {
    std::memset(to, 0, rows * width * sizeof(T));
    for (std::ptrdiff_t r = 0; r < rows; ++r)
        std::memcpy(to + r * width, from + r * step, columns * sizeof(T));
}

template <class T>
static __attribute__((noinline)) void store_rows_part(
    T* to, std::ptrdiff_t step, std::ptrdiff_t columns, const T* from, std::ptrdiff_t rows,
    std::ptrdiff_t width) {
    for (std::ptrdiff_t r = 0; r < rows; ++r)
        std::memcpy(to + r * step, from + r * width, columns * sizeof(T));
}

template <class T>
static __attribute__((noinline)) void add_rows_part(
    T* to, std::ptrdiff_t step, std::ptrdiff_t columns, const T* from, std::ptrdiff_t rows,
    std::ptrdiff_t width) {
    for (std::ptrdiff_t r = 0; r < rows; ++r)
        for (std::ptrdiff_t i = 0; i < columns; ++i) to[r * step + i] += from[r * width + i];
}

// Values of T as doubles, a vector of doubles at a time, for sums of many terms.
template <class T>
inline vec<double> load_wide(const T* from, std::ptrdiff_t count) {
    typename vector_of<T, lanes<double>()>::type narrow{};
    if (count >= lanes<double>())
        std::memcpy(&narrow, from, sizeof narrow);
    else
        for (std::ptrdiff_t i = 0; i < count; ++i) narrow[i] = from[i];
    return __builtin_convertvector(narrow, vec<double>);
}

// to[0 : lanes] += v.
template <class T>
inline void add_wide(double* to, vec<T> v) {
    T values[lanes<T>()];
    store(values, v);
    for (std::ptrdiff_t i = 0; i < lanes<T>(); i += lanes<double>())
        store(to + i, load(to + i) + load_wide(values + i, lanes<double>()));
}

// `store_part` and `load_part` for vectors of integers, narrowed to or widened from type P in
// memory. gcc converts well only by doubling or halving, hence the steps. A function whose result
// names no T takes a vec<T> for Cython to deduce it from.
template <class P>
struct between {
    typedef P type;
};
template <>
struct between<unsigned char> {
    typedef short type;
};

template <class T, class P>
inline void store_index(P* to, ivec<T> v, std::ptrdiff_t count) {
    auto ints = __builtin_convertvector(v, typename vector_of<int, lanes<T>()>::type);
    auto steps = __builtin_convertvector(
        ints, typename vector_of<typename between<P>::type, lanes<T>()>::type);
    auto narrow = __builtin_convertvector(steps, typename vector_of<P, lanes<T>()>::type);
    if (count >= lanes<T>())
        std::memcpy(to, &narrow, sizeof narrow);
    else
        for (std::ptrdiff_t i = 0; i < count; ++i) to[i] = narrow[i];
}

template <class T, class P>
inline ivec<T> load_index(vec<T>, const P* from, std::ptrdiff_t count) {
    typename vector_of<P, lanes<T>()>::type narrow{};
    if (count >= lanes<T>())
        std::memcpy(&narrow, from, sizeof narrow);
    else
        for (std::ptrdiff_t i = 0; i < count; ++i) narrow[i] = from[i];
    auto steps = __builtin_convertvector(
        narrow, typename vector_of<typename between<P>::type, lanes<T>()>::type);
    auto ints = __builtin_convertvector(steps, typename vector_of<int, lanes<T>()>::type);
    return __builtin_convertvector(ints, ivec<T>);
}

// Keeps v in a register. gcc reads memory again for each of two or three uses of a vector, which
// takes twice as long where vectors are not aligned.
template <class T>
inline vec<T> held(vec<T> v) {
#if defined(__AVX512F__)
    asm("" : "+v"(v));
#elif defined(__x86_64__)
    asm("" : "+x"(v));
#elif defined(__aarch64__)
    asm("" : "+w"(v));
#endif
    return v;
}

// ---- arithmetic -----------------------------------------------------------------------

template <class T>
inline vec<T> broadcast(T x) {
    return x - vec<T>{};  // x - 0 is x for every x, which x + 0 is not
}

// A value in a register by itself. For ARM, clang would read it from memory into all lanes, which
// takes as long as a multiply-add; out of a register's lane, a multiply-add takes it for nothing.
template <class T>
inline T single(T x) {
#if defined(__aarch64__) && defined(__clang__)
    asm("" : "+w"(x));
#endif
    return x;
}

// With inline alone, a process that loads several builds would have one `row` for all of them, as
// short as the narrowest vectors make it.
template <class T>
static inline const T* zeros(const T*) {
    static const T row[2 * lanes<T>()] = {};
    return row;
}

template <class T>
inline ivec<T> broadcast_index(vec<T>, int i) {
    return i + ivec<T>{};
}

template <class T>
inline vec<T> add(vec<T> a, vec<T> b) {
    return a + b;
}

template <class T>
inline vec<T> subtract(vec<T> a, vec<T> b) {
    return a - b;
}

template <class T>
inline vec<T> times(vec<T> a, vec<T> b) {
    return a * b;
}

template <class T>
inline vec<T> muladd(vec<T> a, vec<T> b, vec<T> c) {
    return a * b + c;
}

// ---- choice ---------------------------------------------------------------------------

// Where a beats b as the maximum: a is larger, or the first NaN.
template <class T>
inline ivec<T> beats(vec<T> a, vec<T> b) {
    return ~(a <= b) & (b == b);
}

template <class T>
inline ivec<T> positive(vec<T> a) {
    return a > vec<T>{};
}

template <class T>
inline ivec<T> nonzero(ivec<T> a) {
    return a != ivec<T>{};
}

template <class T>
inline ivec<T> one_where(ivec<T> condition) {
    return condition & 1;
}

template <class T>
inline ivec<T> equal(ivec<T> a, ivec<T> b) {
    return a == b;
}

template <class T>
inline vec<T> choose(ivec<T> condition, vec<T> a, vec<T> b) {
    return condition ? a : b;
}

template <class T>
inline ivec<T> choose_index(ivec<T> condition, ivec<T> a, ivec<T> b) {
    return condition ? a : b;
}

// 0 where a <= 0, else a: a NaN stays.
template <class T>
inline vec<T> relu(vec<T> a) {
    return a <= vec<T>{} ? vec<T>{} : a;
}

// 0 or -0 where both are.
template <class T>
inline vec<T> either(vec<T> a, vec<T> b) {
    return (vec<T>)((ivec<T>)a | (ivec<T>)b);
}

// Whether all lanes are 0 or -0.
template <class T>
inline bool all_zero(vec<T> a) {
    auto bits = (ivec<T>)a << 1;  // without the sign
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)bits, (__m512i)bits) == 0;
#elif defined(__AVX__)
    return _mm256_testz_si256((__m256i)bits, (__m256i)bits);
#elif defined(__SSE2__)
    return _mm_movemask_epi8(_mm_cmpeq_epi8((__m128i)bits, __m128i{})) == 0xffff;
#else
    bool all = true;
    for (std::ptrdiff_t i = 0; i < lanes<T>(); ++i) all &= bits[i] == 0;
    return all;
#endif
}

// ---- squares -----------------------------------------------------------------------------

// Interleaves two vectors. With `odd` 0 it takes the lanes whose numbers lack the bit `step`: first
// a's, and `step` lanes further on b's. With `odd` = `step` it takes the lanes that have the bit.
template <int step, int odd, class T, std::size_t... lane>
inline vec<T> pair(vec<T> a, vec<T> b, std::index_sequence<lane...>) {
    constexpr int other = int(lanes<T>()) - step;
#if defined(__clang__)
    return __builtin_shufflevector(a, b, int(lane + odd + ((lane & step) ? other : 0))...);
#else
    return __builtin_shuffle(a, b, ivec<T>{int(lane + odd + ((lane & step) ? other : 0))...});
#endif
}

template <int step, class T>
inline void exchange(vec<T>* rows) {
    constexpr auto all = std::make_index_sequence<lanes<T>()>{};
    if constexpr (step < lanes<T>()) {
        for (std::ptrdiff_t r = 0; r < lanes<T>(); ++r) {
            if (r & step) continue;
            vec<T> a = rows[r], b = rows[r + step];
            rows[r] = pair<step, 0, T>(a, b, all);
            rows[r + step] = pair<step, step, T>(a, b, all);
        }
        exchange<2 * step, T>(rows);
    }
}

// to[j][r] = from[r * step + j], for as many r and j as there are lanes.
template <class T>
inline void transpose(T* to, const T* from, std::ptrdiff_t step) {
    vec<T> rows[lanes<T>()];
    for (std::ptrdiff_t r = 0; r < lanes<T>(); ++r) rows[r] = load(from + r * step);
    exchange<1, T>(rows);
    for (std::ptrdiff_t r = 0; r < lanes<T>(); ++r) store(to + r * lanes<T>(), rows[r]);
}

// ---- runs: a few values, fewer than fill a vector -----------------------------------------

// Values before and after a run that the words below may touch; they have no meaning.
enum { SLACK = 16 };

// Completes vector number `o` of a row of runs, from run r on: each run is loaded shifted to its
// place, over what does not belong to the runs before it.
template <int width, int o, int r, class T>
inline vec<T> lay_over(vec<T> laid, const T* base, const std::ptrdiff_t* at) {
    constexpr int first = r * width - o * int(lanes<T>());
    if constexpr (first >= lanes<T>()) {
        return laid;
    } else {
        ivec<T> before;
        for (int i = 0; i < lanes<T>(); ++i) before[i] = i < first ? -1 : 0;
        return lay_over<width, o, r + 1>(before ? laid : load(base + at[r] - first), base, at);
    }
}

// `lanes` runs, from vector number `o` on.
template <int width, int o = 0, class T>
inline void lay_vectors(T* to, const T* base, const std::ptrdiff_t* at) {
    if constexpr (o < width) {
        constexpr int here = o * int(lanes<T>()), r = here / width;
        store(to + here, lay_over<width, o, r + 1>(load(base + at[r] + here % width), base, at));
        lay_vectors<width, o + 1>(to, base, at);
    }
}

// to = base[at[0] : ... + width], base[at[1] : ... + width], ..., one after the other.
template <class T>
inline void lay_runs(
    T* to, const T* base, const std::ptrdiff_t* at, std::ptrdiff_t runs, std::ptrdiff_t width) {
    std::ptrdiff_t r = 0;
    if (width == 3)
        for (; r + lanes<T>() <= runs; r += lanes<T>())
            lay_vectors<3>(to + r * width, base, at + r);
    else if (width == 5)
        for (; r + lanes<T>() <= runs; r += lanes<T>())
            lay_vectors<5>(to + r * width, base, at + r);
    for (; r < runs; ++r)
        for (std::ptrdiff_t i = 0; i < width; i += 4)  // the next run overwrites the excess
            std::memcpy(to + r * width + i, base + at[r] + i, 4 * sizeof(T));
}

template <class T, std::size_t count>
inline void add_piece(T* to, const T* from, std::ptrdiff_t valid) {
    typedef typename vector_of<T, count>::type piece;
    typedef decltype(piece{} < piece{}) flags;
    piece sum, more;
    flags lane;
    for (std::size_t i = 0; i < count; ++i) lane[i] = std::ptrdiff_t(i) < valid ? -1 : 0;
    std::memcpy(&sum, to, sizeof sum);
    std::memcpy(&more, from, sizeof more);
    sum += lane ? more : piece{};
    std::memcpy(to, &sum, sizeof sum);
}

// to[0 : count] += from[0 : count]; values after, up to a whole piece, are read and written back.
template <class T>
inline void add_run(T* to, const T* from, std::ptrdiff_t count) {
    if (count <= 4)
        add_piece<T, 4>(to, from, count);
    else
        for (std::ptrdiff_t i = 0; i < count; i += 8) add_piece<T, 8>(to + i, from + i, count - i);
}

// ---- memory that no cache should keep ------------------------------------------------------

// Stores a vector at an address that is a multiple of VECTOR_BYTES.
inline void store_past_caches(void* to, const void* from) {
#if defined(__AVX512F__)
    _mm512_stream_si512(static_cast<__m512i*>(to), _mm512_loadu_si512(from));
#elif defined(__AVX__)
    _mm256_stream_si256(
        static_cast<__m256i*>(to), _mm256_loadu_si256(static_cast<const __m256i*>(from)));
#elif defined(__SSE2__)
    _mm_stream_si128(
        static_cast<__m128i*>(to), _mm_loadu_si128(static_cast<const __m128i*>(from)));
#else
    std::memcpy(to, from, VECTOR_BYTES);
#endif
}

// memcpy of `count` values that are not read again soon.
template <class T>
inline void copy_past_caches(T* to, const T* from, std::ptrdiff_t count) {
    std::ptrdiff_t ahead = -reinterpret_cast<std::uintptr_t>(to) % VECTOR_BYTES / sizeof(T);
    if (ahead > count) ahead = count;
    std::memcpy(to, from, ahead * sizeof(T));
    for (; ahead + lanes<T>() <= count; ahead += lanes<T>())
        store_past_caches(to + ahead, from + ahead);
    std::memcpy(to + ahead, from + ahead, (count - ahead) * sizeof(T));
}

// Prefetches `count` values into the second cache. A function that does nothing else must be
// inlined into one that does: gcc drops calls without effect.
template <class T>
inline void fetch(const T* from, std::ptrdiff_t count) {
    const char* byte = reinterpret_cast<const char*>(from);
    const char* end = reinterpret_cast<const char*>(from + count);
    for (; byte < end; byte += CACHE_LINE) __builtin_prefetch(byte, 0, 2);
}

// Other threads see stores past the caches only after this.
inline void end_past_caches() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

#endif
