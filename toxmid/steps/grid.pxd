# Decimal grids: sizes as whole lots and prices as whole ticks, found in the pass where nobody gave them.
#
# A venue prints decimals, so its sizes are whole multiples of a power of ten. Counting in those makes volume
# clocks exact: ten trades of 0.1 fill a bucket of 1.0 at the tenth, which doubles do not (their sum is 0.9999...).

from libc.math cimport fabs, rint
from libc.stdint cimport int64_t

cdef enum:
    MAX_DECIMALS = 8

cdef extern from *:
    """
    #define TOXMID_DUST 2e-15       /* of a number of steps: a few units in its last place, which decimals leave in doubles */
    """
    const double DUST "TOXMID_DUST"

cdef struct Grid:
    double per_unit     # steps per unit: 1 / lot, or 1 / tick
    int decimals        # of the step found so far; -1 where the step was given
    double finest       # steps per unit beyond which the grid is not refined
    bint coarse         # the last value lay on no grid and was rounded


cdef inline void grid_init(Grid *g, double step, double finest) noexcept nogil:
    """`step` > 0: given, and kept. Otherwise found: start from whole units, refine as decimals appear."""
    g.finest = finest
    g.decimals = -1 if step > 0 else 0
    # 1 / 0.001 is 1000 exactly, where 0.001 is not a double: whole reciprocals are the exact ones.
    g.per_unit = 1.0 / step if step > 0 else 1.0
    if step > 0 and fabs(g.per_unit - rint(g.per_unit)) < 1e-9 * g.per_unit:
        g.per_unit = rint(g.per_unit)
    g.coarse = False


cdef inline double nearest(double x) noexcept nogil:
    """The whole number nearest to x, ties to even, as `rint` has it, which is a call into a library on plain x86-64: below 2^51
    the sum with 1.5 * 2^52 has no room for a fraction."""
    if -2e15 < x < 2e15:
        return (x + 6755399441055744.0) - 6755399441055744.0
    return rint(x)


cdef inline bint on_grid(double steps) noexcept nogil:
    """Is a number of steps whole, but for the dust that decimals leave in doubles?"""
    return fabs(steps - nearest(steps)) <= DUST * fabs(steps)


cdef inline bint on_grid_now(const Grid *g, double value, int64_t *steps) noexcept nogil:
    """Is a value on the grid as it stands? How many steps it is, if so; the usual case of `grid_steps`, and nothing to it."""
    cdef double exact = value * g.per_unit
    cdef double whole = nearest(exact)
    steps[0] = <int64_t> whole
    return fabs(exact - whole) <= DUST * fabs(exact)


cdef inline int64_t grid_steps(Grid *g, double value, int64_t *finer) noexcept nogil:
    """Whole steps in `value`. `finer[0]` is 1, or the power of ten by which the grid has just become finer:
    the caller multiplies every count it keeps by it. A value off every grid is rounded, and `coarse` says so."""
    cdef double per_unit = g.per_unit
    cdef int decimals = g.decimals
    cdef int64_t factor = 1, steps
    finer[0] = 1
    g.coarse = False
    if on_grid_now(g, value, &steps):
        return steps
    if g.decimals >= 0:
        while decimals < MAX_DECIMALS and fabs(value) * per_unit < 1e14 and per_unit < g.finest:
            decimals += 1
            per_unit *= 10.0
            factor *= 10
            if on_grid(value * per_unit):
                g.decimals = decimals
                g.per_unit = per_unit
                finer[0] = factor
                return <int64_t> nearest(value * per_unit)
        if g.decimals < decimals:
            # No decimal grid holds it (sizes computed rather than printed): from now on the finest one rounds.
            g.decimals = decimals
            g.per_unit = per_unit
            finer[0] = factor
    g.coarse = True
    return <int64_t> nearest(value * g.per_unit)
