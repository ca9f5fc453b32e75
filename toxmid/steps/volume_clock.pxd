# The volume clock: buckets of equal volume, and VPIN over the last of them.
#
# All counting is in whole lots (times a fixed power of ten where the bucket volume is no whole number of lots), so a
# bucket is full when an integer comparison says so. A trade that runs over the edge of a bucket is split there; one of
# ten thousand buckets closes ten thousand buckets.

from libc.math cimport NAN, fabs, log, rint
from libc.stdint cimport INT64_MAX, int64_t
from toxmid.steps.codes cimport BOUGHT, ERR_MEMORY, ERR_RUNAWAY, SECOND, SOLD, UNKNOWN, unlikely
from toxmid.steps.grid cimport on_grid
from toxmid.steps.memory cimport Block, block_reserve
from toxmid.steps.quantiles cimport median
from toxmid.steps.ranked cimport Ranked, ranked_expire, ranked_push
from toxmid.steps.runs cimport Run, run_take_all, run_take_within

cdef enum:
    DAY = 86400
    MAX_DAYS = 31
    MAX_CLOSES = 1000000        # buckets one trade may close: beyond it the bucket volume is a mistake
    FEW_LOTS = 4000000000000    # in units, of which a lot has a million at most, they stay within int64

cdef struct BucketRow:          # every field is 8 bytes wide: int64 or double
    int64_t bucket
    int64_t ts_open
    int64_t ts_close
    double volume               # base coin
    double buy_volume
    double sell_volume
    double unknown_volume
    double imbalance            # (buy - sell) / volume
    double vpin
    double vpin_rank
    double vpin_lo              # least and greatest over the starts of the clock; not a number unless there are several
    double vpin_hi
    double price                # last
    double vwap
    double spread_bps           # spread its trades met, volume-weighted, of the mid
    double impact_bps           # log return from the last price of the bucket before
    double liq_buy_volume
    double liq_sell_volume

cdef struct Slot:               # one bucket of the VPIN window
    double gap                  # |buy - sell|
    double size
    double known

cdef struct DayVolume:          # trailing, lagged daily volume, in lots
    int64_t first_ts
    int64_t today
    int64_t total               # since first_ts
    int64_t day                 # days since 1970 of `today`
    int64_t day_end             # ns: where that day ends; never where no days are counted
    int64_t days                # complete days seen, at most `keep` kept
    int64_t keep
    double past[31]

cdef struct VolumeClock:
    double bucket_volume        # given, base coin; 0: from daily volume
    double per_day
    int64_t window
    int64_t ready_after         # ns of history before a bucket volume exists
    double skip                 # share of a bucket in [0, 1) that is passed over before the first one opens
    double lots_per_coin        # 0 where lots are contracts whose worth in coin varies
    int64_t units               # units per lot
    int64_t target              # units in the open bucket when full; 0: not known yet
    int64_t filled
    double by_side[3]           # units sold, of unknown side, bought; whole numbers unless volume was classified in bulk
    double coins, notional
    double width, mid           # sums of the touch its trades met, x units
    double liq_buy, liq_sell    # base coin
    bint blind                  # something traded in it before anybody could say what was forced
    bint pouring_blind          # ... and so does what is being poured
    double open_price           # last price of the bucket before
    int64_t ts_open
    int64_t start_ts            # the trade with which the first bucket opened; 0: none has
    double start_price
    int64_t closed
    double sum_gap, sum_size, sum_known
    double vpin, vpin_rank      # of the last closed bucket
    double warmup_coins         # traded before the first bucket volume was known: in no bucket
    bint ranked                 # keep the rank
    bint counts_only            # prices and spreads of buckets are not kept
    bint silent                 # no rows are written: only the last value is wanted
    DayVolume volume
    Ranked past
    Block slots                 # Slot[window], a ring
    Block rows                  # BucketRow, until taken


cdef inline void clock_refine(VolumeClock *c, int64_t factor) noexcept nogil:
    """The grid of lots became finer by `factor`: every count of lots becomes a count of the smaller ones."""
    cdef Slot *slots = <Slot *> c.slots.data
    cdef int64_t i
    c.target *= factor
    c.filled *= factor
    for i in range(3):
        c.by_side[i] *= factor
    c.width *= factor
    c.mid *= factor
    c.sum_gap *= factor
    c.sum_size *= factor
    c.sum_known *= factor
    c.volume.today *= factor
    c.volume.total *= factor
    for i in range(c.window):
        slots[i].gap *= factor
        slots[i].size *= factor
        slots[i].known *= factor
    for i in range(MAX_DAYS):
        c.volume.past[i] *= factor


cdef inline void _roll_day(DayVolume *v, int64_t ts) noexcept nogil:
    """A new UTC day closes the one before."""
    cdef int64_t day = ts // (DAY * <int64_t> SECOND)
    cdef double covered
    if v.first_ts == 0:
        v.first_ts = ts
        v.day = day
    if day != v.day:
        # The first day is scaled to a whole one if most of it was seen; an unseen day inside a gap counts as nothing.
        covered = 1.0
        if v.first_ts // (DAY * <int64_t> SECOND) == v.day:
            covered = 1.0 - <double> (v.first_ts % (DAY * <int64_t> SECOND)) / (DAY * 1e9)
        if covered > 0.5 and v.today > 0:       # 0 where every trade of a day was refused
            v.past[v.days % v.keep] = <double> v.today / covered
            v.days += 1
        v.day = day
        v.today = 0
    v.day_end = (day + 1) * (DAY * <int64_t> SECOND)


cdef inline void _count_day(DayVolume *v, int64_t lots) noexcept nogil:
    v.today += lots
    v.total += lots


cdef inline double _daily(const DayVolume *v, int64_t ts, int64_t ready_after) noexcept nogil:
    """Median of the last complete days; before there is one, the rate so far; NaN before `ready_after`."""
    cdef double scratch[31]
    cdef int64_t n = v.days if v.days < v.keep else v.keep
    cdef int64_t i
    if n:
        for i in range(n):
            scratch[i] = v.past[i]
        return median(scratch, n)
    if ts - v.first_ts < ready_after:
        return NAN
    return <double> v.total * DAY * 1e9 / <double> (ts - v.first_ts)


cdef inline int64_t _target(VolumeClock *c, int64_t ts, double coins, int64_t lots) noexcept nogil:
    """Units in the bucket that opens now; 0 while nobody can know. Only what came before this trade counts."""
    cdef double per_bucket
    if c.bucket_volume > 0:
        per_bucket = c.bucket_volume * (c.lots_per_coin if c.lots_per_coin > 0 else <double> lots / coins)
    else:
        per_bucket = _daily(&c.volume, ts, c.ready_after) / c.per_day
    if not per_bucket > 0:
        return 0
    if c.target == 0 and c.bucket_volume > 0 and c.lots_per_coin > 0:     # the first one ever; contracts stay whole
        c.units = 1
        while not on_grid(per_bucket * c.units) and c.units < 1000000 and per_bucket * c.units < 1e11:
            c.units *= 10
    per_bucket = rint(per_bucket * c.units)
    return 1 if per_bucket < 1 else <int64_t> per_bucket


cdef inline void _empty(VolumeClock *c, double price) noexcept nogil:
    """Nothing is in the bucket that comes next."""
    c.open_price = price
    c.filled = 0
    c.by_side[SOLD] = c.by_side[UNKNOWN] = c.by_side[BOUGHT] = 0
    c.coins = c.notional = c.width = c.mid = c.liq_buy = c.liq_sell = 0
    c.blind = c.pouring_blind


cdef inline int _close(VolumeClock *c, int64_t ts, double price) noexcept nogil:
    """Write the row of the full bucket, move the window, open the next."""
    cdef int64_t place = c.closed % c.window
    cdef Slot *slot = &(<Slot *> c.slots.data)[place]
    cdef BucketRow *row
    cdef double buy = c.by_side[BOUGHT], sell = c.by_side[SOLD]
    cdef double size = <double> c.target
    # Where a lot has one worth, a full bucket has exactly its volume, without the dust of adding sizes up.
    cdef double coins = size / (c.lots_per_coin * c.units) if c.lots_per_coin > 0 else c.coins
    cdef int64_t i
    if c.skip > 0:              # what has filled up lies before the first bucket
        c.skip = 0
        _empty(c, price)
        return 0
    c.sum_gap -= slot.gap
    c.sum_size -= slot.size
    c.sum_known -= slot.known
    slot.gap = fabs(buy - sell)
    slot.size = size
    slot.known = buy + sell
    c.sum_gap += slot.gap
    c.sum_size += size
    c.sum_known += slot.known
    c.closed += 1
    if place == c.window - 1:
        # Whole counts never drift; fractions of bulk-classified volume do, by rounding, so they are summed afresh.
        c.sum_gap = 0
        c.sum_known = 0
        for i in range(c.window):
            c.sum_gap += (<Slot *> c.slots.data)[i].gap
            c.sum_known += (<Slot *> c.slots.data)[i].known
    c.vpin = c.sum_gap / c.sum_size if c.closed >= c.window and c.sum_known > 0 else NAN
    if c.vpin > 1.0:                            # the last bit of a sum of fractions
        c.vpin = 1.0
    c.vpin_rank = NAN
    if c.ranked and c.vpin == c.vpin:
        ranked_expire(&c.past, ts)
        if ranked_push(&c.past, ts, c.vpin, &c.vpin_rank) < 0:
            return ERR_MEMORY
        if c.closed < 2 * c.window:
            c.vpin_rank = NAN
    if c.silent:
        _empty(c, price)
        return 0
    if block_reserve(&c.rows, sizeof(BucketRow)) < 0:
        return ERR_MEMORY
    row = <BucketRow *> (c.rows.data + c.rows.used)
    c.rows.used += sizeof(BucketRow)
    row.bucket = c.closed - 1
    row.ts_open = c.ts_open
    row.ts_close = ts
    row.volume = coins
    row.buy_volume = coins * (buy / size)
    row.sell_volume = coins * (sell / size)
    row.unknown_volume = coins * (c.by_side[UNKNOWN] / size)
    row.imbalance = (buy - sell) / size
    row.vpin = c.vpin
    row.vpin_rank = c.vpin_rank
    row.vpin_lo = row.vpin_hi = NAN
    row.price = price
    row.vwap = NAN if c.counts_only else c.notional / c.coins
    row.spread_bps = NAN if c.counts_only else 1e4 * c.width / c.mid
    row.impact_bps = NAN if c.counts_only else 1e4 * log(price / c.open_price)
    row.liq_buy_volume = NAN if c.blind else c.liq_buy
    row.liq_sell_volume = NAN if c.blind else c.liq_sell
    _empty(c, price)
    return 0


cdef inline void _pass_over(VolumeClock *c) noexcept nogil:
    """The first bucket opens later, by a share of the volume of one: until then a shorter one fills, of which there is no row."""
    cdef double units = rint(c.skip * <double> c.target)
    if units >= 1:
        c.target = <int64_t> units
    elif c.target:
        c.skip = 0


cdef inline int clock_prepare(VolumeClock *c, int64_t ts, double coins, int64_t lots) noexcept nogil:
    """Before a trade is poured: know the size of the bucket that is open, and refuse a trade that would close more
    buckets than can be meant."""
    cdef int64_t next
    if lots <= 0:
        return 0
    if ts >= c.volume.day_end:
        if c.bucket_volume > 0:     # nobody asks for days
            c.volume.day_end = INT64_MAX
        else:
            _roll_day(&c.volume, ts)
    if unlikely(c.target == 0):
        c.target = _target(c, ts, coins, lots)
        if c.skip > 0:
            _pass_over(c)
    if c.target and lots * <double> c.units > <double> c.target:
        next = _target(c, ts, coins, lots)      # of all buckets that this trade opens; it may be far smaller
        if lots * <double> c.units > <double> (next if next < c.target else c.target) * MAX_CLOSES:
            return ERR_RUNAWAY
    return 0


cdef inline void _pour(VolumeClock *c, int64_t units, double buy, double sell, double unknown) noexcept nogil:
    """Add to the open bucket what leaves it open or fills it exactly. Whole numbers add up alike in any grouping: so one trade
    and the sums of many may both go this way, and nothing else changes the counts of an open bucket."""
    c.filled += units
    c.by_side[BOUGHT] += buy
    c.by_side[SOLD] += sell
    c.by_side[UNKNOWN] += unknown


cdef inline void _weigh(VolumeClock *c, double coins, double price, double units, double width, double mid) noexcept nogil:
    """What is averaged over the trades of a bucket."""
    c.coins += coins
    c.notional += coins * price
    c.width += width * units
    c.mid += mid * units


cdef inline int clock_fill(VolumeClock *c, int64_t ts, double price, double coins, int64_t lots,
                           double buy_share, double sell_share, double width, double mid) noexcept nogil:
    """Pour one trade (or one bulk-classified bar) into the buckets, after `clock_prepare`; a negative code on failure."""
    cdef int64_t left, take
    cdef double coins_per_unit, known = buy_share + sell_share
    if lots <= 0:
        return 0
    if c.open_price != c.open_price:
        c.open_price = price
    if c.target == 0:
        c.warmup_coins += coins
        _count_day(&c.volume, lots)
        return 0
    left = lots * c.units
    if c.filled and left < c.target - c.filled:
        _pour(c, left, buy_share * left, sell_share * left, (1.0 - known) * left)
        _weigh(c, coins, price, <double> left, width, mid)
        _count_day(&c.volume, lots)
        return 0
    coins_per_unit = coins / <double> left
    while left > 0:
        if c.filled == 0:
            c.ts_open = ts
            if c.start_ts == 0:
                c.start_ts = ts
                c.start_price = price
        take = c.target - c.filled
        if take > left:
            take = left
        left -= take
        _pour(c, take, buy_share * take, sell_share * take, (1.0 - known) * take)
        _weigh(c, coins_per_unit * take, price, <double> take, width, mid)
        if c.filled == c.target:
            if _close(c, ts, price) < 0:
                return ERR_MEMORY
            c.target = _target(c, ts, coins, lots)
    _count_day(&c.volume, lots)
    return 0


cdef inline bint clock_has_room(const VolumeClock *c, int64_t ts, int64_t lots) noexcept nogil:
    """Does a trade neither begin a day, nor open or close a bucket? Then there is nothing to prepare."""
    return 0 < lots < <int64_t> FEW_LOTS and 0 < c.filled < c.target - lots * c.units and ts < c.volume.day_end


cdef inline void clock_trade(VolumeClock *c, double price, double coins, int64_t lots, int side, double width,
                             double mid) noexcept nogil:
    """`clock_fill` of one trade, which is of one side, into a bucket that has room for it."""
    cdef int64_t units = lots * c.units
    c.filled += units
    c.by_side[side + 1] += <double> units
    _weigh(c, coins, price, <double> units, width, mid)
    _count_day(&c.volume, lots)


# --- runs of trades --------------------------------------------------------------------------------------------------

cdef enum:
    EXACT = 9007199254740992    # 2^53: whole numbers up to here add up exactly in doubles

cdef inline bint clock_takes_runs(const VolumeClock *c) noexcept nogil:
    """May trades be added to the open bucket by their sums? Not before one has opened it, not while its size is unknown, and
    not where sums would be rounded."""
    return c.counts_only and c.lots_per_coin > 0 and 0 < c.filled and c.target <= <int64_t> EXACT


cdef inline bint clock_in_day(const VolumeClock *c, int64_t ts) noexcept nogil:
    """Is it the day that is being counted, where days are?"""
    return ts < c.volume.day_end


cdef inline int64_t clock_pour_run(VolumeClock *c, Run *run) noexcept nogil:
    """Pour the sums of the trades that are left of a run, up to the one that would fill the open bucket, which is for `clock_fill`;
    the lots of those poured."""
    cdef int64_t sums[3]
    cdef int64_t room = c.target - c.filled - 1     # units that leave the bucket open
    if <double> run.total * <double> c.units <= <double> room:      # exact: no bucket has more than 2^53
        run_take_all(run, sums)
    else:
        run_take_within(run, room // c.units, sums)
    _pour(c, sums[0] * c.units, <double> (sums[1] * c.units), <double> (sums[2] * c.units),
          <double> ((sums[0] - sums[1] - sums[2]) * c.units))
    _count_day(&c.volume, sums[0])
    return sums[0]
