# cython: autotestdict=False
"""Array faces of the trade-by-trade machines in `toxmid.steps`; no state logic of its own."""

from libc.stdint cimport int8_t, int64_t
from libc.stdlib cimport free
from libc.string cimport memset
from toxmid.steps.classify cimport (
    RULE_EMO, RULE_LEE_READY, RULE_QUOTE, RULE_SIDE, RULE_TICK, Signing, classify_quote, classify_trade, signing_init,
)
from toxmid.steps.codes cimport Tally
from toxmid.steps.flow cimport RING, Flow, Order, Print, flow_order, flow_record

RULES = {
    "side": RULE_SIDE,
    "tick": RULE_TICK,
    "quote": RULE_QUOTE,
    "lee_ready": RULE_LEE_READY,
    "emo": RULE_EMO,
}


def sign_trades(
    const int64_t[::1] ts,          # ns, never decreasing
    const double[::1] price,
    const int8_t[::1] side,
    const int64_t[::1] quote_ts,    # ns, never decreasing
    const double[::1] bid,
    const double[::1] ask,
    int rule,
    double slack,
    int8_t[::1] out,
):
    """Write the taker side of each trade to `out`: +1, -1, or 0 where it is not known."""
    cdef Py_ssize_t i, j = 0, n = ts.shape[0], m = quote_ts.shape[0]
    cdef Signing state
    if not (price.shape[0] == side.shape[0] == out.shape[0] == n):
        raise ValueError("ts, price, side and out must have one length")
    if not (bid.shape[0] == ask.shape[0] == m):
        raise ValueError("quote_ts, bid and ask must have one length")
    signing_init(&state, slack)
    with nogil:
        for i in range(n):
            while j < m and quote_ts[j] < ts[i]:
                classify_quote(&state, bid[j], ask[j])
                j += 1
            out[i] = <int8_t> classify_trade(&state, rule, price[i], side[i])


def last_up_to(
    const int64_t[::1] ts,          # never decreasing
    const int64_t[::1] clock,       # never decreasing
    int64_t shift,
    int64_t[::1] out,
):
    """Write to `out` the row of `clock` that is the last at or before each `ts` + `shift`; -1 where there is none."""
    cdef Py_ssize_t i, j = 0, n = ts.shape[0], m = clock.shape[0]
    if out.shape[0] != n:
        raise ValueError("ts and out must have one length")
    with nogil:
        for i in range(n):
            while j < m and clock[j] - shift <= ts[i]:
                j += 1
            out[i] = j - 1


def claim_orders(
    const int64_t[::1] ts,          # ns, never decreasing
    const int8_t[::1] side,
    const double[::1] units,
    const double[::1] price,        # mean
    const int64_t[::1] record_ts,   # ns, never decreasing
    const int8_t[::1] record_side,
    const double[::1] record_units,
    const double[::1] record_price,
    int64_t window,
    int64_t grace,
    double slack,
    double price_slack,
    double[::1] out,
):
    """Write to `out` the units of each taker order that liquidation records claim; as many records as found no trade."""
    cdef Py_ssize_t i, j = 0, n = ts.shape[0], m = record_ts.shape[0]
    cdef Flow flow
    cdef Tally tally
    cdef Order order
    cdef double forced
    cdef int code = 0
    if not (side.shape[0] == units.shape[0] == price.shape[0] == out.shape[0] == n):
        raise ValueError("ts, side, units, price and out must have one length")
    if not (record_side.shape[0] == record_units.shape[0] == record_price.shape[0] == m):
        raise ValueError("columns of the records must have one length")
    memset(&flow, 0, sizeof(Flow))
    memset(&tally, 0, sizeof(Tally))
    memset(&order, 0, sizeof(Order))
    flow.window = window
    flow.grace = grace
    flow.slack = slack
    flow.price_slack = price_slack
    flow.half_life = flow.coins_per_unit = 1.0
    flow.feed = True
    with nogil:
        for i in range(n):
            while j < m and record_ts[j] < ts[i]:
                flow_record(&flow, record_ts[j], record_side[j], record_units[j], record_price[j], &tally)
                j += 1
            if i >= RING:           # the order that leaves the ring: nothing can claim it any more
                out[i - RING] = (<Print *> flow.prints.data)[i & (RING - 1)].matched
            order.ts = ts[i]
            order.side = side[i]
            order.units = order.coins = units[i]
            order.notional = units[i] * price[i]
            code = flow_order(&flow, &order, &tally, NULL, &forced)
            if code < 0:
                break
        if code == 0:
            while j < m:
                flow_record(&flow, record_ts[j], record_side[j], record_units[j], record_price[j], &tally)
                j += 1
            for i in range(n - RING if n > RING else 0, n):
                out[i] = (<Print *> flow.prints.data)[i & (RING - 1)].matched
    free(flow.prints.data)
    if code < 0:
        raise MemoryError("toxmid: out of memory")
    for i in range(flow.waiting):       # of those that wait, some may have been filled by the last order
        tally.liquidations_unmatched += flow.records[i].units > slack
    return tally.liquidations_unmatched


def add_markouts(
    const int64_t[::1] ts,          # ns, never decreasing
    const double[::1] sign,
    const double[::1] size,
    const double[::1] paid,         # log price
    const int64_t[::1] group,       # 0 to weight.shape[1] - 1
    const int64_t[::1] quote_ts,    # ns, never decreasing
    const double[::1] log_mid,      # NaN where there is none
    int64_t length,
    int64_t span,
    double[:, :, ::1] weight,       # (blocks of `span` ns with trades, groups, buy or sell)
    double[:, :, ::1] weighted,     # size x gain, of log price
    int64_t[:, :, ::1] count,
    int64_t[:, ::1] last,           # time of the last trade that counts
):
    """Add each trade's gain at the mid `length` later to the cell of its block of time, group and side."""
    cdef Py_ssize_t i, j = 0, n = ts.shape[0], m = quote_ts.shape[0], block = 0
    cdef int64_t cut = 0
    cdef int part
    cdef double gain
    if not (sign.shape[0] == size.shape[0] == paid.shape[0] == group.shape[0] == n and log_mid.shape[0] == m):
        raise ValueError("columns of different lengths")
    with nogil:
        for i in range(n):
            if i == 0:
                cut = (ts[0] // span + 1) * span
            elif ts[i] >= cut:
                block += 1
                cut = (ts[i] // span + 1) * span
            while j < m and quote_ts[j] - length <= ts[i]:
                j += 1
            if j == 0:
                continue
            gain = sign[i] * (log_mid[j - 1] - paid[i])
            if gain != gain:
                continue
            part = sign[i] < 0
            weight[block, group[i], part] += size[i]
            weighted[block, group[i], part] += size[i] * gain
            count[block, group[i], part] += 1
            last[group[i], part] = ts[i]
