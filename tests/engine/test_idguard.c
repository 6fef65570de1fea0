/* test_idguard.c - connection IDs of a client whose retirement it has not acknowledged. */
#include "check.h"
#include "idguard.h"

static void test_too_many_are_refused_until_some_are_acknowledged(void) {
  qe_idguard g;
  uint64_t given = 3;

  qe_idguard_init(&g, given, 100);
  CHECK_EQ(g.n, 4);
  while (given < 15) {
    CHECK_EQ(qe_idguard_given(&g, given, given + 1), 0);
    given++;
  }
  CHECK_EQ(qe_idguard_given(&g, given, 16), -1);
  CHECK_EQ(qe_idguard_given(&g, given, 7), 0); /* known */
  qe_idguard_retires(&g, 0, 50);
  qe_idguard_retires(&g, 1, 50);
  qe_idguard_acked(&g, 40, 49);
  CHECK_EQ(qe_idguard_given(&g, given, 16), -1);
  qe_idguard_acked(&g, 50, 50);
  CHECK_EQ(qe_idguard_given(&g, given, 17), 0);
  CHECK_EQ(qe_idguard_given(&g, 17, 18), -1);
}

static void test_one_id_is_acknowledged_once(void) {
  qe_idguard g;

  qe_idguard_init(&g, 15, 0);
  qe_idguard_retires(&g, 2, 7);
  qe_idguard_retires(&g, 2, 9); /* what was lost, sent again */
  qe_idguard_acked(&g, 9, 9);
  qe_idguard_acked(&g, 7, 7);
  qe_idguard_acked(&g, 0, 100);
  qe_idguard_retires(&g, 99, 10); /* not an ID of the peer */
  qe_idguard_acked(&g, 10, 10);
  CHECK_EQ(g.n, 15);
}

static void test_a_packet_counts_once(void) {
  qe_idguard g;

  qe_idguard_init(&g, 3, 100);
  CHECK_EQ(qe_idguard_received(&g, 100), 0);
  CHECK_EQ(qe_idguard_received(&g, 60), 0); /* before the first packet that is tracked */
  CHECK_EQ(qe_idguard_received(&g, 103), 1);
  CHECK_EQ(qe_idguard_received(&g, 103), 0);
  CHECK_EQ(qe_idguard_received(&g, 101), 1); /* overtaken */
  CHECK_EQ(qe_idguard_received(&g, 101), 0);
  CHECK_EQ(qe_idguard_received(&g, 103 + 64), 1);
  CHECK_EQ(qe_idguard_received(&g, 102), 0); /* too old to tell */
  CHECK_EQ(qe_idguard_received(&g, 104), 1);
  CHECK_EQ(qe_idguard_received(&g, (int64_t)1 << 61), 1);
  CHECK_EQ(qe_idguard_received(&g, ((int64_t)1 << 61) - 1), 1);
  CHECK_EQ(qe_idguard_received(&g, -1), 0);
}

static void test_a_jump_is_as_many_as_it_skips(void) {
  qe_idguard g;

  qe_idguard_init(&g, 3, 0);
  CHECK_EQ(qe_idguard_given(&g, 3, ((uint64_t)1 << 62) - 1), -1);
  CHECK_EQ(qe_idguard_given(&g, 3, 15), 0);
  CHECK_EQ(g.n, QE_IDS_MAX);
  qe_idguard_init(&g, ((uint64_t)1 << 62) - 1, 0);
  CHECK_EQ(g.n, QE_IDS_MAX);
}

int main(void) {
  RUN(test_too_many_are_refused_until_some_are_acknowledged);
  RUN(test_one_id_is_acknowledged_once);
  RUN(test_a_packet_counts_once);
  RUN(test_a_jump_is_as_many_as_it_skips);
  return check_report();
}
