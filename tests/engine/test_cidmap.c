#include <stdlib.h>

#include "check.h"
#include "cidmap.h"
#include "quicengine.h"

static void test_set_get_replace_delete(void) {
  qe_cidmap m;
  int a, b;
  const uint8_t cid[8] = {1, 2, 3, 4, 5, 6, 7, 8};

  REQUIRE(qe_cidmap_init(&m) == 0);
  CHECK(qe_cidmap_get(&m, cid, 8) == NULL);
  qe_cidmap_del(&m, cid, 8);
  CHECK_EQ(qe_cidmap_set(&m, cid, 8, &a), 0);
  CHECK(qe_cidmap_get(&m, cid, 8) == &a);
  CHECK_EQ(qe_cidmap_set(&m, cid, 8, &b), 0);
  CHECK(qe_cidmap_get(&m, cid, 8) == &b);
  CHECK_EQ(qe_cidmap_size(&m), 1);
  qe_cidmap_del(&m, cid, 8);
  CHECK(qe_cidmap_get(&m, cid, 8) == NULL);
  CHECK_EQ(qe_cidmap_size(&m), 0);
  qe_cidmap_free(&m);
}

static void test_length_is_part_of_the_key(void) {
  qe_cidmap m;
  int values[QE_CIDMAP_MAX_LEN + 1];
  const uint8_t cid[QE_CIDMAP_MAX_LEN] = {0};

  REQUIRE(qe_cidmap_init(&m) == 0);
  for (size_t len = 0; len <= QE_CIDMAP_MAX_LEN; len++) {
    CHECK_EQ(qe_cidmap_set(&m, len == 0 ? NULL : cid, len, &values[len]), 0);
  }
  for (size_t len = 0; len <= QE_CIDMAP_MAX_LEN; len++) {
    CHECK(qe_cidmap_get(&m, len == 0 ? NULL : cid, len) == &values[len]);
  }
  CHECK_EQ(qe_cidmap_size(&m), QE_CIDMAP_MAX_LEN + 1);
  qe_cidmap_free(&m);
}

static void test_the_id_is_copied(void) {
  qe_cidmap m;
  int a;
  uint8_t cid[4] = {9, 9, 9, 9};
  const uint8_t same[4] = {9, 9, 9, 9};

  REQUIRE(qe_cidmap_init(&m) == 0);
  CHECK_EQ(qe_cidmap_set(&m, cid, 4, &a), 0);
  memset(cid, 0, sizeof(cid));
  CHECK(qe_cidmap_get(&m, same, 4) == &a);
  CHECK(qe_cidmap_get(&m, cid, 4) == NULL);
  qe_cidmap_free(&m);
}

static void test_bad_arguments_are_refused(void) {
  qe_cidmap m;
  int a;
  const uint8_t cid[21] = {0};

  REQUIRE(qe_cidmap_init(&m) == 0);
  CHECK_EQ(qe_cidmap_set(&m, cid, 21, &a), QE_ERR_INVALID);
  CHECK_EQ(qe_cidmap_set(&m, cid, 8, NULL), QE_ERR_INVALID);
  CHECK(qe_cidmap_get(&m, cid, 21) == NULL);
  qe_cidmap_del(&m, cid, 21);
  CHECK_EQ(qe_cidmap_size(&m), 0);
  qe_cidmap_free(&m);
}

/* Random operations against an array that is indexed by the ID. */
static void test_random_operations_match_a_model(void) {
  enum { IDS = 3000, STEPS = 60000 };
  static void *model[IDS];
  static char values[IDS];
  qe_cidmap m;
  size_t size = 0;
  uint32_t rnd = 12345;

  memset(model, 0, sizeof(model));
  REQUIRE(qe_cidmap_init(&m) == 0);
  for (int step = 0; step < STEPS; step++) {
    rnd = rnd * 1664525u + 1013904223u;
    unsigned id = (rnd >> 8) % IDS;
    uint8_t cid[8] = {(uint8_t)id, (uint8_t)(id >> 8), 7, 7, 7, 7, 7, 7};
    CHECK(qe_cidmap_get(&m, cid, 8) == model[id]);
    /* First half mostly grows, second half mostly shrinks. */
    int grow = (int)((rnd >> 4) % 4) != 0;
    if (step > STEPS / 2) {
      grow = !grow;
    }
    if (grow) {
      size += model[id] == NULL;
      model[id] = &values[(rnd >> 16) % IDS];
      CHECK_EQ(qe_cidmap_set(&m, cid, 8, model[id]), 0);
    } else {
      size -= model[id] != NULL;
      model[id] = NULL;
      qe_cidmap_del(&m, cid, 8);
    }
    CHECK_EQ(qe_cidmap_size(&m), size);
    /* Chains stay short, and a large table shrinks again. */
    CHECK(m.nbuckets >= m.size && m.nbuckets <= 16 + 8 * m.size + 8);
  }
  for (unsigned id = 0; id < IDS; id++) {
    uint8_t cid[8] = {(uint8_t)id, (uint8_t)(id >> 8), 7, 7, 7, 7, 7, 7};
    CHECK(qe_cidmap_get(&m, cid, 8) == model[id]);
    qe_cidmap_del(&m, cid, 8);
  }
  CHECK_EQ(qe_cidmap_size(&m), 0);
  qe_cidmap_free(&m);
}

int main(void) {
  RUN(test_set_get_replace_delete);
  RUN(test_length_is_part_of_the_key);
  RUN(test_the_id_is_copied);
  RUN(test_bad_arguments_are_refused);
  RUN(test_random_operations_match_a_model);
  return check_report();
}
