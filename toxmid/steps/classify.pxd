# Trade signing: was the taker a buyer or a seller? From the flag, from ticks, or from the quote in force.
#
# One machine for every rule. It sees trades and quotes in the order in which they arrived; a trade meets the quote
# that stood before it, because quotes of the same time come after it.
#
# Rules
#   side       the venue's own flag
#   tick       sign of the last price change that was not zero
#   quote      above the midpoint of the quote in force: bought; below: sold
#   lee_ready  quote rule, and the tick rule at the midpoint
#              (Lee and Ready 1991, doi:10.1111/j.1540-6261.1991.tb02683.x; without their lag of five seconds, which
#              answered to the reporting delays of their day)
#   emo        at the ask: bought; at the bid: sold; everywhere else the tick rule
#              (Ellis, Michaely and O'Hara 2000, doi:10.2307/2676254)
#
# The answer is +1, -1, or 0 for "not known": no price change yet, no quote yet, a quote with bid > ask or without a
# side, a price that is none. A rule that needs a quote does not guess from ticks where there is none.
# A locked quote (bid = ask) has a midpoint; to emo it says nothing, since at it a trade is at both sides.
#
# Equality. Prices are compared as doubles, exactly, unless `slack` > 0. A midpoint on half ticks can miss the
# nearest double of its own decimal by a bit ((157.94 + 158.10) / 2 is not 158.02), and then rounding signs the trade.
# Published packages live with that, and slack = 0 gives what they give. Where the tick is known, a quarter of it is
# the right slack: prices and midpoints on the grid are either equal or at least half a tick apart.

from libc.math cimport NAN, isnan
from toxmid.steps.codes cimport is_price

cdef enum Rule:
    RULE_SIDE = 0
    RULE_TICK = 1
    RULE_QUOTE = 2
    RULE_LEE_READY = 3
    RULE_EMO = 4
    RULES = 5

cdef struct Signing:
    double last_price   # of the last trade; NaN before the first
    double bid          # quote in force; both NaN where there is no usable one
    double ask
    double slack        # prices no further apart than this are equal, in quote currency
    int tick_sign       # of the last price change that was not zero; 0 before the first


cdef inline void signing_init(Signing *s, double slack) noexcept nogil:
    s.last_price = NAN
    s.bid = NAN
    s.ask = NAN
    s.slack = slack
    s.tick_sign = 0


cdef inline int compare_prices(double a, double b, double slack) noexcept nogil:
    """Sign of a - b; 0 where they are equal within `slack`, or where either is NaN."""
    if a - b > slack:
        return 1
    if b - a > slack:
        return -1
    return 0


cdef inline void classify_quote(Signing *s, double bid, double ask) noexcept nogil:
    """A new quote comes into force. One without two sides, or crossed, leaves no quote in force."""
    if is_price(bid) and is_price(ask) and bid <= ask:
        s.bid = bid
        s.ask = ask
    else:
        s.bid = NAN
        s.ask = NAN


cdef inline int _tick_sign(Signing *s, double price) noexcept nogil:
    """Advance the tick rule by one price. Zero ticks carry the last sign over, however many there are."""
    cdef int change = compare_prices(price, s.last_price, s.slack)
    if change != 0:
        s.tick_sign = change
    s.last_price = price
    return s.tick_sign


cdef inline int _quote_sign(const Signing *s, double price) noexcept nogil:
    return compare_prices(price, 0.5 * (s.bid + s.ask), s.slack)


cdef inline int _touch_sign(const Signing *s, double price) noexcept nogil:
    """+1 at the ask, -1 at the bid, 0 at neither or at both."""
    return (compare_prices(price, s.ask, s.slack) == 0) - (compare_prices(price, s.bid, s.slack) == 0)


cdef inline int classify_trade(Signing *s, int rule, double price, int side_given) noexcept nogil:
    """Sign one trade and advance by it: +1 taker bought, -1 taker sold, 0 not known."""
    cdef int tick, sign
    if rule == RULE_SIDE:
        return side_given if side_given == 1 or side_given == -1 else 0
    if not is_price(price):
        return 0
    tick = _tick_sign(s, price)
    if rule == RULE_TICK:
        return tick
    if isnan(s.bid):
        return 0
    if rule == RULE_QUOTE:
        return _quote_sign(s, price)
    sign = _quote_sign(s, price) if rule == RULE_LEE_READY else _touch_sign(s, price)
    return sign if sign != 0 else tick
