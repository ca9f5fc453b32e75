# What a processor does with several numbers, or before it is asked: wide registers, vectors of four, lines of memory ahead of time.
#
# Nothing here changes a result: every element sees the same operations in the same order on every machine, and where a compiler has
# no vectors, plain loops do the same.

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    /* A function compiled for this processor's wide registers too, where the loader can choose: the same operations on each
       element, without contraction, so the same bits. */
    #if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
    #define TOXMID_WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
    #else
    #define TOXMID_WIDE
    #endif
    /* Four words or doubles, or 32 bytes, in one register. Sides are picked out of words, so the low byte must come first. */
    #if defined(__GNUC__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    #define TOXMID_FOURS 1
    typedef uint64_t toxmid_words __attribute__((vector_size(32)));
    typedef double toxmid_reals __attribute__((vector_size(32)));
    typedef int8_t toxmid_bytes __attribute__((vector_size(32)));
    #else
    #define TOXMID_FOURS 0
    #endif
    /* Let a line of memory come into the nearest cache, or into one behind it, while something else is done. */
    #if defined(__GNUC__)
    #define toxmid_fetch(p) __builtin_prefetch(p)
    #define toxmid_fetch_far(p) __builtin_prefetch(p, 0, 1)
    #else
    #define toxmid_fetch(p) ((void) (p))
    #define toxmid_fetch_far(p) ((void) (p))
    #endif
    static inline uint64_t toxmid_bits(double x) {
        uint64_t bits;
        memcpy(&bits, &x, 8);
        return bits;
    }
    static inline double toxmid_real(uint64_t bits) {
        double x;
        memcpy(&x, &bits, 8);
        return x;
    }
    """
    void fetch "toxmid_fetch"(const void *p) noexcept nogil
