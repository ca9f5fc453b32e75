# Exact order statistics: bisection of sorted arrays, selection in unsorted ones.

from libc.stdint cimport int64_t


cdef inline int64_t lower_bound(const double *x, int64_t n, double value) noexcept nogil:
    """How many of the ascending x[0:n] are below `value`: the first index where it would fit."""
    # Halving without a branch on the data: which way it goes is a coin that no processor guesses.
    cdef const double *at = x
    cdef int64_t half
    while n > 1:
        half = n >> 1
        at += half * (at[half - 1] < value)
        n -= half
    return at - x + (n == 1 and at[0] < value)


cdef inline double select_kth(double *x, int64_t n, int64_t k) noexcept nogil:
    """The k-th smallest (from 0) of x[0:n]; reorders x. Hoare's selection with the middle as pivot."""
    cdef int64_t lo = 0, hi = n - 1, i, j
    cdef double pivot, swap
    while lo < hi:
        pivot = x[(lo + hi) >> 1]
        i = lo
        j = hi
        while i <= j:
            while x[i] < pivot:
                i += 1
            while pivot < x[j]:
                j -= 1
            if i <= j:
                swap = x[i]
                x[i] = x[j]
                x[j] = swap
                i += 1
                j -= 1
        if k <= j:
            hi = j
        elif k >= i:
            lo = i
        else:
            break
    return x[k]


cdef inline double median(double *x, int64_t n) noexcept nogil:
    """Median of x[0:n], n > 0 (mean of the middle two where n is even); reorders x."""
    cdef double upper = select_kth(x, n, n >> 1)
    cdef double lower
    cdef int64_t i
    if n & 1:
        return upper
    lower = x[0]
    for i in range(1, n >> 1):      # after selection everything left of the middle is not above it
        if x[i] > lower:
            lower = x[i]
    return 0.5 * (lower + upper)


cdef inline double _kth_distance(const double *x, int64_t n, double from_, int64_t k) noexcept nogil:
    """The k-th smallest (from 0) of the distances of the ascending x[0:n] from a value: those up to it lie side by side, and which
    stretch of k + 1 they are is found by halving."""
    cdef int64_t lo = 0, hi = n - k - 1, at
    cdef double left, right
    while lo < hi:
        at = (lo + hi) >> 1
        if from_ - x[at] > x[at + k + 1] - from_:
            lo = at + 1
        else:
            hi = at
    left = from_ - x[lo]
    right = x[lo + k] - from_
    return left if left > right else right


cdef inline double median_distance(const double *x, int64_t n, double from_) noexcept nogil:
    """Median of |x - from_| over the ascending x[0:n], n > 0."""
    cdef double upper = _kth_distance(x, n, from_, n >> 1)
    return upper if n & 1 else 0.5 * (_kth_distance(x, n, from_, (n >> 1) - 1) + upper)
