# cython: autotestdict=False
"""Log likelihood of a Hawkes process with exponential kernels, and its gradient, in one pass.

lambda_d(t) = mu_d + sum over e, p of n_dep b_p R_ep(t), R_ep(t) = sum over events of e before t of exp(-b_p (t - t_j)). Between
events R decays, at an event of e it rises by one; S = -dR/db follows by the same recursion. Ozaki (1979), doi:10.1007/BF02480272.
"""

from libc.math cimport exp, log
from libc.stdint cimport int64_t

cdef enum:
    MOST_KINDS = 4
    MOST_KERNELS = 4

LIMITS = (MOST_KINDS, MOST_KERNELS)


cdef struct Memory:
    double past[4][4]           # R, by source and kernel
    double aged[4][4]           # S = sum of (t - t_j) exp(-b (t - t_j))


cdef inline void _pass_time(Memory *m, double seconds, const double *b, int kinds, int kernels) noexcept nogil:
    cdef int e, p
    cdef double decay
    for p in range(kernels):
        decay = exp(-b[p] * seconds)
        for e in range(kinds):
            m.aged[e][p] = decay * (m.aged[e][p] + seconds * m.past[e][p])
            m.past[e][p] *= decay


def loglike(
    const double[::1] t,            # s, never decreasing, from 0 to span
    const int64_t[::1] kind,        # 0 to kinds - 1
    double span,
    const double[::1] mu,           # (kinds)
    const double[:, :, ::1] n,      # (kinds excited, kinds exciting, kernels)
    const double[::1] b,            # (kernels) 1/s
    double[::1] by_mu,
    double[:, :, ::1] by_n,
    double[::1] by_b,
):
    """loglike(t, kind, span, mu, n, b, by_mu, by_n, by_b)

    Log likelihood of the events; its derivatives are added to `by_mu`, `by_n` and `by_b`. Events of one time excite none of
    each other.
    """
    cdef Py_ssize_t i = 0, j, count = t.shape[0]
    cdef int kinds = <int> mu.shape[0], kernels = <int> b.shape[0]
    cdef int d, e, p
    cdef double total = 0, rate, before = 0, excited
    cdef double counts[4]
    cdef Memory m
    if not (kinds <= MOST_KINDS and kernels <= MOST_KERNELS and kind.shape[0] == count
            and n.shape[0] == n.shape[1] == kinds and n.shape[2] == kernels
            and by_mu.shape[0] == kinds and by_b.shape[0] == kernels
            and by_n.shape[0] == by_n.shape[1] == kinds and by_n.shape[2] == kernels):
        raise ValueError("arrays of different lengths")
    with nogil:
        for e in range(kinds):
            counts[e] = 0
            for p in range(kernels):
                m.past[e][p] = m.aged[e][p] = 0
        while i < count:
            _pass_time(&m, t[i] - before, &b[0], kinds, kernels)
            before = t[i]
            j = i
            while j < count and t[j] == before:
                d = <int> kind[j]
                rate = mu[d]
                for e in range(kinds):
                    for p in range(kernels):
                        rate += n[d, e, p] * b[p] * m.past[e][p]
                total += log(rate)
                by_mu[d] += 1.0 / rate
                for p in range(kernels):
                    for e in range(kinds):
                        by_n[d, e, p] += b[p] * m.past[e][p] / rate
                        by_b[p] += n[d, e, p] * (m.past[e][p] - b[p] * m.aged[e][p]) / rate
                j += 1
            while i < j:
                counts[kind[i]] += 1
                for p in range(kernels):
                    m.past[kind[i]][p] += 1.0
                i += 1
        _pass_time(&m, span - before, &b[0], kinds, kernels)
        for d in range(kinds):
            total -= mu[d] * span
            by_mu[d] -= span
            for e in range(kinds):
                for p in range(kernels):
                    excited = counts[e] - m.past[e][p]
                    total -= n[d, e, p] * excited
                    by_n[d, e, p] -= excited
                    by_b[p] -= n[d, e, p] * m.aged[e][p]
    return total
