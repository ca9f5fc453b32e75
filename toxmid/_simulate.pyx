# cython: language_level=3, cdivision=True, freethreading_compatible=True, autotestdict=False
"""The simulator's step: a perpetual market whose maker's mid is known.

Layout, from the bottom up:

1. random numbers that are the same on every platform (xoshiro256++, one stream per purpose);
2. growing buffers of output rows;
3. the displayed book, a pure function of best price and density, so no level needs to be stored;
4. the takers, the maker, the clock: one `noexcept nogil` function each, all over one C struct `Market`;
5. `run`, the only door from Python.

Prices inside are bps of log price relative to the first mid ("x"), sizes are BTC-equivalents ("v"); ticks and lots, both
integers, appear only where something is printed or displayed. The market is simulated in the direction in which longs are
liquidated; a mirrored run changes the sign of x and of every side on the way out, so its dynamics are the same bit for bit.
The equations stand in `toxmid.simulate`.
"""

from libc.math cimport ceil, exp, fabs, floor, fmax, fmin, llround, log, sqrt
from libc.stdint cimport INT64_MAX, int8_t, int64_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

import numpy as np


cdef extern from *:
    """
    #define DT 0.1  /* s, one step */
    #define REPOST 0.05  /* the maker re-sends her depth when its logarithm is off by more than this */
    """
    const double DT
    const double REPOST

cdef enum:
    STEP_NS = 100_000_000
    STEPS_PER_SECOND = 10
    WARM_UP_STEPS = 6000
    CLUSTERS = 3
    MAX_ORDERS = 64  # in one step; `toxmid.simulate` refuses rates that could fill it
    LEVEL_ROOM = 2048
    BID = 0
    ASK = 1

# Who sent a taker order.
cdef enum Agent:
    NOISE = 0
    ARBITRAGE = 1
    SELLER = 2
    LIQUIDATION = 3

MAX_LEVELS = LEVEL_ROOM
AGENTS = ("noise", "arbitrage", "seller", "liquidation")


# ---------------------------------------------------------------------------------------------------- random numbers

cdef struct Random:
    uint64_t s[4]


cdef inline uint64_t splitmix(uint64_t* state) noexcept nogil:
    cdef uint64_t z
    state[0] += <uint64_t>0x9E3779B97F4A7C15
    z = state[0]
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef void random_seed(Random* r, uint64_t seed, uint64_t stream) noexcept nogil:
    """Streams are far apart for any seed: both words pass through the mixer before they meet."""
    cdef uint64_t a = seed, b = stream ^ <uint64_t>0x5851F42D4C957F2D
    cdef uint64_t state = splitmix(&a) ^ splitmix(&b)
    cdef int i
    for i in range(4):
        r.s[i] = splitmix(&state)


cdef inline uint64_t rotate(uint64_t x, int k) noexcept nogil:
    return (x << k) | (x >> (64 - k))


cdef inline uint64_t random_bits(Random* r) noexcept nogil:
    """xoshiro256++ (Blackman and Vigna 2021, doi:10.1145/3460772)."""
    cdef uint64_t out = rotate(r.s[0] + r.s[3], 23) + r.s[0]
    cdef uint64_t t = r.s[1] << 17
    r.s[2] ^= r.s[0]
    r.s[3] ^= r.s[1]
    r.s[1] ^= r.s[2]
    r.s[0] ^= r.s[3]
    r.s[2] ^= t
    r.s[3] = rotate(r.s[3], 45)
    return out


cdef inline double unit(uint64_t bits) noexcept nogil:
    """Open interval (0, 1): neither end can make a logarithm infinite."""
    return (<double>(bits >> 11) + 0.5) * (1.0 / 9007199254740992.0)


cdef inline double uniform(Random* r) noexcept nogil:
    return unit(random_bits(r))


cdef inline double exponential(Random* r) noexcept nogil:
    return -log(uniform(r))


cdef double normal(Random* r) noexcept nogil:
    """Inverse distribution function (Wichura 1988, algorithm AS 241, doi:10.2307/2347330): one uniform, one normal."""
    cdef double q = uniform(r) - 0.5, s, v
    if fabs(q) <= 0.425:
        s = 0.180625 - q * q
        return q * (((((((2.5090809287301226727e3 * s + 3.3430575583588128105e4) * s + 6.7265770927008700853e4) * s
                        + 4.5921953931549871457e4) * s + 1.3731693765509461125e4) * s + 1.9715909503065514427e3) * s
                     + 1.3314166789178437745e2) * s + 3.3871328727963666080e0) / (
                   ((((((5.2264952788528545610e3 * s + 2.8729085735721942674e4) * s + 3.9307895800092710610e4) * s
                       + 2.1213794301586595867e4) * s + 5.3941960214247511077e3) * s + 6.8718700749205790830e2) * s
                    + 4.2313330701600911252e1) * s + 1.0)
    s = sqrt(-log(0.5 - fabs(q)))
    if s <= 5.0:
        s -= 1.6
        v = (((((((7.74545014278341407640e-4 * s + 2.27238449892691845833e-2) * s + 2.41780725177450611770e-1) * s
                 + 1.27045825245236838258e0) * s + 3.64784832476320460504e0) * s + 5.76949722146069140550e0) * s
              + 4.63033784615654529590e0) * s + 1.42343711074968357734e0) / (
            ((((((1.05075007164441684324e-9 * s + 5.47593808499534494600e-4) * s + 1.51986665636164571966e-2) * s
                + 1.48103976427480074590e-1) * s + 6.89767334985100004550e-1) * s + 1.67638483018380384940e0) * s
             + 2.05319162663775882187e0) * s + 1.0)
    else:
        s -= 5.0
        v = (((((((2.01033439929228813265e-7 * s + 2.71155556874348757815e-5) * s + 1.24266094738807843860e-3) * s
                 + 2.65321895265761230930e-2) * s + 2.96560571828504891230e-1) * s + 1.78482653991729133580e0) * s
              + 5.46378491116411436990e0) * s + 6.65790464350110377720e0) / (
            ((((((2.04426310338993978564e-15 * s + 1.42151175831644588870e-7) * s + 1.84631831751005468180e-5) * s
                + 7.86869131145613259100e-4) * s + 1.48753612908506148525e-2) * s + 1.36929880922735805310e-1) * s
             + 5.99832206555887937690e-1) * s + 1.0)
    return v if q > 0 else -v


cdef int poisson(Random* r, double mean) noexcept nogil:
    """By multiplication of uniforms: the means here are below one."""
    cdef double floor_ = exp(-mean), product = uniform(r)
    cdef int n = 0
    while product > floor_:
        n += 1
        product *= uniform(r)
    return n


# ---------------------------------------------------------------------------------------------------- output rows

cdef struct TradeRow:
    int64_t ts
    int64_t tick
    int64_t lots
    int64_t order  # rows of one taker order share it
    int8_t side
    int8_t agent

cdef struct QuoteRow:
    int64_t ts
    int64_t bid
    int64_t bid_lots
    int64_t ask
    int64_t ask_lots

cdef struct BookRow:
    int64_t ts
    int64_t tick
    int64_t lots  # absolute; 0 deletes the level
    int8_t side
    int8_t snapshot

cdef struct LiquidationRow:
    int64_t ts
    double tick  # average fill, in ticks
    int64_t lots
    int8_t side

cdef struct HiddenRow:
    int64_t ts
    double mid  # F, bps
    double efficient  # V, bps
    double inventory  # BTC
    double toxicity
    double volatility  # bps per sqrt s, what the maker measures
    double bid_depth  # BTC per bps
    double ask_depth
    double mark  # bps
    double backlog  # BTC waiting in the liquidation engine

TRADE = np.dtype([("ts", "i8"), ("tick", "i8"), ("lots", "i8"), ("order", "i8"), ("side", "i1"), ("agent", "i1")], align=True)
QUOTE = np.dtype([("ts", "i8"), ("bid", "i8"), ("bid_lots", "i8"), ("ask", "i8"), ("ask_lots", "i8")], align=True)
BOOK = np.dtype([("ts", "i8"), ("tick", "i8"), ("lots", "i8"), ("side", "i1"), ("snapshot", "i1")], align=True)
LIQUIDATED = np.dtype([("ts", "i8"), ("tick", "f8"), ("lots", "i8"), ("side", "i1")], align=True)
HIDDEN = np.dtype([("ts", "i8"), *((name, "f8") for name in (
    "mid", "efficient", "inventory", "toxicity", "volatility", "bid_depth", "ask_depth", "mark", "backlog"))], align=True)


cdef struct Buffer:
    char* data
    size_t item
    size_t used
    size_t room
    bint full  # memory ran out; later rows are dropped and `run` raises


cdef void* new_row(Buffer* b, void* spare) noexcept nogil:
    """Next free row; `spare` once memory has run out, so that a step never has to look back."""
    cdef char* grown
    if b.used == b.room:
        grown = <char*>realloc(b.data, 2 * b.room * b.item) if not b.full else NULL
        if grown == NULL:
            b.full = True
            return spare
        b.data = grown
        b.room *= 2
    b.used += 1
    return b.data + (b.used - 1) * b.item


cdef int open_buffer(Buffer* b, size_t item) except -1:
    b.item = item
    b.room = 4096
    b.data = <char*>malloc(b.room * item)
    if b.data == NULL:
        raise MemoryError
    return 0


cdef object as_array(Buffer* b, object dtype):
    """Rows as a structured NumPy array that owns its memory."""
    if dtype.itemsize != b.item:
        raise AssertionError(f"row of {b.item} bytes, dtype of {dtype.itemsize}")
    if b.full:
        raise MemoryError("the simulated tape does not fit into memory")
    out = np.empty(b.used * b.item, np.uint8)
    cdef unsigned char[::1] view = out
    if b.used:
        memcpy(&view[0], b.data, b.used * b.item)
    return out.view(dtype)


# ---------------------------------------------------------------------------------------------------- the market

cdef struct World:
    # Hidden prices
    double volatility  # of the efficient price, bps per sqrt s; also the maker's idea of normal
    double tau_mid  # s, how fast the maker learns the efficient price
    double mid_noise  # bps, error of what she learns, per step
    double impact  # lambda_F, bps per BTC: what she infers from the flow
    double discount  # share of that which she does not believe when it is a liquidation
    # Quotes
    double skew  # kq, bps per BTC of inventory
    double skew_cap  # bps
    double phi  # which side carries the half spread
    double half_spread  # h0, bps
    double widening  # a
    double vol_spread  # c, bps per (bps per sqrt s)
    double tau_inventory  # s, the maker hedges elsewhere
    double tau_volatility  # s
    # Toxicity, as the maker sees it: signed flow over tau_tox
    double tau_tox  # s
    double tox_floor  # BTC, normal flow
    double tox_full  # BTC, toxicity 1
    # Book
    double depth  # D0, BTC per bps and side
    double thinning  # depth of the hit side = D0 / (1 + thinning * toxicity)
    double thinning_far  # share of that thinning which the other side does too
    double refill  # s
    double refill_slowing  # refill time * (1 + refill_slowing * toxicity)
    double hole_share  # share of a sweep's hole that stays on the hit side
    # Takers
    double noise_rate  # orders per s
    double noise_persistence  # probability that an order repeats the last sign, beyond chance
    double noise_size  # BTC, median
    double noise_spread  # sd of log size
    double arb_fee  # bps
    double arb_slope  # BTC per s and bps of edge
    double arb_capacity  # BTC
    double tau_arb  # s, how fast arbitrageurs free their capacity
    double tau_mark  # s, memory of the mark price
    double engine_rate  # BTC per s, limit of the liquidation engine
    double cluster_width  # bps over which a cluster's thresholds lie


cdef struct Shock:
    # One row of `shocks`: times in s from the start of the tape, prices in bps below the mark at `begin`.
    double begin
    double start
    double news
    double ramp
    double seller
    double seller_seconds
    double threshold[CLUSTERS]
    double position[CLUSTERS]  # BTC

SHOCK_COLUMNS = 6 + 2 * CLUSTERS


cdef struct Side:
    # One side of the displayed book.
    int outward  # -1: prices fall away from the best (bids), +1: they rise (asks)
    int64_t best  # tick of the first level as posted
    int64_t next_cell  # tick of the second level as posted; further ones follow at the cell width
    int64_t level  # how many posted levels have been eaten
    int64_t tick  # first level left
    int64_t left  # its lots
    double lots_per_tick
    int64_t shown_tick[LEVEL_ROOM]
    int64_t shown_lots[LEVEL_ROOM]
    int shown


cdef struct Order:
    int8_t sign  # -1 sells (in the unmirrored direction)
    int8_t agent
    double size
    double key  # random rank inside the step


cdef struct Market:
    World w
    Shock* shocks
    int n_shocks
    int shock  # index of the one in force, -1 before the first

    Random prices
    Random noise
    Random arbs
    Random forced
    Random seller
    Random clock
    uint64_t salt  # of the level sizes

    # Venue
    double first_price
    double tick_size
    double lots_per_btc
    double ticks_per_bps
    int64_t cell  # ticks between levels
    int levels  # displayed per side in the book stream, 0: no stream
    int mirror  # -1 or +1

    # Hidden state
    double V
    double F
    double inventory
    double bid  # the maker's quote before holes, bps
    double ask
    double hole[2]
    double density[2]  # BTC per bps, posted
    # What the maker measures
    double signed_flow  # BTC over tau_tox
    double all_flow
    double toxicity
    double variance  # bps^2 per s
    double past_mid[STEPS_PER_SECOND]
    # Takers' state
    int last_sign
    double arb_position
    double seller_left
    double mark
    double mark_at_begin
    double triggered[CLUSTERS]  # share
    double backlog
    # Tape
    bint recording
    bint first_message
    int64_t orders
    Side side[2]
    QuoteRow quote
    Buffer trades
    Buffer quotes
    Buffer book
    Buffer liquidations
    Buffer hidden


cdef inline double mid_of(Market* m) noexcept nogil:
    return 0.5 * (m.bid - m.hole[BID] + m.ask + m.hole[ASK])


# ---------------------------------------------------------------------------------------------------- the displayed book

cdef inline int64_t level_tick(Market* m, Side* s, int64_t level) noexcept nogil:
    return s.best if level == 0 else s.next_cell + s.outward * (level - 1) * m.cell


cdef int64_t level_lots(Market* m, Side* s, int64_t level) noexcept nogil:
    """Density times width, times a factor that belongs to the price: real levels are unequal, and stay so."""
    cdef int64_t tick = level_tick(m, s, level)
    cdef int64_t width = m.cell if level else (s.next_cell - s.best) * s.outward
    cdef uint64_t key = m.salt ^ (<uint64_t>(tick // m.cell) * 2 + <uint64_t>(s.outward > 0))
    cdef double factor = 0.5 + unit(splitmix(&key))
    return max(<int64_t>1, <int64_t>llround(s.lots_per_tick * width * factor))


cdef inline void stand_at(Market* m, Side* s, int64_t level) noexcept nogil:
    s.level = level
    s.tick = level_tick(m, s, level)
    s.left = level_lots(m, s, level)


cdef void post(Market* m, int c, double x) noexcept nogil:
    """Post one side afresh with its best price at `x` bps, rounded away from the other side to the tick grid."""
    cdef Side* s = &m.side[c]
    cdef double ticks = m.first_price * exp(m.mirror * x * 1e-4) / m.tick_size
    cdef int64_t half = (m.cell + 1) // 2
    if s.outward < 0:
        s.best = max(<int64_t>2, <int64_t>floor(ticks))
        s.next_cell = (s.best - half) // m.cell * m.cell
    else:
        s.best = <int64_t>ceil(ticks)
        s.next_cell = (s.best + half + m.cell - 1) // m.cell * m.cell
    s.lots_per_tick = m.density[c] * m.lots_per_btc / m.ticks_per_bps


cdef void post_both(Market* m) noexcept nogil:
    cdef Side* bids = &m.side[BID if m.mirror > 0 else ASK]
    cdef Side* asks = &m.side[ASK if m.mirror > 0 else BID]
    post(m, BID, m.bid - m.hole[BID])
    post(m, ASK, m.ask + m.hole[ASK])
    if asks.best <= bids.best:  # only where the half spread is finer than the tick
        asks.best = bids.best + 1
        if asks.next_cell <= asks.best:
            asks.next_cell += m.cell
    stand_at(m, bids, 0)
    stand_at(m, asks, 0)


cdef void show_row(Market* m, int64_t ts, Side* s, int64_t tick, int64_t lots) noexcept nogil:
    cdef BookRow spare
    cdef BookRow* row = <BookRow*>new_row(&m.book, &spare)
    row.ts = ts
    row.tick = tick
    row.lots = lots
    row.side = -s.outward
    row.snapshot = m.first_message


cdef void show_side(Market* m, Side* s, int64_t ts) noexcept nogil:
    """Write what changed among the best `levels` levels: a merge of the old list and the new one, both best first."""
    cdef int64_t tick, lots, ahead
    cdef int old = 0, new = 0
    cdef int64_t now_tick[LEVEL_ROOM]
    cdef int64_t now_lots[LEVEL_ROOM]
    for new in range(m.levels):
        now_tick[new] = s.tick if new == 0 else level_tick(m, s, s.level + new)
        now_lots[new] = s.left if new == 0 else level_lots(m, s, s.level + new)
    new = 0
    while old < s.shown or new < m.levels:
        if old == s.shown:
            ahead = -1
        elif new == m.levels:
            ahead = 1
        else:
            ahead = (now_tick[new] - s.shown_tick[old]) * s.outward
        if ahead > 0:
            show_row(m, ts, s, s.shown_tick[old], 0)
            old += 1
        elif ahead < 0:
            show_row(m, ts, s, now_tick[new], now_lots[new])
            new += 1
        else:
            if now_lots[new] != s.shown_lots[old]:
                show_row(m, ts, s, now_tick[new], now_lots[new])
            old += 1
            new += 1
    memcpy(s.shown_tick, now_tick, m.levels * sizeof(int64_t))
    memcpy(s.shown_lots, now_lots, m.levels * sizeof(int64_t))
    s.shown = m.levels


cdef void publish(Market* m, int64_t ts) noexcept nogil:
    """Write the best quote where it changed, and the book message with the same time."""
    cdef Side* bids = &m.side[BID if m.mirror > 0 else ASK]
    cdef Side* asks = &m.side[ASK if m.mirror > 0 else BID]
    cdef QuoteRow spare
    cdef QuoteRow* row
    if not m.recording:
        return
    if (bids.tick != m.quote.bid or bids.left != m.quote.bid_lots
            or asks.tick != m.quote.ask or asks.left != m.quote.ask_lots):
        m.quote.ts = ts
        m.quote.bid = bids.tick
        m.quote.bid_lots = bids.left
        m.quote.ask = asks.tick
        m.quote.ask_lots = asks.left
        row = <QuoteRow*>new_row(&m.quotes, &spare)
        row[0] = m.quote
    if m.levels:
        show_side(m, bids, ts)
        show_side(m, asks, ts)
        m.first_message = False


# ---------------------------------------------------------------------------------------------------- takers

cdef inline void add_order(Order* orders, int* n, int sign, Agent agent, double size, Random* r) noexcept nogil:
    """Insert in the order of a random key, so that no agent is always first inside a step."""
    cdef double key = uniform(r)
    cdef int i = n[0]
    if i == MAX_ORDERS:
        return
    while i > 0 and orders[i - 1].key > key:
        orders[i] = orders[i - 1]
        i -= 1
    orders[i].sign = sign
    orders[i].agent = agent
    orders[i].size = size
    orders[i].key = key
    n[0] += 1


cdef void noise_orders(Market* m, Order* orders, int* n) noexcept nogil:
    cdef int i
    for i in range(poisson(&m.noise, m.w.noise_rate * DT)):
        add_order(orders, n, 0, NOISE, m.w.noise_size * exp(m.w.noise_spread * normal(&m.noise)), &m.noise)


cdef inline int noise_sign(Market* m) noexcept nogil:
    """Drawn when the order executes, because persistence runs from each order to the next one that arrives."""
    if uniform(&m.noise) >= m.w.noise_persistence:
        m.last_sign = 1 if uniform(&m.noise) < 0.5 else -1
    return m.last_sign


cdef void arbitrage_order(Market* m, Order* orders, int* n) noexcept nogil:
    """Trade against the efficient price when the edge exceeds the fee, up to a capacity that frees itself slowly."""
    cdef double buy_edge = m.V - (m.ask + m.hole[ASK]) - m.w.arb_fee
    cdef double sell_edge = (m.bid - m.hole[BID]) - m.V - m.w.arb_fee
    cdef double size = exponential(&m.arbs) * m.w.arb_slope * DT
    m.arb_position *= exp(-DT / m.w.tau_arb)
    if buy_edge > 0.0:
        size = fmin(size * buy_edge, m.w.arb_capacity - m.arb_position)
        if size > 0.0:
            add_order(orders, n, 1, ARBITRAGE, size, &m.arbs)
            m.arb_position += size
    elif sell_edge > 0.0:
        size = fmin(size * sell_edge, m.w.arb_capacity + m.arb_position)
        if size > 0.0:
            add_order(orders, n, -1, ARBITRAGE, size, &m.arbs)
            m.arb_position -= size


cdef void seller_orders(Market* m, Order* orders, int* n, double t) noexcept nogil:
    """Someone who must sell a fixed amount in a fixed time and knows nothing: child orders at two a second."""
    cdef double rate = 2.0, size
    cdef Shock* s = &m.shocks[m.shock]
    cdef int i
    if t < s.start or m.seller_left <= 0.0:
        return
    for i in range(poisson(&m.seller, rate * DT)):
        size = fmin(exponential(&m.seller) * s.seller / (rate * s.seller_seconds), m.seller_left)
        m.seller_left -= size
        if size > 0.0:
            add_order(orders, n, -1, SELLER, size, &m.seller)


cdef void trigger_liquidations(Market* m) noexcept nogil:
    """Positions whose threshold the mark has passed join the backlog, once."""
    cdef Shock* s = &m.shocks[m.shock]
    cdef double share, depth = m.mark_at_begin - m.mark
    cdef int i
    for i in range(CLUSTERS):
        share = fmin(1.0, fmax(0.0, (depth - s.threshold[i]) / m.w.cluster_width))
        if share > m.triggered[i]:
            m.backlog += (share - m.triggered[i]) * s.position[i]
            m.triggered[i] = share


cdef void liquidation_order(Market* m, Order* orders, int* n) noexcept nogil:
    cdef double size
    if m.backlog <= 0.0:
        return
    size = fmin(m.backlog, exponential(&m.forced) * m.w.engine_rate * DT)
    if m.backlog - size < 0.5 / m.lots_per_btc:  # less than half a lot would stay behind for ever
        size = m.backlog
    m.backlog -= size
    add_order(orders, n, -1, LIQUIDATION, size, &m.forced)


cdef void execute(Market* m, Order* order, int64_t ts) noexcept nogil:
    """Walk the levels of the hit side; then everyone learns from the order's total size."""
    cdef int c = BID if order.sign < 0 else ASK
    cdef Side* s = &m.side[c]
    cdef int64_t total = max(<int64_t>1, <int64_t>llround(order.size * m.lots_per_btc)), rest = total, take
    cdef double notional = 0.0, v = total / m.lots_per_btc, trust
    cdef TradeRow spare
    cdef TradeRow* row
    cdef LiquidationRow spare_liquidation
    cdef LiquidationRow* liquidation
    while rest > 0:
        take = min(rest, s.left)
        notional += <double>s.tick * take
        if m.recording:
            row = <TradeRow*>new_row(&m.trades, &spare)
            row.ts = ts
            row.tick = s.tick
            row.lots = take
            row.order = m.orders
            row.side = order.sign * m.mirror
            row.agent = order.agent
        rest -= take
        s.left -= take
        if s.left == 0:
            if level_tick(m, s, s.level + 1) < 1:  # no price below one tick: the last level is bottomless
                s.left = INT64_MAX // 2
            else:
                stand_at(m, s, s.level + 1)
    if m.recording:
        m.orders += 1
        if order.agent == LIQUIDATION:
            liquidation = <LiquidationRow*>new_row(&m.liquidations, &spare_liquidation)
            liquidation.ts = ts
            liquidation.tick = notional / total
            liquidation.lots = total
            liquidation.side = order.sign * m.mirror
    trust = 1.0 - m.w.discount if order.agent == LIQUIDATION else 1.0
    m.F += m.w.impact * order.sign * v * trust
    m.inventory -= order.sign * v
    m.signed_flow += order.sign * v
    m.all_flow += v
    m.hole[c] += m.w.hole_share * v / m.density[c]
    m.hole[1 - c] += (1.0 - m.w.hole_share) * v / m.density[c]


# ---------------------------------------------------------------------------------------------------- the maker

cdef void learn(Market* m) noexcept nogil:
    """Hidden mid, inventory and toxicity at the end of a step."""
    cdef World* w = &m.w
    m.F += DT / w.tau_mid * (m.V + w.mid_noise * normal(&m.prices) - m.F)
    m.inventory *= exp(-DT / w.tau_inventory)
    m.signed_flow *= exp(-DT / w.tau_tox)
    m.all_flow *= exp(-DT / w.tau_tox)
    m.toxicity = fmin(1.0, fmax(0.0, (fabs(m.signed_flow) - w.tox_floor) / (w.tox_full - w.tox_floor)))


cdef void refill(Market* m) noexcept nogil:
    cdef World* w = &m.w
    cdef double keep = exp(-DT / (w.refill * (1.0 + w.refill_slowing * m.toxicity)))
    cdef int hit = BID if m.signed_flow < 0.0 else ASK, c
    cdef double density
    for c in range(2):
        m.hole[c] *= keep
        density = w.depth / (1.0 + w.thinning * m.toxicity * (1.0 if c == hit else w.thinning_far))
        if fabs(log(density / m.density[c])) > REPOST:
            m.density[c] = density


cdef void quote(Market* m) noexcept nogil:
    """Centre by inventory and risk, width by toxicity and volatility, the split between the sides by phi."""
    cdef World* w = &m.w
    cdef double risk = fmin(12.0, fmax(1.0, m.variance / (w.volatility * w.volatility)))
    cdef double skew = fmin(w.skew_cap, fmax(-w.skew_cap, w.skew * risk * m.inventory))
    cdef double excess = fmax(0.0, sqrt(m.variance) - 1.5 * w.volatility)
    cdef double half = w.half_spread * (1.0 + w.widening * m.toxicity * m.toxicity) + w.vol_spread * excess
    cdef double selling = -m.signed_flow / m.all_flow if m.all_flow > 0.0 else 0.0
    cdef double centre = m.F - skew
    m.bid = centre - half * (1.0 - w.phi * selling)
    m.ask = centre + half * (1.0 + w.phi * selling)


cdef void observe(Market* m, int64_t step) noexcept nogil:
    """What everyone takes from the quoted mid: the maker its variance, the venue its mark."""
    cdef double now = mid_of(m), move
    cdef double* past = &m.past_mid[step % STEPS_PER_SECOND]  # of one second ago
    move = now - past[0]
    past[0] = now
    m.variance += (1.0 - exp(-DT / m.w.tau_volatility)) * (move * move - m.variance)
    m.mark += (1.0 - exp(-DT / m.w.tau_mark)) * (now - m.mark)


cdef void record_hidden(Market* m, int64_t ts) noexcept nogil:
    cdef HiddenRow spare
    cdef HiddenRow* row = <HiddenRow*>new_row(&m.hidden, &spare)
    row.ts = ts
    row.mid = m.F * m.mirror
    row.efficient = m.V * m.mirror
    row.inventory = m.inventory * m.mirror
    row.toxicity = m.toxicity
    row.volatility = sqrt(m.variance)
    row.bid_depth = m.density[BID if m.mirror > 0 else ASK]
    row.ask_depth = m.density[ASK if m.mirror > 0 else BID]
    row.mark = m.mark * m.mirror
    row.backlog = m.backlog


# ---------------------------------------------------------------------------------------------------- the clock

cdef void move_efficient_price(Market* m, double t) noexcept nogil:
    cdef Shock* s
    m.V += m.w.volatility * sqrt(DT) * normal(&m.prices)
    if m.shock >= 0:
        s = &m.shocks[m.shock]
        if s.start <= t < s.start + s.ramp:
            m.V -= s.news * fmin(DT, s.start + s.ramp - t) / s.ramp


cdef void next_shock(Market* m, double t) noexcept nogil:
    """When a slot begins, its positions are laid below the mark of that moment."""
    cdef int i
    if m.shock + 1 < m.n_shocks and t >= m.shocks[m.shock + 1].begin:
        m.shock += 1
        m.mark_at_begin = m.mark
        m.seller_left = m.shocks[m.shock].seller
        for i in range(CLUSTERS):
            m.triggered[i] = 0.0


cdef void advance(Market* m, int64_t step, int64_t begin) noexcept nogil:
    """One step: orders arrive at irregular times, each is followed by its quote; at the end the maker refreshes."""
    cdef Order orders[MAX_ORDERS]
    cdef int n = 0, i
    cdef double t = step * DT, slot, u
    cdef int64_t ts
    if m.recording:
        next_shock(m, t)
    move_efficient_price(m, t)
    noise_orders(m, orders, &n)
    arbitrage_order(m, orders, &n)
    if m.shock >= 0:
        seller_orders(m, orders, &n, t)
        liquidation_order(m, orders, &n)
    slot = 0.9 * STEP_NS / n if n else 0.0
    for i in range(n):
        u = uniform(&m.clock)
        ts = begin + <int64_t>((i + 0.98 * u) * slot)
        if orders[i].agent == NOISE:
            orders[i].sign = noise_sign(m)
        execute(m, &orders[i], ts)
        publish(m, ts + 1 + <int64_t>(fmin(500_000.0, (1.0 - 0.98 * u) * slot) * 0.99 * uniform(&m.clock)))
    learn(m)
    refill(m)
    quote(m)
    post_both(m)
    observe(m, step)
    if m.shock >= 0:
        trigger_liquidations(m)
    if m.recording:
        publish(m, begin + <int64_t>((0.9 + 0.09 * uniform(&m.clock)) * STEP_NS))
        record_hidden(m, begin + STEP_NS)


cdef void warm_up(Market* m) noexcept nogil:
    """Unrecorded calm in which flows, holes and inventory settle; then the hidden mid is moved to the first price."""
    cdef int64_t step
    cdef int i
    m.density[BID] = m.density[ASK] = m.w.depth
    m.variance = m.w.volatility * m.w.volatility
    quote(m)
    post_both(m)
    for step in range(WARM_UP_STEPS):
        advance(m, step, 0)
    m.V -= m.F
    m.mark -= m.F
    m.bid -= m.F
    m.ask -= m.F
    for i in range(STEPS_PER_SECOND):
        m.past_mid[i] -= m.F
    m.F = 0.0
    post_both(m)


cdef void play(Market* m, int64_t steps, int64_t start) noexcept nogil:
    cdef int64_t step
    warm_up(m)
    m.recording = True
    publish(m, start)
    for step in range(steps):
        advance(m, step, start + step * STEP_NS)


# ---------------------------------------------------------------------------------------------------- the door

def uniforms(seed, stream, n):
    """`n` uniform numbers of one stream, the same on every platform: for the draw of a market's parameters."""
    cdef Random r
    cdef Py_ssize_t i
    out = np.empty(n)
    cdef double[::1] view = out
    random_seed(&r, seed, stream)
    for i in range(view.shape[0]):
        view[i] = uniform(&r)
    return out


cdef void close_buffers(Market* m) noexcept:
    free(m.trades.data)
    free(m.quotes.data)
    free(m.book.data)
    free(m.liquidations.data)
    free(m.hidden.data)


def run(world, shocks, *, seed, steps, start, first_price, tick, lot, size_scale, cell, levels, mirror):
    """Play one tape.

    Parameters
    ----------
    world : mapping of str to float
        Every field of `World`, in its units.
    shocks : array of float64, shape (n, SHOCK_COLUMNS)
        One `Shock` per row, in the order of `begin`.
    seed : int
        0..2**64 - 1.
    steps : int
        Length, in steps of 0.1 s.
    start : int
        First moment, ns since 1970 UTC.
    first_price, tick : float
        Quote currency.
    lot, size_scale : float
        Base coin per lot and per BTC-equivalent.
    cell : float
        Bps between displayed levels; at least one tick is taken.
    levels : int
        Levels per side in the book stream, 0..MAX_LEVELS; 0: no stream.
    mirror : bool
        Change the sign of every move and side on the way out.

    Returns
    -------
    dict of structured arrays
        ``trades, quotes, book, liquidations, hidden``, rows of `TRADE`, `QUOTE`, `BOOK`, `LIQUIDATED`, `HIDDEN`.
    """
    table = np.ascontiguousarray(shocks, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != SHOCK_COLUMNS:
        raise ValueError(f"shocks must be a table of {SHOCK_COLUMNS} columns")
    if not 0 <= levels <= LEVEL_ROOM:
        raise ValueError(f"levels must lie in 0..{LEVEL_ROOM}")
    cdef double[:, ::1] rows = table
    cdef Market* m = <Market*>malloc(sizeof(Market))
    cdef uint64_t key = seed
    cdef int64_t steps_ = steps, start_ = start
    if m == NULL:
        raise MemoryError
    memset(m, 0, sizeof(Market))
    try:
        open_buffer(&m.trades, sizeof(TradeRow))
        open_buffer(&m.quotes, sizeof(QuoteRow))
        open_buffer(&m.book, sizeof(BookRow))
        open_buffer(&m.liquidations, sizeof(LiquidationRow))
        open_buffer(&m.hidden, sizeof(HiddenRow))
        m.w = world
        m.shocks = <Shock*>&rows[0, 0] if rows.shape[0] else NULL
        m.n_shocks = rows.shape[0]
        m.shock = -1
        random_seed(&m.prices, key, 1)
        random_seed(&m.noise, key, 2)
        random_seed(&m.arbs, key, 3)
        random_seed(&m.forced, key, 4)
        random_seed(&m.seller, key, 5)
        random_seed(&m.clock, key, 6)
        m.salt = splitmix(&key)
        m.first_price = first_price
        m.tick_size = tick
        m.lots_per_btc = size_scale / lot
        m.ticks_per_bps = first_price * 1e-4 / tick
        m.cell = max(1, round(cell * m.ticks_per_bps))
        m.levels = levels
        m.mirror = -1 if mirror else 1
        m.side[BID].outward = -m.mirror
        m.side[ASK].outward = m.mirror
        m.last_sign = 1
        m.first_message = True
        with nogil:
            play(m, steps_, start_)
        return {
            "trades": as_array(&m.trades, TRADE),
            "quotes": as_array(&m.quotes, QUOTE),
            "book": as_array(&m.book, BOOK),
            "liquidations": as_array(&m.liquidations, LIQUIDATED),
            "hidden": as_array(&m.hidden, HIDDEN),
        }
    finally:
        close_buffers(m)
        free(m)
