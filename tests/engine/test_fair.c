/*
 * A flood on one connection does not delay another one. The sockets use the real loopback device,
 * and a recorder replaces the engine. The tests count packets and turns; a turn reads, dispatches
 * and reads ahead, as the binding does.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "fair.h"
#include "udp.h"

enum { NOBODY, ALICE, BOB, CAROL, OWNERS, BATCH = 32, NOW = 42 };

struct qe_engine {
  unsigned fed[OWNERS]; /* packets, and each has its number */
  unsigned total, out_of_order, wrong_ecn;
  int64_t waiting;
  uint64_t dropped;
  unsigned late_from; /* packets after which the time of a call is over; 0: it has no end */
  qe_sock *free_on_packet;
};

static qe_engine engine;
static uint32_t batch = BATCH;
static int fail_malloc; /* the engine gets no memory */
static char owners[OWNERS];

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n) {
  return fail_malloc ? NULL : __real_malloc(n);
}

int qe_engine_packet_in(qe_engine *e, qe_sock *sock, const struct sockaddr *local,
                        socklen_t local_len, const struct sockaddr *remote, socklen_t remote_len,
                        unsigned ecn, const uint8_t *data, size_t len, qe_tstamp now) {
  unsigned who = data[0] % OWNERS, number = data[1] | (unsigned)data[2] << 8;

  (void)sock;
  CHECK_EQ(now, NOW);
  CHECK(len >= 3 && local_len == sizeof(struct sockaddr_in) && remote_len == local_len);
  CHECK_EQ(((const struct sockaddr_in *)local)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
  CHECK_EQ(((const struct sockaddr_in *)remote)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
  e->wrong_ecn += ecn != 2;
  /* Dropped packets leave gaps in the numbers, but the order never changes. */
  e->out_of_order += number < e->fed[who];
  e->fed[who]++;
  e->total++;
  if (e->free_on_packet != NULL) {
    qe_sock_free(e->free_on_packet);
    e->free_on_packet = NULL;
  }
  return 0;
}

const void *qe_engine_owner(const qe_engine *e, const uint8_t *data, size_t len) {
  (void)e;
  CHECK(len >= 3);
  return data[0] == NOBODY ? NULL : &owners[data[0] % OWNERS];
}

bool qe_engine_is_late(const qe_engine *e) {
  return e->late_from > 0 && e->total >= e->late_from;
}

void qe_engine_count_backlog(qe_engine *e, int64_t waiting, uint64_t dropped) {
  e->waiting += waiting;
  e->dropped += dropped;
}

void qe_engine_on_unreachable(qe_engine *e, const struct sockaddr *remote, socklen_t len,
                              int sys_errno) {
  (void)e, (void)remote, (void)len, (void)sys_errno;
}

void qe_engine_on_narrow_path(qe_engine *e, const struct sockaddr *remote, socklen_t len,
                              size_t largest) {
  (void)e, (void)remote, (void)len, (void)largest;
}

void qe_engine_add_sock(qe_engine *e, qe_sock *s) {
  (void)e, (void)s;
}

void qe_engine_forget_sock(qe_engine *e, qe_sock *s) {
  (void)e, (void)s;
}

uint32_t qe_engine_recv_batch(const qe_engine *e) {
  (void)e;
  return batch;
}

void qe_engine_count_io(qe_engine *e, uint64_t send_calls, uint64_t recv_calls) {
  (void)e, (void)send_calls, (void)recv_calls;
}

/* ----------------------------------------------------------------- helpers */

static unsigned numbers[OWNERS]; /* of the next packet */
static struct sockaddr_storage to;
static int sender;

static qe_sock *begin(int features) {
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t len = sizeof(to);
  int ect0 = 2;
  qe_sock *s = NULL;

  memset(&engine, 0, sizeof(engine));
  memset(numbers, 0, sizeof(numbers));
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  CHECK_EQ(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
  CHECK_EQ(getsockname(fd, (struct sockaddr *)&to, &len), 0);
  CHECK_EQ(qe_sock_new(&s, &engine, fd, 0, features | QE_SOCK_ECN), 0);
  sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  CHECK_EQ(setsockopt(sender, IPPROTO_IP, IP_TOS, &ect0, sizeof(ect0)), 0);
  return s;
}

static void end(qe_sock *s) {
  int fd = qe_sock_fd(s);
  qe_sock_free(s);
  CHECK_EQ(engine.waiting, 0);
  close(fd);
  close(sender);
}

static void send_packets(int who, unsigned count) {
  uint8_t data[100] = {(uint8_t)who};

  for (unsigned i = 0; i < count; i++) {
    data[1] = (uint8_t)numbers[who];
    data[2] = (uint8_t)(numbers[who]++ >> 8);
    CHECK_EQ(
        sendto(sender, data, sizeof(data), 0, (struct sockaddr *)&to, sizeof(struct sockaddr_in)),
        sizeof(data));
  }
}

static void turn(qe_sock *s) {
  int n = qe_sock_recv(s);
  CHECK(n >= 0);
  if (qe_sock_dispatch(s, NOW) && n > 0) {
    CHECK_EQ(qe_sock_read_ahead(s, NOW), 0);
  }
}

/* ------------------------------------------------------------------- tests */

static void check_flood(int features, int flooder) {
  qe_sock *s = begin(features);

  REQUIRE(s != NULL);
  send_packets(flooder, 1000);
  send_packets(BOB, 3);
  turn(s);
  CHECK_EQ(engine.fed[BOB], 3);
  CHECK(engine.fed[flooder] <= BATCH + QE_FAIR_QUOTA);
  CHECK_EQ(engine.fed[flooder] + engine.waiting, 1000);
  /* In the next turn he overtakes them too; the packets of the flood stay in order. */
  send_packets(flooder, 10);
  send_packets(BOB, 5);
  turn(s);
  CHECK_EQ(engine.fed[BOB], 8);
  while (qe_sock_serve(s, 16, NOW)) {
  }
  CHECK_EQ(engine.fed[flooder], 1010);
  CHECK_EQ(engine.out_of_order + engine.wrong_ecn + engine.dropped + (uint64_t)engine.waiting, 0);
  end(s);
}

/* The kernel delivers the whole batch, but there is no time for all of it. */
static void test_batch_ends_with_its_time(void) {
  qe_sock *s = begin(0);

  REQUIRE(s != NULL);
  engine.late_from = 8;
  send_packets(ALICE, BATCH - 4);
  send_packets(BOB, 3);
  turn(s);
  CHECK_EQ(engine.fed[ALICE], 8);
  CHECK_EQ(engine.total + engine.waiting, BATCH - 4 + 3);
  /* Waiting packets take turns, as always. */
  qe_sock_serve(s, QE_FAIR_QUOTA, NOW);
  qe_sock_serve(s, 3, NOW);
  CHECK_EQ(engine.fed[BOB], 3);
  CHECK_EQ(engine.fed[ALICE], 8 + QE_FAIR_QUOTA);
  while (qe_sock_serve(s, 16, NOW)) {
  }
  CHECK_EQ(engine.fed[ALICE], BATCH - 4);
  CHECK_EQ(engine.out_of_order + engine.dropped + (uint64_t)engine.waiting, 0);
  end(s);
}

/* Neither does a train fit into the time: the rest of it waits, and is served in pieces. */
static void test_train_ends_with_its_time(void) {
  const uint16_t size = 100;
  uint8_t data[40 * 100] = {0};
  qe_sock *s = begin(QE_SOCK_GRO);

  REQUIRE(s != NULL);
  for (unsigned i = 0; i < 40; i++) {
    data[i * size] = ALICE;
    data[i * size + 1] = (uint8_t)i;
  }
  CHECK_EQ(setsockopt(sender, SOL_UDP, UDP_SEGMENT, &(int){size}, sizeof(int)), 0);
  CHECK_EQ(
      sendto(sender, data, sizeof(data), 0, (struct sockaddr *)&to, sizeof(struct sockaddr_in)),
      sizeof(data));
  engine.late_from = 8;
  turn(s);
  CHECK(engine.fed[ALICE] >= 8 && engine.fed[ALICE] <= 16);
  CHECK_EQ(engine.fed[ALICE] + engine.waiting, 40);
  unsigned before = engine.fed[ALICE];
  qe_sock_serve(s, 1, NOW);
  CHECK(engine.fed[ALICE] > before && engine.fed[ALICE] <= before + 8);
  while (qe_sock_serve(s, 16, NOW)) {
  }
  CHECK_EQ(engine.fed[ALICE], 40);
  CHECK_EQ(engine.out_of_order + engine.dropped + (uint64_t)engine.waiting, 0);
  end(s);
}

static void test_flood_is_passed_by_others(void) {
  check_flood(0, ALICE);
}

static void test_flood_is_passed_with_gro_and_pktinfo(void) {
  check_flood(QE_SOCK_GRO | QE_SOCK_PKTINFO, ALICE);
}

/* A single connection has more in a turn, but leaves room for a new one. */
static void test_single_connection_waits_less(void) {
  const unsigned first = 64; /* a batch without GRO */

  batch = 8 * QE_FAIR_QUOTA;
  for (int alone = 0; alone <= 1; alone++) {
    for (int who = NOBODY; who <= ALICE; who++) {
      unsigned more = alone && who == ALICE ? batch / 2 : QE_FAIR_QUOTA;
      qe_sock *s = begin(0);

      REQUIRE(s != NULL);
      qe_sock_set_alone(s, alone);
      send_packets(who, 500);
      send_packets(BOB, 3);
      turn(s);
      CHECK_EQ(engine.fed[who], first + more);
      CHECK_EQ(engine.fed[BOB], 3);
      while (qe_sock_serve(s, 16, NOW)) {
      }
      CHECK_EQ(engine.fed[who], 500);
      CHECK_EQ(engine.out_of_order + engine.dropped + (uint64_t)engine.waiting, 0);
      end(s);
    }
  }
  batch = BATCH;
}

static void test_packets_of_no_connection_are_one_flood(void) {
  check_flood(QE_SOCK_PKTINFO, NOBODY);
}

static void test_one_batch_is_not_copied(void) {
  qe_sock *s = begin(0);

  REQUIRE(s != NULL);
  send_packets(ALICE, BATCH - 1);
  turn(s); /* makes the buffers */
  CHECK_EQ(engine.fed[ALICE], BATCH - 1);
  fail_malloc = 1;
  send_packets(ALICE, BATCH);
  turn(s); /* full, but nothing is behind it */
  fail_malloc = 0;
  CHECK_EQ(engine.fed[ALICE], 2 * BATCH - 1);
  CHECK_EQ(engine.dropped, 0);
  end(s);
}

static void test_those_who_wait_take_turns(void) {
  qe_sock *s = begin(0);

  REQUIRE(s != NULL);
  send_packets(ALICE, 1000);
  send_packets(BOB, 200);
  send_packets(CAROL, 200);
  turn(s);
  for (unsigned round = 0; round < 200 / QE_FAIR_QUOTA - 1; round++) {
    unsigned alice = engine.fed[ALICE], bob = engine.fed[BOB], carol = engine.fed[CAROL];
    CHECK_EQ(qe_sock_serve(s, 3 * QE_FAIR_QUOTA, NOW), 1);
    CHECK_EQ(engine.fed[ALICE] - alice, QE_FAIR_QUOTA);
    CHECK_EQ(engine.fed[BOB] - bob, QE_FAIR_QUOTA);
    CHECK_EQ(engine.fed[CAROL] - carol, QE_FAIR_QUOTA);
  }
  while (qe_sock_serve(s, 16, NOW)) {
  }
  CHECK_EQ(engine.total, 1400);
  CHECK_EQ(engine.out_of_order, 0);
  end(s);
}

static void test_no_memory_drops_the_excess(void) {
  qe_sock *s = begin(0);

  REQUIRE(s != NULL);
  send_packets(ALICE, 1);
  turn(s); /* makes the buffers */
  send_packets(ALICE, 500);
  turn(s); /* makes the table */
  while (qe_sock_serve(s, 16, NOW)) {
  }
  send_packets(ALICE, 500);
  send_packets(BOB, 1);
  fail_malloc = 1;
  turn(s);
  fail_malloc = 0;
  CHECK_EQ(engine.fed[BOB], 1);
  CHECK_EQ(engine.waiting, 0);
  CHECK_EQ(engine.fed[ALICE] + engine.dropped, 1001);
  CHECK_EQ(engine.dropped, 500 - BATCH - QE_FAIR_QUOTA);
  end(s);
}

static void test_socket_may_be_freed_while_serving(void) {
  qe_sock *s = begin(0);

  REQUIRE(s != NULL);
  int fd = qe_sock_fd(s);
  send_packets(ALICE, 500);
  turn(s);
  engine.free_on_packet = s;
  CHECK_EQ(qe_sock_serve(s, 100, NOW), 0);
  CHECK_EQ(engine.fed[ALICE], BATCH + QE_FAIR_QUOTA + 1);
  CHECK_EQ(engine.waiting, 0);
  close(fd);
  close(sender);
}

static size_t fill_up(qe_fair *f, int who, size_t len) {
  static uint8_t data[65536];
  qe_fair_packet head = {.len = len, .segment = len, .count = 1};
  size_t n = 0;

  while (n < 1000000 && qe_fair_put(f, &owners[who], &head, data)) {
    n++;
  }
  return n * (len + sizeof(head));
}

static void test_bounds(void) {
  qe_fair *f = qe_fair_new();
  size_t alice, bob, carol;

  REQUIRE(f != NULL);
  alice = fill_up(f, ALICE, 60000);
  CHECK(alice < QE_FAIR_MAX_BYTES / 2 + 65536 && alice > QE_FAIR_MAX_BYTES / 2 - 65536);
  bob = fill_up(f, BOB, 1200);
  CHECK(bob < QE_FAIR_MAX_BYTES / 3 && bob > QE_FAIR_MAX_BYTES / 5);
  carol = fill_up(f, CAROL, 1200);
  CHECK(carol > QE_FAIR_MAX_BYTES / 9); /* a later connection has room, too */
  CHECK(alice + bob + carol <= QE_FAIR_MAX_BYTES);
  qe_fair_free(f);

  f = qe_fair_new();
  REQUIRE(f != NULL);
  (void)fill_up(f, ALICE, 1);
  CHECK_EQ(qe_fair_packets(f), QE_FAIR_MAX_PACKETS);
  qe_fair_free(f);
}

/* Wherever connections lie in memory, none takes part of the quota of another. */
static void test_each_connection_has_its_own_quota(void) {
  enum { TOGETHER = 16, TURNS = 4096 };
  qe_fair *f = qe_fair_new();
  uintptr_t state = 1;
  unsigned within = 0, beyond = 0;

  REQUIRE(f != NULL);
  for (int turn = 0; turn < TURNS; turn++) {
    const void *keys[TOGETHER] = {NULL}; /* the first: packets of no connection */
    for (int i = 1; i < TOGETHER; i++) {
      state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
      keys[i] = (const void *)(state >> 20 << 4); /* aligned like what malloc returns */
    }
    qe_fair_begin_turn(f);
    for (int round = 0; round < QE_FAIR_QUOTA; round++) {
      for (int i = 0; i < TOGETHER; i++) {
        within += qe_fair_admit(f, keys[i], 1);
      }
    }
    for (int i = 0; i < TOGETHER; i++) {
      beyond += qe_fair_admit(f, keys[i], 1);
    }
  }
  CHECK_EQ(within, TURNS * TOGETHER * QE_FAIR_QUOTA);
  CHECK_EQ(beyond, 0);
  qe_fair_free(f);
}

/* More connections than there are counters: those that share one wait, and nothing else happens. */
static void test_very_many_connections_share_counters(void) {
  qe_fair *f = qe_fair_new();
  unsigned admitted = 0;

  REQUIRE(f != NULL);
  for (uintptr_t key = 1; key <= 5000; key++) {
    admitted += qe_fair_admit(f, (const void *)(key * 4096), QE_FAIR_QUOTA);
  }
  CHECK(admitted > 200 && admitted <= 256);
  qe_fair_begin_turn(f);
  CHECK(qe_fair_admit(f, (const void *)4096, QE_FAIR_QUOTA));
  qe_fair_free(f);
}

int main(void) {
  RUN(test_flood_is_passed_by_others);
  RUN(test_flood_is_passed_with_gro_and_pktinfo);
  RUN(test_packets_of_no_connection_are_one_flood);
  RUN(test_single_connection_waits_less);
  RUN(test_batch_ends_with_its_time);
  RUN(test_train_ends_with_its_time);
  RUN(test_one_batch_is_not_copied);
  RUN(test_those_who_wait_take_turns);
  RUN(test_no_memory_drops_the_excess);
  RUN(test_socket_may_be_freed_while_serving);
  RUN(test_bounds);
  RUN(test_each_connection_has_its_own_quota);
  RUN(test_very_many_connections_share_counters);
  return check_report();
}
