# The implied mid: where the maker's own mid is, given how credible the prices of the moment are.
#
# A maker widens when pricing is bad for her and tightens when it is good again. So a price made while she is tight is
# believed at once, and one made while she is wide only slowly, however much volume trades there.

from libc.math cimport NAN, exp, fabs, isnan, log, sqrt
from libc.stdint cimport int64_t
from toxmid.steps.calm cimport Calm

cdef struct ImpliedParams:
    double kappa                # calm sigmas that one normal minute of credible trading can explain
    double excess_spreads       # spreads beyond which the touch is called one-sided
    double fast                 # s, memory of spread and volume
    double imbalance            # s, memory of the signed flow
    double interval             # scale of the interval

cdef struct Implied:
    ImpliedParams p
    double spread               # exponentially weighted spread, bps
    double volume               # exponentially weighted lots per second
    double signed_volume, total_volume      # exponentially weighted lots, for the imbalance
    double log_mid              # ln of the implied mid; NaN: not ready
    double asymmetry            # bps: what the untouched side says
    double displacement         # bps: implied minus quoted, without the asymmetry
    double credibility          # 1 / rho^2, 1 when the spread is normal
    double low, high            # interval
    double value


cdef inline void implied_init(Implied *s) noexcept nogil:
    s.spread = s.volume = NAN
    s.signed_volume = s.total_volume = 0
    s.log_mid = s.value = s.low = s.high = NAN
    s.asymmetry = s.displacement = 0
    s.credibility = 1.0


cdef inline void implied_refine(Implied *s, int64_t factor) noexcept nogil:
    s.volume *= factor
    s.signed_volume *= factor
    s.total_volume *= factor


cdef inline double _blend(double old, double new, double gain) noexcept nogil:
    return new if isnan(old) else old + gain * (new - old)


cdef inline double implied_step(Implied *s, const Calm *c, double dt, double mid, double spread,
                                double buy, double sell, double unknown) noexcept nogil:
    """Advance by one step of `dt` seconds in which `buy`, `sell`, `unknown` lots traded and which ended at `mid` and
    `spread` (bps). Returns the minutes by which the credible clock advanced."""
    cdef double total = buy + sell + unknown
    cdef double fast = 1.0 - exp(-dt / s.p.fast)
    cdef double slow = exp(-dt / s.p.imbalance)
    cdef double imbalance, rho, y, e, q, sigma, minutes, rest
    s.volume = _blend(s.volume, total / dt, fast)
    s.signed_volume = s.signed_volume * slow + buy - sell
    s.total_volume = s.total_volume * slow + total
    if spread == spread:
        s.spread = _blend(s.spread, spread, fast)
    if isnan(mid):
        s.value = s.low = s.high = NAN
        return 0.0
    y = log(mid)
    if not (c.sigma == c.sigma and c.spread > 0 and c.volume > 0):
        s.log_mid = y
        s.asymmetry = s.displacement = 0
        s.value = s.low = s.high = NAN
        return 0.0
    rho = s.spread / c.spread
    if rho < 1.0:
        rho = 1.0
    s.credibility = 1.0 / (rho * rho)
    imbalance = s.signed_volume / s.total_volume if s.total_volume > 0 else 0.0
    s.asymmetry = 0.0
    if spread > s.p.excess_spreads * c.spread:
        s.asymmetry = -0.5 * (spread - s.p.excess_spreads * c.spread) * imbalance
    y += 1e-4 * s.asymmetry
    sigma = c.sigma if c.sigma > 0.5 * c.spread else 0.5 * c.spread     # a flat tape must not freeze the mid
    minutes = s.volume * dt / c.volume
    if minutes > dt / 60.0:
        minutes = dt / 60.0
    minutes *= s.credibility
    if isnan(s.log_mid):
        s.log_mid = y
    e = 1e4 * (y - s.log_mid)
    q = s.p.kappa * s.p.kappa * sigma * sigma * minutes
    rest = e * e - q
    if rest > 0:
        s.displacement = -sqrt(rest) if e > 0 else sqrt(rest)
        s.log_mid = y + 1e-4 * s.displacement
    else:
        s.displacement = 0.0
        s.log_mid = y
    if s.displacement == 0.0 and s.asymmetry == 0.0:
        s.value = mid           # exactly: nothing is taken off, so nothing is rounded
    else:
        s.value = exp(s.log_mid)
    e = 1e4 * (s.log_mid - log(mid))
    rest = 1.645e-4 * s.p.interval * sqrt(spread * spread + e * e + 5.0 * sigma * sigma / 60.0)
    s.low = s.value * exp(-rest)
    s.high = s.value * exp(rest)
    return minutes
