#include "group.h"

#include "check.h"
#include "sim.h"

/* -------------------------------------------------------------- arithmetic */

static void test_sendable(void) {
  qe_group g;
  qe_group_init(&g);
  CHECK_EQ(qe_group_sendable(&g, 0, 3), UINT64_MAX);
  g.send_limit = 10;
  CHECK_EQ(qe_group_sendable(&g, 0, 3), 13); /* the header is free */
  CHECK_EQ(qe_group_sendable(&g, 3, 3), 10);
  qe_group_add_sent(&g, 0, 2, 3);
  CHECK_EQ(g.sent, 0);
  qe_group_add_sent(&g, 2, 8, 3);
  CHECK_EQ(g.sent, 5);
  CHECK_EQ(qe_group_sendable(&g, 8, 3), 5);
  CHECK_EQ(qe_group_sendable(&g, 0, 3), 8);
  qe_group_add_sent(&g, 8, 13, 3);
  CHECK_EQ(qe_group_sendable(&g, 13, 3), 0);
  CHECK_EQ(qe_group_sendable(&g, 1, 3), 2);
  CHECK_EQ(qe_group_note_blocked(&g), 1);
  CHECK_EQ(qe_group_note_blocked(&g), 0);
  g.send_limit = 11;
  CHECK_EQ(qe_group_note_blocked(&g), 1);
  g.send_limit = 5; /* a limit below what was sent gives nothing */
  CHECK_EQ(qe_group_sendable(&g, 13, 3), 0);
}

static void test_received(void) {
  qe_group g;
  qe_group_init(&g);
  CHECK_EQ(qe_group_add_received(&g, 0, 1000, 0), 0);
  g.recv_limit = 1005;
  CHECK_EQ(qe_group_add_received(&g, 0, 15, 10), 0);
  CHECK_EQ(g.received, 1005);
  CHECK_EQ(qe_group_add_received(&g, 15, 16, 10), 1);
  CHECK_EQ(qe_group_add_received(&g, 16, 17, 10), 0); /* told once */
  g.recv_limit = 1006;
  CHECK_EQ(qe_group_add_received(&g, 17, 18, 10), 1);
  qe_group_add_consumed(&g, 0, 12, 10);
  CHECK_EQ(g.consumed, 2);
}

static void test_table(void) {
  qe_group_table t = {0};
  qe_group g[10];
  for (int i = 0; i < 10; i++) {
    qe_group_init(&g[i]);
    CHECK_EQ(qe_group_table_add(&t, &g[i]), 0);
    CHECK_EQ(g[i].slot, i + 1);
  }
  CHECK(qe_group_table_get(&t, 0) == NULL);
  CHECK(qe_group_table_get(&t, 4) == &g[3]);
  CHECK(qe_group_table_get(&t, 60000) == NULL);
  qe_group_table_remove(&t, &g[3]);
  CHECK(qe_group_table_get(&t, 4) == NULL);
  CHECK_EQ(qe_group_table_add(&t, &g[3]), 0);
  CHECK_EQ(g[3].slot, 4);
  qe_group_table_free(&t);
}

/* -------------------------------------------------------------- connection */

static int start(sim *s, sim_conn **c, sim_conn **srv) {
  if (sim_start(s) != 0) {
    return 0;
  }
  *c = sim_connect(s);
  *srv = sim_handshake(s, *c);
  if (*srv != NULL) {
    sim_run(s, QE_SECOND);
  }
  return *srv != NULL;
}

#define HEADER 3

static uint64_t total_received(const sim_conn *c) {
  uint64_t n = 0;
  for (const sim_stream *st = c->streams; st != NULL; st = st->next) {
    n += st->received;
    CHECK_EQ(st->wrong, 0);
  }
  return n;
}

static void test_send_limit_is_exact(void) {
  sim s;
  sim_conn *c, *srv;
  qe_group *g;
  qe_group_stats st;

  sim_init(&s, 1);
  REQUIRE(start(&s, &c, &srv));
  CHECK_EQ(qe_group_new(c->c, c, &g), 0);
  qe_group_set_send_limit(g, 100000);
  sim_stream *a[3];
  for (int i = 0; i < 3; i++) {
    a[i] = sim_open(c, 1);
    REQUIRE(a[i] != NULL);
    CHECK_EQ(qe_stream_join_group(a[i]->s, g, HEADER, 0), 0);
    CHECK_EQ(sim_write(a[i], 80000, 7000, 1), 0);
  }
  sim_stream *other = sim_open(c, 1); /* not in the group */
  REQUIRE(other != NULL && sim_write(other, 300000, 10000, 1) == 0);
  sim_run(&s, 5 * QE_SECOND);
  qe_group_get_stats(g, &st);
  CHECK_EQ(st.bytes_sent, 100000);
  CHECK_EQ(c->group_blocked, 1);
  CHECK_EQ(c->group_limit, 100000);
  sim_stream *peer = sim_find(srv, other->id);
  REQUIRE(peer != NULL);
  CHECK_EQ(peer->fins, 1);
  CHECK_EQ(total_received(srv), 300000 + 100000 + 3 * HEADER);
  sim_run(&s, 5 * QE_SECOND);
  CHECK_EQ(c->group_blocked, 1); /* once per limit */
  qe_group_set_send_limit(g, 100001);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(total_received(srv), 300000 + 100001 + 3 * HEADER);
  CHECK_EQ(c->group_blocked, 2);
  /* A new stream still sends its header, and an empty one its FIN. */
  sim_stream *b = sim_open(c, 1);
  REQUIRE(b != NULL && qe_stream_join_group(b->s, g, HEADER, 0) == 0);
  CHECK_EQ(sim_write(b, HEADER, HEADER, 1), 0);
  sim_run(&s, QE_SECOND);
  peer = sim_find(srv, b->id);
  CHECK(peer != NULL && peer->fins == 1 && peer->received == HEADER);
  qe_group_set_send_limit(g, 3 * (80000 - HEADER));
  sim_run(&s, 5 * QE_SECOND);
  for (int i = 0; i < 3; i++) {
    peer = sim_find(srv, a[i]->id);
    CHECK(peer != NULL && peer->fins == 1 && peer->received == 80000);
  }
  qe_group_get_stats(g, &st);
  CHECK_EQ(st.bytes_sent, 3 * (80000 - HEADER));
  CHECK_EQ(c->group_blocked, 2);
  sim_free(&s);
}

/* Any number of streams without credit delays no other stream. */
static void test_many_blocked(void) {
  sim s;
  sim_conn *c, *srv;
  qe_group *g;

  sim_init(&s, 6);
  s.server.set.max_streams_uni = 1000;
  REQUIRE(start(&s, &c, &srv));
  CHECK_EQ(qe_group_new(c->c, c, &g), 0);
  qe_group_set_send_limit(g, 0);
  for (int i = 0; i < 500; i++) {
    sim_stream *a = sim_open(c, 1);
    REQUIRE(a != NULL && qe_stream_join_group(a->s, g, 0, 0) == 0);
    CHECK_EQ(sim_write(a, 100, 100, 1), 0);
  }
  sim_stream *other = sim_open(c, 1);
  REQUIRE(other != NULL && sim_write(other, 1000, 1000, 1) == 0);
  sim_run(&s, 12 * SIM_MS);
  CHECK_EQ(total_received(srv), 1000);
  qe_group_set_send_limit(g, QE_NEVER);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(total_received(srv), 51000);
  sim_free(&s);
}

static void test_freeing_unblocks(void) {
  sim s;
  sim_conn *c, *srv;
  qe_group *g;

  sim_init(&s, 2);
  REQUIRE(start(&s, &c, &srv));
  CHECK_EQ(qe_group_new(c->c, c, &g), 0);
  qe_group_set_send_limit(g, 0);
  sim_stream *a = sim_open(c, 1);
  REQUIRE(a != NULL && qe_stream_join_group(a->s, g, 0, 0) == 0);
  CHECK_EQ(sim_write(a, 1000, 1000, 1), 0);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(c->group_blocked, 1);
  CHECK(sim_find(srv, a->id) == NULL);
  qe_group_free(g);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(total_received(srv), 1000);
  sim_free(&s);
}

static void test_recv_limit(void) {
  sim s;
  sim_conn *c, *srv;
  qe_group *g;
  qe_group_stats st;

  sim_init(&s, 3);
  s.server.hold_credit = 1;
  REQUIRE(start(&s, &c, &srv));
  sim_stream *a = sim_open(c, 0), *b = sim_open(c, 1);
  REQUIRE(a != NULL && b != NULL);
  CHECK_EQ(sim_write(a, HEADER + 500, 100, 0), 0);
  CHECK_EQ(sim_write(b, HEADER + 300, 100, 0), 0);
  sim_run(&s, QE_SECOND);
  sim_stream *pa = sim_find(srv, a->id), *pb = sim_find(srv, b->id);
  REQUIRE(pa != NULL && pb != NULL);
  CHECK_EQ(qe_group_new(srv->c, srv, &g), 0);
  qe_group_set_recv_limit(g, 800);
  CHECK_EQ(qe_stream_join_group(pa->s, g, 0, HEADER), 0); /* counts what came before */
  qe_group_get_stats(g, &st);
  CHECK_EQ(st.bytes_received, 500);
  CHECK_EQ(qe_stream_join_group(pb->s, g, 0, HEADER), 0);
  qe_group_get_stats(g, &st);
  CHECK_EQ(st.bytes_received, 800);
  CHECK_EQ(st.bytes_consumed, 0);
  CHECK_EQ(srv->group_violated, 0);
  qe_stream_consume(pa->s, HEADER + 200);
  qe_group_get_stats(g, &st);
  CHECK_EQ(st.bytes_consumed, 200);
  CHECK_EQ(sim_write(a, 1, 1, 0), 0);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(srv->group_violated, 1);
  CHECK_EQ(srv->group_limit, 800);
  CHECK_EQ(srv->group_received, 801);
  CHECK_EQ(sim_write(a, 1, 1, 0), 0);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(srv->group_violated, 1);
  sim_free(&s);
}

/* Credit of bytes that a reset or a stop leaves unread returns to the session. */
static void test_reset_counts(void) {
  sim s;
  sim_conn *c, *srv;
  qe_group *g;
  qe_group_stats st;

  sim_init(&s, 4);
  s.server.hold_credit = 1;
  REQUIRE(start(&s, &c, &srv));
  CHECK_EQ(qe_group_new(srv->c, srv, &g), 0);
  sim_stream *a = sim_open(c, 1), *b = sim_open(c, 1);
  REQUIRE(a != NULL && b != NULL);
  CHECK_EQ(sim_write(a, HEADER + 2000, 100, 0), 0);
  CHECK_EQ(sim_write(b, HEADER + 2000, 100, 0), 0);
  sim_run(&s, QE_SECOND);
  sim_stream *pa = sim_find(srv, a->id), *pb = sim_find(srv, b->id);
  REQUIRE(pa != NULL && pb != NULL);
  CHECK_EQ(qe_stream_join_group(pa->s, g, 0, HEADER), 0);
  CHECK_EQ(qe_stream_join_group(pb->s, g, 0, HEADER), 0);
  CHECK_EQ(qe_stream_stop_sending(pb->s, 1), 0);
  CHECK_EQ(qe_stream_reset(a->s, 1), 0);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(pa->closes, 1);
  CHECK_EQ(pb->closes, 1);
  qe_group_get_stats(g, &st);
  CHECK_EQ(st.bytes_received, 4000);
  CHECK_EQ(st.bytes_consumed, 4000);
  sim_free(&s);
}

static void test_datagram_limit(void) {
  sim s;
  sim_conn *c, *srv;
  qe_group *g;
  qe_group_stats st;

  sim_init(&s, 6);
  REQUIRE(start(&s, &c, &srv));
  CHECK_EQ(qe_group_new(c->c, c, &g), 0);
  qe_group_set_datagram_limit(g, 2);
  CHECK_EQ(qe_conn_send_datagram(c->c, g, NULL, 0, (const uint8_t *)"a", 1, 0, QE_NEVER), 0);
  CHECK_EQ(qe_conn_send_datagram(c->c, g, NULL, 0, (const uint8_t *)"b", 1, 0, QE_NEVER), 0);
  CHECK_EQ(qe_conn_send_datagram(c->c, g, NULL, 0, (const uint8_t *)"c", 1, 0, QE_NEVER),
           QE_ERR_BLOCKED);
  sim_run(&s, QE_SECOND);
  qe_group_get_stats(g, &st);
  CHECK_EQ(st.dgrams_sent, 2);
  CHECK_EQ(qe_conn_send_datagram(c->c, g, NULL, 0, (const uint8_t *)"c", 1, 0, QE_NEVER), 0);
  sim_free(&s);
}

static void test_misuse(void) {
  sim s;
  sim_conn *c, *srv, *c2;
  qe_group *g;

  sim_init(&s, 5);
  REQUIRE(start(&s, &c, &srv));
  c2 = sim_connect(&s);
  REQUIRE(sim_handshake(&s, c2) != NULL);
  CHECK_EQ(qe_group_new(c->c, c, &g), 0);
  sim_stream *a = sim_open(c2, 1);
  REQUIRE(a != NULL);
  CHECK_EQ(qe_stream_join_group(a->s, g, 0, 0), QE_ERR_INVALID);
  CHECK_EQ(qe_conn_send_datagram(c2->c, g, NULL, 0, NULL, 0, 0, QE_NEVER), QE_ERR_INVALID);
  qe_group_free(NULL);
  sim_free(&s); /* the group goes with its connection */
}

int main(void) {
  if (sim_global_init() != 0) {
    printf("no certificates\n");
    return 1;
  }
  RUN(test_sendable);
  RUN(test_received);
  RUN(test_table);
  RUN(test_send_limit_is_exact);
  RUN(test_many_blocked);
  RUN(test_freeing_unblocks);
  RUN(test_recv_limit);
  RUN(test_reset_counts);
  RUN(test_datagram_limit);
  RUN(test_misuse);
  sim_global_free();
  return check_report();
}
