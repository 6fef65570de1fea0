#include "dgram.h"

#include <stdlib.h>

#include "check.h"
#include "sim.h"

/* ------------------------------------------------------------------- queue */

static int gone_count[3];

static void gone(void *ctx, const qe_dgram *d, enum qe_dgram_fate fate) {
  (void)ctx;
  (void)d;
  gone_count[fate]++;
}

static int push(qe_dgram_queue *q, int n, int priority, qe_tstamp deadline, qe_tstamp now) {
  uint8_t byte = (uint8_t)n;
  return qe_dgram_push(q, NULL, (const uint8_t *)"p", 1, &byte, 1, priority, deadline, now, gone,
                       NULL);
}

static int next(qe_dgram_queue *q, qe_tstamp now) {
  qe_dgram *d = qe_dgram_peek(q, 1000, now, gone, NULL);
  if (d == NULL) {
    return -1;
  }
  CHECK_EQ(d->len, 2);
  CHECK_EQ(d->data[0], 'p');
  int n = d->data[1];
  qe_dgram_pop(q);
  return n;
}

static qe_pool pool;

static void reset(qe_dgram_queue *q, size_t count, size_t bytes) {
  memset(gone_count, 0, sizeof(gone_count));
  qe_pool_clear(&pool);
  qe_dgram_queue_init(q, &pool, count, bytes);
}

static void test_priorities(void) {
  qe_dgram_queue q;
  reset(&q, 100, 1000);
  for (int i = 0; i < 9; i++) {
    CHECK_EQ(push(&q, i, i % 3, QE_NEVER, 1), 0);
  }
  const int expect[] = {2, 5, 8, 1, 4, 7, 0, 3, 6};
  for (int i = 0; i < 9; i++) {
    CHECK_EQ(next(&q, 1), expect[i]);
  }
  CHECK_EQ(next(&q, 1), -1);
  CHECK_EQ(q.count, 0);
  CHECK_EQ(q.bytes, 0);
}

static void test_age(void) {
  qe_dgram_queue q;
  reset(&q, 100, 1000);
  push(&q, 1, 0, 10, 1);
  push(&q, 2, 0, QE_NEVER, 1);
  push(&q, 3, 2, 10, 1);
  CHECK_EQ(next(&q, 9), 3);
  CHECK_EQ(next(&q, 10), 2);
  CHECK_EQ(gone_count[QE_DGRAM_EXPIRED], 1);
  CHECK_EQ(next(&q, 10), -1);
}

static void test_limits(void) {
  qe_dgram_queue q;
  reset(&q, 4, 1000);
  for (int i = 0; i < 4; i++) {
    CHECK_EQ(push(&q, i, 0, i < 2 ? 100 : QE_NEVER, 1), 0);
  }
  CHECK_EQ(push(&q, 4, 0, QE_NEVER, 1), QE_ERR_BLOCKED);
  CHECK_EQ(qe_dgram_take_writable(&q), 0);
  CHECK_EQ(push(&q, 5, 0, QE_NEVER, 100), 0); /* two had expired */
  CHECK_EQ(gone_count[QE_DGRAM_EXPIRED], 2);
  CHECK_EQ(next(&q, 100), 2);
  CHECK_EQ(qe_dgram_take_writable(&q), 1); /* half empty again */
  CHECK_EQ(qe_dgram_take_writable(&q), 0); /* told once */
  CHECK_EQ(qe_dgram_clear(&q, NULL, 1, gone, NULL), 2);
  CHECK_EQ(gone_count[QE_DGRAM_DROPPED], 2);

  uint8_t big[600] = {0};
  reset(&q, 100, 1000);
  CHECK_EQ(qe_dgram_push(&q, NULL, NULL, 0, big, 600, 1, QE_NEVER, 1, gone, NULL), 0);
  CHECK_EQ(qe_dgram_push(&q, NULL, NULL, 0, big, 600, 1, QE_NEVER, 1, gone, NULL), QE_ERR_BLOCKED);
  CHECK(qe_dgram_peek(&q, 599, 1, gone, NULL) == NULL); /* does not fit any more */
  CHECK_EQ(gone_count[QE_DGRAM_DROPPED], 1);
  CHECK_EQ(q.bytes, 0);
}

static void test_log(void) {
  qe_dgram_log l;
  qe_dgram_log_init(&l);
  for (uint64_t i = 0; i < 10; i++) {
    CHECK_EQ(qe_dgram_log_sent(&l), i);
  }
  CHECK_EQ(qe_dgram_log_acked(&l, 3), 1);
  CHECK(l.lost == NULL);
  CHECK_EQ(qe_dgram_log_lost(&l, 4), 1);
  CHECK_EQ(qe_dgram_log_lost(&l, 4), 0);
  CHECK_EQ(qe_dgram_log_acked(&l, 4), 0); /* late: counted as lost already */
  CHECK_EQ(qe_dgram_log_acked(&l, 5), 1);
  for (uint64_t i = 0; i < QE_DGRAM_WINDOW; i++) {
    qe_dgram_log_sent(&l);
  }
  CHECK_EQ(qe_dgram_log_acked(&l, 4 + QE_DGRAM_WINDOW), 1); /* its bit was cleared */
  qe_dgram_log_free(&l);
}

/* -------------------------------------------------------------- connection */

static int start(sim *s, sim_conn **c, sim_conn **srv) {
  if (sim_start(s) != 0) {
    return 0;
  }
  *c = sim_connect(s);
  *srv = sim_handshake(s, *c);
  return *srv != NULL;
}

static int submit(sim_conn *c, qe_group *g, size_t len, int priority, qe_tstamp deadline) {
  uint8_t data[65536];
  memset(data, (int)len & 0xff, len);
  return qe_conn_send_datagram(c->c, g, (const uint8_t *)"", 0, data, len, priority, deadline);
}

static void test_delivery(void) {
  sim s;
  sim_conn *c, *srv;
  qe_conn_stats st;

  sim_init(&s, 1);
  REQUIRE(start(&s, &c, &srv));
  sim_run(&s, QE_SECOND);
  size_t max = qe_conn_max_datagram_size(c->c);
  CHECK(max > 1100 && max < 1452);
  CHECK_EQ(submit(c, NULL, max, 0, QE_NEVER), 0);
  CHECK_EQ(submit(c, NULL, max + 1, 0, QE_NEVER), QE_ERR_DGRAM_TOO_LARGE);
  sim_run(&s, 100 * SIM_MS);
  CHECK_EQ(srv->dgrams, 1);
  CHECK_EQ(srv->last_dgram_len, max);
  CHECK_EQ(submit(c, NULL, 0, 0, QE_NEVER), 0); /* empty is a datagram too */
  sim_run(&s, 100 * SIM_MS);
  CHECK_EQ(srv->dgrams, 2);
  CHECK_EQ(srv->last_dgram_len, 0);
  CHECK_EQ(qe_conn_send_datagram(srv->c, NULL, (const uint8_t *)"ab", 2, (const uint8_t *)"cd", 2,
                                 2, QE_NEVER),
           0);
  CHECK_EQ(qe_conn_send_datagram(srv->c, NULL, NULL, 0, NULL, 0, 3, QE_NEVER), QE_ERR_INVALID);
  sim_run(&s, 100 * SIM_MS);
  CHECK_EQ(c->last_dgram_len, 4);
  CHECK_EQ(memcmp(c->last_dgram, "abcd", 4), 0);
  qe_conn_get_stats(c->c, &st);
  CHECK_EQ(st.dgrams_sent, 2);
  CHECK_EQ(st.dgrams_acked, 2);
  CHECK_EQ(st.dgrams_received, 1);
  sim_free(&s);
}

static void test_disabled(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 2);
  s.server.set.max_datagram_frame_size = 0;
  REQUIRE(start(&s, &c, &srv));
  CHECK_EQ(qe_conn_max_datagram_size(c->c), 0);
  CHECK_EQ(submit(c, NULL, 1, 0, QE_NEVER), QE_ERR_DGRAM_DISABLED);
  CHECK(qe_conn_max_datagram_size(srv->c) > 0);
  CHECK_EQ(submit(srv, NULL, 1, 0, QE_NEVER), 0);
  sim_run(&s, 100 * SIM_MS);
  CHECK_EQ(c->dgrams, 1);
  sim_free(&s);

  sim_init(&s, 3); /* the peer's limit counts the frame, not the payload */
  s.server.set.max_datagram_frame_size = 100;
  REQUIRE(start(&s, &c, &srv));
  size_t max = qe_conn_max_datagram_size(c->c);
  CHECK_EQ(max, 97);
  CHECK_EQ(submit(c, NULL, max, 0, QE_NEVER), 0);
  sim_run(&s, 100 * SIM_MS);
  CHECK_EQ(srv->dgrams, 1);
  CHECK_EQ(c->closes, 0);
  sim_free(&s);
}

/* On any network, each datagram is counted exactly once. */
static void test_counts(void) {
  for (uint64_t seed = 10; seed < 20; seed++) {
    sim s;
    sim_conn *c, *srv;
    qe_group *g;
    qe_group_stats gs;
    qe_conn_stats st;
    uint64_t submitted = 0, blocked = 0, grouped = 0;

    sim_init(&s, seed);
    s.up.loss = s.down.loss = 0.05;
    s.up.reorder = s.down.reorder = 0.3;
    s.up.duplicate = 0.05;
    s.up.bytes_per_second = 2000000;
    s.client.set.dgram_queue_count = 200;
    REQUIRE(start(&s, &c, &srv));
    CHECK_EQ(qe_group_new(c->c, c, &g), 0);
    for (int i = 0; i < 20000; i++) {
      qe_tstamp deadline = i % 3 == 0 ? s.now + 20 * SIM_MS : QE_NEVER;
      int rv = submit(c, i % 2 ? g : NULL, sim_random(&s) % 1100, i % 3, deadline);
      if (rv == 0) {
        submitted++;
        grouped += (uint64_t)(i % 2);
      } else {
        CHECK_EQ(rv, QE_ERR_BLOCKED);
        blocked++;
      }
      if (i % 10 == 0) {
        sim_run(&s, SIM_MS);
      }
      if (i == 15000) {
        qe_conn_get_stats(c->c, &st);
        CHECK_EQ(st.dgrams_sent + st.dgrams_dropped + st.dgrams_expired + st.dgrams_queued,
                 submitted);
        CHECK(st.dgrams_sent >= st.dgrams_acked + st.dgrams_lost);
      }
    }
    sim_run(&s, 10 * QE_SECOND);
    qe_conn_get_stats(c->c, &st);
    CHECK_EQ(st.dgrams_queued, 0);
    CHECK_EQ(st.dgrams_sent + st.dgrams_dropped + st.dgrams_expired, submitted);
    CHECK_EQ(st.dgrams_acked + st.dgrams_lost, st.dgrams_sent); /* nothing is in flight */
    CHECK(st.dgrams_lost > 0 && st.dgrams_expired > 0 && blocked > 0);
    CHECK(srv->dgrams >= st.dgrams_acked && srv->dgrams <= st.dgrams_sent);
    CHECK(c->dgram_writables > 0);
    qe_group_get_stats(g, &gs);
    CHECK_EQ(gs.dgrams_sent + gs.dgrams_dropped + gs.dgrams_expired, grouped);
    CHECK_EQ(gs.dgrams_acked + gs.dgrams_lost, gs.dgrams_sent);
    CHECK_EQ(gs.dgrams_queued, 0);
    CHECK_EQ(gs.dgrams_queued_bytes, 0);
    CHECK_EQ(s.stuck, 0);
    sim_free(&s);
  }
}

/* A bulk stream and datagrams share the link. */
static void test_with_stream(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 30);
  s.up.bytes_per_second = 1000000;
  REQUIRE(start(&s, &c, &srv));
  sim_stream *st = sim_open(c, 1);
  REQUIRE(st != NULL && sim_write(st, 4 << 20, 65536, 1) == 0);
  sim_run(&s, QE_SECOND);
  for (int i = 0; i < 100; i++) {
    CHECK_EQ(submit(c, NULL, 1000, 1, QE_NEVER), 0);
  }
  uint64_t stream_before = sim_find(srv, st->id)->received;
  sim_run(&s, 700 * SIM_MS);
  CHECK(srv->dgrams > 90);
  CHECK(sim_find(srv, st->id)->received > stream_before + 100000);
  CHECK_EQ(sim_find(srv, st->id)->wrong, 0);
  sim_free(&s);
}

static void test_group_clear_and_free(void) {
  sim s;
  sim_conn *c, *srv;
  qe_group *g, *h;
  qe_group_stats gs;

  sim_init(&s, 31);
  REQUIRE(start(&s, &c, &srv));
  CHECK_EQ(qe_group_new(c->c, c, &g), 0);
  CHECK_EQ(qe_group_new(c->c, c, &h), 0);
  for (int i = 0; i < 10; i++) {
    CHECK_EQ(submit(c, i < 4 ? g : h, 100, 0, QE_NEVER), 0);
  }
  CHECK_EQ(qe_group_clear_datagrams(g), 4);
  qe_group_get_stats(g, &gs);
  CHECK_EQ(gs.dgrams_dropped, 4);
  CHECK_EQ(gs.dgrams_queued, 0);
  qe_group_get_stats(h, &gs);
  CHECK_EQ(gs.dgrams_queued, 6);
  CHECK_EQ(gs.dgrams_queued_bytes, 600);
  qe_group_free(h); /* its queued datagrams are still sent, but not counted */
  sim_run(&s, 5 * SIM_MS);
  CHECK_EQ(qe_group_new(c->c, c, &h), 0); /* takes the slot over while they are in flight */
  sim_run(&s, 200 * SIM_MS);
  CHECK_EQ(srv->dgrams, 6);
  qe_group_get_stats(h, &gs);
  CHECK_EQ(gs.dgrams_acked, 0);
  sim_free(&s);
}

int main(void) {
  if (sim_global_init() != 0) {
    printf("no certificates\n");
    return 1;
  }
  RUN(test_priorities);
  RUN(test_age);
  RUN(test_limits);
  RUN(test_log);
  RUN(test_delivery);
  RUN(test_disabled);
  RUN(test_counts);
  RUN(test_with_stream);
  RUN(test_group_clear_and_free);
  sim_global_free();
  qe_pool_clear(&pool);
  return check_report();
}
