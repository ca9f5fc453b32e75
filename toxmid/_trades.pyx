# cython: autotestdict=False
"""Array faces of the trade-by-trade machines in `toxmid.steps`; no state logic of its own."""

from libc.stdint cimport int8_t, int64_t
from toxmid.steps.classify cimport (
    RULE_EMO, RULE_LEE_READY, RULE_QUOTE, RULE_SIDE, RULE_TICK, Signing, classify_quote, classify_trade, signing_init,
)

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
