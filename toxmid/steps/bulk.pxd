# Bulk volume classification: a bar's volume split into buys and sells by its price change.
#
# w = F(dp / sigma), buys = w V, sells = (1 - w) V, with F normal or Student. dp = close to close; sigma is the exponentially
# weighted rms of the price changes *before* this bar (half-life one day), so nothing looks ahead.
# Easley, Lopez de Prado, O'Hara (2012), Review of Financial Studies 25, doi:10.1093/rfs/hhs053.

from libc.math cimport NAN, erfc, exp2, sqrt
from libc.stdint cimport int64_t
from toxmid.steps.codes cimport SECOND
from toxmid.steps.memory cimport Block
from toxmid.steps.starts cimport starts_take
from toxmid.steps.volume_clock cimport VolumeClock, clock_fill, clock_prepare

cdef extern from *:
    """
    /* Student's distribution function of SciPy, from when a clock first asked for it: most never do, and importing SciPy takes
       a fair part of the time that a short run takes. */
    static double (*toxmid_student)(double df, double x, int skip_dispatch);
    """
    double (*student "toxmid_student")(double df, double x, int skip_dispatch) noexcept nogil

cdef enum:
    BVC_WARMUP = 30     # bars before sigma is believed

cdef struct Bulk:
    bint on
    double df           # degrees of freedom; 0: normal
    int64_t bar         # ns
    double gain         # 1 - 2^(-1 / bars a day)
    int64_t index       # of the open bar: it ends at index * bar
    int64_t lots
    double coins, notional
    double close, previous_close
    double variance
    int64_t changes     # price changes that are in `variance`


cdef inline void bulk_init(Bulk *b, bint on, double df, int64_t bar) noexcept nogil:
    b.on = on
    b.df = df
    b.bar = bar
    b.gain = 1.0 - exp2(-<double> bar / (86400.0 * SECOND))
    b.index = 0
    b.lots = 0
    b.coins = b.notional = 0
    b.close = b.previous_close = NAN
    b.variance = 0
    b.changes = 0


cdef inline double buy_share(double change, double sigma, double df) noexcept nogil:
    """F(change / sigma); one half where nothing moved."""
    cdef double x = change / sigma if sigma > 0 else 0.0
    if df > 0:
        return student(df, x, 0)
    return 0.5 * erfc(-x * 0.7071067811865476)


cdef inline int bulk_close(Bulk *b, VolumeClock *clock, Block *later) noexcept nogil:
    """Classify the open bar and pour it into the buckets. Before sigma is believed its sides are unknown."""
    cdef double change = b.close - b.previous_close
    cdef double buy = 0.0, sell = 0.0
    cdef int64_t before = clock.rows.used
    cdef int code = 0
    if b.lots > 0:
        code = clock_prepare(clock, b.index * b.bar, b.coins, b.lots)
        if code < 0:
            return code
        if b.changes >= BVC_WARMUP and change == change:
            buy = buy_share(change, sqrt(b.variance), b.df)
            sell = 1.0 - buy
        code = clock_fill(clock, b.index * b.bar, b.notional / b.coins, b.coins, b.lots, buy, sell, NAN, NAN)
        if code == 0 and later.used:
            code = starts_take(later, &clock.rows, before, b.index * b.bar, b.notional / b.coins, b.coins, b.lots, buy, sell)
    if change == change:
        b.variance += (change * change - b.variance) * (b.gain if b.changes else 1.0)
        b.changes += 1
    b.previous_close = b.close
    b.lots = 0
    b.coins = b.notional = 0
    return code


cdef inline int bulk_advance(Bulk *b, int64_t ts, VolumeClock *clock, Block *later) noexcept nogil:
    """Close the bars that ended before `ts`; bars without a trade are a price change of nothing."""
    cdef int64_t index = (ts + b.bar - 1) // b.bar
    cdef int code
    if b.index == 0:
        b.index = index
    while b.index < index:
        code = bulk_close(b, clock, later)
        if code < 0:
            return code
        b.index += 1
    return 0


cdef inline void bulk_add(Bulk *b, double price, double coins, int64_t lots) noexcept nogil:
    b.close = price
    b.lots += lots
    b.coins += coins
    b.notional += coins * price
