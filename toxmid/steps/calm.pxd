# What is normal here: trailing statistics, and how far the present is from them.
#
# Every ten seconds a sample is kept of what the last 60 s were like: |move of the mid|, volume, mean spread. Their usual sizes
# over trailing hours (medians, guarded for sparse tapes) scale everything else. They are lagged, so that an episode does not become its own norm. Once a
# minute a sample goes into the norm of the spread at this time of day, and into the norms of quiet minutes against which
# impact is judged excessive. All exist from 300 s on: before the full history is there they are the same statistics over
# what has arrived. For whom follows the market without telling anything yet, the first of them exist from 120 s on (`early`).

from libc.math cimport NAN, fabs, log, sqrt
from libc.stdint cimport int64_t
from toxmid.steps.codes cimport ERR_MEMORY, SECOND
from toxmid.steps.memory cimport Block, block_reserve
from toxmid.steps.quantiles cimport median, median_distance
from toxmid.steps.trailing cimport Trailing, trailing_level, trailing_median, trailing_part, trailing_push, trailing_roll

cdef enum:
    DAY_MINUTES = 1440
    TOD_DAYS = 28               # trailing days of the time-of-day norm
    TOD_HALF = 15               # neighbouring quarter hours, in minutes
    TOD_MIN_DAYS = 3            # earlier days that make a time-of-day norm; before, all minutes that have arrived
    WARM_MINUTES = 4            # samples before a norm of minutes is published
    YOUNG = 10                  # minutes that the prior of sigma is worth
    YOUNG_SECONDS = 3600        # of a history in which an episode may be half of all that was seen
    SAMPLE_SECONDS = 10
    READY_SECONDS = 300
    EARLY_SECONDS = 120

cdef struct Minute:
    double spread               # mean over the minute, bps
    double move                 # |60 s log return of mid|, bps
    double volume               # units of the last 60 s
    double quiet                # 1: no second of it had an excess impact beyond the limit

cdef struct Norms:              # of 60 s
    double sigma                # usual |move|, bps
    double volume               # usual volume, units
    double spread               # usual mean spread, bps

cdef struct Calm:
    int64_t window              # ns of history that count
    int64_t lag                 # ns left out at the young end
    int64_t first               # time of the first mid; 0: none yet
    double sigma                # usual |60 s move|, bps
    double volume               # usual volume of 60 s, units
    double spread               # usual 60 s mean spread, bps
    Norms early                 # the same three, sooner
    double rms                  # root mean square 60 s move of quiet minutes, bps
    double mean_volume          # mean volume of 60 s of quiet minutes, units
    double tod_median           # of ln(spread) at this time of day
    double tod_scale            # 1.4826 MAD of it
    int64_t count               # minutes seen
    int64_t tod_quarter         # minutes seen before the quarter hour of which the two are; while there are few days, 0
    Trailing moves
    Trailing volumes
    Trailing spreads
    Trailing young              # ln(spread) of all minutes, while there are few days
    Block minutes               # Minute, oldest first
    Block scratch


cdef inline void calm_init(Calm *c, int64_t window, int64_t lag) noexcept nogil:
    c.window = window
    c.lag = lag
    c.early.sigma = c.early.volume = c.early.spread = NAN
    c.sigma = c.volume = c.spread = c.rms = c.mean_volume = c.tod_median = c.tod_scale = NAN
    c.count = c.first = 0


cdef inline bint calm_ready(const Calm *c) noexcept nogil:
    return c.sigma == c.sigma and c.spread == c.spread


# --- the last 60 s, every ten seconds --------------------------------------------------------------------------------

cdef inline void _raise_young_sigma(Norms *c, int64_t age) noexcept nogil:
    """Too few samples to trust a small sigma: a maker is assumed to quote no more than a fifth of a minute's risk."""
    cdef double minutes = 0.75 * <double> age / (60.0 * SECOND)
    cdef double prior = 5.0 * c.spread
    cdef double pooled
    if minutes > 360.0:
        minutes = 360.0
    pooled = sqrt((minutes * c.sigma * c.sigma + YOUNG * prior * prior) / (minutes + YOUNG))
    if pooled > c.sigma:
        c.sigma = pooled


cdef inline void _lower_young_spread(Norms *c, const Trailing *spreads, int64_t age) noexcept nogil:
    """An episode that fills half of a young history must not become its norm. A maker tightens again as soon as she
    can, so the usual spread is at most half above the end of her tight quarter: a limit that rises once the history has
    grown. Where that quarter itself is wide, as on a sparse tape whose prints often meet, it tells nothing."""
    cdef double tight = trailing_part(spreads, 4)
    cdef double grown = <double> age / (YOUNG_SECONDS * <double> SECOND)
    cdef double limit = 1.5 * tight * (grown if grown > 1.0 else 1.0)
    if 0.0 < limit < c.spread and tight <= 2.0 * trailing_part(spreads, 10):
        c.spread = limit


cdef inline int calm_sample(Calm *c, int64_t ts, double move, double volume, double spread) noexcept nogil:
    """Offer what the 60 s up to `ts` were like, and renew the medians. `move` etc. are NaN while 60 s have not passed."""
    cdef int64_t age = ts - c.first
    cdef Norms *n = &c.early
    cdef int64_t upto
    cdef int code
    if age % (SAMPLE_SECONDS * <int64_t> SECOND) != 0:
        return 0
    code = trailing_push(&c.moves, ts, move)
    if code == 0 and move == move:
        code = trailing_push(&c.volumes, ts, volume)
    if code == 0 and move == move:
        code = trailing_push(&c.spreads, ts, spread)
    if code < 0 or age < EARLY_SECONDS * <int64_t> SECOND:
        return code
    # While history is short the lag is a quarter of it: a norm of the young market, but never of this very moment.
    upto = ts - (c.lag if 4 * c.lag < age else age // 4)
    code = trailing_roll(&c.moves, upto - c.window, upto)
    if code == 0:
        code = trailing_roll(&c.volumes, upto - c.window, upto)
    if code == 0:
        code = trailing_roll(&c.spreads, upto - c.window, upto)
    n.sigma = trailing_level(&c.moves)
    n.volume = trailing_level(&c.volumes)
    n.spread = trailing_level(&c.spreads)
    _lower_young_spread(n, &c.spreads, age)
    _raise_young_sigma(n, age)
    # A tape that stood still must not freeze what is measured in sigmas, and a spread far below a minute's risk is not wide
    # for being twice that.
    if n.sigma < 0.5 * n.spread:
        n.sigma = 0.5 * n.spread
    if n.sigma < 0.05:
        n.sigma = 0.05
    if n.spread < 0.05 * n.sigma:
        n.spread = 0.05 * n.sigma
    if age >= READY_SECONDS * <int64_t> SECOND:
        c.sigma = n.sigma
        c.volume = n.volume
        c.spread = n.spread
    return code


# --- minutes ---------------------------------------------------------------------------------------------------------

cdef inline void _quiet_norms(Calm *c, int64_t first, int64_t last) noexcept nogil:
    """Rms move and mean volume of quiet minutes; of all of them where most are not quiet (the norm itself has moved)."""
    cdef const Minute *m = <const Minute *> c.minutes.data
    cdef double squares[2]
    cdef double volumes[2]
    cdef int64_t n[2]
    cdef int64_t i
    cdef int which
    for which in range(2):
        squares[which] = volumes[which] = 0
        n[which] = 0
    for i in range(first, last):
        if m[i].move == m[i].move:
            for which in range(2):
                if which == 0 or m[i].quiet > 0:
                    squares[which] += m[i].move * m[i].move
                    volumes[which] += m[i].volume
                    n[which] += 1
    which = 1 if 2 * n[1] >= n[0] else 0
    if n[which] >= WARM_MINUTES:
        c.rms = sqrt(squares[which] / n[which])
        c.mean_volume = volumes[which] / n[which]


cdef inline void _tod_norm(Calm *c, int64_t n, int64_t into) noexcept nogil:
    """Median and scaled MAD of ln(spread): this quarter hour, `into` minutes old, and its neighbours on earlier days. All of that
    is known when it begins."""
    cdef const Minute *m = <const Minute *> c.minutes.data
    cdef double *x = <double *> c.scratch.data
    cdef int64_t count = 0, day, i, start, stop
    if c.tod_quarter == c.count - into:
        return
    c.tod_quarter = c.count - into
    for day in range(1, TOD_DAYS + 1):
        start = n - day * DAY_MINUTES - into - TOD_HALF      # the next minute would be number n
        stop = start + 15 + 2 * TOD_HALF
        for i in range(start if start > 0 else 0, stop if stop > 0 else 0):
            if m[i].spread > 0:
                x[count] = log(m[i].spread)
                count += 1
    if count < WARM_MINUTES:
        return
    c.tod_median = median(x, count)
    for i in range(count):
        x[i] = fabs(x[i] - c.tod_median)
    c.tod_scale = 1.4826 * median(x, count)


cdef inline int _remember_young(Calm *c, int64_t ts, double spread) noexcept nogil:
    """While there are few days, the spreads of all minutes stand in order of size."""
    cdef int code = trailing_push(&c.young, ts, log(spread) if spread > 0 else NAN)
    return code if code < 0 else trailing_roll(&c.young, 0, ts)


cdef inline void _young_tod_norm(Calm *c) noexcept nogil:
    """The same of all minutes that have arrived."""
    cdef int64_t count = c.young.sorted.used // 8
    if count >= WARM_MINUTES:
        c.tod_median = trailing_median(&c.young)
        c.tod_scale = 1.4826 * median_distance(<const double *> c.young.sorted.data, count, c.tod_median)


cdef inline int calm_minute(Calm *c, int64_t ts, double spread, double move, double volume, bint quiet) noexcept nogil:
    """Keep the sample of the minute that ends at `ts` and renew the norms of minutes. Minutes before the first mid are no
    history: they would only put off the day on which the others count."""
    cdef int64_t size = sizeof(Minute)
    cdef int64_t window = c.window // (60 * <int64_t> SECOND)
    cdef int64_t lag = c.lag // (60 * <int64_t> SECOND)
    cdef int64_t keep = (TOD_DAYS + 1) * DAY_MINUTES + 2 * TOD_HALF
    cdef Minute *m
    cdef int64_t n, first, last
    cdef bint young
    if c.first == 0:
        return 0
    if block_reserve(&c.minutes, size) < 0 or block_reserve(&c.scratch, c.minutes.used + size) < 0:
        return ERR_MEMORY
    n = c.minutes.used // size
    if n >= 2 * keep:           # forget in bulk: moving memory each minute would cost more than keeping it
        m = <Minute *> c.minutes.data
        for first in range(keep):
            m[first] = m[n - keep + first]
        c.minutes.used = keep * size
        n = keep
    m = <Minute *> (c.minutes.data + c.minutes.used)
    m.spread = spread
    m.move = move
    m.volume = volume
    m.quiet = 1.0 if quiet else 0.0
    c.minutes.used += size
    c.count += 1
    n += 1
    young = n < TOD_MIN_DAYS * DAY_MINUTES
    if young and _remember_young(c, ts, spread) < 0:
        return ERR_MEMORY
    if n <= WARM_MINUTES or ts - c.first < (READY_SECONDS - 1) * <int64_t> SECOND:      # its first second is behind a market, too
        return 0
    last = n - (lag if 2 * lag < n else n // 2)
    if last <= WARM_MINUTES:
        last = WARM_MINUTES + 1     # of the first sample only the spread is known
    first = last - window
    if first < 0:
        first = 0
    _quiet_norms(c, first, last)
    if young:
        _young_tod_norm(c)
    else:
        c.young.samples.used = c.young.sorted.used = 0
        _tod_norm(c, n, ts // (60 * <int64_t> SECOND) % 15)
    return 0


cdef inline double calm_spread_z(const Calm *c, double spread, double tick_bps) noexcept nogil:
    """Robust z of ln(spread) against this time of day. Half a tick, or a tenth of the spread where no tick is known, keeps
    quiet markets from a zero scale."""
    cdef double floor
    if not spread > 0 or not c.tod_median == c.tod_median:
        return NAN
    floor = log(1.0 + 0.5 * tick_bps / spread) if tick_bps > 0 else 0.1
    return (log(spread) - c.tod_median) / (c.tod_scale + floor)
