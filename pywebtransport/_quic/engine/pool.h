/*
 * pool.h - small blocks of memory, kept for the next allocation.
 *
 * A hundred streams or datagrams in flight are a hundred blocks of each kind, allocated in one
 * turn and freed in another one. The C library keeps seven blocks of a size where they cost
 * little, and merges and splits the others. A pool keeps more, by size, up to QE_POOL_BLOCKS of
 * each and QE_POOL_BYTES of all. It belongs to one engine; its blocks come from malloc.
 */
#ifndef QE_POOL_H
#define QE_POOL_H

#include <stddef.h>

#define QE_POOL_SIZES 128  /* of blocks: up to QE_POOL_MAX bytes, in steps of 16 */
#define QE_POOL_BLOCKS 64u /* kept of each size */
#define QE_POOL_BYTES ((size_t)256 << 10)
#define QE_POOL_MAX ((size_t)(QE_POOL_SIZES - 1) * 16 + 8)

typedef struct qe_pool {
  struct {
    void *first; /* each block begins with the next one */
    unsigned count;
  } kept[QE_POOL_SIZES];
  size_t bytes; /* in all of them */
} qe_pool;

/* All zero is an empty pool. NULL: out of memory. */
void *qe_pool_alloc(qe_pool *p, size_t size);
/* The same, filled with zeros. */
void *qe_pool_zalloc(qe_pool *p, size_t size);
/* Takes any block from malloc, or NULL. */
void qe_pool_free(qe_pool *p, void *block);
/* Frees all that is kept. */
void qe_pool_clear(qe_pool *p);

#endif
