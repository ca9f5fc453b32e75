# What rests around the mid, what it would cost to trade into it, and where it went.
#
# The ladder: base coin within 1, 5, 10, 25 and 50 bps of the mid on each side, and the round-trip cost of a size,
# 1e4 ln(VWAP of buying it / VWAP of selling it). One pass over each side when a step ends.
#
# The split: within a step, depth near the mid (as the mid stood when the step began) changes by what is added, traded and
# cancelled, dD = added - traded - cancelled. Rows of the book say what was added and what went; of what went, the tape's trades
# at those prices in the same second are the traded part, and what is left was cancelled. A trade whose row comes late waits one
# more step for it. What traded and was not missed from the book (hidden, refilled in the same message) does not show.

from libc.math cimport NAN, ceil, exp, floor, log
from libc.stdint cimport int64_t
from toxmid.steps.book cimport (ASK, BID, Book, Side, book_price, count_up_to, far_next, far_sum, side_next, side_top,
                                slots_sum)

cdef enum:
    RUNGS = 5                   # one more is Params.depth_bps

cdef struct Ladder:
    double factors[2][6]        # limit price of a rung over the mid, by side
    double depth[2][6]          # base coin; NaN: no book, or no mid
    double round_trip           # bps; NaN: the book shown is not deep enough, or the size not known
    double size                 # base coin of the round trip; 0: the usual volume of a minute

cdef struct Leaving:            # one side: where depth went
    double waiting              # traded, but not missed from the book yet
    double added, traded, cancelled             # base coin of the open bar
    double traded_total, cancelled_total        # since the beginning

cdef struct Depth:
    Ladder ladder
    Leaving sides[2]
    bint known                  # the open bar has a step in which the split could be made


cdef inline void depth_init(Depth *d, double depth_bps, double size) noexcept nogil:
    cdef double bps
    cdef int k
    for k in range(RUNGS + 1):
        bps = 1.0 if k == 0 else (5.0 if k == 1 else (10.0 if k == 2 else (25.0 if k == 3 else (50.0 if k == 4 else depth_bps))))
        d.ladder.factors[BID][k] = exp(-1e-4 * bps)
        d.ladder.factors[ASK][k] = exp(1e-4 * bps)
        d.ladder.depth[BID][k] = d.ladder.depth[ASK][k] = NAN
    d.ladder.round_trip = NAN
    d.ladder.size = size


# --- the ladder ------------------------------------------------------------------------------------------------------

cdef inline int64_t _last_tick(const Book *b, int which, double limit) noexcept nogil:
    """The farthest tick whose price still reaches `limit`, a price."""
    cdef int64_t tick
    if limit * b.ticks.per_unit > 4e15:     # farther than ticks are exact in doubles: where no level that matters is
        return <int64_t> 4000000000000000
    if which == BID:
        tick = <int64_t> ceil(limit * b.ticks.per_unit) - 1
        while book_price(b, tick) < limit:
            tick += 1
    else:
        tick = <int64_t> floor(limit * b.ticks.per_unit) + 1
        while book_price(b, tick) > limit:
            tick -= 1
    return tick


cdef inline double _between(const Side *s, int64_t near, int64_t far) noexcept nogil:
    """Base coin from tick `near` to tick `far`, both counted, as far as the window reaches."""
    return slots_sum(s, far - s.base, near - s.base) if s.sign > 0 else slots_sum(s, near - s.base, far - s.base)


cdef inline void _measure_side(Ladder *l, const Book *b, int which, double mid) noexcept nogil:
    cdef const Side *s = &b.sides[which]
    cdef int64_t near = side_top(s), far
    cdef int64_t top = near
    cdef double total = 0, asked = -1
    cdef int k
    if s.words == 0:
        for k in range(RUNGS + 1):
            l.depth[which][k] = 0.0
        return
    for k in range(RUNGS):
        far = _last_tick(b, which, mid * l.factors[which][k])
        if (near - far) * s.sign >= 0:
            total += _between(s, near, far)
            near = far - s.sign
        l.depth[which][k] = total + far_sum(s, far)
        if l.factors[which][k] == l.factors[which][RUNGS]:
            asked = l.depth[which][k]
    if asked < 0:
        far = _last_tick(b, which, mid * l.factors[which][RUNGS])
        asked = (_between(s, top, far) if (top - far) * s.sign >= 0 else 0.0) + far_sum(s, far)
    l.depth[which][RUNGS] = asked


cdef inline double _mean_price(const Book *b, int which, double size) noexcept nogil:
    """Mean price of trading `size` against one side; NaN where it does not show so much."""
    cdef const Side *s = &b.sides[which]
    cdef int64_t tick = side_top(s)
    cdef double left = size, paid = 0, here
    cdef bint more = s.words > 0
    while more:
        here = (<double *> s.sizes.data)[tick - s.base]
        if here >= left:
            return (paid + left * book_price(b, tick)) / size
        paid += here * book_price(b, tick)
        left -= here
        tick -= s.sign
        more = side_next(s, &tick)
    if s.far_count == 0 or far_sum(s, -s.sign * (<int64_t> 1 << 61)) < left:
        return NAN
    tick = side_top(s)
    here = far_next(s, &tick)
    while here > 0:             # out of the window: seldom, so that each level may look through all that are there
        if here >= left:
            return (paid + left * book_price(b, tick)) / size
        paid += here * book_price(b, tick)
        left -= here
        tick -= s.sign
        here = far_next(s, &tick)
    return NAN                  # the last bit of a sum


cdef inline void depth_measure(Depth *d, const Book *b, bint there, double mid, double usual) noexcept nogil:
    """A step has ended with a book around `mid` (`there`), or without; `usual`: base coin of a usual minute."""
    cdef Ladder *l = &d.ladder
    cdef double size = l.size if l.size > 0 else usual
    cdef int which, k
    l.round_trip = NAN
    if not there:
        for which in range(2):
            for k in range(RUNGS + 1):
                l.depth[which][k] = NAN
        return
    _measure_side(l, b, BID, mid)
    _measure_side(l, b, ASK, mid)
    if size > 0:
        l.round_trip = 1e4 * log(_mean_price(b, ASK, size) / _mean_price(b, BID, size))


# --- where it went ---------------------------------------------------------------------------------------------------

cdef inline void _split(Leaving *l, Side *s) noexcept nogil:
    cdef double wanted = s.traded + l.waiting
    cdef double traded = s.removed if s.removed < wanted else wanted
    l.added += s.added
    l.traded += traded
    l.traded_total += traded
    l.cancelled += s.removed - traded
    l.cancelled_total += s.removed - traded
    l.waiting = wanted - traded
    if l.waiting > s.traded:
        l.waiting = s.traded


cdef inline void depth_step(Depth *d, Book *b, bint there, double mid, double usual) noexcept nogil:
    """A step has ended: split what went in it, measure what is left, and say what the next step counts."""
    cdef Side *s
    cdef int which
    for which in range(2):
        s = &b.sides[which]
        if s.near_price == s.near_price:
            _split(&d.sides[which], s)
            d.known = True
        else:
            d.sides[which].waiting = 0
        s.added = s.removed = s.traded = 0
        if there:
            count_up_to(s, mid * d.ladder.factors[which][RUNGS], _last_tick(b, which, mid * d.ladder.factors[which][RUNGS]))
        else:
            count_up_to(s, NAN, 0)
    depth_measure(d, b, there, mid, usual)


cdef inline void depth_end_bar(Depth *d) noexcept nogil:
    cdef int which
    for which in range(2):
        d.sides[which].added = d.sides[which].traded = d.sides[which].cancelled = 0
    d.known = False
