# What several venues say together: a corridor for our mid.
#
# Each venue puts our mid somewhere and is good to within its own width. The less toxic flow it carries the more it counts: its
# weight is one over the square of that width, of how torn its own tape is, and of how far it stands outside from the others.
# The corridor's centre is their weighted mean; its half width is that of the venues (the mean of one over its square), so that
# agreement makes it no narrower than the best of them, and wider by as much as they disagree. One venue alone is its own corridor;
# of several none counts as better than half our own spread, for our mid is known no better than that.
#
# A mark price is made of other venues and of our own last trades: when ours are torn it is torn with them, more or less. How much
# of the way from our mid to where the others put it a mark price goes is learnt from all that has been seen of both. Until it is
# known to go more than half of it, and where there are no others to learn that from, the mark price is not heard.

from libc.math cimport NAN, exp, fabs, sqrt
from libc.stdint cimport int64_t
from toxmid.steps.calm cimport Calm
from toxmid.steps.venue cimport Venue, venue_corridor, venue_doubt, venue_gap

cdef enum:
    OTHER_VENUES = 8            # at most
    INDEX_PRICE = 8
    MARK_PRICE = 9
    ALL_VENUES = 10

cdef struct Opinion:
    int venue
    double centre               # where it puts our mid, 1e4 ln price
    double width                # bps
    double torn                 # bps, of its own tape
    double weight

cdef struct Consensus:
    Venue venues[10]            # ALL_VENUES: other venues in the order of their numbers, the index, the mark price
    double mark_prior           # how much learning it takes to believe a mark price, calm spreads squared
    double mark_memory          # s
    double mark_lag             # s, over which distances are averaged first: what a mark price follows only later, it follows
    double mark_away, mark_due  # mean distance of the mark price from our mid, and what it should be: minutes, bps
    double mark_num, mark_den   # regression of the one on the other
    double centre, half         # of the last step; half is NaN where there was no corridor
    int64_t steps               # with a corridor


cdef inline void _in_order(Opinion *o, int n) noexcept nogil:
    """By where they put the mid: sums must not depend on how venues are numbered."""
    cdef Opinion x
    cdef int i, j
    for i in range(1, n):
        x = o[i]
        j = i
        while j > 0 and (o[j - 1].centre > x.centre or (o[j - 1].centre == x.centre and (
                o[j - 1].width > x.width or (o[j - 1].width == x.width and o[j - 1].torn > x.torn)))):
            o[j] = o[j - 1]
            j -= 1
        o[j] = x


cdef inline double _weighted_median(const Opinion *o, int n) noexcept nogil:
    """Interpolated between the middles of the weights, so that it does not jump when two weigh the same."""
    cdef double total = 0, reached = 0, before, here
    cdef int i
    for i in range(n):
        total += o[i].weight
    before = 0.5 * o[0].weight
    if 0.5 * total <= before:
        return o[0].centre
    for i in range(1, n):
        reached += o[i - 1].weight
        here = reached + 0.5 * o[i].weight
        if 0.5 * total <= here:
            return o[i - 1].centre + (o[i].centre - o[i - 1].centre) * (0.5 * total - before) / (here - before)
        before = here
    return o[n - 1].centre


cdef inline double _weight(const Opinion *o, double far) noexcept nogil:
    """The weight falls with the fourth power of what is beyond the width: an outlier neither moves the others nor widens them."""
    cdef double excess = 1.0 + (o.torn * o.torn + far * far) / (o.width * o.width)
    return 1.0 / (o.width * o.width * excess * excess)


cdef inline void _weigh(Opinion *o, int n, double least, double *centre, double *half) noexcept nogil:
    """Weights, centre and half width of `n` opinions, one or more; of several none counts as narrower than `least`."""
    cdef double total = 0, tight = 0, shift = 0, apart = 0
    cdef double middle, far, x
    cdef int i
    if n == 1:
        o[0].weight = 1.0
        centre[0] = o[0].centre
        half[0] = o[0].width
        return
    _in_order(o, n)
    for i in range(n):
        if o[i].width < least:
            o[i].width = least
        o[i].weight = _weight(&o[i], 0.0)
    middle = _weighted_median(o, n)
    for i in range(n):
        far = fabs(o[i].centre - middle) - o[i].width
        o[i].weight = _weight(&o[i], far if far > 0 else 0.0)
        total += o[i].weight
    for i in range(n):
        o[i].weight /= total
        shift += o[i].weight * (o[i].centre - middle)
        tight += o[i].weight / (o[i].width * o[i].width)
    for i in range(n):
        x = o[i].centre - middle - shift
        apart += o[i].weight * x * x
    centre[0] = middle + shift
    half[0] = 1.0 / sqrt(tight) + sqrt(apart)


cdef inline bint _opinion(const Consensus *s, int venue, int64_t ts, double sigma, double mid, double ours,
                          Opinion *o) noexcept nogil:
    o.venue = venue
    o.torn = venue_gap(&s.venues[venue])
    if not venue_corridor(&s.venues[venue], ts, sigma, &o.centre, &o.width):
        return False
    o.width *= venue_doubt(&s.venues[venue], o.centre, mid, ours)
    return True


cdef inline bint _doubt_mark(Consensus *s, Opinion *o, const Calm *c, double mid, double distance, double dt) noexcept nogil:
    """Judge a mark price by what is known of its independence: of `distance`, from our mid to where the others put it, the mark
    price usually goes a share; the rest is torn with us. False where that is the better half."""
    cdef double kept = exp(-dt / s.mark_memory), slow = exp(-dt / s.mark_lag)
    cdef double share = s.mark_num / (s.mark_den + s.mark_prior * c.spread * c.spread)
    s.mark_away = slow * s.mark_away + (1.0 - slow) * (o.centre - mid)
    s.mark_due = slow * s.mark_due + (1.0 - slow) * distance
    s.mark_num = s.mark_num * kept + s.mark_away * s.mark_due
    s.mark_den = s.mark_den * kept + s.mark_due * s.mark_due
    if not share > 0.5:
        return False
    if share > 1.0:
        share = 1.0
    o.width /= 2.0 * share - 1.0
    o.torn = (1.0 - share) * fabs(distance)
    return True


cdef inline bint consensus_corridor(Consensus *s, const Calm *c, int64_t ts, double dt, double mid, double ours,
                                    double *centre, double *half) noexcept nogil:
    """The corridor for our mid (1e4 ln price), which is quoted at `mid` while our own tape implies `ours`; False where
    nobody says anything."""
    cdef Opinion o[10]
    cdef int i, n = 0
    s.centre = s.half = NAN
    for i in range(ALL_VENUES):
        s.venues[i].weight = 0.0
    for i in range(MARK_PRICE):
        if s.venues[i].last_ts and _opinion(s, i, ts, c.sigma, mid, ours, &o[n]):
            n += 1
    if n == 0:
        return False
    _weigh(o, n, 0.5 * c.spread, centre, half)
    if (s.venues[MARK_PRICE].last_ts and _opinion(s, MARK_PRICE, ts, c.sigma, mid, ours, &o[n])
            and _doubt_mark(s, &o[n], c, mid, centre[0] - mid, dt)):
        n += 1
        _weigh(o, n, 0.5 * c.spread, centre, half)
    s.centre = centre[0]
    s.half = half[0]
    s.steps += 1
    for i in range(n):
        s.venues[o[i].venue].weight = o[i].weight
        s.venues[o[i].venue].weight_sum += o[i].weight
    return True
