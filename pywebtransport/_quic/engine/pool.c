#include "pool.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* AddressSanitizer has to see every block come and go. */
#if defined(__SANITIZE_ADDRESS__)
#define KEPT ((size_t)0)
#else
#define KEPT QE_POOL_BYTES
#endif

/* Blocks of number n have room for 16 n + 8 bytes, or a little more. With glibc, these are the
 * sizes that malloc has anyway. */
static size_t room_of(size_t n) {
  return 16 * n + 8;
}

void *qe_pool_alloc(qe_pool *p, size_t size) {
  size_t n = size <= 8 ? 0 : (size + 7) / 16;

  if (n >= QE_POOL_SIZES) {
    return malloc(size);
  }
  void *block = p->kept[n].first;
  if (block == NULL) {
    return malloc(room_of(n));
  }
  memcpy(&p->kept[n].first, block, sizeof(block));
  p->kept[n].count--;
  p->bytes -= room_of(n);
  return block;
}

void *qe_pool_zalloc(qe_pool *p, size_t size) {
  void *block = qe_pool_alloc(p, size);
  return block == NULL ? NULL : memset(block, 0, size);
}

void qe_pool_free(qe_pool *p, void *block) {
  size_t room = malloc_usable_size(block); /* 0 of NULL */
  size_t n = room < 8 ? QE_POOL_SIZES : (room - 8) / 16;

  if (n >= QE_POOL_SIZES || p->kept[n].count == QE_POOL_BLOCKS || p->bytes + room_of(n) > KEPT) {
    free(block);
    return;
  }
  memcpy(block, &p->kept[n].first, sizeof(block));
  p->kept[n].first = block;
  p->kept[n].count++;
  p->bytes += room_of(n);
}

void qe_pool_clear(qe_pool *p) {
  for (size_t n = 0; n < QE_POOL_SIZES; n++) {
    void *block = p->kept[n].first;
    while (block != NULL) {
      void *next;
      memcpy(&next, block, sizeof(next));
      free(block);
      block = next;
    }
    p->kept[n].first = NULL;
    p->kept[n].count = 0;
  }
  p->bytes = 0;
}
