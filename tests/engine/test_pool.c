#include "pool.h"

#include <malloc.h>
#include <stdlib.h>

#include "check.h"

#if defined(__SANITIZE_ADDRESS__)
#define KEEPS 0
#else
#define KEEPS 1
#endif

static void test_every_size_has_room(void) {
  qe_pool p = {0};
  static void *blocks[2 * QE_POOL_MAX];

  for (size_t round = 0; round < 2; round++) { /* new ones, and those of the first round */
    for (size_t size = 0; size < 2 * QE_POOL_MAX; size++) {
      blocks[size] = qe_pool_alloc(&p, size);
      CHECK(blocks[size] != NULL);
      CHECK(malloc_usable_size(blocks[size]) >= size);
      memset(blocks[size], (int)size, size);
    }
    for (size_t size = 0; size < 2 * QE_POOL_MAX; size++) {
      const uint8_t *bytes = blocks[size];
      int same = 1;
      for (size_t i = 0; i < size; i++) {
        same &= bytes[i] == (uint8_t)size;
      }
      CHECK(same);
      qe_pool_free(&p, blocks[size]);
    }
  }
  qe_pool_clear(&p);
}

static void test_a_block_is_used_again(void) {
  qe_pool p = {0};
  void *block = qe_pool_alloc(&p, 100);

  qe_pool_free(&p, block);
  void *again = qe_pool_alloc(&p, 97);
  void *other = qe_pool_alloc(&p, 100);
  CHECK(!KEEPS || again == block);
  CHECK(other != again);
  qe_pool_free(&p, again);
  qe_pool_free(&p, other);
  qe_pool_clear(&p);
}

static void test_zeros(void) {
  qe_pool p = {0};
  uint8_t *block = qe_pool_alloc(&p, 200);

  memset(block, 1, 200);
  qe_pool_free(&p, block);
  block = qe_pool_zalloc(&p, 200);
  for (size_t i = 0; i < 200; i++) {
    CHECK_EQ(block[i], 0);
  }
  qe_pool_free(&p, block);
  qe_pool_clear(&p);
}

static void test_no_more_are_kept_than_allowed(void) {
  qe_pool p = {0};
  void *blocks[QE_POOL_BLOCKS + 10];

  for (size_t i = 0; i < QE_POOL_BLOCKS + 10; i++) {
    blocks[i] = qe_pool_alloc(&p, 64);
  }
  for (size_t i = 0; i < QE_POOL_BLOCKS + 10; i++) {
    qe_pool_free(&p, blocks[i]);
  }
  CHECK(p.bytes <= QE_POOL_BYTES);
  unsigned kept = 0;
  for (size_t n = 0; n < QE_POOL_SIZES; n++) { /* malloc may give a block of the next size */
    CHECK(p.kept[n].count <= QE_POOL_BLOCKS);
    kept += p.kept[n].count;
  }
  CHECK(kept >= (KEEPS ? QE_POOL_BLOCKS : 0));
  qe_pool_clear(&p);
  CHECK_EQ(p.bytes, 0);
  for (size_t n = 0; n < QE_POOL_SIZES; n++) {
    CHECK_EQ(p.kept[n].count, 0);
    CHECK(p.kept[n].first == NULL);
  }
}

static void test_all_sizes_together_have_a_limit(void) {
  qe_pool p = {0};
  static void *blocks[QE_POOL_BLOCKS * 10];

  for (size_t i = 0; i < QE_POOL_BLOCKS * 10; i++) {
    blocks[i] = qe_pool_alloc(&p, QE_POOL_MAX - 16 * (i % 10));
  }
  for (size_t i = 0; i < QE_POOL_BLOCKS * 10; i++) {
    qe_pool_free(&p, blocks[i]);
    CHECK(p.bytes <= QE_POOL_BYTES);
  }
  CHECK(!KEEPS || p.bytes > QE_POOL_BYTES - 2 * QE_POOL_MAX);
  qe_pool_clear(&p);
}

static void test_nothing_and_blocks_of_others(void) {
  qe_pool p = {0};

  qe_pool_free(&p, NULL);
  qe_pool_free(&p, malloc(1)); /* any block from malloc will do */
  qe_pool_free(&p, malloc(1 << 20));
  qe_pool_clear(&p);
}

int main(void) {
  RUN(test_every_size_has_room);
  RUN(test_a_block_is_used_again);
  RUN(test_zeros);
  RUN(test_no_more_are_kept_than_allowed);
  RUN(test_all_sizes_together_have_a_limit);
  RUN(test_nothing_and_blocks_of_others);
  return check_report();
}
