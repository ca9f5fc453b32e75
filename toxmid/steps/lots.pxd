# Sizes as whole lots: from the tape's own count of contracts, from the worth of a contract, or on the grid of sizes.

from libc.math cimport rint
from libc.stdint cimport int64_t
from toxmid.steps.grid cimport Grid, grid_steps

cdef struct Lots:
    Grid grid
    double contract_value       # quote currency, where the market is inverse; else 0
    bint contracts              # lots are contracts whose worth in coin varies
    int64_t rounded             # sizes that lie on no grid


cdef inline bint lots_countable(const Lots *l, double price, double coins, int64_t given) noexcept nogil:
    """Is a size small enough for sums of its lots to stay within int64?"""
    if given > 0:
        return given <= <int64_t> 1000000 * 1000000000
    if l.contract_value > 0:
        return coins * price / l.contract_value <= 1e15
    return coins * l.grid.per_unit <= 1e15


cdef inline int64_t lots_of(Lots *l, double price, double coins, int64_t given, int64_t *finer) noexcept nogil:
    """Lots of a trade of `coins`. `finer` receives the factor by which the grid has just become finer, mostly 1: all
    counts of lots must be multiplied by it."""
    cdef int64_t lots
    finer[0] = 1
    if given > 0:
        l.contracts = True
        return given
    if l.contract_value > 0:
        l.contracts = True
        return <int64_t> rint(coins * price / l.contract_value)
    lots = grid_steps(&l.grid, coins, finer)
    if l.grid.coarse:
        l.rounded += 1
    return lots


cdef inline double lots_per_coin(const Lots *l) noexcept nogil:
    """Lots in a base coin; 0 where that varies."""
    return 0.0 if l.contracts else l.grid.per_unit
