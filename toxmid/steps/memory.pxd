# Growing blocks of memory that belong to a state.
#
# Every piece of a state that does not fit into its struct lives in a Block, so that a whole engine is
# "one struct and a fixed list of blocks": that is what snapshot and restore write and read.

from libc.stdint cimport int64_t
from libc.stdlib cimport realloc


cdef struct Block:
    char *data
    int64_t used        # bytes that hold state
    int64_t capacity    # bytes allocated


cdef inline int block_reserve(Block *b, int64_t extra) noexcept nogil:
    """Make room for `extra` more bytes; -1 when the machine has none. Doubling keeps pushes O(1)."""
    cdef int64_t need = b.used + extra
    cdef int64_t capacity
    cdef char *data
    if need <= b.capacity:
        return 0
    capacity = b.capacity * 2 if b.capacity else 1024
    if capacity < need:
        capacity = need
    data = <char *> realloc(b.data, capacity)
    if data == NULL:
        return -1
    b.data = data
    b.capacity = capacity
    return 0
