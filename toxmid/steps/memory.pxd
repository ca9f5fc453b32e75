# Growing blocks of memory that belong to a state.
#
# Every piece of a state that does not fit into its struct lives in a Block, so that a whole engine is
# "one struct and a fixed list of blocks": that is what snapshot and restore write and read.

from libc.stdint cimport int64_t
from libc.stdlib cimport realloc


cdef extern from *:
    """
    #include <stdint.h>
    #if defined(__linux__)
    #include <sys/mman.h>
    #endif
    /* Memory of some megabytes comes in large pages where the system has them and waits to be asked: filling it then costs a
       fraction of the time. */
    static void toxmid_large_pages(char *data, int64_t bytes) {
    #if defined(__linux__) && defined(MADV_HUGEPAGE)
        uintptr_t first = ((uintptr_t) data + 4095) & ~(uintptr_t) 4095, end = (uintptr_t) data + (uintptr_t) bytes;
        if (bytes >= 4 << 20)
            madvise((void *) first, end - first, MADV_HUGEPAGE);        /* advice: nothing depends on its being taken */
    #else
        (void) data, (void) bytes;
    #endif
    }
    """
    void large_pages "toxmid_large_pages"(char *data, int64_t bytes) noexcept nogil


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
    large_pages(data, capacity)
    b.data = data
    b.capacity = capacity
    return 0
