# How much liquidation prints breed liquidation prints: the branching ratio of their point process, by moments.
#
# For a Hawkes process the counts in windows much longer than its kernel have var / mean = 1 / (1 - n)^2, so
# n = 1 - sqrt(mean / var): Hardiman, Bouchaud (2014), doi:10.1103/PhysRevE.90.062807. Windows here are 60 s, taken anew every
# second, their mean and variance exponentially weighted. Any change of the rate looks like breeding too, so n is a gauge, to
# be read against its own usual level: the trailing 7-day median is kept beside it. A feed throttled to one record a second
# cuts off the bursts and shows less than there is.

from libc.math cimport NAN, exp, sqrt
from libc.stdint cimport int32_t, int64_t
from toxmid.steps.codes cimport SECOND
from toxmid.steps.trailing cimport Trailing, trailing_median, trailing_push, trailing_roll

cdef enum:
    COUNTED = 60                # seconds in a window
    READY_WINDOWS = 300
    USUAL_DAYS = 7

cdef struct Branching:
    double keep                 # weight that a window keeps when the next one comes
    int64_t prints              # of the open second
    int64_t seconds             # seen
    int64_t inside              # prints of the last 60 s
    int32_t counts[60]          # by second, a ring
    double weight, total, squares           # of counts in windows
    double usual                # trailing median of n; NaN: none yet
    Trailing values             # n, every minute


cdef inline void branching_init(Branching *b, double memory) noexcept nogil:
    """`memory`: seconds."""
    b.keep = exp(-1.0 / memory)
    b.usual = NAN


cdef inline double branching_ratio(const Branching *b) noexcept nogil:
    """n in [0, 1); 0 where counts vary no more than those of independent prints, NaN until ready and while the memory holds
    less than one print."""
    cdef double mean, variance
    if b.seconds < COUNTED + READY_WINDOWS or b.total < 1.0:
        return NAN
    mean = b.total / b.weight
    variance = b.squares / b.weight - mean * mean
    return 1.0 - sqrt(mean / variance) if variance > mean else 0.0


cdef inline int branching_step(Branching *b, int64_t ts, bint peeking) noexcept nogil:
    """A step has ended at `ts`: close its second, if it did, and once a minute renew what is usual."""
    cdef int64_t slot = b.seconds % COUNTED
    cdef int code = 0
    if ts % SECOND != 0:
        return 0
    b.inside += b.prints - b.counts[slot]
    b.counts[slot] = <int32_t> b.prints
    b.prints = 0
    b.seconds += 1
    if b.seconds < COUNTED:
        return 0
    b.weight = b.weight * b.keep + 1.0
    b.total = b.total * b.keep + <double> b.inside
    b.squares = b.squares * b.keep + <double> b.inside * <double> b.inside
    if ts % (60 * <int64_t> SECOND) == 0 and not peeking:
        code = trailing_push(&b.values, ts, branching_ratio(b))
        if code == 0:
            code = trailing_roll(&b.values, ts - USUAL_DAYS * 86400 * <int64_t> SECOND, ts - 60 * <int64_t> SECOND)
        b.usual = trailing_median(&b.values)
    return code
