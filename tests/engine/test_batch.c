#include "batch.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "check.h"

/* Takes up to `room` trains and records the last call. */
typedef struct taker {
  size_t room, n;
  qe_packets last[QE_BATCH_TRAINS + 1];
  uint8_t bytes[QE_BATCH_TRAINS + 1]; /* the first of each train */
  qe_engine_stats stats;
} taker;

static size_t take(void *ctx, const qe_packets *trains, size_t n) {
  taker *t = ctx;
  t->n = n;
  for (size_t i = 0; i < n; i++) {
    t->last[i] = trains[i];
    t->bytes[i] = trains[i].data[0];
  }
  return n < t->room ? n : t->room;
}

/* The sockets of this test are numbers. */
static qe_sock *find(const void *owner, uintptr_t id) {
  (void)owner;
  return (qe_sock *)id;
}

static void begin(qe_batch *b, taker *t) {
  memset(t, 0, sizeof(*t));
  t->room = QE_BATCH_TRAINS + 1;
  qe_batch_init(b, (qe_outlet){.send = take, .send_ctx = t, .sock = find, .stats = &t->stats});
}

typedef struct place {
  struct sockaddr_in local, remote;
  ngtcp2_path path;
} place;

static void to_port(place *p, uint16_t port) {
  memset(p, 0, sizeof(*p));
  p->local.sin_family = p->remote.sin_family = AF_INET;
  p->remote.sin_port = htons(port);
  p->path.local.addr = (struct sockaddr *)&p->local;
  p->path.remote.addr = (struct sockaddr *)&p->remote;
  p->path.local.addrlen = p->path.remote.addrlen = sizeof(p->local);
  p->path.user_data = (void *)(uintptr_t)7;
}

static int put(qe_batch *b, const place *p, uint8_t first, size_t len) {
  uint8_t packet[2000];
  memset(packet, first, len);
  return qe_batch_put(b, &p->path, 0, packet, len);
}

static void test_equal_packets_of_a_path_are_one_train(void) {
  qe_batch b;
  taker t;
  place one, two;

  begin(&b, &t);
  to_port(&one, 1);
  to_port(&two, 2);
  CHECK_EQ(put(&b, &one, 'a', 1200), 0);
  CHECK_EQ(put(&b, &one, 'b', 1200), 0);
  CHECK_EQ(put(&b, &one, 'c', 300), 0); /* a shorter one is the last */
  CHECK_EQ(put(&b, &one, 'd', 1200), 0);
  CHECK_EQ(put(&b, &two, 'e', 1200), 0);
  qe_batch_flush(&b);
  CHECK_EQ(t.n, 3);
  CHECK_EQ(t.last[0].len, 2700);
  CHECK_EQ(t.last[0].segment_size, 1200);
  CHECK(t.last[0].sock == (qe_sock *)(uintptr_t)7);
  CHECK(t.bytes[0] == 'a' && t.bytes[1] == 'd' && t.bytes[2] == 'e');
  CHECK_EQ(t.stats.packets_sent, 5);
  CHECK_EQ(t.stats.bytes_sent, 5100);
  CHECK_EQ(t.stats.send_calls, 1);
  qe_batch_flush(&b); /* nothing is left */
  CHECK_EQ(t.stats.send_calls, 1);
  qe_batch_free(&b);
}

static void test_what_is_not_taken_waits(void) {
  qe_batch b;
  taker t;
  place p;

  begin(&b, &t);
  t.room = 1;
  for (uint16_t port = 1; port <= 3; port++) {
    to_port(&p, port);
    CHECK_EQ(put(&b, &p, (uint8_t)port, 100), 0);
  }
  qe_batch_flush(&b);
  CHECK(b.blocked && b.n == 2);
  CHECK_EQ(t.stats.packets_sent, 1);
  t.n = 0;
  qe_batch_flush(&b);
  CHECK_EQ(t.n, 0); /* nothing is sent until it is unblocked */
  b.blocked = 0;
  t.room = 9;
  qe_batch_flush(&b);
  CHECK(t.n == 2 && t.bytes[0] == 2 && t.bytes[1] == 3);
  CHECK_EQ(t.stats.packets_sent, 3);
  qe_batch_free(&b);
}

static void test_a_full_batch_is_flushed(void) {
  qe_batch b;
  taker t;
  place p;

  begin(&b, &t);
  for (uint16_t port = 1; port <= 2 * (QE_BATCH_TRAINS + 1); port++) {
    to_port(&p, port);
    CHECK_EQ(put(&b, &p, 1, 1000), 0);
  }
  CHECK_EQ(t.stats.send_calls, 1);
  CHECK_EQ(t.stats.packets_sent, QE_BATCH_TRAINS + 1);
  qe_batch_free(&b);
}

static void test_a_blocked_batch_that_is_full_takes_no_more(void) {
  qe_batch b;
  taker t;
  place p;

  begin(&b, &t);
  t.room = 0;
  for (uint16_t port = 1; port <= QE_BATCH_TRAINS + 1; port++) {
    to_port(&p, port);
    CHECK_EQ(put(&b, &p, 1, 1000), 0);
  }
  to_port(&p, 99);
  CHECK_EQ(put(&b, &p, 1, 1000), QE_ERR_BLOCKED);
  CHECK(b.blocked && !b.starved);
  qe_batch_free(&b);
}

int main(void) {
  RUN(test_equal_packets_of_a_path_are_one_train);
  RUN(test_what_is_not_taken_waits);
  RUN(test_a_full_batch_is_flushed);
  RUN(test_a_blocked_batch_that_is_full_takes_no_more);
  return check_report();
}
