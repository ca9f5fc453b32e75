# Another venue of the same coin: where it puts the mid, and how far it can be trusted.
#
# Its price plus the usual basis is a second opinion. It is good to within its own usual deviation, less while its spread is wide
# and while it has not traded for long; what our own market implies is held inside that corridor.

from libc.math cimport NAN, fabs, log, sqrt
from libc.stdint cimport int64_t
from toxmid.steps.calm cimport READY_SECONDS, SAMPLE_SECONDS
from toxmid.steps.codes cimport SECOND
from toxmid.steps.trailing cimport Trailing, trailing_median, trailing_push, trailing_roll

cdef struct Venue:
    double last_buy, last_sell  # prices of the last taker buy and sell
    int64_t last_ts
    double deviations           # width of the corridor, in usual deviations
    double basis                # median of our mid minus its mid, bps
    double deviation            # median |our mid - its mid - basis|, bps
    double spread               # median spread, bps
    Trailing bases
    Trailing deviating
    Trailing spreads


cdef inline void venue_init(Venue *v, double deviations) noexcept nogil:
    v.last_buy = v.last_sell = v.basis = v.deviation = v.spread = NAN
    v.last_ts = 0
    v.deviations = deviations


cdef inline void venue_trade(Venue *v, int64_t ts, int side, double price) noexcept nogil:
    """A trade of unknown side moves both pseudo-quotes."""
    if side >= 0:
        v.last_buy = price
    if side <= 0:
        v.last_sell = price
    v.last_ts = ts


cdef inline double _venue_mid(const Venue *v) noexcept nogil:
    return 1e4 * log(0.5 * (v.last_buy + v.last_sell))


cdef inline double _venue_spread(const Venue *v) noexcept nogil:
    return fabs(1e4 * log(v.last_buy / v.last_sell))


cdef inline bint venue_corridor(const Venue *v, int64_t ts, double sigma, double *centre, double *half) noexcept nogil:
    """Where the venue puts our mid (1e4 ln price) and the half width of what it allows; False while it is not known."""
    cdef double wide
    if not (v.deviation == v.deviation and sigma == sigma and v.last_buy == v.last_buy and v.last_sell == v.last_sell):
        return False
    wide = _venue_spread(v) - v.spread
    centre[0] = _venue_mid(v) + v.basis
    half[0] = v.deviations * v.deviation + sigma * sqrt(<double> (ts - v.last_ts) / (60.0 * SECOND))
    if wide > 0:
        half[0] += 0.5 * wide
    return True


cdef inline int venue_sample(Venue *v, int64_t ts, int64_t first, int64_t window, int64_t lag, double mid) noexcept nogil:
    """Offer our mid (1e4 ln price) at `ts` for the norms of the two venues' distance; `first`: when our market began."""
    cdef int64_t age = ts - first
    cdef int64_t upto
    cdef double distance = mid - _venue_mid(v)
    cdef int code
    if age % (SAMPLE_SECONDS * <int64_t> SECOND) != 0 or not distance == distance:
        return 0
    code = trailing_push(&v.bases, ts, distance)
    if code == 0:
        code = trailing_push(&v.deviating, ts, fabs(distance - v.basis))
    if code == 0:
        code = trailing_push(&v.spreads, ts, _venue_spread(v))
    if code < 0 or age < READY_SECONDS * <int64_t> SECOND:
        return code
    upto = ts - (lag if 4 * lag < age else age // 4)
    code = trailing_roll(&v.bases, upto - window, upto)
    if code == 0:
        code = trailing_roll(&v.deviating, upto - window, upto)
    if code == 0:
        code = trailing_roll(&v.spreads, upto - window, upto)
    v.basis = trailing_median(&v.bases)
    v.deviation = trailing_median(&v.deviating)
    v.spread = trailing_median(&v.spreads)
    return code
