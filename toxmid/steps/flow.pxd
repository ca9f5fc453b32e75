# The toxic, liquidation-driven flow: which taker orders belong to it, and its mean price.
#
# Prints of one time and side are one taker order. Each order gets a weight in [0, 1]: inferred from the state of the market
# while no liquidation feed has spoken, and from the feed once it has. Volume is in units: base coin, or contracts where the
# market is inverse. The weight of an order under a feed is known only when
# the record arrives, and counts only from then.
#
# A record finds its orders by side, time, size and price, in this order of belief: the latest run of neighbouring orders that
# adds up to its size at its mean price; one that adds up to its size (a venue that publishes the bankruptcy price says
# nothing of where it traded); whatever traded last at its price; whatever traded last.

from libc.math cimport NAN, exp2, fabs
from libc.stdint cimport int64_t
from libc.string cimport memset
from toxmid.steps.codes cimport BOUGHT, ERR_MEMORY, SOLD, Tally, fading, unlikely
from toxmid.steps.memory cimport Block, block_reserve

cdef enum:
    RING = 4096                 # taker orders remembered for matching; a power of two
    PENDING = 32                # liquidation records that wait for their trade
    NEAR_TICKS = 2              # an order so near to a record's price may be its own

cdef struct Order:              # the taker order that is being assembled
    bint open
    int side
    int64_t ts
    double units
    double coins
    double notional
    double last_price
    int64_t levels              # distinct prices so far
    double resting              # base coin at the best price of the side that it hits, before it; NaN: not known
    double mid                  # as it stood before the order
    double half_spread          # price units, as it stood before the order
    double pressure             # displacement before it: quoted minus implied mid, price units

cdef struct Print:              # a finished taker order
    int64_t ts
    int64_t side
    double units
    double coins
    double notional
    double mid                  # before it; NaN: there was none
    double half_spread          # before it, price units
    double pressure             # displacement before it, price units
    double guess                # inferred weight
    double matched              # units that liquidation records have claimed
    double told                 # units that were inferred and counted before any record was there, and not claimed since
    double clock                # credible clock when it traded

cdef struct Record:             # a liquidation record without its trade
    int64_t ts
    int64_t side
    double units

cdef struct Flow:
    bint feed                   # a liquidation feed has spoken
    int64_t window              # ns before a record in which its trades are looked for
    int64_t grace               # ns after a record in which its trade may still come
    double half_life            # of the memory, in minutes of the credible clock
    double clock                # credible clock: normal minutes of trading at credible prices
    double weight, weighted, weighted_unpressed     # sums with memory
    double toxic_buy, toxic_sell        # units of the open step
    double liq_buy, liq_sell            # base coin of the open bar
    double liq_total, toxic_total       # base coin, since the beginning
    double claimed_total                # of them: trades that records were matched with
    double inferred_total               # what was inferred to be forced, with a feed or without
    double told_again                   # base coin of the last record that had been inferred and counted
    double coins_per_unit               # of the last trade
    double slack                        # units by which sizes may differ and still be the same: half a lot
    double price_slack                  # half a tick; 0: none is known, and a millionth of the price stands for it
    double guess[3]             # inferred weight of taker orders of this step, by side; 0 where the side is unknown
    int64_t printed             # taker orders so far; the ring holds the last RING of them
    int64_t waiting             # records that wait
    Record records[32]
    Block prints                # Print[RING]


cdef inline void flow_guess(Flow *f, double spread, double move, double imbalance, double threshold) noexcept nogil:
    """Infer the toxicity weight of taker orders to come, by side.

    `spread` in calm spreads, `move` (60 s) in calm sigmas, `imbalance` in [-1, 1]. The score of a side is their product as
    far as all three point its way: a torn spread, a run, and one-sided flow. In calm it stays far below the threshold,
    where the weight is exactly 0; above, it rises to 1 as 1 - threshold / score."""
    cdef double buy = spread * (move if move > 0 else 0.0) * 0.5 * (1.0 + imbalance)
    cdef double sell = spread * (-move if move < 0 else 0.0) * 0.5 * (1.0 - imbalance)
    f.guess[BOUGHT] = 1.0 - threshold / buy if buy > threshold else 0.0
    f.guess[SOLD] = 1.0 - threshold / sell if sell > threshold else 0.0


cdef inline double _unpressed(const Print *p, double price) noexcept nogil:
    """What remains of a mean price when the half spread paid, the order's own sweep beyond the touch (the distance of its
    mean price from the touch it hit) and the displacement that it met are taken off."""
    cdef double sweep
    if p.mid != p.mid:
        return price
    sweep = p.side * (price - p.mid) - p.half_spread
    if sweep < 0:
        sweep = 0
    price -= p.side * (p.half_spread + sweep)
    return price - p.pressure if p.pressure == p.pressure else price


cdef inline void flow_add(Flow *f, const Print *p, double units) noexcept nogil:
    """Count `units` of a print as toxic, with the memory that is left of it."""
    cdef double memory = exp2((p.clock - f.clock) / f.half_life) if p.clock < f.clock else 1.0
    cdef double weight = units * memory
    cdef double price = p.notional / p.coins
    f.weight += weight
    f.weighted += weight * price
    f.weighted_unpressed += weight * _unpressed(p, price)
    f.toxic_total += units * p.coins / p.units
    if p.side > 0:
        f.toxic_buy += units
    else:
        f.toxic_sell += units


cdef inline void flow_tick(Flow *f, double minutes) noexcept nogil:
    """Advance the credible clock: the memory of the sums fades."""
    cdef double memory
    f.clock += minutes
    if f.weight > 0 and minutes > 0:
        memory = fading(f.weight, exp2(-minutes / f.half_life))
        f.weight *= memory
        f.weighted *= memory
        f.weighted_unpressed *= memory


cdef inline double _claim(Flow *f, Print *p, double units) noexcept nogil:
    """A record claims up to `units` of a print; how many it got. A part that was guessed toxic already is not added twice."""
    cdef double free_units = p.units - p.matched
    cdef double got = units if units < free_units else free_units
    cdef double again
    if got > 0:
        again = got if got < p.told else p.told
        p.told -= again
        f.told_again += again * p.coins / p.units
        p.matched += got
        f.claimed_total += got * p.coins / p.units
        flow_add(f, p, got - again)
        return got
    return 0.0


cdef inline bint _is_at(const Flow *f, double mean, double price, double slacks) noexcept nogil:
    """Is a mean price that of a record, within so many half ticks? Anything is where no price is asked for."""
    cdef double slack = f.price_slack if f.price_slack > 0 else 1e-6 * price
    return price != price or fabs(mean - price) <= slacks * slack * (1.0 + 1e-9)


cdef inline double _run_price(const Flow *f, int64_t first, int64_t last, int64_t side) noexcept nogil:
    """Mean price of the orders of one side in a run."""
    cdef const Print *prints = <const Print *> f.prints.data
    cdef double coins = 0, notional = 0
    cdef int64_t i
    for i in range(first, last + 1):
        if prints[i & (RING - 1)].side == side:
            coins += prints[i & (RING - 1)].coins
            notional += prints[i & (RING - 1)].notional
    return notional / coins


cdef inline double _claim_exact(Flow *f, int64_t oldest, int64_t side, double units, double price) noexcept nogil:
    """Claim the latest run of neighbouring unclaimed orders of one side whose sizes add up to `units`, at a mean price of
    `price` (NaN: at any), if there is one."""
    cdef Print *prints = <Print *> f.prints.data
    cdef Print *p
    cdef int64_t newest = f.printed - 1     # end of the run
    cdef int64_t i = f.printed - 1
    cdef double total = 0
    while i >= 0 and i > f.printed - RING and prints[i & (RING - 1)].ts >= oldest:
        p = &prints[i & (RING - 1)]
        if p.side == side:
            if p.matched > 0:
                total = 0
                newest = i - 1
            else:
                total += p.units
            while total > units + f.slack:       # too much: let the youngest of the run go
                p = &prints[newest & (RING - 1)]
                if p.side == side:
                    total -= p.units
                newest -= 1
            if total > 0 and total > units - f.slack and (price != price or _is_at(f, _run_price(f, i, newest, side), price, 1.0)):
                while newest >= i:
                    p = &prints[newest & (RING - 1)]
                    if p.side == side:
                        _claim(f, p, p.units)
                    newest -= 1
                return total
        i -= 1
    return 0.0


cdef inline double _claim_any(Flow *f, int64_t oldest, int64_t side, double units, double price) noexcept nogil:
    """Claim whatever of this side traded last, near `price` (NaN: at any)."""
    cdef Print *prints = <Print *> f.prints.data
    cdef Print *p
    cdef int64_t i = f.printed - 1
    cdef double got = 0
    while i >= 0 and i > f.printed - RING and got < units - f.slack and prints[i & (RING - 1)].ts >= oldest:
        p = &prints[i & (RING - 1)]
        if p.side == side and (price != price or _is_at(f, p.notional / p.coins, price, 2.0 * NEAR_TICKS)):
            got += _claim(f, p, units - got)
        i -= 1
    return got


cdef inline void _confirm_guesses(Flow *f, int64_t oldest, int64_t side) noexcept nogil:
    """A throttled feed shows one record a second: unclaimed orders of that second count as far as they were guessed toxic."""
    cdef Print *prints = <Print *> f.prints.data
    cdef Print *p
    cdef int64_t i = f.printed - 1
    cdef double units
    while i >= 0 and i > f.printed - RING and prints[i & (RING - 1)].ts >= oldest:
        p = &prints[i & (RING - 1)]
        if p.side == side and p.guess > 0:
            units = p.guess * p.units - p.matched
            if units > 0:
                p.matched += units
                if units > p.told:
                    flow_add(f, p, units - p.told)
                p.told = 0
        i -= 1


cdef inline void flow_record(Flow *f, int64_t ts, int64_t side, double units, double price, Tally *tally) noexcept nogil:
    """A liquidation record has arrived: find the trades it speaks of."""
    cdef double got
    f.feed = True
    f.told_again = 0
    got = _claim_exact(f, ts - f.window, side, units, price)
    if got == 0:
        got = _claim_exact(f, ts - f.window, side, units, NAN)
    if got == 0:
        got = _claim_any(f, ts - f.window, side, units, price)
        got += _claim_any(f, ts - f.window, side, units - got, NAN)
    _confirm_guesses(f, ts - f.window, side)
    if got < units - f.slack:
        if f.waiting == PENDING:
            tally.liquidations_unmatched += 1
        else:
            f.records[f.waiting].ts = ts
            f.records[f.waiting].side = side
            f.records[f.waiting].units = units - got
            f.waiting += 1


cdef inline void _expire_records(Flow *f, int64_t ts, Tally *tally) noexcept nogil:
    cdef int64_t i, kept = 0
    for i in range(f.waiting):
        if f.records[i].units > f.slack and f.records[i].ts + f.grace >= ts:
            f.records[kept] = f.records[i]
            kept += 1
        elif f.records[i].units > f.slack:
            tally.liquidations_unmatched += 1
    f.waiting = kept


cdef inline double _count_order(Flow *f, Print *p, Tally *tally) noexcept nogil:
    """Count an order as far as records that wait for it, or the state of the market, say that it was forced; its base coin that
    is inferred to be."""
    cdef double forced
    cdef int64_t i
    if p.guess > 0:
        f.inferred_total += p.guess * p.coins
    if f.waiting:
        _expire_records(f, p.ts, tally)
        for i in range(f.waiting):
            if f.records[i].side == p.side:
                f.records[i].units -= _claim(f, p, f.records[i].units)
    if f.feed or not p.guess > 0:
        return 0.0
    flow_add(f, p, p.guess * p.units)
    p.told = p.guess * p.units
    forced = p.guess * p.coins
    if p.side > 0:
        f.liq_buy += forced
    else:
        f.liq_sell += forced
    f.liq_total += forced
    return forced


cdef inline int flow_order(Flow *f, const Order *o, Tally *tally, Print *spare, double *forced) noexcept nogil:
    """A taker order is complete: remember it and, as far as its weight is known now, count it.

    `spare`: where to put it instead of the ring, for a peek that must not write there; else NULL.
    `forced` receives the base coin of it that is inferred to be forced."""
    cdef Print *p = spare
    if p == NULL:
        if unlikely(f.prints.used == 0):
            if block_reserve(&f.prints, RING * sizeof(Print)) < 0:
                return ERR_MEMORY
            f.prints.used = RING * sizeof(Print)
            memset(f.prints.data, 0, f.prints.used)
        p = &(<Print *> f.prints.data)[f.printed & (RING - 1)]
        f.printed += 1
    p.ts = o.ts
    p.side = o.side
    p.units = o.units
    p.coins = o.coins
    p.notional = o.notional
    p.mid = o.mid
    p.half_spread = o.half_spread
    p.pressure = o.pressure
    p.clock = f.clock
    p.matched = p.told = 0
    p.guess = f.guess[o.side + 1]
    forced[0] = 0.0
    if unlikely(p.guess > 0 or f.waiting):
        forced[0] = _count_order(f, p, tally)
    return 0


cdef inline double toxic_mean(const Flow *f) noexcept nogil:
    """Mean price of the toxic flow, size x weight x memory; NaN before the first toxic print."""
    return f.weighted / f.weight if f.weight > 0 else NAN


cdef inline double debiased_mean(const Flow *f) noexcept nogil:
    cdef double mean = f.weighted_unpressed / f.weight if f.weight > 0 else NAN
    return mean if mean > 0 else NAN        # prints far below what pressed on them may leave no price
