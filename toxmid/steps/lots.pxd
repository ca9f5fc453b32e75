# Sizes as whole lots: from the tape's own count of contracts, from the worth of a contract, or on the grid of sizes.
#
# In a linear market a lot is worth a fixed amount of coin, and whole lots are found from the sizes themselves. In an inverse one a
# contract's worth in coin lies on no grid, so contracts are counted: as the tape gives them, or from size and price. Where the
# instrument does not say which it is, the first trade decides, for every face alike.

from libc.math cimport fabs, rint
from libc.stdint cimport int64_t
from toxmid.steps.codes cimport unlikely
from toxmid.steps.grid cimport Grid, grid_steps, on_grid, on_grid_now

cdef enum:
    MOST_LOTS = 1000000000000000000     # beyond it no more are counted

cdef struct Lots:
    Grid grid
    bint inverse
    double contract_value       # quote currency, where the market is inverse and it is known; else 0
    bint decided                # the first trade has shown what lots are
    bint contracts              # lots are contracts whose worth in coin varies
    int64_t rounded             # sizes that lie on no grid
    int64_t traded              # lots so far, on a grid of sizes


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
    if given > 0 and (given > <int64_t> 1000000 * 1000000000 or coins > 1e15):
        return False
    if l.contract_value > 0:
        return coins * price <= 1e15 * l.contract_value
    if given > 0 and l.decided and l.contracts:
        return True
    return coins * l.grid.per_unit <= 1e15


cdef inline bint _many(const Lots *l) noexcept nogil:
    return <double> l.traded > 1e10 * l.grid.per_unit


cdef inline int64_t lots_of(Lots *l, double price, double coins, int64_t given, int64_t *finer) noexcept nogil:
    """Lots of a trade of `coins`. `finer` receives the factor by which the grid has just become finer, mostly 1: all
    counts of lots must be multiplied by it."""
    cdef int64_t lots
    finer[0] = 1
    if unlikely(not l.decided):
        _decide(l, coins, given)
    if l.contracts:
        if given > 0:
            return given
        return <int64_t> rint(coins * price / l.contract_value) if l.contract_value > 0 else 0
    if unlikely(not on_grid_now(&l.grid, coins, &lots)):
        if _many(l):                # counts of what has traded must not leave int64 when the grid becomes finer
            l.grid.finest = 4e17 * l.grid.per_unit / <double> l.traded
        lots = grid_steps(&l.grid, coins, finer)
        if l.grid.coarse:
            l.rounded += 1
    if l.traded < <int64_t> MOST_LOTS:
        l.traded = l.traded * finer[0] + lots
    return lots


cdef inline double lots_per_coin(const Lots *l) noexcept nogil:
    """Lots in a base coin; 0 where that varies."""
    return 0.0 if l.contracts else l.grid.per_unit


cdef inline void lots_took(Lots *l, int64_t lots) noexcept nogil:
    """So many lots of a run were taken: what `lots_of` would have kept of them."""
    l.traded += lots
