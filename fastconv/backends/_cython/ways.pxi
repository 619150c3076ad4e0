# Which ways calls took. A function that is one of several ways to compute something is counted as
# it begins, not where it is chosen, so that the counts say what ran.
#
# Each thread counts its own calls, so that the ways of one call can be read while others run.

cdef enum:  # in the order of HOW_NAMES; first the algorithms, numbered as in cython/conv.py
    DIRECT
    WINOGRAD2
    WINOGRAD2X4
    WINOGRAD4
    SPARSE
    FEW_CHANNELS
    FEW_ROWS
    FEW_ROWS_CACHED
    MANY_ROWS
    STREAMED
    CACHED
    TILED
    OVERLAPPING
    ROOTS
    POWERS
    POSITIONS
    VALUES
    HOWS

cdef enum:  # in the order of PART_NAMES
    FORWARD
    INPUT_GRADIENT
    WEIGHT_GRADIENT
    DEPTHWISE
    DEPTHWISE_SUMS
    GROUPED
    GROUPED_SUMS
    AFFINE_FORWARD
    AFFINE_INPUT_GRADIENT
    IM2COL
    MAXPOOL_FORWARD
    MAXPOOL_BACKWARD
    LRN_FORWARD
    LRN_BACKWARD
    PARTS

cdef extern from *:
    """
    enum { WAYS = 1024 };
    static thread_local long long taken[WAYS];
    """
    enum:
        WAYS
    long long taken[WAYS]

HOW_NAMES = (
    "direct", "winograd2", "winograd2x4", "winograd4", "sparse", "few_channels",
    "few_rows", "few_rows_cached", "many_rows", "streamed", "cached", "tiled", "overlapping",
    "roots", "powers", "positions", "values",
)

PART_NAMES = (
    "forward", "input_gradient", "weight_gradient", "depthwise", "depthwise_sums", "grouped",
    "grouped_sums", "affine_forward", "affine_input_gradient", "im2col",
    "maxpool2d_forward", "maxpool2d_backward", "lrn_forward", "lrn_backward",
)

assert len(HOW_NAMES) == HOWS and len(PART_NAMES) == PARTS and 4 * HOWS * PARTS <= WAYS


cdef inline void took(int part, int how, const real* type_of, int team) noexcept nogil:
    """Count that this part was computed in this way, by a team of so many threads."""
    if is_due():
        taken[((part * HOWS + how) * 2 + (sizeof(real) == sizeof(double))) * 2 + (team > 1)] += 1


def ways_taken():
    """List of (part, how, itemsize, on several threads, how often) of the calling thread."""
    cdef int part, how, double_, several
    cdef long long count
    found = []
    for part in range(PARTS):
        for how in range(HOWS):
            for double_ in range(2):
                for several in range(2):
                    count = taken[((part * HOWS + how) * 2 + double_) * 2 + several]
                    if count > 0:
                        itemsize = sizeof(double) if double_ else sizeof(float)
                        found.append(
                            (PART_NAMES[part], HOW_NAMES[how], itemsize, several > 0, count)
                        )
    return found
