/* test_libmem.c - the memory of the library. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "libmem.h"

static void *grow(qe_libmem *m, void *p, size_t size) {
  return m->mem.realloc(p, size, m->mem.user_data);
}

static void drop(qe_libmem *m, void *p) {
  m->mem.free(p, m->mem.user_data);
}

static void test_connections_share_the_buffers_for_decryption(void) {
  qe_scratch scratch = {{NULL}};
  qe_libmem one, other;

  qe_libmem_init(&one, &scratch);
  qe_libmem_init(&other, &scratch);
  uint8_t *header = grow(&one, NULL, 256), *payload = grow(&one, NULL, 2048);
  REQUIRE(header != NULL && payload != NULL);
  CHECK(header != payload);
  CHECK(grow(&other, NULL, 256) == header);
  CHECK(grow(&other, NULL, 2048) == payload);
  CHECK_EQ(one.bytes, 0);
  /* They are large enough for any packet, so they stay where they are. */
  CHECK(grow(&one, payload, 4096) == payload);
  CHECK(grow(&one, payload, QE_SCRATCH_SIZE) == payload);
  memset(payload, 1, QE_SCRATCH_SIZE);
  drop(&one, header);
  drop(&one, payload);
  memset(payload, 2, QE_SCRATCH_SIZE); /* the other connection still has them */
  drop(&other, header);
  drop(&other, payload);
  qe_scratch_free(&scratch);
}

static void test_other_memory_is_not_shared(void) {
  qe_scratch scratch = {{NULL}};
  qe_libmem m;

  qe_libmem_init(&m, &scratch);
  uint8_t *array = grow(&m, NULL, 32); /* what the library keeps starts small */
  REQUIRE(array != NULL);
  memset(array, 3, 32);
  array = grow(&m, array, 4096);
  CHECK(array != NULL && array[31] == 3);
  CHECK(m.bytes >= 4096);
  uint8_t *first = grow(&m, NULL, 256), *second = grow(&m, NULL, 256);
  uint8_t *third = grow(&m, NULL, 256); /* one more than there are */
  REQUIRE(first != NULL && second != NULL && third != NULL);
  CHECK(third != first && third != second && first != second);
  CHECK(m.bytes >= 4096 + 256);
  memset(second, 4, QE_SCRATCH_SIZE);
  uint8_t *own = grow(&m, second, 2 * QE_SCRATCH_SIZE); /* larger than they are */
  REQUIRE(own != NULL);
  CHECK(own != second && own[0] == 4 && own[QE_SCRATCH_SIZE - 1] == 4);
  drop(&m, own);
  drop(&m, third);
  drop(&m, array);
  CHECK_EQ(m.bytes, 0);
  qe_libmem_init(&m, NULL); /* not shared at all */
  array = grow(&m, NULL, 2048);
  CHECK(array != NULL && m.bytes >= 2048);
  drop(&m, array);
  CHECK_EQ(m.bytes, 0);
  qe_scratch_free(&scratch);
}

int main(void) {
  RUN(test_connections_share_the_buffers_for_decryption);
  RUN(test_other_memory_is_not_shared);
  return check_report();
}
