# A Kalman filter with three states and one observation: the maker's mid and two pressures on it that die away.
#
# The model stands in statespace.py. Its transition is diagonal and its observation is a plain sum, so a step is a few dozen
# multiplications; a general filter spends more than that on looking up its matrices.

from libc.math cimport NAN, isnan, log

cdef double LOG_2PI = 1.8378770664093453


def run(const double[::1] y, const double[::1] forced, const double[::1] other, const double[::1] excess,
        const double[::1] lean, const double[::1] theta, double[::1] mean, double[::1] variance, double[::1] loglike):
    """run(y, forced, other, excess, lean, theta, mean, variance, loglike)

    Filter one tape. `theta` holds lambda_forced, lambda_other, s_m, g, rho_fast, rho_slow, k_fast_forced, k_fast_other,
    k_slow_forced, k_slow_other, c_fast, c_slow, phi, r. The outputs are per bar; NaN before the first observation.
    """
    cdef Py_ssize_t n = y.shape[0]
    if not (forced.shape[0] == other.shape[0] == excess.shape[0] == lean.shape[0] == n and mean.shape[0] == n
            and variance.shape[0] == n and loglike.shape[0] == n and theta.shape[0] == 14):
        raise ValueError("arrays of different lengths, or not 14 parameters")
    with nogil:
        _run(n, &y[0] if n else NULL, &forced[0] if n else NULL, &other[0] if n else NULL, &excess[0] if n else NULL,
             &lean[0] if n else NULL, &theta[0], &mean[0] if n else NULL, &variance[0] if n else NULL,
             &loglike[0] if n else NULL)


cdef void _run(Py_ssize_t n, const double *y, const double *forced, const double *other, const double *excess,
               const double *lean, const double *p, double *mean, double *variance, double *loglike) noexcept nogil:
    cdef double m = NAN, u = 0, w = 0                                   # mid, fast and slow pressure
    cdef double mm = 0, mu = 0, mw = 0, uu = 0, uw = 0, ww = 0          # their covariance
    cdef double su, sw, f, v, km, ku, kw, e2, noise = p[13] * p[13]
    cdef double ru = p[4], rw = p[5]
    cdef Py_ssize_t i
    for i in range(n):
        loglike[i] = 0
        if isnan(m):
            mean[i] = variance[i] = NAN
            if isnan(y[i]):
                continue
            # The mid is diffuse and the pressures are known to be nothing: the first observation is all there is.
            m, mm = y[i] - p[12] * lean[i], noise
            mean[i], variance[i] = m, mm
            continue
        e2 = excess[i] * excess[i]
        m += p[0] * forced[i] + p[1] * other[i]
        u = ru * u + p[6] * forced[i] + p[7] * other[i]
        w = rw * w + p[8] * forced[i] + p[9] * other[i]
        mm += p[2] * p[2] + p[3] * p[3] * e2
        mu *= ru
        mw *= rw
        uu = ru * ru * uu + p[10] * p[10] * e2
        uw *= ru * rw
        ww = rw * rw * ww + p[11] * p[11] * e2
        if not isnan(y[i]):
            su = mu + uu + uw
            sw = mw + uw + ww
            f = (mm + mu + mw) + su + sw + noise
            v = y[i] - m - u - w - p[12] * lean[i]
            km, ku, kw = (mm + mu + mw) / f, su / f, sw / f
            m += km * v
            u += ku * v
            w += kw * v
            mm -= km * km * f
            mu -= km * ku * f
            mw -= km * kw * f
            uu -= ku * ku * f
            uw -= ku * kw * f
            ww -= kw * kw * f
            loglike[i] = -0.5 * (LOG_2PI + log(f) + v * v / f)
        mean[i], variance[i] = m, mm
