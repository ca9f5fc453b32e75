# Open interest: how much of the taker volume closed positions, and what that says about inferred liquidations.
#
# A trade that closes positions on both sides takes its size off the open interest, one that opens on both sides adds it. So
# over a window at least max(0, -dOI) of the volume closed something. It is put on the side on which takers traded more (while a
# cascade is absorbed the price may well go the other way): pi = clip(-dOI / volume of that side, 0, 1). Voluntary stop-outs
# look the same.
#
# Inference from prices alone gives every order a weight g. When a window ends, the odds g / (1 - g) of that side
# are multiplied by the one factor with which the inferred volume of that window would have been what closed in it (or what a
# feed published, where that is more). The factor holds in the next window only, never in its own. Orders whose weight is 0
# keep it: open interest says how much was forced, not when.
#
# What is needed of a window is how much volume had which weight: sixteen bins of equal width in the logarithm of the odds.

from libc.math cimport NAN, exp, floor, log
from libc.stdint cimport int64_t
from libc.string cimport memset

cdef enum:
    BINS = 16
    HALVINGS = 40
    WIDEST_ODDS = 5             # |ln factor| is kept below this

cdef struct Interest:
    bint arrived                # a sample waits for the end of its step
    double value                # the latest sample, base coin; NaN: none yet
    double before               # the sample at which the open window began
    int64_t since               # end of the step in which it arrived
    double published_buy, published_sell    # liquidation records so far, base coin
    double buy, sell            # taker volume of the open window, base coin
    double volume_buy[16]       # of it, by inferred weight
    double volume_sell[16]
    double weighted_buy[16]     # sum of weight x volume
    double weighted_sell[16]
    double closing              # pi of the last window
    double odds_buy, odds_sell  # factors of the open window
    int64_t until               # end of their use
    double fallen               # sum of all falls so far, base coin


cdef inline void interest_init(Interest *o) noexcept nogil:
    o.value = o.before = o.closing = NAN
    o.odds_buy = o.odds_sell = 1.0


cdef inline void interest_sample(Interest *o, double value) noexcept nogil:
    """The open interest is published: base coin. It counts from the end of its step."""
    o.value = value
    o.arrived = True


cdef inline double shifted(double weight, double odds) noexcept nogil:
    """A weight whose odds are multiplied; exactly itself where the factor is 1."""
    return weight if odds == 1.0 else odds * weight / (1.0 - weight + odds * weight)


cdef inline void _note_volume(double *volume, double *weighted, double weight, double coins) noexcept nogil:
    cdef int64_t at
    if not (0.0 < weight < 1.0 and coins > 0):
        return
    at = <int64_t> floor(2.0 * log(weight / (1.0 - weight))) + BINS // 2
    at = 0 if at < 0 else (BINS - 1 if at >= BINS else at)
    volume[at] += coins
    weighted[at] += weight * coins


cdef inline double _inferred(const double *volume, const double *weighted, double odds) noexcept nogil:
    cdef double total = 0
    cdef int i
    for i in range(BINS):
        if volume[i] > 0:
            total += volume[i] * shifted(weighted[i] / volume[i], odds)
    return total


cdef inline double _odds_for(const double *volume, const double *weighted, double target) noexcept nogil:
    """The factor with which the inferred volume would have been `target`; 1 where nothing was inferred."""
    cdef double low = -WIDEST_ODDS, high = WIDEST_ODDS, middle
    cdef int i
    if not _inferred(volume, weighted, 1.0) > 0:
        return 1.0
    for i in range(HALVINGS):
        middle = 0.5 * (low + high)
        if _inferred(volume, weighted, exp(middle)) < target:
            low = middle
        else:
            high = middle
    return exp(0.5 * (low + high))


cdef inline void _close_window(Interest *o, int64_t ts, double published_buy, double published_sell) noexcept nogil:
    """From what closed in the window to the odds of the next."""
    cdef double closed = o.before - o.value if o.before > o.value else 0.0
    cdef double side = o.buy if o.buy > o.sell else o.sell
    o.odds_buy = o.odds_sell = 1.0
    o.fallen += closed
    o.closing = NAN
    if side > 0:
        o.closing = closed / side if closed < side else 1.0
    if o.buy > o.sell:
        published_buy -= o.published_buy
        o.odds_buy = _odds_for(o.volume_buy, o.weighted_buy, closed if closed > published_buy else published_buy)
    elif o.sell > o.buy:
        published_sell -= o.published_sell
        o.odds_sell = _odds_for(o.volume_sell, o.weighted_sell, closed if closed > published_sell else published_sell)
    o.until = ts + 2 * (ts - o.since)


cdef inline void interest_step(Interest *o, int64_t ts, double buy, double sell, double weight_buy, double weight_sell,
                               double published_buy, double published_sell) noexcept nogil:
    """A step has ended: `buy` and `sell` base coin traded in it, inferred to be forced with these weights (before any shift);
    `published_*`: base coin of all liquidation records so far."""
    if o.before == o.before:
        o.buy += buy
        o.sell += sell
        _note_volume(o.volume_buy, o.weighted_buy, weight_buy, buy)
        _note_volume(o.volume_sell, o.weighted_sell, weight_sell, sell)
        if ts > o.until:
            o.odds_buy = o.odds_sell = 1.0          # the next sample is overdue: its predecessor says nothing any more
    if not o.arrived:
        return
    if o.before == o.before:
        _close_window(o, ts, published_buy, published_sell)
    o.arrived = False
    o.before = o.value
    o.since = ts
    o.published_buy = published_buy
    o.published_sell = published_sell
    o.buy = o.sell = 0
    memset(o.volume_buy, 0, sizeof(o.volume_buy))
    memset(o.volume_sell, 0, sizeof(o.volume_sell))
    memset(o.weighted_buy, 0, sizeof(o.weighted_buy))
    memset(o.weighted_sell, 0, sizeof(o.weighted_sell))
