# The whole engine: one struct, one step per kind of event, one step of the clock.
#
# An event first advances the clock (`_advance`): what was of an earlier moment is settled, and every second that has ended is
# closed (`_close_step`). Then it changes the state. Nothing is ever computed from an event that has not been taken.

from libc.math cimport NAN, exp, fabs, fmin, isnan, log, rint, sqrt
from libc.stdint cimport int64_t
from libc.string cimport memset
from toxmid.steps.book cimport (ASK, BID, Book, Rows, Table, book_break, book_judge, book_price, book_refusal, book_row,
                                rows_put, side_size)
from toxmid.steps.branching cimport Branching, branching_ratio, branching_step
from toxmid.steps.bulk cimport Bulk, bulk_add, bulk_advance
from toxmid.steps.calm cimport Calm, calm_minute, calm_ready, calm_sample, calm_spread_z
from toxmid.steps.classify cimport RULE_TICK, Signing, classify_quote, classify_trade
from toxmid.steps.codes cimport (BAD_PRICE, BAD_SIDE, BAD_SIZE, BEFORE_SNAPSHOT, BOOK, BOUGHT, ERR_BACKWARDS, ERR_MEMORY,
                                 ERR_SILENCE, ERR_TIME_RANGE, LIQUIDATION, MARK, OPEN_INTEREST, QUOTE, REFERENCE,
                                 SECOND, SOLD, TRADE, UNKNOWN, ZERO_SIZE, Tally, fading, in_our_years, is_price, is_size, unlikely)
from toxmid.steps.consensus cimport (ALL_VENUES, INDEX_PRICE, MARK_PRICE, OTHER_VENUES, Consensus,
                                     consensus_corridor)
from toxmid.steps.depth cimport RUNGS, Depth, depth_end_bar, depth_step
from toxmid.steps.episodes cimport (CASCADE, EPISODE_KINDS, SWEEP, VACUUM, WIDENING, Episode, View, episode_step)
from toxmid.steps.feed cimport Feed, feed_record, feed_step
from toxmid.steps.flow cimport (Flow, Order, Print, debiased_mean, flow_guess, flow_order, flow_record, flow_tick,
                                toxic_mean)
from toxmid.steps.implied cimport Implied, _gap_of, _imbalance, implied_conclude, implied_follow
from toxmid.steps.interest cimport Interest, interest_sample, interest_step, shifted
from toxmid.steps.kyle cimport Kyle, kyle_lambda, kyle_step
from toxmid.steps.lots cimport Lots, lots_countable, lots_of, lots_per_coin, lots_took
from toxmid.steps.memory cimport Block, block_reserve
from toxmid.steps.signs cimport Signs, signs_correlation, signs_flush, signs_push
from toxmid.steps.starts cimport starts_range, starts_refine, starts_set_lots, starts_take
from toxmid.steps.touch cimport (DEPTH, QUOTES, TAPE, Touch, fresh_spread, touch_age, touch_end_step,
                                 touch_forget_tape, touch_set, touch_settle, touch_spread, touch_trade,
                                 touch_weighted_mid, where)
from toxmid.steps.venue cimport Venue, venue_price, venue_sample, venue_step, venue_trade
from toxmid.steps.volume_clock cimport (VolumeClock, clock_fill, clock_has_room, clock_prepare, clock_refine,
                                        clock_trade)

cdef enum:
    CALM = 0
    STRESS_LABELLED = 1
    STRESS_INFERRED = 2
    ONE_SIDED = 3
    HALTED = 4

cdef enum:                      # that one event may close: a silence has a row per bar, and these fill a gigabyte or two
    MOST_BARS = 4000000
    MOST_STEPS = 100000000

cdef struct Settings:
    int64_t step                # ns: the grid of the estimator, a second or a shorter bar
    int64_t bar                 # ns: a whole number of steps
    int rule                    # trade signing
    int64_t gap                 # ns of silence that is not bridged
    int64_t halt                # ns of silence that counts as a halt
    int64_t hold                # ns that stress outlives its causes
    double stress_z             # spread z, and
    double stress_excess        # excess impact, beyond which toxic flow means stress
    double cusum_drift, cusum_alarm, cusum_rearm
    double cancelled            # share of what went from the hit side that was cancelled in a vacuum
    double move_sigmas          # size of a 5 s move that is a sweep or a vacuum
    double cascade_rate         # toxic volume, in normal volumes, that is a cascade
    double stale                # s, how long a print tells of a spread
    double toxic_score          # spread x move x imbalance above which flow is inferred to be toxic

cdef struct BarRow:             # every field is 8 bytes wide: int64 or double
    int64_t ts                  # end of the bar
    double bid
    double bid_size
    double ask
    double ask_size
    double mid
    double spread_bps           # at the end of the bar
    double spread_mean_bps      # of the mid, time-weighted over the bar
    double effective_spread_bps # of the mid, size-weighted over the bar's orders; quotes or book needed
    double price                # of the last trade so far
    int64_t trades
    double buy_volume
    double sell_volume
    double unknown_volume
    double liq_buy_volume
    double liq_sell_volume
    double imbalance            # of the taker flow, 30 s memory,
    double imbalance_short      # 10 s,
    double imbalance_long       # and 60 s
    double ofi                  # order-flow imbalance at the touch, base coin
    double depth_bid
    double depth_ask
    double vpin
    double vpin_rank
    double vpin_lo              # least and greatest over the starts of the volume clock; not a number unless there are several
    double vpin_hi
    double spread_z
    double impact_bps           # 60 s log return of mid
    double bps_per_volume       # |impact_bps| / volume of these 60 s
    double excess_impact
    double toxicity             # liquidation-driven share of the volume, 30 s memory
    double toxic_mean
    double debiased_mean
    double implied_mid
    double implied_lo
    double implied_hi
    double asymmetry_bps        # the terms of the implied mid; they add up to 1e4 ln(implied / mid)
    double volume_bps
    double credibility_bps
    double toxic_bps
    double reference_bps
    double reference_mid        # where other venues put our mid together ...
    double reference_width_bps  # ... and how far to either side they allow it to be; not a number without them
    double credibility          # of the price of the moment: 1 when the spread is normal, 1 / rho^2 when it is rho times that
    double memory               # s of normal trading at today's credibility until half is forgotten
    int64_t regime
    double weighted_mid         # weighted by the size on the other side
    double sign_acf_1           # autocorrelation of the signs of taker orders, at 1, 10 and 100 orders
    double sign_acf_10
    double sign_acf_100
    double kyle_lambda          # bps per unit of net taker flow, recursive
    double liq_branching        # branching ratio of liquidation prints
    double liq_branching_excess # ... less its trailing median
    double open_interest        # base coin, as last published
    double closing_share        # fall of the open interest over the taker volume on the larger side, last window
    double depth_bid_1bps       # base coin resting this far from the mid
    double depth_bid_5bps
    double depth_bid_10bps
    double depth_bid_25bps
    double depth_bid_50bps
    double depth_ask_1bps
    double depth_ask_5bps
    double depth_ask_10bps
    double depth_ask_25bps
    double depth_ask_50bps
    double round_trip_bps       # cost of buying and selling a size at once
    double bid_added            # changes of depth_bid over the bar: depth = before + added - traded - cancelled
    double bid_traded
    double bid_cancelled
    double ask_added
    double ask_traded
    double ask_cancelled
    double cancel_share         # cancelled over cancelled and traded, both sides
    int64_t sweeps              # taker orders that traded at two prices or more, or more than rested at the best
    double sweep_volume         # base coin of them

cdef struct Faded:              # taker flow with a memory
    double kept                 # of it after a step
    double signed, total        # units

cdef struct BarSums:
    int64_t trades
    int64_t lots[3]             # sold, of unknown side, bought
    double coins[3]             # the same, where a lot has no one worth
    double paid, at_mid         # effective spread x size, mid x size
    int64_t sweeps              # taker orders that took more than the best price had
    double swept                # base coin of them
    bint blind                  # something traded before anybody could say what was forced
    double ofi

cdef struct Past:               # one step of the last minute
    double log_mid
    double units                # traded since the beginning
    double coins
    double signed_coins
    double depth[2]             # base coin near the mid, by side; NaN: no book
    double traded[2]            # base coin that went from the depth since the beginning, by side
    double cancelled[2]
    double spread_sum           # bps, of all steps with a spread
    int64_t spreads             # steps with a spread

cdef struct Machine:
    Settings set
    bint peeking                # a copy that looks ahead to the end of its step: it must not write to any block
    bint started
    bint finished               # the last bar was closed, and nothing has come since
    int64_t now                 # time of the last event used
    int64_t step_end            # end of the open step
    double last_price
    # Volume that statistics are made of is in units: base coin, or contracts where the market is inverse. Whole lots are for
    # what must be exact; units do not change when the grid of lots becomes finer.
    double total_units, signed_units, total_coins, signed_coins
    bint blind                  # nobody can say yet what is forced: no feed has spoken, and what is usual is not known
    int64_t blind_trades        # before anybody could
    double spread_sum
    int64_t spreads
    double step_units[3]        # sold, of unknown side, bought in the open step
    double toxic_rate, volume_rate      # units per second, 60 s and 30 s memory
    double toxic_30, volume_30
    double cusum
    int64_t stress_until
    int64_t steps               # closed
    Faded short_flow, long_flow         # signed and total taker flow with two more memories
    Signs signs
    Kyle kyle
    Branching branching
    Feed feed
    Interest interest
    Depth depth
    double raw_buy, raw_sell            # inferred weights of the open step before open interest shifts them
    bint quiet_minute
    Lots lots
    Signing signing
    Touch touch
    Book book
    Bulk bulk
    VolumeClock clock
    Block later                 # VolumeClock, those that begin later: blocks of their own beside the list
    bint clock_alone            # no later clocks and no bulk classification: most trades just join the open bucket
    Calm calm
    Order order
    Flow flow
    Implied implied
    Episode episodes[4]
    BarSums sums
    BarRow row                  # of the last closed step
    Tally tally
    Block past                  # Past[60 s / step + 1], a ring
    Block bars                  # BarRow, until taken
    Block episode_rows          # EpisodeRow, until taken
    Consensus others            # other venues, index and mark price: last, for most engines have none


# --- helpers ---------------------------------------------------------------------------------------------------------

cdef inline double _coins(const Machine *m, int side) noexcept nogil:
    """Base coin of a sum: from whole lots where a lot has one worth, so that no dust of additions shows."""
    return m.sums.coins[side] if m.lots.contracts else <double> m.sums.lots[side] / m.lots.grid.per_unit


cdef inline void _refine(Machine *m, int64_t factor) noexcept nogil:
    """The grid of lots became finer: what counts lots counts the smaller ones from now on."""
    cdef int side
    clock_refine(&m.clock, factor)
    starts_refine(&m.later, factor)
    m.bulk.lots *= factor
    for side in range(3):
        m.sums.lots[side] *= factor


cdef inline int64_t _whole_lots(Machine *m, double price, double coins, int64_t given) noexcept nogil:
    """Lots of a trade; every count of lots follows where the grid has become finer."""
    cdef int64_t finer = 1
    cdef bint first = not m.lots.decided
    cdef int64_t lots = lots_of(&m.lots, price, coins, given, &finer)
    if unlikely(finer > 1):
        _refine(m, finer)
    if unlikely(first or finer > 1):
        m.clock.lots_per_coin = lots_per_coin(&m.lots)
        starts_set_lots(&m.later, m.clock.lots_per_coin)
        m.flow.slack = 0.5 if m.lots.contracts else 0.5 / m.lots.grid.per_unit
    return lots


cdef inline const Past *_ago(const Machine *m, int64_t seconds) noexcept nogil:
    """The step that ended `seconds` before the one being closed; NULL while there is none."""
    cdef int64_t back = seconds * <int64_t> SECOND // m.set.step
    cdef int64_t ring = m.past.used // <int64_t> sizeof(Past)
    if m.steps < back or ring == 0:
        return NULL
    return &(<const Past *> m.past.data)[(m.steps - back) % ring]


cdef inline double _tick_bps(const Machine *m) noexcept nogil:
    """One tick in bps of the mid; 0 where the tick is not known."""
    if m.book.ticks.decimals >= 0 and not m.book.sides[BID].window:
        return 0.0
    return 1e4 / (m.book.ticks.per_unit * m.touch.mid)


cdef inline bint _has_depth(const Machine *m) noexcept nogil:
    """Is there a book whose depth around the mid means something? One side of it may be empty."""
    return (m.book.sides[BID].words > 0 or m.book.sides[ASK].words > 0) and m.touch.mid == m.touch.mid and not m.book.crossed


cdef inline double _move(const Past *then, double log_mid) noexcept nogil:
    return 1e4 * (log_mid - then.log_mid) if then != NULL else NAN


# --- settling a moment -----------------------------------------------------------------------------------------------

cdef inline int _finish_order(Machine *m) noexcept nogil:
    """The taker order that was being assembled is complete."""
    cdef Order *o = &m.order
    cdef Print spare
    cdef double forced = 0
    cdef bint swept
    cdef int code
    if not o.open:
        return 0
    o.open = False
    if o.mid == o.mid and m.touch.source > TAPE and o.side:
        m.sums.paid += 2.0 * o.side * (o.notional - o.mid * o.coins)
        m.sums.at_mid += o.mid * o.coins
    swept = (o.side != 0) & ((o.levels > 1) | (o.coins > o.resting))
    m.sums.sweeps += swept
    m.sums.swept += where(swept, o.coins)
    # Volume inferred to be forced belongs to the bucket that is open when its order is complete.
    code = flow_order(&m.flow, o, &m.tally, &spare if m.peeking else NULL, &forced)
    signs_push(&m.signs, o.side)
    if unlikely(forced > 0):
        if o.side > 0:
            m.clock.liq_buy += forced
        else:
            m.clock.liq_sell += forced
        m.branching.prints += 2.0 * forced >= o.coins
    return code


cdef inline void _publish_book(Machine *m) noexcept nogil:
    """The book's best levels become the touch."""
    cdef Book *b = &m.book
    cdef int64_t bid_tick = b.sides[BID].front, ask_tick = -b.sides[ASK].front
    cdef bint has_bid = b.sides[BID].words > 0 and not b.crossed
    cdef bint has_ask = b.sides[ASK].words > 0 and not b.crossed
    cdef double bid, ask
    cdef double missing = 0.0 if has_bid or has_ask else NAN        # one side is empty; or the book says nothing
    bid = book_price(b, bid_tick) if has_bid else NAN
    ask = book_price(b, ask_tick) if has_ask else NAN
    touch_set(&m.touch, b.message_ts, DEPTH, bid, side_size(&b.sides[BID], bid_tick) if has_bid else missing,
              ask, side_size(&b.sides[ASK], ask_tick) if has_ask else missing)
    if m.touch.source == DEPTH:
        classify_quote(&m.signing, bid, ask)


cdef inline int _settle(Machine *m) noexcept nogil:
    """All events of the moment `now` have been taken: close its taker order and judge its book message."""
    cdef int code = 0
    if m.order.open:
        code = _finish_order(m)
    if code < 0 or not m.book.open:
        return code
    code = book_judge(&m.book, &m.tally)
    if code == 0:
        _publish_book(m)
    return code


# --- the clock -------------------------------------------------------------------------------------------------------

cdef inline double _excess(const Machine *m, double move, double units) noexcept nogil:
    """|60 s move| over what the square-root law expects of that volume in calm."""
    cdef double sigma = m.calm.rms
    if not (m.calm.mean_volume > 0 and move == move):
        return NAN
    if move == 0.0:
        return 0.0
    if units < 1e-6 * m.calm.mean_volume:
        units = 1e-6 * m.calm.mean_volume      # a move without any trade: as if hardly anything had made it
    if not sigma > 0:
        return NAN
    return fabs(move) / (sigma * sqrt(units / m.calm.mean_volume))


cdef inline int _regime(Machine *m, double excess) noexcept nogil:
    cdef BarRow *r = &m.row
    if m.step_end - m.now > m.set.halt:
        return HALTED
    if isnan(m.touch.mid):
        return ONE_SIDED if m.touch.source > TAPE else CALM
    if m.flow.weight > 0 and m.toxic_30 > 0.05 * m.volume_30 and (
            r.spread_z > m.set.stress_z or excess > m.set.stress_excess or _gap_of(&m.implied) != 0.0):
        m.stress_until = m.step_end + m.set.hold
    if m.step_end < m.stress_until:
        return STRESS_LABELLED if m.flow.feed else STRESS_INFERRED
    return CALM


cdef inline double _cancelled_since(const Machine *m, const Past *then, int side) noexcept nogil:
    """Of the depth that went from one side since then, the share that was cancelled; NaN: nothing went."""
    cdef double traded = m.depth.sides[side].traded_total - then.traded[side]
    cdef double cancelled = m.depth.sides[side].cancelled_total - then.cancelled[side]
    return cancelled / (cancelled + traded) if cancelled + traded > 0 else NAN


cdef inline int _trace_episodes(Machine *m, double log_mid) noexcept nogil:
    """Advance the four kinds of episode by the step that is being closed."""
    cdef View v
    cdef const Past *then = _ago(m, 5)
    cdef double move_5 = _move(then, log_mid)
    cdef double units_5 = m.total_units - then.units if then != NULL else NAN
    cdef double net_5 = m.signed_coins - then.signed_coins if then != NULL else NAN
    cdef double depth = then.depth[ASK if move_5 > 0 else BID] if then != NULL else NAN
    cdef double z = m.row.spread_z
    cdef double sigma_5 = m.calm.rms * sqrt(5.0 / 60.0)
    cdef double floor_5 = m.calm.spread
    cdef double strength, explained
    cdef bint moved, vacuum
    cdef int code, side
    v.ts = m.step_end
    v.mid = m.touch.mid
    v.coins = m.total_coins
    v.liquidated = m.flow.liq_total
    v.signed_flow = m.flow.toxic_buy - m.flow.toxic_sell
    v.toxic_mean = m.row.toxic_mean
    v.debiased_mean = m.row.debiased_mean
    v.implied_mid = m.row.implied_mid
    v.net_coins = m.signed_coins
    v.trades = m.tally.used[TRADE]
    v.blind = m.blind_trades
    v.wide = not z <= m.set.cusum_drift
    for side in range(2):
        v.depth[side] = m.depth.ladder.depth[side][RUNGS]
        v.traded[side] = m.depth.sides[side].traded_total
        v.cancelled[side] = m.depth.sides[side].cancelled_total
    if z == z:
        m.cusum = m.cusum + z - m.set.cusum_drift
        if m.cusum < 0.0:
            m.cusum = 0.0
        elif m.cusum > 20.0 * m.set.cusum_alarm:
            m.cusum = 20.0 * m.set.cusum_alarm      # so that the end of a long widening is seen soon
    code = episode_step(&m.episodes[WIDENING], WIDENING, &v,
                        m.cusum > (m.set.cusum_rearm if m.episodes[WIDENING].open else m.set.cusum_alarm),
                        m.cusum == 0.0, z, &m.episode_rows)
    if code < 0:
        return code
    strength = fabs(move_5) / sigma_5 if sigma_5 > 0 and move_5 == move_5 else 0.0
    moved = strength > m.set.move_sigmas and fabs(move_5) > floor_5
    if depth == depth and depth > 0:
        vacuum = fabs(net_5) < 0.2 * depth and not _cancelled_since(m, then, ASK if move_5 > 0 else BID) <= m.set.cancelled
        explained = 1.0 if fabs(net_5) >= 0.5 * depth else 0.0
    else:
        # Without a book the square-root law says whether the volume explains the move.
        vacuum = strength > m.set.move_sigmas * sqrt(units_5 / (m.calm.mean_volume / 12.0))
        explained = 0.0 if vacuum else 1.0
    code = episode_step(&m.episodes[SWEEP], SWEEP, &v, moved and explained > 0, not moved, strength, &m.episode_rows)
    if code < 0:
        return code
    code = episode_step(&m.episodes[VACUUM], VACUUM, &v, moved and vacuum, not moved, strength, &m.episode_rows)
    if code < 0:
        return code
    strength = m.toxic_rate / (m.calm.volume / 60.0) if m.calm.volume > 0 else 0.0
    return episode_step(&m.episodes[CASCADE], CASCADE, &v, strength > m.set.cascade_rate,
                        strength < 0.1 * m.set.cascade_rate, strength, &m.episode_rows)


cdef inline void _guess_context(Machine *m, double move) noexcept nogil:
    """Infer from this step how toxic the taker orders of the next one will be."""
    if calm_ready(&m.calm) and move == move:
        flow_guess(&m.flow, m.implied.spread / m.calm.spread, move / m.calm.sigma, _imbalance(&m.implied), m.set.toxic_score)
    else:
        m.flow.guess[BOUGHT] = m.flow.guess[SOLD] = 0.0
    m.raw_buy = m.flow.guess[BOUGHT]
    m.raw_sell = m.flow.guess[SOLD]
    m.flow.guess[BOUGHT] = shifted(m.raw_buy, m.interest.odds_buy)
    m.flow.guess[SOLD] = shifted(m.raw_sell, m.interest.odds_sell)


cdef inline void _fill_row(Machine *m, double spread, double move, double units_60, double coins_60) noexcept nogil:
    """Everything a bar shows that is known at the end of every step."""
    cdef BarRow *r = &m.row
    cdef Touch *t = &m.touch
    r.ts = m.step_end
    r.bid = t.bid
    r.bid_size = t.bid_size if t.bid == t.bid else NAN
    r.ask = t.ask
    r.ask_size = t.ask_size if t.ask == t.ask else NAN
    r.mid = t.mid
    r.spread_bps = spread
    r.price = m.last_price
    r.vpin = m.clock.vpin
    r.vpin_rank = m.clock.vpin_rank
    starts_range(&m.later, m.clock.vpin, &r.vpin_lo, &r.vpin_hi)
    r.spread_z = calm_spread_z(&m.calm, m.implied.spread, _tick_bps(m)) if t.mid == t.mid else NAN
    r.impact_bps = move
    r.bps_per_volume = fabs(move) / coins_60 if coins_60 > 0 else NAN
    r.excess_impact = _excess(m, move, units_60)
    r.imbalance = _imbalance(&m.implied) if m.implied.total_volume > 0 else NAN
    r.imbalance_short = m.short_flow.signed / m.short_flow.total if m.short_flow.total > 0 else NAN
    r.imbalance_long = m.long_flow.signed / m.long_flow.total if m.long_flow.total > 0 else NAN
    # A late record claims volume whose own part in the sum has faded already: never more than all of it.
    r.toxicity = fmin(m.toxic_30 / m.volume_30, 1.0) if m.volume_30 > 0 and not m.blind else NAN
    r.toxic_mean = toxic_mean(&m.flow)
    r.debiased_mean = debiased_mean(&m.flow)
    r.implied_mid = m.implied.value
    r.implied_lo = m.implied.low
    r.implied_hi = m.implied.high
    r.asymmetry_bps = m.implied.asymmetry
    r.volume_bps = m.implied.volume_gap
    r.credibility_bps = m.implied.credibility_gap
    r.toxic_bps = m.implied.toxic_gap
    r.reference_bps = m.implied.reference_gap
    r.reference_mid = exp(1e-4 * m.others.centre) if m.others.half == m.others.half else NAN
    r.reference_width_bps = m.others.half
    r.credibility = m.implied.credibility if m.implied.value == m.implied.value else NAN
    r.memory = 60.0 * m.flow.half_life / r.credibility
    r.weighted_mid = touch_weighted_mid(t)
    r.sign_acf_1 = signs_correlation(&m.signs, 0)
    r.sign_acf_10 = signs_correlation(&m.signs, 1)
    r.sign_acf_100 = signs_correlation(&m.signs, 2)
    r.kyle_lambda = kyle_lambda(&m.kyle)
    r.liq_branching = branching_ratio(&m.branching)
    r.liq_branching_excess = r.liq_branching - m.branching.usual
    r.open_interest = m.interest.value
    r.closing_share = m.interest.closing


cdef inline void _write_depth(BarRow *r, const Depth *d) noexcept nogil:
    cdef const double *bids = d.ladder.depth[BID]
    cdef const double *asks = d.ladder.depth[ASK]
    cdef double went
    r.depth_bid = bids[RUNGS]
    r.depth_bid_1bps, r.depth_bid_5bps, r.depth_bid_10bps = bids[0], bids[1], bids[2]
    r.depth_bid_25bps, r.depth_bid_50bps = bids[3], bids[4]
    r.depth_ask = asks[RUNGS]
    r.depth_ask_1bps, r.depth_ask_5bps, r.depth_ask_10bps = asks[0], asks[1], asks[2]
    r.depth_ask_25bps, r.depth_ask_50bps = asks[3], asks[4]
    r.round_trip_bps = d.ladder.round_trip
    r.bid_added = r.bid_traded = r.bid_cancelled = r.ask_added = r.ask_traded = r.ask_cancelled = r.cancel_share = NAN
    if d.known:
        r.bid_added, r.bid_traded, r.bid_cancelled = d.sides[BID].added, d.sides[BID].traded, d.sides[BID].cancelled
        r.ask_added, r.ask_traded, r.ask_cancelled = d.sides[ASK].added, d.sides[ASK].traded, d.sides[ASK].cancelled
        went = r.bid_cancelled + r.ask_cancelled + r.bid_traded + r.ask_traded
        if went > 0:
            r.cancel_share = (r.bid_cancelled + r.ask_cancelled) / went


cdef inline int _write_bar(Machine *m) noexcept nogil:
    """Complete the row with the sums over the bar, keep it, and begin the next."""
    cdef BarRow *r = &m.row
    cdef BarSums *s = &m.sums
    cdef Touch *t = &m.touch
    r.trades = s.trades
    r.buy_volume = _coins(m, BOUGHT)
    r.sell_volume = _coins(m, SOLD)
    r.unknown_volume = _coins(m, UNKNOWN)
    r.liq_buy_volume = NAN if s.blind else m.flow.liq_buy
    r.liq_sell_volume = NAN if s.blind else m.flow.liq_sell
    r.sweeps = s.sweeps
    r.sweep_volume = s.swept
    r.spread_mean_bps = 1e4 * t.width_time / t.mid_time if t.mid_time > 0 else NAN
    r.effective_spread_bps = 1e4 * s.paid / s.at_mid if s.at_mid > 0 else NAN
    r.ofi = t.ofi if t.source > TAPE and (t.mid_time > 0 or t.mid == t.mid) else NAN     # without a touch nobody knows
    _write_depth(r, &m.depth)
    if m.peeking:
        return 0
    if block_reserve(&m.bars, sizeof(BarRow)) < 0:
        return ERR_MEMORY
    (<BarRow *> (m.bars.data + m.bars.used))[0] = r[0]
    m.bars.used += sizeof(BarRow)
    memset(s, 0, sizeof(BarSums))
    m.flow.liq_buy = m.flow.liq_sell = 0
    t.width_time = t.mid_time = t.ofi = 0
    depth_end_bar(&m.depth)
    return 0


cdef inline void _fade(Faded *f, double net, double units) noexcept nogil:
    cdef double kept = fading(f.total, f.kept)
    f.signed = f.signed * kept + net
    f.total = f.total * kept + units


cdef inline void _decay_rates(Machine *m, double dt) noexcept nogil:
    cdef double toxic = m.flow.toxic_buy + m.flow.toxic_sell
    cdef double net = m.step_units[BOUGHT] - m.step_units[SOLD]
    cdef double units = m.step_units[BOUGHT] + m.step_units[SOLD] + m.step_units[UNKNOWN]
    cdef double minute = exp(-dt / 60.0)
    cdef double half = fading(m.volume_30, exp(-dt / 30.0))
    m.toxic_rate = m.toxic_rate * minute + toxic * (1.0 - minute) / dt
    m.toxic_30 = m.toxic_30 * half + toxic
    m.volume_30 = m.volume_30 * half + units
    _fade(&m.short_flow, net, units)
    _fade(&m.long_flow, net, units)


cdef inline int _remember_step(Machine *m, double log_mid, double spread, double move, double units_60,
                               double spread_60) noexcept nogil:
    """What later steps look back on: one second of the last minute, a sample of the calm, a minute."""
    cdef Past *slot = &(<Past *> m.past.data)[m.steps % (m.past.used // <int64_t> sizeof(Past))]
    cdef int i, side, code = 0
    slot.log_mid = log_mid
    slot.units = m.total_units
    slot.coins = m.total_coins
    slot.signed_coins = m.signed_coins
    slot.spread_sum = m.spread_sum
    slot.spreads = m.spreads
    for side in range(2):
        slot.traded[side] = m.depth.sides[side].traded_total
        slot.cancelled[side] = m.depth.sides[side].cancelled_total
        slot.depth[side] = m.depth.ladder.depth[side][RUNGS] if _has_depth(m) else NAN
    if m.calm.first == 0 and m.touch.mid == m.touch.mid:
        m.calm.first = m.step_end
    if m.calm.first:
        for i in range(ALL_VENUES):
            if m.others.venues[i].last_ts:
                code = venue_sample(&m.others.venues[i], m.step_end, m.calm.first, m.calm.window, m.calm.lag, 1e4 * log_mid)
                if code < 0:
                    return code
    if m.calm.first:
        code = calm_sample(&m.calm, m.step_end, fabs(move), units_60, spread_60)
    if code == 0 and m.step_end % (60 * <int64_t> SECOND) == 0:
        code = calm_minute(&m.calm, m.step_end, spread_60, fabs(move), units_60, m.quiet_minute)
        m.quiet_minute = True
    return code


cdef inline int _step_metrics(Machine *m, double log_mid) noexcept nogil:
    """Advance what is measured beside the estimator by the step that is being closed."""
    signs_flush(&m.signs)
    if m.book.message_ts:       # there has been a book
        depth_step(&m.depth, &m.book, _has_depth(m), m.touch.mid, m.calm.volume * m.flow.coins_per_unit)
    kyle_step(&m.kyle, m.step_end, log_mid, m.signed_units)
    feed_step(&m.feed, m.step_end)
    interest_step(&m.interest, m.step_end, m.step_units[BOUGHT] * m.flow.coins_per_unit,
                  m.step_units[SOLD] * m.flow.coins_per_unit, m.raw_buy, m.raw_sell, m.feed.buy, m.feed.sell)
    return branching_step(&m.branching, m.step_end, m.peeking)


cdef inline void _imply(Machine *m, double dt, double spread, double move, double units_60) noexcept nogil:
    """The implied mid at the end of the step: from our own tape, inside the corridor that other venues allow."""
    cdef double centre = 0, corridor = 0
    cdef double mid = 1e4 * log(m.touch.mid)
    cdef bint held
    cdef int i
    for i in range(OTHER_VENUES):
        venue_step(&m.others.venues[i], m.step_end, dt, m.set.stale)
    m.others.half = NAN
    if not implied_follow(&m.implied, &m.calm, dt, m.touch.mid, spread, m.step_units[BOUGHT], m.step_units[SOLD],
                          m.step_units[UNKNOWN]):
        return
    held = consensus_corridor(&m.others, &m.calm, m.step_end, dt, mid, mid + _gap_of(&m.implied), &centre, &corridor)
    implied_conclude(&m.implied, &m.calm, dt, m.touch.mid, 1e-9 * <double> touch_age(&m.touch, m.step_end), move,
                     units_60, debiased_mean(&m.flow), held, centre, corridor)


cdef inline int _close_step(Machine *m) noexcept nogil:
    """Close the open step: from what traded in it and the touch at its end to every figure of its end."""
    cdef double dt = <double> m.set.step * 1e-9
    cdef double spread, log_mid, move
    cdef double units_60 = m.total_units
    cdef double coins_60 = m.total_coins
    cdef double spread_60 = NAN
    cdef const Past *then = _ago(m, 60)
    cdef int code
    touch_settle(&m.touch, m.step_end)
    touch_end_step(&m.touch)
    spread = fresh_spread(&m.touch, m.step_end, m.set.stale)
    log_mid = log(m.touch.mid)
    if spread == spread:
        m.spread_sum += spread
        m.spreads += 1
    move = _move(then, log_mid)
    if then != NULL:
        units_60 -= then.units
        coins_60 -= then.coins
        if m.spreads > then.spreads:
            spread_60 = (m.spread_sum - then.spread_sum) / <double> (m.spreads - then.spreads)
    _imply(m, dt, spread, move, units_60)
    _decay_rates(m, dt)
    code = _step_metrics(m, log_mid)
    if code < 0:
        return code
    _fill_row(m, touch_spread(&m.touch), move, units_60, coins_60)
    m.row.regime = _regime(m, m.row.excess_impact)
    if m.row.excess_impact > m.set.stress_excess:
        m.quiet_minute = False
    if not m.peeking:
        code = _trace_episodes(m, log_mid)
        if code < 0:
            return code
        _guess_context(m, move)
        code = _remember_step(m, log_mid, spread, move, units_60, spread_60)
        if code < 0:
            return code
        m.blind = not m.flow.feed and not calm_ready(&m.calm)
    if m.step_end % m.set.bar == 0 or m.peeking:
        code = _write_bar(m)
        if code < 0:
            return code
    flow_tick(&m.flow, m.implied.minutes)
    m.flow.toxic_buy = m.flow.toxic_sell = 0
    m.step_units[SOLD] = m.step_units[UNKNOWN] = m.step_units[BOUGHT] = 0
    m.steps += 1
    m.step_end += m.set.step
    return 0


cdef inline void _forget_moves(Machine *m) noexcept nogil:
    """After a silence that is not bridged, no move and no displacement reaches over it."""
    cdef Past *past = <Past *> m.past.data
    cdef int64_t i
    m.tally.gaps += 1
    for i in range(m.past.used // <int64_t> sizeof(Past)):
        past[i].log_mid = NAN
    m.implied.credible = m.implied.supported = m.implied.last_mid = NAN
    m.kyle.log_mid = NAN
    m.implied.drift = 0.0
    touch_forget_tape(&m.touch)


cdef inline void _start(Machine *m, int64_t ts) noexcept nogil:
    """The first event of all: the step that it lies in is open."""
    m.started = True
    m.step_end = (ts + m.set.step - 1) // m.set.step * m.set.step
    m.touch.since = ts
    m.now = ts


cdef inline int _close_steps(Machine *m, int64_t ts) noexcept nogil:
    """Settle the moment `now` and close every step that has ended before `ts`."""
    cdef int code
    if (ts - m.step_end) // m.set.bar > MOST_BARS or (ts - m.step_end) // m.set.step > MOST_STEPS:
        return ERR_SILENCE
    code = _settle(m)
    while code == 0 and ts > m.step_end:
        # A bulk bar that has ended by the end of a step belongs before it, one that ends later must not show in it.
        if m.bulk.on:
            code = bulk_advance(&m.bulk, m.step_end + 1, &m.clock, &m.later)
        if code == 0:
            code = _close_step(m)
    if ts - m.now > m.set.gap:
        _forget_moves(m)
    return code


cdef inline int _advance(Machine *m, int64_t ts) noexcept nogil:
    """Bring the clock to `ts`."""
    return _advance_in_years(m, ts) if in_our_years(ts) else ERR_TIME_RANGE


cdef inline int _advance_in_years(Machine *m, int64_t ts) noexcept nogil:
    """Most events lie in the open step: for them little is to do. (Before the first event there is no step, and its end lies
    before every time.)"""
    cdef int code = 0
    if ts == m.now:
        return 0
    if unlikely(ts > m.step_end or ts - m.now > m.set.gap):
        if not m.started:
            _start(m, ts)
            return 0
        code = _close_steps(m, ts)
    else:
        code = _settle(m)
    if unlikely(code == 0 and m.bulk.on):
        code = bulk_advance(&m.bulk, ts, &m.clock, &m.later)
    if unlikely(code < 0):
        return code
    m.finished = False
    m.now = ts
    return 0


# --- events ----------------------------------------------------------------------------------------------------------

cdef inline int _refuse(Machine *m, int kind, int reason) noexcept nogil:
    m.tally.rejected[kind][reason] += 1
    return 0


cdef inline void _join_order(Machine *m, int64_t ts, int side, double price, double coins, double units) noexcept nogil:
    """Add a print to the taker order of its moment and side, or begin one."""
    cdef Order *o = &m.order
    if not o.open:
        o.open = True
        o.side = side
        o.ts = ts
        o.units = 0
        o.coins = o.notional = 0
        o.levels = 1
        o.mid = m.touch.mid
        o.resting = NAN
        if o.mid == o.mid:
            o.resting = (&m.touch.ask_size if side > 0 else &m.touch.bid_size)[0]
        o.half_spread = 0.5 * (m.touch.ask - m.touch.bid)
        o.pressure = m.touch.mid - m.implied.value
    elif price != o.last_price:
        o.levels += 1
    o.last_price = price
    o.units += units
    o.coins += coins
    o.notional += coins * price


cdef inline void _hit_book(Machine *m, int side, double price, double coins, double mid) noexcept nogil:
    """A trade took from the depth that is watched, if it is within its limit. Where nobody knows whose taker it was, the side of
    the book it took from is the one where its price lies."""
    if side == 0 and mid > 0:
        side = (price > mid) - (price < mid)
    if side > 0 and price <= m.book.sides[ASK].near_price:
        m.book.sides[ASK].traded += coins
    elif side < 0 and price >= m.book.sides[BID].near_price:
        m.book.sides[BID].traded += coins


cdef inline int _trade(Machine *m, int64_t ts, double price, double coins, int side, int64_t lots) noexcept nogil:
    """A good trade of so many lots, at the time to which the clock was brought."""
    cdef int code
    cdef int64_t closed
    cdef double width, mid, units
    cdef bint has_room = clock_has_room(&m.clock, ts, lots) and m.clock_alone
    if unlikely(not has_room) and not m.bulk.on:
        code = clock_prepare(&m.clock, ts, coins, lots)
        if code < 0:
            return code
    m.tally.used[TRADE] += 1
    side = classify_trade(&m.signing, m.set.rule, price, side)
    if unlikely(m.order.open and m.order.side != side):
        code = _finish_order(m)
        if code < 0:
            return code
    units = coins
    if m.lots.contracts:
        units = <double> lots
        m.sums.coins[side + 1] += coins
        if units > 0:
            m.flow.coins_per_unit = coins / units
    _join_order(m, ts, side, price, coins, units)
    width = m.touch.ask - m.touch.bid
    mid = m.touch.mid
    if mid != mid:              # a trade that met no mid tells nothing of the spread its bucket met
        width = mid = 0.0
    touch_trade(&m.touch, ts, side, price)
    m.last_price = price
    m.total_units += units
    m.total_coins += coins
    m.signed_units += side * units
    m.step_units[side + 1] += units
    m.sums.trades += 1
    m.signed_coins += side * coins
    m.sums.lots[side + 1] += lots
    m.clock.pouring_blind = m.blind
    if unlikely(m.blind):
        m.sums.blind = m.clock.blind = True
        m.blind_trades += 1
    if m.book.message_ts:
        _hit_book(m, side, price, coins, mid)
    if has_room:
        clock_trade(&m.clock, price, coins, lots, side, width, mid)
        return 0
    if m.bulk.on:
        bulk_add(&m.bulk, price, coins, lots)
        return 0
    closed = m.clock.rows.used
    code = clock_fill(&m.clock, ts, price, coins, lots, side > 0, side < 0, width, mid)
    if m.later.used and code == 0:
        code = starts_take(&m.later, &m.clock.rows, closed, ts, price, coins, lots, side > 0, side < 0)
    if m.clock.filled == 0:
        m.clock.blind = False
    return code


cdef inline int machine_trade(Machine *m, int64_t ts, double price, double coins, int side,
                              int64_t given_lots) noexcept nogil:
    cdef int code
    if unlikely(ts < m.now) and m.started:
        return ERR_BACKWARDS
    if unlikely(not is_price(price)):
        return _refuse(m, TRADE, BAD_PRICE)
    if unlikely(not is_size(coins) or given_lots < 0):
        return _refuse(m, TRADE, BAD_SIZE)
    if unlikely(coins == 0):
        return _refuse(m, TRADE, ZERO_SIZE)
    if unlikely(not lots_countable(&m.lots, price, coins, given_lots)):
        return _refuse(m, TRADE, BAD_SIZE)
    code = _advance(m, ts)
    if unlikely(code < 0):
        return code
    return _trade(m, ts, price, coins, side, _whole_lots(m, price, coins, given_lots))


cdef inline int machine_counted_trade(Machine *m, int64_t ts, double price, double coins, int side,
                                      int64_t lots) noexcept nogil:
    """A trade of a run that `lots_of_run` has found good, between years that are ours."""
    cdef int code
    if unlikely(ts < m.now):
        return ERR_BACKWARDS
    code = _advance_in_years(m, ts)
    if unlikely(code < 0):
        return code
    lots_took(&m.lots, lots)
    return _trade(m, ts, price, coins, side, lots)


cdef inline int machine_quote(Machine *m, int64_t ts, double bid, double bid_size, double ask,
                              double ask_size) noexcept nogil:
    cdef int code
    if unlikely(ts < m.now) and m.started:
        return ERR_BACKWARDS
    if unlikely(not (is_size(bid_size) or isnan(bid_size)) or not (is_size(ask_size) or isnan(ask_size))):
        return _refuse(m, QUOTE, BAD_SIZE)
    # NaN or 0: there is no such side.
    if unlikely(not is_price(bid)):
        if not (bid == 0 or isnan(bid)):
            return _refuse(m, QUOTE, BAD_PRICE)
        bid = NAN
        bid_size = 0.0
    if unlikely(not is_price(ask)):
        if not (ask == 0 or isnan(ask)):
            return _refuse(m, QUOTE, BAD_PRICE)
        ask = NAN
        ask_size = 0.0
    code = _advance(m, ts)
    if code == 0 and m.order.open:
        code = _finish_order(m)
    if unlikely(code < 0):
        return code
    m.tally.used[QUOTE] += 1
    if unlikely(not bid < ask):
        if isnan(bid) or isnan(ask):
            m.tally.quotes_one_sided += 1
            if isnan(bid) and isnan(ask):       # nothing is quoted: that is no flow
                bid_size = ask_size = NAN
        else:
            m.tally.quotes_crossed += 1
    touch_set(&m.touch, ts, QUOTES, bid, bid_size, ask, ask_size)
    if m.set.rule > RULE_TICK:
        classify_quote(&m.signing, bid, ask)
    return 0


cdef inline int _break_book(Machine *m, int64_t ts) noexcept nogil:
    """Updates of the book were lost before `ts`, whatever the row that says so is worth."""
    cdef int code = _advance(m, ts)
    if code == 0 and m.order.open:
        code = _finish_order(m)
    return code if code < 0 else book_break(&m.book, ts, &m.tally)


cdef inline int machine_book(Machine *m, int64_t ts, int side, double price, double size, bint snapshot,
                             bint gap) noexcept nogil:
    cdef int code, reason
    if m.started and ts < m.now:
        return ERR_BACKWARDS
    if gap:
        code = _break_book(m, ts)
        if code < 0:
            return code
    reason = book_refusal(&m.book, side, price, size)
    if reason >= 0:
        return _refuse(m, BOOK, reason)
    code = _advance(m, ts)
    if code < 0:
        return code
    if m.order.open:
        code = _finish_order(m)
        if code < 0:
            return code
    code = book_row(&m.book, ts, side, price, size, snapshot, &m.tally)
    if code > 0:
        return _refuse(m, BOOK, BEFORE_SNAPSHOT)
    if code == 0:
        m.tally.used[BOOK] += 1
    return code


cdef inline int machine_book_rows(Machine *m, const Table *t, Rows *rows, int64_t last) noexcept nogil:
    """Rows of which `rows` has the ticks, up to the time `last`."""
    cdef int code = 0
    while rows.next < rows.stop and code == 0:
        if t.ts[rows.next] > last:
            break
        code = _advance(m, t.ts[rows.next])
        if code == 0 and m.order.open:
            code = _finish_order(m)
        if code == 0:
            code = rows_put(&m.book, t, rows, rows.stop, &m.tally)
    return code


cdef inline int machine_liquidation(Machine *m, int64_t ts, int side, double price, double coins) noexcept nogil:
    cdef double units
    cdef int code
    if m.started and ts < m.now:
        return ERR_BACKWARDS
    if side != 1 and side != -1:
        return _refuse(m, LIQUIDATION, BAD_SIDE)
    if not is_price(price):
        return _refuse(m, LIQUIDATION, BAD_PRICE)
    if not is_size(coins):
        return _refuse(m, LIQUIDATION, BAD_SIZE)
    if coins == 0:
        return _refuse(m, LIQUIDATION, ZERO_SIZE)
    code = _advance(m, ts)
    if code == 0 and m.order.open:
        code = _finish_order(m)
    if code < 0:
        return code
    m.tally.used[LIQUIDATION] += 1
    units = coins
    if m.lots.contracts or (m.lots.inverse and m.lots.contract_value > 0):
        units = coins * price / m.lots.contract_value if m.lots.contract_value > 0 else coins / m.flow.coins_per_unit
        units = rint(units)
    flow_record(&m.flow, ts, side, units, price, &m.tally)
    feed_record(&m.feed, side, coins)
    m.blind = False
    m.branching.prints += 2.0 * m.flow.told_again < coins       # else its order was counted when it was inferred to be forced
    coins -= m.flow.told_again                  # what was inferred of it stands in a row already
    m.flow.liq_total += coins
    m.sums.blind = m.clock.blind = False        # from now on the feed is known to be there
    if side > 0:
        m.flow.liq_buy += coins
        m.clock.liq_buy += coins
    else:
        m.flow.liq_sell += coins
        m.clock.liq_sell += coins
    return 0


cdef inline int machine_mark(Machine *m, int64_t ts, double price, double index) noexcept nogil:
    """A mark price and the index it is made from; NaN where the index is not known."""
    cdef int code
    if m.started and ts < m.now:
        return ERR_BACKWARDS
    if not is_price(price):
        return _refuse(m, MARK, BAD_PRICE)
    code = _advance(m, ts)
    if code == 0:
        m.tally.used[MARK] += 1
        venue_price(&m.others.venues[MARK_PRICE], ts, price)
        if is_price(index):
            venue_price(&m.others.venues[INDEX_PRICE], ts, index)
    return code


cdef inline int _refuse_elsewhere(Machine *m, Venue *v, int reason) noexcept nogil:
    v.rejected[reason] += 1
    return _refuse(m, REFERENCE, reason)


cdef inline int machine_reference(Machine *m, int64_t ts, double price, double coins, int side, int venue) noexcept nogil:
    """A trade of one of the other venues, by its number (0 to OTHER_VENUES - 1)."""
    cdef Venue *v = &m.others.venues[venue]
    cdef int code
    if m.started and ts < m.now:
        return ERR_BACKWARDS
    if not is_price(price):
        return _refuse_elsewhere(m, v, BAD_PRICE)
    if not is_size(coins):
        return _refuse_elsewhere(m, v, BAD_SIZE)
    if coins == 0:
        return _refuse_elsewhere(m, v, ZERO_SIZE)
    code = _advance(m, ts)
    if code == 0:
        m.tally.used[REFERENCE] += 1
        v.used += 1
        venue_trade(v, ts, (side > 0) - (side < 0), price, coins)
    return code


cdef inline int machine_open_interest(Machine *m, int64_t ts, double coins) noexcept nogil:
    cdef int code
    if m.started and ts < m.now:
        return ERR_BACKWARDS
    if not is_size(coins):
        return _refuse(m, OPEN_INTEREST, BAD_SIZE)
    code = _advance(m, ts)
    if code == 0:
        m.tally.used[OPEN_INTEREST] += 1
        interest_sample(&m.interest, coins)
    return code


cdef inline int machine_finish(Machine *m) noexcept nogil:
    """The tape has ended: settle its last moment and close the bar that is open."""
    cdef int code
    if not m.started or m.finished:
        return 0
    code = _settle(m)
    if code == 0 and m.bulk.on:
        code = bulk_advance(&m.bulk, m.step_end + 1, &m.clock, &m.later)
    while code == 0 and m.step_end % m.set.bar != 0:
        code = _close_step(m)
    if code == 0:
        code = _close_step(m)
    m.now = m.step_end - m.set.step
    m.finished = True
    return code
