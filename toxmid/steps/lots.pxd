# Sizes as whole lots: from the tape's own count of contracts, from the worth of a contract, or on the grid of sizes.
#
# In a linear market a lot is worth a fixed amount of coin, and whole lots are found from the sizes themselves. In an inverse one a
# contract's worth in coin lies on no grid, so contracts are counted: as the tape gives them, or from size and price. Where the
# instrument does not say which it is, the first trade decides, for every face alike.

from libc.math cimport fabs, rint
from libc.stdint cimport int8_t, int64_t
from toxmid.steps.grid cimport Grid, grid_steps, on_grid

cdef extern from *:
    """
    #include <math.h>
    #include <stdint.h>
    #include <string.h>
    /* Lots of n trades; 1 if every size is on the grid, positive and countable and every price positive and finite, else 0.
       Without a branch or a conversion, so that it vectorises: adding 1.5 * 2^52 leaves the nearest whole number in the low bits
       of a double; positive doubles are ordered like their bits; and every condition is the sign of something. */
    static int toxmid_whole_lots(const double *price, const double *coins, int64_t *lots, int64_t n, double per_unit) {
        const double magic = 6755399441055744.0, most = 1e15;
        int64_t base, top, bad = 0, i;
        memcpy(&base, &magic, 8);
        memcpy(&top, &most, 8);
        for (i = 0; i < n; i++) {
            double steps = coins[i] * per_unit;
            double shifted = steps + magic;
            double room = 1e-15 * steps - fabs(steps - (shifted - magic));
            int64_t price_bits, steps_bits, shifted_bits, room_bits;
            memcpy(&price_bits, &price[i], 8);
            memcpy(&steps_bits, &steps, 8);
            memcpy(&shifted_bits, &shifted, 8);
            memcpy(&room_bits, &room, 8);
            bad |= (price_bits - 1) | (INT64_C(0x7fefffffffffffff) - price_bits) | (steps_bits - 1) | (top - steps_bits) | room_bits;
            lots[i] = shifted_bits - base;
        }
        return bad >= 0;
    }
    static void toxmid_by_side(const int64_t *lots, const int8_t *side, int64_t n, int64_t *buy, int64_t *sell) {
        int64_t bought = 0, sold = 0, i;
        for (i = 0; i < n; i++) {
            bought += lots[i] & -(int64_t) (side[i] > 0);
            sold += lots[i] & -(int64_t) (side[i] < 0);
        }
        *buy = bought;
        *sell = sold;
    }
    """
    bint whole_lots "toxmid_whole_lots"(const double *price, const double *coins, int64_t *lots, int64_t n,
                                        double per_unit) noexcept nogil
    void lots_by_side "toxmid_by_side"(const int64_t *lots, const int8_t *side, int64_t n, int64_t *buy,
                                       int64_t *sell) noexcept nogil

cdef struct Lots:
    Grid grid
    bint inverse
    double contract_value       # quote currency, where the market is inverse and it is known; else 0
    bint decided                # the first trade has shown what lots are
    bint contracts              # lots are contracts whose worth in coin varies
    int64_t rounded             # sizes that lie on no grid
    double coins                # traded so far


cdef inline bint _is_decimal(double x) noexcept nogil:
    """Is x a decimal of at most eight places?"""
    cdef double scale = 1.0
    cdef int i
    for i in range(9):
        if on_grid(x * scale) and x * scale > 0.5:
            return True
        scale *= 10.0
    return False


cdef inline void _decide(Lots *l, double coins, int64_t given) noexcept nogil:
    """What are lots here? Unless the instrument says so, the first trade tells: where coin per lot is a round decimal, the
    market is linear and its grid is found from sizes; otherwise the lots that come with the trades are contracts."""
    l.decided = True
    if l.inverse:
        l.contracts = l.contract_value > 0 or given > 0
    else:
        l.contracts = given > 0 and l.grid.decimals >= 0 and not _is_decimal(coins / <double> given)


cdef inline bint lots_countable(const Lots *l, double price, double coins, int64_t given) noexcept nogil:
    """Is a size small enough for sums of its lots to stay within int64?"""
    if given > 0:
        return given <= <int64_t> 1000000 * 1000000000
    if l.contract_value > 0:
        return coins * price <= 1e15 * l.contract_value
    return coins * l.grid.per_unit <= 1e15


cdef inline int64_t lots_of(Lots *l, double price, double coins, int64_t given, int64_t *finer) noexcept nogil:
    """Lots of a trade of `coins`. `finer` receives the factor by which the grid has just become finer, mostly 1: all
    counts of lots must be multiplied by it."""
    cdef int64_t lots
    finer[0] = 1
    if not l.decided:
        _decide(l, coins, given)
    if l.contracts:
        if given > 0:
            return given
        return <int64_t> rint(coins * price / l.contract_value) if l.contract_value > 0 else 0
    l.coins += coins
    if l.coins > 1e10:              # counts of what has traded must not leave int64 when the grid becomes finer
        l.grid.finest = 4e18 / l.coins
    lots = grid_steps(&l.grid, coins, finer)
    if l.grid.coarse:
        l.rounded += 1
    return lots


cdef inline double lots_per_coin(const Lots *l) noexcept nogil:
    """Lots in a base coin; 0 where that varies."""
    return 0.0 if l.contracts else l.grid.per_unit


cdef inline bint lots_of_run(Lots *l, int64_t now, const int64_t *ts, const double *price, const double *coins,
                             int64_t *lots, int64_t n) noexcept nogil:
    """Lots of n trades at once, without a branch in the loops; False, and nothing done, unless every one of them is in order
    of time, good, and on the grid as it stands."""
    cdef int64_t back = ts[0] - now
    cdef int64_t total = 0
    cdef int64_t i
    if not l.decided or l.contracts or l.coins > 1e10:
        return False
    for i in range(1, n):
        back |= ts[i] - ts[i - 1]           # the sign bit stays when any difference is negative
    if back < 0 or not whole_lots(price, coins, lots, n, l.grid.per_unit):
        return False
    for i in range(n):
        total += lots[i]
    l.coins += <double> total / l.grid.per_unit
    return True
