# The exact median of a quantity over a trailing, lagged window of time.
#
# Samples wait in order of arrival until they are old enough to count, then stand in a sorted array until they are too old.
# A few thousand doubles: moving half of them costs less than a cache miss or two, and nothing is approximated.

from libc.math cimport NAN
from libc.stdint cimport int64_t
from libc.string cimport memmove
from toxmid.steps.codes cimport ERR_MEMORY
from toxmid.steps.memory cimport Block, block_reserve
from toxmid.steps.quantiles cimport lower_bound

cdef struct Sample:
    int64_t ts
    double value

cdef struct Trailing:
    int64_t counted         # samples before this one have entered the sorted array
    int64_t dropped         # samples before this one have left it
    int64_t forgotten       # samples removed from the front of `samples`
    Block samples           # Sample, oldest first
    Block sorted            # double, ascending


cdef inline int trailing_push(Trailing *t, int64_t ts, double value) noexcept nogil:
    """Remember a sample; what is not a number is none."""
    cdef Sample *s
    if value != value:
        return 0
    if block_reserve(&t.samples, sizeof(Sample)) < 0 or block_reserve(&t.sorted, 8) < 0:
        return ERR_MEMORY
    s = <Sample *> (t.samples.data + t.samples.used)
    s.ts = ts
    s.value = value
    t.samples.used += sizeof(Sample)
    return 0


cdef inline void _forget_dropped(Trailing *t) noexcept nogil:
    cdef int64_t n = t.samples.used // <int64_t> sizeof(Sample)
    cdef int64_t gone = t.dropped - t.forgotten
    if gone > 1024 and 2 * gone > n:
        memmove(t.samples.data, t.samples.data + gone * sizeof(Sample), (n - gone) * sizeof(Sample))
        t.samples.used = (n - gone) * sizeof(Sample)
        t.forgotten = t.dropped


cdef inline int trailing_roll(Trailing *t, int64_t after, int64_t upto) noexcept nogil:
    """Let exactly the samples with after < ts <= upto count; neither bound may go back."""
    cdef const Sample *s
    cdef double *x
    cdef int64_t n, at
    cdef int64_t total = t.forgotten + t.samples.used // <int64_t> sizeof(Sample)
    while t.counted < total:
        s = <const Sample *> t.samples.data + (t.counted - t.forgotten)
        if s.ts > upto:
            break
        if block_reserve(&t.sorted, 8) < 0:
            return ERR_MEMORY
        x = <double *> t.sorted.data
        n = t.sorted.used // 8
        at = lower_bound(x, n, s.value)
        memmove(&x[at + 1], &x[at], (n - at) * 8)
        x[at] = s.value
        t.sorted.used += 8
        t.counted += 1
    while t.dropped < t.counted:
        s = <const Sample *> t.samples.data + (t.dropped - t.forgotten)
        if s.ts > after:
            break
        x = <double *> t.sorted.data
        n = t.sorted.used // 8
        at = lower_bound(x, n, s.value)
        memmove(&x[at], &x[at + 1], (n - at - 1) * 8)
        t.sorted.used -= 8
        t.dropped += 1
    _forget_dropped(t)
    return 0


cdef inline double trailing_median(const Trailing *t) noexcept nogil:
    """Median of the samples that count; NaN where there are none."""
    cdef const double *x = <const double *> t.sorted.data
    cdef int64_t n = t.sorted.used // 8
    return 0.5 * (x[(n - 1) >> 1] + x[n >> 1]) if n else NAN


cdef inline double trailing_level(const Trailing *t) noexcept nogil:
    """The usual size of a quantity that may be 0 most of the time on a sparse tape: its median, or three tenths of its
    upper quartile where that is more. (A mean would be spoilt by the very episodes it is to judge.)"""
    cdef const double *x = <const double *> t.sorted.data
    cdef int64_t n = t.sorted.used // 8
    cdef double upper
    if n == 0:
        return NAN
    upper = 0.3 * x[(3 * n) // 4]
    return upper if upper > trailing_median(t) else trailing_median(t)


cdef inline double trailing_part(const Trailing *t, int64_t parts) noexcept nogil:
    """Below this lies one in so many of the samples that count; NaN where there are none."""
    cdef const double *x = <const double *> t.sorted.data
    cdef int64_t n = t.sorted.used // 8
    return x[n // parts] if n else NAN
