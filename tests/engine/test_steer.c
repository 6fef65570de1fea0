#include "check.h"
#include "steer.h"

/* Makes an ID that selects this place, or this index among all workers that take clients. */
static uint8_t id[8];

static const uint8_t *choice(uint8_t first, uint32_t word) {
  id[0] = first;
  for (int i = 0; i < 4; i++) {
    id[1 + i] = (uint8_t)(word >> (24 - 8 * i));
  }
  return id;
}

static int owner(const qe_steer *s, uint8_t first, uint32_t word, int long_header, int handed) {
  return qe_steer_owner(s, choice(first, word), sizeof(id), long_header, handed);
}

static void test_at_first_everybody_takes_clients(void) {
  qe_steer s;

  qe_steer_init(&s, 1, 3);
  CHECK_EQ(owner(&s, 0, 1, 0, 0), 0);
  CHECK_EQ(owner(&s, 1, 0, 0, 0), -1);
  CHECK_EQ(owner(&s, 1, 0, 1, 0), -1); /* a client's choice that looks like an ID of this worker */
  CHECK_EQ(owner(&s, 2, 1, 1, 0), 2);
  CHECK_EQ(owner(&s, 9, 2, 1, 0), 2);
  CHECK_EQ(owner(&s, 9, 1, 1, 0), -1);
  CHECK_EQ(owner(&s, 9, 2, 0, 0), -1); /* an unknown ID: answered here */
  CHECK_EQ(qe_steer_owner(&s, choice(9, 2), 4, 1, 0), -1);
  CHECK_EQ(qe_steer_owner(&s, choice(9, 2), 0, 1, 0), -1);

  qe_steer_init(&s, -1, 0);
  CHECK_EQ(owner(&s, 0, 0, 1, 0), -1);
}

static void test_a_worker_that_drains_takes_no_clients(void) {
  const int16_t homes[] = {0, 5, 2};
  uint8_t alive[6] = {1, 1, 1, 0, 0, 1};
  qe_steer s;

  qe_steer_init(&s, 1, 6);
  CHECK_EQ(qe_steer_set(&s, homes, 3, alive, sizeof(alive), 0), 0);
  CHECK_EQ(owner(&s, 1, 1, 0, 0), -1);
  CHECK_EQ(owner(&s, 1, 1, 1, 0), 5);  /* came here by its first byte alone */
  CHECK_EQ(owner(&s, 1, 3, 1, 1), 0);  /* and again, passed on by a worker with old tables */
  CHECK_EQ(owner(&s, 3, 7, 0, 0), -1); /* of a worker that is gone */
  CHECK_EQ(owner(&s, 3, 7, 1, 0), 5);

  /* Its successor: packets passed to it stay. */
  qe_steer_init(&s, 5, 6);
  CHECK_EQ(qe_steer_set(&s, homes, 3, alive, sizeof(alive), 0), 0);
  CHECK_EQ(owner(&s, 1, 1, 1, 1), -1);
  CHECK_EQ(owner(&s, 1, 0, 1, 1), -1);
  CHECK_EQ(owner(&s, 1, 1, 0, 1), -1);
  CHECK_EQ(owner(&s, 1, 1, 1, 0), 1);
}

static void test_clients_of_a_vacant_place_are_shared(void) {
  const int16_t homes[] = {4, -1, 2}, nobody[] = {-1, -1, -1};
  const uint8_t alive[5] = {0, 0, 1, 0, 1};
  qe_steer s;

  qe_steer_init(&s, 9, 10);
  CHECK_EQ(qe_steer_set(&s, homes, 3, alive, sizeof(alive), 0), 0);
  CHECK_EQ(owner(&s, 9, 0, 1, 0), 4);
  CHECK_EQ(owner(&s, 9, 2, 1, 0), 2);
  CHECK_EQ(owner(&s, 9, 1, 1, 0), 4);
  CHECK_EQ(owner(&s, 9, 4, 1, 0), 2);
  CHECK_EQ(owner(&s, 9, 7, 1, 0), 4);
  CHECK_EQ(qe_steer_set(&s, nobody, 3, alive, sizeof(alive), 0), 0);
  CHECK_EQ(owner(&s, 9, 1, 1, 0), -1);
  CHECK_EQ(owner(&s, 2, 1, 1, 0), 2);
}

/* Holds whatever the tables say, and before the other workers know. */
static void test_worker_that_leaves_leads_nobody_to_itself(void) {
  const int16_t homes[] = {0, 1, 2}, alone[] = {1, 1}, nobody[] = {-1};
  const uint8_t alive[3] = {1, 1, 1};
  qe_steer s;

  qe_steer_init(&s, 1, 3);
  qe_steer_leave(&s);
  for (int again = 0; again < 2; again++) {
    CHECK_EQ(owner(&s, 9, 0, 1, 0), 0);
    CHECK_EQ(owner(&s, 9, 1, 1, 0), 0);
    CHECK_EQ(owner(&s, 1, 4, 1, 0), 2);
    CHECK_EQ(owner(&s, 1, 4, 1, 1), 2);
    CHECK_EQ(owner(&s, 1, 4, 0, 0), -1); /* of a connection of its own */
    CHECK(qe_steer_has_others(&s));
    CHECK_EQ(qe_steer_set(&s, homes, 3, alive, sizeof(alive), 0), 0); /* crossed its leave */
  }
  CHECK_EQ(qe_steer_set(&s, alone, 2, alive, sizeof(alive), 0), 0);
  CHECK_EQ(owner(&s, 1, 0, 1, 0), -1);
  CHECK(qe_steer_has_others(&s)); /* to come */
  CHECK_EQ(qe_steer_set(&s, nobody, 1, alive, sizeof(alive), 1), 0);
  CHECK(!qe_steer_has_others(&s));
  qe_steer_init(&s, -1, 0);
  CHECK(!qe_steer_has_others(&s));
}

static void test_tables_out_of_range_change_nothing(void) {
  const int16_t homes[] = {0}, low[] = {-2}, high[] = {QE_MAX_WORKERS};
  static const int16_t many[QE_MAX_WORKERS + 1];
  static const uint8_t alive[QE_MAX_WORKERS + 1];
  qe_steer s;

  qe_steer_init(&s, 1, 2);
  CHECK_EQ(qe_steer_set(&s, homes, 0, alive, 1, 0), QE_ERR_INVALID);
  CHECK_EQ(qe_steer_set(&s, many, QE_MAX_WORKERS + 1, alive, 1, 0), QE_ERR_INVALID);
  CHECK_EQ(qe_steer_set(&s, homes, 1, alive, QE_MAX_WORKERS + 1, 0), QE_ERR_INVALID);
  CHECK_EQ(qe_steer_set(&s, low, 1, alive, 1, 0), QE_ERR_INVALID);
  CHECK_EQ(qe_steer_set(&s, high, 1, alive, 1, 0), QE_ERR_INVALID);
  CHECK_EQ(owner(&s, 0, 0, 0, 0), 0);
}

/* Of a server that a balancer knows as aa bb: configuration 2, 9 bytes long. */
static const uint8_t mine[2] = {0xaa, 0xbb};

static int lb_owner(const qe_steer *s, uint8_t first, uint8_t second, uint8_t worker,
                    int long_header) {
  const uint8_t cid[9] = {first, 0xaa, second, worker, 1, 2, 3, 4, 5};

  return qe_steer_owner(s, cid, sizeof(cid), long_header, 0);
}

static void test_ids_behind_a_balancer(void) {
  qe_steer s;
  uint8_t cid[9] = {0, 0, 0, 0, 1, 2, 3, 4, 5};

  qe_steer_init(&s, 1, 3);
  qe_steer_set_lb(&s, 2, mine, sizeof(mine));
  qe_steer_stamp(&s, cid, sizeof(cid));
  const uint8_t wanted[9] = {0x48, 0xaa, 0xbb, 1, 1, 2, 3, 4, 5};
  CHECK_EQ(memcmp(cid, wanted, sizeof(cid)), 0);
  CHECK_EQ(lb_owner(&s, 0x48, 0xbb, 2, 0), 2);
  CHECK_EQ(lb_owner(&s, 0x48, 0xbb, 0, 1), 0);
  CHECK_EQ(lb_owner(&s, 0x48, 0xbb, 1, 0), -1); /* this worker's */
  CHECK_EQ(lb_owner(&s, 0x48, 0xbb, 9, 0), -1); /* of a worker that is gone */
  CHECK_EQ(lb_owner(&s, 0x48, 0xbc, 2, 0), -1); /* of another server */
  CHECK_EQ(lb_owner(&s, 0x68, 0xbb, 2, 0), -1); /* of another configuration */
  CHECK_EQ(lb_owner(&s, 0x47, 0xbb, 2, 0), -1); /* of another length */
  /* From before the server had its ID. */
  CHECK_EQ(lb_owner(&s, 0, 0xbb, 2, 0), 0);
  CHECK_EQ(lb_owner(&s, 2, 0xbb, 1, 0), 2);
  /* One that looks like an ID of this worker, but may be older. */
  qe_steer_init(&s, 1, 80);
  qe_steer_set_lb(&s, 2, mine, sizeof(mine));
  CHECK_EQ(lb_owner(&s, 0x48, 0xbb, 1, 0), 0x48);

  CHECK(qe_steer_is_elsewhere(&s, (const uint8_t *)"\x48\xaa\xbc\1\1\2\3\4\5", 9));
  CHECK(!qe_steer_is_elsewhere(&s, (const uint8_t *)"\x48\xaa\xbb\1\1\2\3\4\5", 9));
  CHECK(!qe_steer_is_elsewhere(&s, (const uint8_t *)"\x68\xaa\xbc\1\1\2\3\4\5", 9));
  CHECK(!qe_steer_is_elsewhere(&s, (const uint8_t *)"\x48\xaa", 2));

  /* A single server has no worker's number in its IDs. */
  qe_steer_init(&s, -1, 0);
  qe_steer_set_lb(&s, 6, mine, sizeof(mine));
  memset(cid, 7, sizeof(cid));
  qe_steer_stamp(&s, cid, sizeof(cid));
  const uint8_t alone[9] = {0xc8, 0xaa, 0xbb, 7, 7, 7, 7, 7, 7};
  CHECK_EQ(memcmp(cid, alone, sizeof(cid)), 0);
  qe_steer_stamp(&s, cid, 0);
}

int main(void) {
  RUN(test_ids_behind_a_balancer);
  RUN(test_at_first_everybody_takes_clients);
  RUN(test_a_worker_that_drains_takes_no_clients);
  RUN(test_clients_of_a_vacant_place_are_shared);
  RUN(test_worker_that_leaves_leads_nobody_to_itself);
  RUN(test_tables_out_of_range_change_nothing);
  return check_report();
}
