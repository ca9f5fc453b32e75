# The touch: best bid and ask as the market shows them, from the best source that has spoken so far.
#
# Quotes outrank the book, the book outranks trades. With trades alone pseudo-quotes stand in: of the last taker sell and the
# last taker buy the lower price is the bid, the higher the ask. A crossed or one-sided touch has no mid.
#
# The distance of two prints is a spread only while both are fresh: to a print of half a minute ago it is mostly drift. So where
# the tape stands in, the spread fades, as the older print ages, to what the last changes of side showed (`fresh_spread`).

from libc.math cimport NAN, exp, fabs, log
from libc.stdint cimport int64_t
from toxmid.steps.codes cimport BOUGHT, SOLD, unlikely

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    /* x where a condition holds, else 0, without a branch: prices go up and down as nobody can predict, a processor neither. */
    static CYTHON_INLINE double toxmid_where(int holds, double x) {
        uint64_t bits;
        memcpy(&bits, &x, 8);
        bits &= (uint64_t) 0 - (uint64_t) (holds != 0);
        memcpy(&x, &bits, 8);
        return x;
    }
    """
    double where "toxmid_where"(bint holds, double x) noexcept nogil

cdef enum:
    NOTHING = 0
    TAPE = 1
    DEPTH = 2
    QUOTES = 3

    CHANGES = 16

cdef struct Change:                         # of side: prices of the print after it and of the last one of the other side
    double after, before

cdef struct Touch:
    int source
    double bid, bid_size, ask, ask_size     # a price of NaN: no such side; its size is 0 then, or NaN where nothing is known
    double mid                              # NaN unless two-sided and uncrossed
    double last_price[3]                    # of the last taker sell and buy, in the order of SOLD and BOUGHT
    int64_t last_ts[3]
    int last_side                           # of the last trade whose side is known
    double flip                             # bps between prints at changes of side, mean of the last step that had any
    double flip_sum                         # of the open step
    int64_t flips
    int64_t waiting                         # changes of side that are not in the sum yet
    Change changes[17]                      # CHANGES, and one to write over
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
    t.last_price[SOLD] = t.last_price[BOUGHT] = t.flip = NAN
    t.last_ts[SOLD] = t.last_ts[BOUGHT] = t.flips = 0
    t.last_side = 0
    t.waiting = 0
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
    """One event's order-flow imbalance: Cont, Kukanov, Stoikov (2014), doi:10.1093/jjfinec/nbt003. A side that is empty is
    nothing at the worst of all prices: no comparison with it fails, and its size is 0."""
    return (where(not bid < t.bid, bid_size) - where(not bid > t.bid, t.bid_size) - where(not ask > t.ask, ask_size)
            + where(not ask < t.ask, t.ask_size))


cdef inline void touch_set(Touch *t, int64_t ts, int source, double bid, double bid_size, double ask,
                           double ask_size) noexcept nogil:
    """The touch as quotes or a book show it at `ts`; a source below the best one seen so far is not heard. The size of a side
    that is empty is 0; NaN where nobody knows whether it is."""
    cdef double e
    if source < t.source:
        return
    touch_settle(t, ts)
    if source == t.source:
        e = _ofi(t, bid, bid_size, ask, ask_size)
        if e == e:
            t.ofi += e
    t.source = source
    t.bid = bid
    t.bid_size = bid_size
    t.ask = ask
    t.ask_size = ask_size
    t.mid = 0.5 * (bid + ask) if bid < ask else NAN     # where they meet the market is crossed


cdef inline void touch_forget_tape(Touch *t) noexcept nogil:
    """After a silence the last trades say nothing about the touch any more."""
    t.last_price[SOLD] = t.last_price[BOUGHT] = NAN
    if t.source == TAPE:
        t.bid = t.ask = t.mid = NAN


cdef inline void _count_changes(Touch *t) noexcept nogil:
    """Add the changes of side that wait, in their order."""
    cdef int64_t i
    for i in range(t.waiting):
        t.flip_sum += fabs(log_ratio_bps(t.changes[i].after, t.changes[i].before))
    t.flips += t.waiting
    t.waiting = 0


cdef inline void touch_trade(Touch *t, int64_t ts, int side, double price) noexcept nogil:
    """A trade moves the pseudo-quotes, where nothing better is known."""
    cdef double other = t.last_price[BOUGHT - (side + 1)]
    if side == 0:
        return
    # Written always, counted where the side has changed: that is no branch, and the logarithm can wait.
    t.changes[t.waiting].after = price
    t.changes[t.waiting].before = other
    t.waiting += side == -t.last_side
    if unlikely(t.waiting == CHANGES):
        _count_changes(t)
    t.last_side = side
    t.last_price[side + 1] = price
    t.last_ts[side + 1] = ts
    if t.source <= TAPE and other == other:
        touch_settle(t, ts)
        t.source = TAPE
        t.bid = price if price < other else other
        t.ask = price if price > other else other
        t.bid_size = t.ask_size = NAN
        t.mid = 0.5 * (t.bid + t.ask)       # of pseudo-quotes that meet, too


cdef inline int64_t touch_age(const Touch *t, int64_t ts) noexcept nogil:
    """ns since the older of the two prints that pseudo-quotes are made of; 0 where quotes or a book speak."""
    if t.source != TAPE:
        return 0
    return ts - (t.last_ts[SOLD] if t.last_ts[SOLD] < t.last_ts[BOUGHT] else t.last_ts[BOUGHT])


cdef inline void touch_end_step(Touch *t) noexcept nogil:
    """What changes of side showed in the step that ends stands until others show something else."""
    _count_changes(t)
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
