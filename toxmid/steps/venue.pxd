# Another venue of the same coin: where it puts our mid, and how far it can be trusted.
#
# Its price plus the usual basis is a second opinion. It is good to within its own usual deviation, less while its spread is wide
# and while it has not traded for long. Its tape is read as our own is: as far as its price is not credible, or ran ahead of what
# its volume supports, it is torn itself, and `consensus.pxd` gives it less weight beside others. An index or a mark price is a
# venue of which nothing but the price is known.
#
# What tears our market may tear another one with it, and then it says that our quotes are right. So where it sides with
# our quoted mid against what our own tape implies, and its own takers push it there, it is believed only as far as its
# own price is credible. Where it stands on the other side it cannot be torn with us, however wide its spread.

from libc.math cimport NAN, fabs, log, sqrt
from libc.stdint cimport int64_t
from toxmid.steps.calm cimport Calm, READY_SECONDS, SAMPLE_SECONDS, calm_init, calm_sample
from toxmid.steps.codes cimport REASONS, SECOND
from toxmid.steps.implied cimport Implied, ImpliedParams, _gap_of, _imbalance, implied_follow, implied_init
from toxmid.steps.touch cimport Touch, fresh_spread, touch_end_step, touch_init, touch_trade
from toxmid.steps.trailing cimport Trailing, trailing_median, trailing_push, trailing_roll

cdef enum:
    MINUTE_SAMPLES = 6          # 60 s / SAMPLE_SECONDS

cdef struct Sampled:            # its own market at a sample of the last minute
    double log_mid              # bps
    double units                # traded since the beginning
    double spread_sum           # bps, of all steps with a spread
    int64_t spreads

cdef struct Venue:
    double last_buy, last_sell  # prices of the last taker buy and sell; both the price where only that is known
    int64_t last_ts             # 0: it has not spoken
    double deviations           # width of the corridor, in usual deviations
    double basis                # median of our mid minus its mid, bps
    double deviation            # median |our mid - its mid - basis|, bps
    double spread               # median spread, bps
    Trailing bases
    Trailing deviating
    Trailing spreads
    bint has_trades             # False: an index or a mark price
    Touch touch                 # its own market, as the tape shows it
    Calm calm
    Implied implied
    double step_buy, step_sell, step_unknown    # traded in the open step
    Sampled now                 # sums so far
    Sampled minute[6]           # MINUTE_SAMPLES, a ring
    int64_t samples
    double weight               # in the consensus of the last step; 0: it had none
    double weight_sum           # over steps with a consensus
    int64_t used                # rows
    int64_t rejected[5]         # rows, by reason


cdef inline void venue_init(Venue *v, double deviations, bint has_trades, const ImpliedParams *p, int64_t window,
                            int64_t lag) noexcept nogil:
    v.last_buy = v.last_sell = v.basis = v.deviation = v.spread = NAN
    v.last_ts = 0
    v.deviations = deviations
    v.has_trades = has_trades
    touch_init(&v.touch)
    calm_init(&v.calm, window, lag)
    implied_init(&v.implied)
    v.implied.p = p[0]


cdef inline void venue_trade(Venue *v, int64_t ts, int side, double price, double size) noexcept nogil:
    """A trade of unknown side moves both pseudo-quotes."""
    if side >= 0:
        v.last_buy = price
    if side <= 0:
        v.last_sell = price
    v.last_ts = ts
    touch_trade(&v.touch, ts, side, price)
    v.now.units += size
    if side > 0:
        v.step_buy += size
    elif side < 0:
        v.step_sell += size
    else:
        v.step_unknown += size


cdef inline void venue_price(Venue *v, int64_t ts, double price) noexcept nogil:
    """An index or a mark price: nothing else is known of it."""
    v.last_buy = v.last_sell = price
    v.last_ts = ts


cdef inline double _venue_mid(const Venue *v) noexcept nogil:
    return 1e4 * log(0.5 * (v.last_buy + v.last_sell))


cdef inline double _venue_spread(const Venue *v) noexcept nogil:
    return fabs(1e4 * log(v.last_buy / v.last_sell))


cdef inline double venue_gap(const Venue *v) noexcept nogil:
    """How far its own implied mid is from its mid, bps; 0 while nothing is torn or nothing is known."""
    cdef double gap = _gap_of(&v.implied)
    return fabs(gap) if gap == gap else 0.0


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


cdef inline double venue_doubt(const Venue *v, double centre, double mid, double ours) noexcept nogil:
    """By how much its corridor around `centre` is wider than it looks, where it sides with our quoted `mid` against
    `ours`, what our own tape implies (1e4 ln prices): the square of its spread over the usual one where its whole flow
    pushes it there, less where only a part does."""
    cdef double push = _imbalance(&v.implied)
    if centre < ours:
        push = -push
    if (ours - centre) * (ours - mid) <= 0.0 or push <= 0.0:
        return 1.0
    return v.implied.credibility ** -push


cdef inline void venue_step(Venue *v, int64_t ts, double dt, double stale) noexcept nogil:
    """Read one more step of its own tape."""
    cdef double spread
    if not v.has_trades or not v.last_ts:
        return
    touch_end_step(&v.touch)
    spread = fresh_spread(&v.touch, ts, stale)
    if spread == spread:
        v.now.spread_sum += spread
        v.now.spreads += 1
    implied_follow(&v.implied, &v.calm, dt, v.touch.mid, spread, v.step_buy, v.step_sell, v.step_unknown)
    v.step_buy = v.step_sell = v.step_unknown = 0


cdef inline int _sample_own_market(Venue *v, int64_t ts) noexcept nogil:
    """Every ten seconds: what its last minute was like, for its own norms."""
    cdef Sampled *then = &v.minute[v.samples % MINUTE_SAMPLES]
    cdef double spread = NAN
    cdef int code = 0
    if v.calm.first == 0 and v.touch.mid == v.touch.mid:
        v.calm.first = ts
    if v.calm.first == 0 or (ts - v.calm.first) % (SAMPLE_SECONDS * <int64_t> SECOND) != 0:
        return 0
    v.now.log_mid = 1e4 * log(v.touch.mid)
    if v.samples >= MINUTE_SAMPLES:
        if v.now.spreads > then.spreads:
            spread = (v.now.spread_sum - then.spread_sum) / <double> (v.now.spreads - then.spreads)
        code = calm_sample(&v.calm, ts, fabs(v.now.log_mid - then.log_mid), v.now.units - then.units, spread)
    then[0] = v.now
    v.samples += 1
    return code


cdef inline int venue_sample(Venue *v, int64_t ts, int64_t first, int64_t window, int64_t lag, double mid) noexcept nogil:
    """Offer our mid (1e4 ln price) at `ts` for the norms of the two venues' distance; `first`: when our market began."""
    cdef int64_t age = ts - first
    cdef int64_t upto
    cdef double distance = mid - _venue_mid(v)
    cdef int code = _sample_own_market(v, ts) if v.has_trades else 0
    if code < 0 or age % (SAMPLE_SECONDS * <int64_t> SECOND) != 0 or not distance == distance:
        return code
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
