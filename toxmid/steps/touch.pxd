# The touch: best bid and ask as the market shows them, from the best source that has spoken so far.
#
# Quotes outrank the book, the book outranks trades. With trades alone pseudo-quotes stand in: of the last taker sell and the
# last taker buy the lower price is the bid, the higher the ask. A crossed or one-sided touch has no mid.
#
# The distance of two prints is a spread only while both are fresh: to a print of half a minute ago it is mostly drift. So where
# the tape stands in, the spread fades, as the older print ages, to what the last changes of side showed (`fresh_spread`).

from libc.math cimport NAN, exp, fabs, log
from libc.stdint cimport int64_t

cdef enum:
    NOTHING = 0
    TAPE = 1
    DEPTH = 2
    QUOTES = 3

cdef struct Touch:
    int source
    double bid, bid_size, ask, ask_size     # NaN: no such side
    double mid                              # NaN unless two-sided and uncrossed
    double last_buy, last_sell              # prices of the last taker buy and sell
    int64_t last_buy_ts, last_sell_ts
    int last_side                           # of the last trade whose side is known
    double flip                             # bps between prints at changes of side, mean of the last step that had any
    double flip_sum                         # of the open step
    int64_t flips
    double ofi                              # order-flow imbalance of the open step, base coin
    int64_t since                           # when the touch that stands began to count
    double width_time, mid_time             # integrals of width and mid over time in the open bar, while there is a mid


cdef inline double log_ratio_bps(double high, double low) noexcept nogil:
    """1e4 ln(high / low). For the small spreads that are the rule a series (relative error < 1e-15 for |x| < 0.01)
    takes a quarter of the time of a logarithm."""
    cdef double x = (high - low) / (high + low)
    cdef double xx = x * x
    if -0.01 < x < 0.01:
        return 2e4 * x * (1.0 + xx * (0.3333333333333333 + xx * (0.2 + xx * (0.14285714285714285 + xx * 0.1111111111111111))))
    return 1e4 * log(high / low)


cdef inline void touch_init(Touch *t) noexcept nogil:
    t.source = NOTHING
    t.bid = t.bid_size = t.ask = t.ask_size = t.mid = NAN
    t.last_buy = t.last_sell = t.flip = NAN
    t.last_buy_ts = t.last_sell_ts = t.flips = 0
    t.last_side = 0
    t.flip_sum = 0
    t.since = 0
    t.ofi = t.width_time = t.mid_time = 0


cdef inline double touch_spread(const Touch *t) noexcept nogil:
    """Spread in bps; NaN without a mid."""
    return log_ratio_bps(t.ask, t.bid) if t.mid == t.mid else NAN


cdef inline double touch_weighted_mid(const Touch *t) noexcept nogil:
    """Mid weighted by the size on the other side, (ask x bid size + bid x ask size) / (bid size + ask size); NaN without a
    mid or without sizes. In calm it is a better benchmark than the mid: Hagstromer (2021), doi:10.1016/j.jfineco.2021.04.018."""
    cdef double sizes = t.bid_size + t.ask_size
    return (t.ask * t.bid_size + t.bid * t.ask_size) / sizes if t.mid == t.mid and sizes > 0 else NAN


cdef inline void touch_settle(Touch *t, int64_t ts) noexcept nogil:
    """Let the standing touch count up to `ts`: two integrals, whose ratio is the mean relative spread. Nothing is divided
    here, for this runs at every quote."""
    cdef double time
    if ts > t.since:
        if t.mid == t.mid:
            time = <double> (ts - t.since)
            t.width_time += (t.ask - t.bid) * time
            t.mid_time += t.mid * time
        t.since = ts


cdef inline double _ofi(const Touch *t, double bid, double bid_size, double ask, double ask_size) noexcept nogil:
    """One event's order-flow imbalance: Cont, Kukanov, Stoikov (2014), doi:10.1093/jjfinec/nbt003."""
    cdef double e = 0
    if bid >= t.bid:
        e += bid_size
    if bid <= t.bid:
        e -= t.bid_size
    if ask <= t.ask:
        e -= ask_size
    if ask >= t.ask:
        e += t.ask_size
    return e


cdef inline void touch_set(Touch *t, int64_t ts, int source, double bid, double bid_size, double ask,
                           double ask_size) noexcept nogil:
    """The touch as `source` shows it at `ts`; a source below the best one seen so far is not heard."""
    cdef double e
    if source < t.source:
        return
    touch_settle(t, ts)
    if source == t.source and source > TAPE:
        e = _ofi(t, bid, bid_size, ask, ask_size)
        if e == e:
            t.ofi += e
    t.source = source
    t.bid = bid
    t.bid_size = bid_size
    t.ask = ask
    t.ask_size = ask_size
    # Pseudo-quotes of the tape may meet; a quoted market that does is crossed and has no mid.
    t.mid = 0.5 * (bid + ask) if (bid < ask or source == TAPE) else NAN


cdef inline void touch_forget_tape(Touch *t) noexcept nogil:
    """After a silence the last trades say nothing about the touch any more."""
    t.last_buy = t.last_sell = NAN
    if t.source == TAPE:
        t.bid = t.ask = t.mid = NAN


cdef inline void touch_trade(Touch *t, int64_t ts, int side, double price) noexcept nogil:
    """A trade moves the pseudo-quotes, where nothing better is known."""
    cdef double other = t.last_sell if side > 0 else t.last_buy
    if side == 0:
        return
    if side == -t.last_side:
        t.flip_sum += fabs(log_ratio_bps(price, other))
        t.flips += 1
    t.last_side = side
    if side > 0:
        t.last_buy = price
        t.last_buy_ts = ts
    else:
        t.last_sell = price
        t.last_sell_ts = ts
    if t.source <= TAPE and t.last_buy == t.last_buy and t.last_sell == t.last_sell:
        if t.last_buy < t.last_sell:
            touch_set(t, ts, TAPE, t.last_buy, NAN, t.last_sell, NAN)
        else:
            touch_set(t, ts, TAPE, t.last_sell, NAN, t.last_buy, NAN)


cdef inline int64_t touch_age(const Touch *t, int64_t ts) noexcept nogil:
    """ns since the older of the two prints that pseudo-quotes are made of; 0 where quotes or a book speak."""
    if t.source != TAPE:
        return 0
    return ts - (t.last_buy_ts if t.last_buy_ts < t.last_sell_ts else t.last_sell_ts)


cdef inline void touch_end_step(Touch *t) noexcept nogil:
    """What changes of side showed in the step that ends stands until others show something else."""
    if t.flips:
        t.flip = t.flip_sum / <double> t.flips
        t.flip_sum = 0
        t.flips = 0


cdef inline double fresh_spread(const Touch *t, int64_t ts, double memory) noexcept nogil:
    """Spread at the end of a step, bps. `memory` (s): how long a print tells of a spread."""
    cdef double spread = touch_spread(t)
    if t.source != TAPE or spread != spread or t.flip != t.flip:
        return spread
    return t.flip + (spread - t.flip) * exp(-1e-9 * <double> touch_age(t, ts) / memory)
