# Autocorrelation of the signs of taker orders at lags of 1, 10 and 100 orders.
#
# rho_k = E[e_i e_{i-k}] - E[e]^2 of the signs e = +1 (bought), -1 (sold), the form in which the persistence of order flow is
# stated: Bouchaud, Gefen, Potters, Wyart (2004), doi:10.1080/14697680400000022; Lillo, Farmer (2004), doi:10.2202/1558-3708.1226.
# The means are exponentially weighted by orders. Orders whose side is not known have no sign and are passed over.
#
# A sign is a bit: taking one is a shift, and 64 products are one exclusive or and one count of bits. Orders gather in a word
# that is added to the sums when it is full or a step ends; all orders of a word weigh the same.

from libc.math cimport NAN, exp2
from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    """
    #if defined(_MSC_VER)
    #include <intrin.h>
    #define toxmid_bits_set(x) ((long long) __popcnt64(x))
    #else
    #define toxmid_bits_set(x) ((long long) __builtin_popcountll(x))
    #endif
    """
    int64_t bits_set "toxmid_bits_set"(uint64_t x) noexcept nogil

cdef enum:
    LAGS = 3
    READY_PAIRS = 100           # pairs of a lag before it is published

cdef struct Signs:
    double half_life            # orders
    uint64_t fresh              # signs that wait to be added, the latest in the lowest bit
    int64_t waiting
    uint64_t past[3]            # the last 192 signs that were added, the latest in the lowest bit of the first word
    int64_t count               # signs added
    double total, weight        # sum of signs and of their weights
    double products[3]
    double pairs[3]             # weights of the products


cdef inline int64_t _lag(int which) noexcept nogil:
    return 1 if which == 0 else (10 if which == 1 else 100)


cdef inline uint64_t _low_bits(int64_t n) noexcept nogil:
    return ~(<uint64_t> 0) if n >= 64 else ((<uint64_t> 1) << n) - 1


cdef inline uint64_t _lagged(const Signs *s, int64_t lag) noexcept nogil:
    """The 64 signs up to `lag` orders ago; `lag` is below 128 and no multiple of 64."""
    cdef int64_t word = lag >> 6, bits = lag & 63
    return (s.past[word] >> bits) | (s.past[word + 1] << (64 - bits))


cdef inline void signs_flush(Signs *s) noexcept nogil:
    """Add the signs that wait to the sums."""
    cdef int64_t n = s.waiting, pairs
    cdef double keep
    cdef int k
    if n == 0:
        return
    if n == 64:
        s.past[2] = s.past[1]
        s.past[1] = s.past[0]
        s.past[0] = s.fresh
    else:
        s.past[2] = (s.past[2] << n) | (s.past[1] >> (64 - n))
        s.past[1] = (s.past[1] << n) | (s.past[0] >> (64 - n))
        s.past[0] = (s.past[0] << n) | s.fresh
    s.count += n
    keep = exp2(-<double> n / s.half_life)
    s.total = s.total * keep + <double> (2 * bits_set(s.fresh) - n)
    s.weight = s.weight * keep + <double> n
    for k in range(LAGS):
        pairs = s.count - _lag(k)
        pairs = n if pairs > n else (pairs if pairs > 0 else 0)
        s.products[k] = s.products[k] * keep + <double> (
            pairs - 2 * bits_set((s.past[0] ^ _lagged(s, _lag(k))) & _low_bits(pairs)))
        s.pairs[k] = s.pairs[k] * keep + <double> pairs
    s.fresh = 0
    s.waiting = 0


cdef inline void signs_push(Signs *s, int side) noexcept nogil:
    """A taker order of this side is complete."""
    if side == 0:
        return
    s.fresh = (s.fresh << 1) | <uint64_t> (side > 0)
    s.waiting += 1
    if s.waiting == 64:
        signs_flush(s)


cdef inline double signs_correlation(const Signs *s, int which) noexcept nogil:
    """rho at the lag of that number; NaN until enough pairs have been seen."""
    cdef double mean
    if s.count < _lag(which) + READY_PAIRS:
        return NAN
    mean = s.total / s.weight
    return s.products[which] / s.pairs[which] - mean * mean
