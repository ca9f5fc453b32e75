# A multiset of doubles that knows ranks, over a trailing window of time.
#
# Values are kept twice: in order of arrival (a ring, to know what leaves) and in order of size (sorted blocks of
# a few hundred values, so that an insertion moves little and a rank adds few counts). Exact, no sketches.

from libc.math cimport NAN
from libc.stdint cimport int64_t
from libc.string cimport memmove, memset
from toxmid.steps.memory cimport Block, block_reserve
from toxmid.steps.quantiles cimport lower_bound

cdef enum:
    LEAF = 512

cdef struct Leaf:
    int64_t count
    double values[512]

cdef struct Arrival:
    int64_t ts
    double value

cdef struct Ranked:
    int64_t horizon     # ns that a value stays
    int64_t first       # arrivals before this one have left
    int64_t size        # values inside
    Block arrivals      # Arrival
    Block leaves        # Leaf, in order of size


cdef inline int64_t _leaf_of(const Leaf *leaves, int64_t n, double x) noexcept nogil:
    """First leaf whose largest value is not below x; the last leaf where there is none."""
    cdef int64_t lo = 0, hi = n - 1, mid
    while lo < hi:
        mid = (lo + hi) >> 1
        if leaves[mid].values[leaves[mid].count - 1] < x:
            lo = mid + 1
        else:
            hi = mid
    return lo


cdef inline int _leaf_open(Ranked *r, int64_t at) noexcept nogil:
    """Insert an empty leaf at position `at`."""
    cdef int64_t n = r.leaves.used // <int64_t> sizeof(Leaf)
    cdef Leaf *leaves
    if block_reserve(&r.leaves, sizeof(Leaf)) < 0:
        return -1
    leaves = <Leaf *> r.leaves.data
    memmove(&leaves[at + 1], &leaves[at], (n - at) * sizeof(Leaf))
    memset(&leaves[at], 0, sizeof(Leaf))
    r.leaves.used += sizeof(Leaf)
    return 0


cdef inline int _insert(Ranked *r, double x) noexcept nogil:
    cdef int64_t n = r.leaves.used // <int64_t> sizeof(Leaf)
    cdef int64_t i, at
    cdef Leaf *leaf
    cdef Leaf *right
    if n == 0:
        if _leaf_open(r, 0) < 0:
            return -1
        n = 1
    i = _leaf_of(<Leaf *> r.leaves.data, n, x)
    leaf = &(<Leaf *> r.leaves.data)[i]
    if leaf.count == LEAF:
        if _leaf_open(r, i + 1) < 0:
            return -1
        leaf = &(<Leaf *> r.leaves.data)[i]
        right = leaf + 1
        right.count = LEAF // 2
        leaf.count = LEAF - LEAF // 2
        memmove(right.values, &leaf.values[leaf.count], right.count * sizeof(double))
        if leaf.values[leaf.count - 1] < x:
            leaf = right
    at = lower_bound(leaf.values, leaf.count, x)
    memmove(&leaf.values[at + 1], &leaf.values[at], (leaf.count - at) * sizeof(double))
    leaf.values[at] = x
    leaf.count += 1
    return 0


cdef inline void _remove(Ranked *r, double x) noexcept nogil:
    """Take out one value that is known to be inside."""
    cdef int64_t n = r.leaves.used // <int64_t> sizeof(Leaf)
    cdef Leaf *leaves = <Leaf *> r.leaves.data
    cdef int64_t i = _leaf_of(leaves, n, x)
    cdef int64_t at = lower_bound(leaves[i].values, leaves[i].count, x)
    leaves[i].count -= 1
    memmove(&leaves[i].values[at], &leaves[i].values[at + 1], (leaves[i].count - at) * sizeof(double))
    if leaves[i].count == 0:
        memmove(&leaves[i], &leaves[i + 1], (n - i - 1) * sizeof(Leaf))
        r.leaves.used -= sizeof(Leaf)


cdef inline void ranked_expire(Ranked *r, int64_t now) noexcept nogil:
    """Forget what arrived `horizon` or longer ago."""
    cdef Arrival *arrivals = <Arrival *> r.arrivals.data
    cdef int64_t n = r.arrivals.used // <int64_t> sizeof(Arrival)
    while r.first < n and arrivals[r.first].ts <= now - r.horizon:
        _remove(r, arrivals[r.first].value)
        r.first += 1
        r.size -= 1
    if r.first > 4096 and r.first > n // 2:
        memmove(arrivals, &arrivals[r.first], (n - r.first) * sizeof(Arrival))
        r.arrivals.used = (n - r.first) * sizeof(Arrival)
        r.first = 0


cdef inline double ranked_below(const Ranked *r, double x) noexcept nogil:
    """Share of the values inside that lie below x; NaN where there are none."""
    cdef int64_t n = r.leaves.used // <int64_t> sizeof(Leaf)
    cdef const Leaf *leaves = <const Leaf *> r.leaves.data
    cdef int64_t i, at, below = 0
    if r.size == 0:
        return NAN
    at = _leaf_of(leaves, n, x)
    for i in range(at):
        below += leaves[i].count
    below += lower_bound(leaves[at].values, leaves[at].count, x)
    return <double> below / <double> r.size


cdef inline int ranked_push(Ranked *r, int64_t now, double x) noexcept nogil:
    cdef Arrival *slot
    if block_reserve(&r.arrivals, sizeof(Arrival)) < 0 or _insert(r, x) < 0:
        return -1
    slot = <Arrival *> (r.arrivals.data + r.arrivals.used)
    slot.ts = now
    slot.value = x
    r.arrivals.used += sizeof(Arrival)
    r.size += 1
    return 0
