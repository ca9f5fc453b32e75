# A multiset of doubles that knows ranks, over a trailing window of time.
#
# Values are kept twice: in order of arrival (a ring, to know what leaves) and in order of size, in sorted leaves of some dozens of
# values, so that an insertion moves little. The leaves stay where they are in memory; a short index says in which order they come,
# the largest value of each, and (a Fenwick tree) how many values stand before it. So a rank costs the logarithm of the number
# of leaves, and only the splitting or emptying of a leaf, once in dozens of values, touches the whole index. Exact, no sketches.

from libc.math cimport NAN
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memmove, memset
from toxmid.steps.memory cimport Block, block_reserve
from toxmid.steps.quantiles cimport lower_bound

cdef enum:
    LEAF = 128

cdef struct Leaf:
    double values[128]

cdef struct Place:      # one leaf in the order of size
    double top          # its largest value
    int64_t count       # values in it
    int64_t leaf        # where it is kept
    int64_t below       # node of the Fenwick tree: values in this leaf and some before it

cdef struct Arrival:
    int64_t ts
    double value

cdef struct Ranked:
    int64_t horizon     # ns that a value stays
    int64_t first       # arrivals before this one have left
    int64_t size        # values inside
    Block arrivals      # Arrival
    Block leaves        # Leaf, in no order
    Block index         # Place, in order of size


# --- the index -------------------------------------------------------------------------------------------------------

cdef inline int64_t _places(const Ranked *r) noexcept nogil:
    return r.index.used // <int64_t> sizeof(Place)


cdef inline Leaf *_leaf_at(const Ranked *r, int64_t place) noexcept nogil:
    return &(<Leaf *> r.leaves.data)[(<const Place *> r.index.data)[place].leaf]


cdef inline int64_t _place_of(const Ranked *r, double x) noexcept nogil:
    """First leaf whose largest value is not below x; the last leaf where there is none."""
    cdef const Place *index = <const Place *> r.index.data
    cdef const Place *at = index
    cdef int64_t n = _places(r) - 1, half       # the last one takes what none before it does
    while n > 1:
        half = n >> 1
        at += half * (at[half - 1].top < x)
        n -= half
    return at - index + (n == 1 and at[0].top < x)


cdef inline void _count(Ranked *r, int64_t place, int64_t change) noexcept nogil:
    """Values came into a leaf or left it: the nodes of the tree that cover it."""
    cdef Place *index = <Place *> r.index.data
    cdef int64_t n = _places(r), node = place + 1
    index[place].count += change
    while node <= n:
        index[node - 1].below += change
        node += node & -node


cdef inline int64_t _before(const Ranked *r, int64_t place) noexcept nogil:
    """How many values stand in the leaves before this one."""
    cdef const Place *index = <const Place *> r.index.data
    cdef int64_t total = 0, node = place
    while node > 0:
        total += index[node - 1].below
        node &= node - 1
    return total


cdef inline void _recount(Ranked *r) noexcept nogil:
    """Build the tree anew, from the counts, after a leaf has come or gone."""
    cdef Place *index = <Place *> r.index.data
    cdef int64_t n = _places(r), i, up
    for i in range(n):
        index[i].below = index[i].count
    for i in range(1, n + 1):
        up = i + (i & -i)
        if up <= n:
            index[up - 1].below += index[i - 1].below


cdef inline int _open_leaf(Ranked *r, int64_t place) noexcept nogil:
    """An empty leaf at a place in the order; -1 where there is no memory."""
    cdef int64_t n = _places(r)
    cdef Place *index
    if block_reserve(&r.leaves, sizeof(Leaf)) < 0 or block_reserve(&r.index, sizeof(Place)) < 0:
        return -1
    index = <Place *> r.index.data
    memmove(&index[place + 1], &index[place], (n - place) * sizeof(Place))
    index[place].leaf = r.leaves.used // <int64_t> sizeof(Leaf)
    r.leaves.used += sizeof(Leaf)
    r.index.used += sizeof(Place)
    index[place].count = 0
    memset(_leaf_at(r, place), 0, sizeof(Leaf))
    return 0


cdef inline void _close_leaf(Ranked *r, int64_t place) noexcept nogil:
    """Give up a leaf with its last value; the last one in memory takes its room."""
    cdef Place *index = <Place *> r.index.data
    cdef Leaf *leaves = <Leaf *> r.leaves.data
    cdef int64_t n = _places(r), i
    cdef int64_t room = index[place].leaf, last = n - 1
    for i in range(n):
        if index[i].leaf == last:
            index[i].leaf = room
    if room != last:
        memcpy(&leaves[room], &leaves[last], sizeof(Leaf))
    memmove(&index[place], &index[place + 1], (n - place - 1) * sizeof(Place))
    r.index.used -= sizeof(Place)
    r.leaves.used -= sizeof(Leaf)
    _recount(r)


cdef inline int _split(Ranked *r, int64_t place) noexcept nogil:
    """Move the upper half of a full leaf into one of its own, behind it."""
    cdef const double *left
    cdef Place *index
    if _open_leaf(r, place + 1) < 0:
        return -1
    index = <Place *> r.index.data
    left = _leaf_at(r, place).values
    memcpy(_leaf_at(r, place + 1).values, &left[LEAF // 2], LEAF // 2 * sizeof(double))
    index[place].count = index[place + 1].count = LEAF // 2
    index[place + 1].top = index[place].top
    index[place].top = left[LEAF // 2 - 1]
    _recount(r)
    return 0


# --- values ----------------------------------------------------------------------------------------------------------

cdef inline int64_t _insert(Ranked *r, double x) noexcept nogil:
    """Put a value in its place; how many lie below it, or -1 where there is no memory."""
    cdef Place *place
    cdef double *values
    cdef int64_t at, i
    if _places(r) == 0:
        if _open_leaf(r, 0) < 0:
            return -1
        _recount(r)
    i = _place_of(r, x)
    if (<Place *> r.index.data)[i].count == LEAF:
        if _split(r, i) < 0:
            return -1
        i = _place_of(r, x)
    place = &(<Place *> r.index.data)[i]
    values = _leaf_at(r, i).values
    at = lower_bound(values, place.count, x)
    memmove(&values[at + 1], &values[at], (place.count - at) * sizeof(double))
    values[at] = x
    place.top = values[place.count]
    at += _before(r, i)
    _count(r, i, 1)
    return at


cdef inline void _remove(Ranked *r, double x) noexcept nogil:
    """Take out one value that is known to be inside."""
    cdef int64_t i = _place_of(r, x)
    cdef Place *place = &(<Place *> r.index.data)[i]
    cdef double *values = _leaf_at(r, i).values
    cdef int64_t at = lower_bound(values, place.count, x)
    if place.count == 1:
        _close_leaf(r, i)
        return
    memmove(&values[at], &values[at + 1], (place.count - 1 - at) * sizeof(double))
    place.top = values[place.count - 2]
    _count(r, i, -1)


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


cdef inline int ranked_push(Ranked *r, int64_t now, double x, double *below) noexcept nogil:
    """Take a value; the share of those before it that lie below it (NaN where there are none). -1 where there is no memory."""
    cdef Arrival *slot
    cdef int64_t rank
    if block_reserve(&r.arrivals, sizeof(Arrival)) < 0:
        return -1
    rank = _insert(r, x)
    if rank < 0:
        return -1
    below[0] = <double> rank / <double> r.size if r.size else NAN
    slot = <Arrival *> (r.arrivals.data + r.arrivals.used)
    slot.ts = now
    slot.value = x
    r.arrivals.used += sizeof(Arrival)
    r.size += 1
    return 0
