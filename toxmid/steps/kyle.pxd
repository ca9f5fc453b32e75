# Kyle's lambda, followed in time: what a unit of net taker flow moves the mid by.
#
# dm_k = a + lambda Q_k + e_k on bars of some seconds, by recursive least squares that forgets: Kyle (1985),
# doi:10.2307/1913210; recursion as in Ljung, System Identification (1999), section 11.2. With x = (1, Q / scale):
# k = P x / (f + x' P x), theta += k (dm - x' theta), P = (P - k x' P) / f. P is kept symmetric, and its trace below what it
# began with: while nothing trades it would grow without end.

from libc.math cimport NAN, fabs
from libc.stdint cimport int64_t

cdef enum:
    READY_BARS = 30
    WIDEST = 1000000            # diagonal of the first P: next to nothing is assumed

cdef struct Kyle:
    int64_t bar                 # ns
    double forget               # weight that a bar keeps when the next one comes
    int64_t bars                # regressed on so far
    double log_mid, signed_units            # as they were at the end of the bar before
    double scale                # |Q| of the first bar that had any: keeps P of the order of one
    double constant, slope      # bps; slope per `scale` units
    double p00, p01, p11


cdef inline void kyle_init(Kyle *k, int64_t bar, double memory) noexcept nogil:
    k.bar = bar
    k.forget = 1.0 - 1.0 / memory
    k.log_mid = NAN
    k.p00 = k.p11 = WIDEST


cdef inline void _regress(Kyle *k, double move, double x) noexcept nogil:
    """One step of the recursion: `move` in bps, `x` the net flow in scales."""
    cdef double px0 = k.p00 + k.p01 * x
    cdef double px1 = k.p01 + k.p11 * x
    cdef double rest = k.forget + px0 + x * px1
    cdef double error = move - k.constant - k.slope * x
    cdef double trace
    k.constant += px0 / rest * error
    k.slope += px1 / rest * error
    k.p00 = (k.p00 - px0 * px0 / rest) / k.forget
    k.p01 = (k.p01 - px0 * px1 / rest) / k.forget       # one entry for both: P stays symmetric
    k.p11 = (k.p11 - px1 * px1 / rest) / k.forget
    trace = k.p00 + k.p11
    if trace > 2.0 * WIDEST:
        k.p00 *= 2.0 * WIDEST / trace
        k.p01 *= 2.0 * WIDEST / trace
        k.p11 *= 2.0 * WIDEST / trace


cdef inline void kyle_step(Kyle *k, int64_t ts, double log_mid, double signed_units) noexcept nogil:
    """A step has ended at `ts`; `signed_units` is the net flow since the beginning. A bar without a mid at either end says
    nothing."""
    cdef double flow
    if ts % k.bar != 0:
        return
    flow = signed_units - k.signed_units
    if k.scale == 0.0:
        k.scale = fabs(flow)
    if k.scale > 0 and log_mid == log_mid and k.log_mid == k.log_mid:
        _regress(k, 1e4 * (log_mid - k.log_mid), flow / k.scale)
        k.bars += 1
    k.log_mid = log_mid
    k.signed_units = signed_units


cdef inline double kyle_lambda(const Kyle *k) noexcept nogil:
    """bps per unit of net taker flow; NaN until there are enough bars."""
    return k.slope / k.scale if k.bars >= READY_BARS else NAN
