/* test_stream.c - streams over a simulated network: ends, credit, order. */
#include "stream.h"

#include <stdlib.h>

#include "check.h"
#include "compat.h"
#include "sim.h"

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

static uint64_t alive(sim_conn *c) {
  qe_conn_stats st;
  qe_conn_get_stats(c->c, &st);
  return st.streams_alive;
}

static int is_closed(void *ctx) {
  return ((sim_conn *)ctx)->closes > 0;
}

static int stream_is_done(void *ctx) {
  sim_stream *st = ctx;
  return st->fins + st->resets > 0;
}

/* --------------------------------------------------------------------- map */

static void test_map(void) {
  static qe_stream streams[1000];
  qe_stream_map m = {0};
  CHECK(qe_stream_map_get(&m, 0) == NULL);
  for (int i = 0; i < 1000; i++) {
    CHECK_EQ(qe_stream_map_reserve(&m, m.size + 1), 0);
    streams[i].id = i * 4 + i % 3;
    qe_stream_map_add(&m, &streams[i]);
  }
  for (int i = 0; i < 1000; i += 2) {
    qe_stream_map_remove(&m, &streams[i]);
    qe_stream_map_remove(&m, &streams[i]);
  }
  CHECK_EQ(m.size, 500);
  for (int i = 0; i < 1000; i++) {
    CHECK(qe_stream_map_get(&m, i * 4 + i % 3) == (i % 2 ? &streams[i] : NULL));
  }
  qe_stream_map_free(&m);
}

/* -------------------------------------------------------------------- ends */

static void test_fin_both_ways(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 1);
  REQUIRE(start(&s, &c, &srv));
  sim_stream *a = sim_open(c, 0);
  REQUIRE(a != NULL);
  CHECK_EQ(sim_write(a, 1000, 1000, 0), 0);
  CHECK_EQ(qe_stream_write(a->s, NULL, 0, NULL, 1), 0); /* FIN of its own */
  CHECK_EQ(sim_write(a, 1, 1, 0), QE_ERR_STREAM_SHUT);
  sim_run(&s, 200 * SIM_MS);
  sim_stream *b = sim_find(srv, a->id);
  REQUIRE(b != NULL && b->fins == 1);
  CHECK_EQ(b->received, 1000);
  CHECK_EQ(a->acks, 1); /* also while the other direction is open */
  CHECK_EQ(a->closes, 0);
  CHECK_EQ(sim_write(b, 2000, 100, 1), 0);
  sim_run(&s, 200 * SIM_MS);
  CHECK_EQ(a->fins, 1);
  CHECK_EQ(a->received, 2000);
  CHECK_EQ(a->closes, 1);
  CHECK_EQ(b->closes, 1);
  CHECK_EQ(b->acks, 1);
  CHECK_EQ(alive(c), 0);
  CHECK_EQ(alive(srv), 0);

  a = sim_open(c, 1); /* empty stream */
  REQUIRE(a != NULL);
  CHECK_EQ(qe_stream_write(a->s, NULL, 0, NULL, 1), 0);
  sim_run(&s, 200 * SIM_MS);
  b = sim_find(srv, a->id);
  REQUIRE(b != NULL);
  CHECK_EQ(b->fins, 1);
  CHECK_EQ(b->received, 0);
  CHECK_EQ(a->acks, 1);
  sim_free(&s);
}

/* With any packet loss, the acknowledgement of everything is reported once. */
static void test_acked_with_loss(void) {
  for (uint64_t seed = 10; seed < 40; seed++) {
    sim s;
    sim_conn *c, *srv;
    sim_init(&s, seed);
    s.client.set.idle_timeout = s.server.set.idle_timeout = 600 * QE_SECOND;
    REQUIRE(start(&s, &c, &srv));
    s.up.loss = s.down.loss = 0.25;
    for (int i = 0; i < 10; i++) {
      sim_stream *a = sim_open(c, 0);
      REQUIRE(a != NULL);
      CHECK_EQ(sim_write(a, 1 + sim_random(&s) % 5000, 500, i % 2), 0);
      sim_run(&s, sim_random(&s) % 3 * SIM_MS);
      if (i % 2 == 0) {
        CHECK_EQ(qe_stream_write(a->s, NULL, 0, NULL, 1), 0);
      }
    }
    sim_run(&s, 20 * QE_SECOND);
    s.up.loss = s.down.loss = 0;
    sim_run(&s, 20 * QE_SECOND);
    REQUIRE(c->closes == 0);
    for (sim_stream *a = c->streams; a != NULL; a = a->next) {
      sim_stream *b = sim_find(srv, a->id);
      CHECK_EQ(a->acks, 1);
      CHECK_EQ(a->closes, 0);
      CHECK(b != NULL && b->fins == 1 && b->received == a->written && b->wrong == 0);
    }
    sim_free(&s);
  }
}

static void test_reset(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 2);
  REQUIRE(start(&s, &c, &srv));
  sim_stream *a = sim_open(c, 0);
  REQUIRE(a != NULL && sim_write(a, 500, 500, 0) == 0);
  sim_run(&s, 200 * SIM_MS);
  sim_stream *b = sim_find(srv, a->id);
  REQUIRE(b != NULL);
  CHECK_EQ(qe_stream_reset(a->s, (uint64_t)1 << 62), QE_ERR_INVALID);
  CHECK_EQ(qe_stream_reset(a->s, QE_MAX_VARINT), 0);
  CHECK_EQ(qe_stream_reset(a->s, 1), QE_ERR_STREAM_SHUT);
  CHECK_EQ(sim_write(a, 10, 10, 0), QE_ERR_STREAM_SHUT);
  sim_run(&s, 200 * SIM_MS);
  CHECK_EQ(b->resets, 1);
  CHECK_EQ(b->reset_code, QE_MAX_VARINT);
  CHECK_EQ(b->final_size, 500);
  CHECK_EQ(b->closes, 0); /* our direction is still open */
  CHECK_EQ(qe_stream_reset(b->s, 6), 0);
  sim_run(&s, 200 * SIM_MS);
  CHECK_EQ(a->reset_code, 6);
  CHECK_EQ(a->closes, 1);
  CHECK_EQ(b->closes, 1);
  CHECK_EQ(a->acks, 0);
  sim_free(&s);
}

static int hold_up;

static int drop_up(sim *s, int to_server, const uint8_t *data, size_t len) {
  (void)s;
  (void)data;
  (void)len;
  return !(to_server && hold_up);
}

/* A reset waits for the header: it arrives although its first packet was lost. */
static void test_reset_with_header(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 3);
  REQUIRE(start(&s, &c, &srv));
  s.filter = drop_up;
  sim_stream *a = sim_open(c, 1);
  REQUIRE(a != NULL);
  qe_stream_set_reliable_size(a->s, 3);
  CHECK_EQ(sim_write(a, 100000, 1000, 0), 0);
  hold_up = 1;
  sim_run(&s, SIM_MS); /* sent, and lost */
  CHECK(qe_stream_queued(a->s) < 100000);
  CHECK_EQ(qe_stream_reset(a->s, 9), 0);
  CHECK_EQ(qe_stream_queued(a->s), 0); /* what was not sent is gone */
  sim_run(&s, SIM_MS);
  hold_up = 0;
  sim_run(&s, 5 * QE_SECOND);
  sim_stream *b = sim_find(srv, a->id);
  REQUIRE(b != NULL);
  CHECK(b->received >= 3);
  CHECK(b->received < 100000);
  CHECK_EQ(b->wrong, 0);
  CHECK_EQ(b->resets, 1);
  CHECK_EQ(b->reset_code, 9);
  CHECK_EQ(b->fins, 0);
  CHECK_EQ(a->closes, 1);
  CHECK_EQ(b->closes, 1);

  /* Part of the header not sent yet: that part still goes out. */
  a = sim_open(c, 1);
  REQUIRE(a != NULL);
  CHECK_EQ(sim_write(a, 200000, 1000, 0), 0);
  sim_run(&s, SIM_MS);
  uint64_t sent = 200000 - qe_stream_queued(a->s);
  CHECK(sent > 0 && sent < 150000);
  qe_stream_set_reliable_size(a->s, 150000);
  CHECK_EQ(qe_stream_reset(a->s, 10), 0);
  CHECK_EQ(qe_stream_queued(a->s), 150000 - sent);
  sim_run(&s, 5 * QE_SECOND);
  b = sim_find(srv, a->id);
  REQUIRE(b != NULL);
  CHECK_EQ(b->received, 150000);
  CHECK_EQ(b->wrong, 0);
  CHECK_EQ(b->reset_code, 10);
  CHECK_EQ(b->final_size, 150000);

  /* Nothing sent yet: the header goes first, and alone. */
  a = sim_open(c, 1);
  REQUIRE(a != NULL);
  qe_stream_set_reliable_size(a->s, 3);
  CHECK_EQ(sim_write(a, 1000, 1000, 0), 0);
  CHECK_EQ(qe_stream_reset(a->s, 11), 0);
  sim_run(&s, QE_SECOND);
  b = sim_find(srv, a->id);
  REQUIRE(b != NULL);
  CHECK_EQ(b->received, 3);
  CHECK_EQ(b->reset_code, 11);
  CHECK_EQ(b->closes, 1);
  CHECK_EQ(a->closes, 1);
  CHECK_EQ(alive(c), 0);
  CHECK_EQ(alive(srv), 0);
  sim_free(&s);
}

static void stop_one(int from_server, int uni, int busy) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 4);
  REQUIRE(start(&s, &c, &srv));
  sim_conn *writer = from_server ? c : srv, *reader = from_server ? srv : c;
  sim_stream *w = sim_open(writer, uni);
  /* busy: the stop meets a writer with much to send; else one with nothing. */
  REQUIRE(w != NULL && sim_write(w, busy ? 5000000 : 100, 100000, 0) == 0);
  sim_run(&s, 100 * SIM_MS);
  sim_stream *r = sim_find(reader, w->id);
  REQUIRE(r != NULL);
  uint64_t before = r->received;
  CHECK_EQ(qe_stream_stop_sending(r->s, 0x52e4a40fa8dbULL), 0);
  CHECK_EQ(qe_stream_stop_sending(r->s, 1), QE_ERR_STREAM_SHUT);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(r->received, before); /* stream_data stopped at once */
  CHECK_EQ(w->stops, 1);
  CHECK_EQ(w->stop_has_code, 1);
  CHECK_EQ(w->stop_code, 0x52e4a40fa8dbULL);
  CHECK_EQ(r->resets, 1); /* the engine answered by itself */
  CHECK_EQ(r->reset_code, 0x52e4a40fa8dbULL);
  CHECK_EQ(w->closes, uni);
  CHECK_EQ(r->closes, uni);
  if (!uni) {
    CHECK_EQ(sim_write(w, 1, 1, 0), QE_ERR_STREAM_SHUT);
    CHECK_EQ(sim_write(r, 1000, 1000, 1), 0); /* the other direction lives */
    sim_run(&s, QE_SECOND);
    CHECK_EQ(w->received, 1000);
    CHECK_EQ(w->closes, 1);
    CHECK_EQ(r->closes, 1);
  }
  /* The connection's window has not shrunk: more than it passes. */
  for (int i = 0; i < 3; i++) {
    sim_stream *more = sim_open(writer, 1);
    REQUIRE(more != NULL && sim_write(more, 8 << 20, 1 << 20, 1) == 0);
    sim_run(&s, 20 * QE_SECOND);
    sim_stream *peer = sim_find(reader, more->id);
    CHECK(peer != NULL && peer->fins == 1);
  }
  sim_free(&s);
}

static void test_stop_sending(void) {
  for (int i = 0; i < 8; i++) {
    stop_one(i & 1, (i >> 1) & 1, (i >> 2) & 1);
  }
}

/* STOP_SENDING as the first thing the peer says about its new stream. */
static void test_stop_first(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 5);
  REQUIRE(start(&s, &c, &srv));
  sim_stream *a = sim_open(c, 0);
  REQUIRE(a != NULL);
  CHECK_EQ(qe_stream_stop_sending(a->s, 33), 0);
  sim_run(&s, QE_SECOND);
  sim_stream *b = sim_find(srv, a->id);
  REQUIRE(b != NULL);
  CHECK_EQ(b->stops, 1);
  CHECK_EQ(b->stop_code, 33);
  CHECK_EQ(a->resets, 1);
  CHECK_EQ(sim_write(a, 10, 10, 1), 0);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(b->received, 10);
  CHECK_EQ(b->closes, 1);
  CHECK_EQ(a->closes, 1);
  sim_free(&s);
}

static void test_stop_wrong_direction(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 6);
  REQUIRE(start(&s, &c, &srv));
  sim_stream *a = sim_open(c, 1);
  REQUIRE(a != NULL && sim_write(a, 10, 10, 0) == 0);
  CHECK_EQ(qe_stream_stop_sending(a->s, 1), QE_ERR_STREAM_SHUT);
  sim_run(&s, QE_SECOND);
  sim_stream *b = sim_find(srv, a->id);
  REQUIRE(b != NULL);
  CHECK_EQ(qe_stream_reset(b->s, 1), QE_ERR_STREAM_SHUT);
  CHECK_EQ(qe_stream_write(b->s, (const uint8_t *)"x", 1, NULL, 0), QE_ERR_STREAM_SHUT);
  sim_free(&s);
}

/* ------------------------------------------------------------------- abuse */

/* A unidirectional stream whose first frame is RESET_STREAM, which ngtcp2 before 1.23 never frees.
 */
static int leave_one(sim_conn *c, uint64_t code) {
  sim_stream *a = sim_open(c, 1);
  return a != NULL && qe_stream_reset(a->s, code) == 0;
}

static void test_leftovers(void) {
  sim s;
  sim_conn *c, *srv;
  qe_conn_stats st;
  sim_init(&s, 7);
  s.server.set.max_leftovers = 150;
  REQUIRE(start(&s, &c, &srv));
  for (int i = 0; i < 150; i++) {
    REQUIRE(leave_one(c, (uint64_t)i));
    if (i % 7 == 0) {
      sim_run(&s, 100 * SIM_MS);
    }
  }
  sim_run(&s, QE_SECOND);
  qe_conn_get_stats(srv->c, &st);
  const uint64_t left = qe_leaks_reset_streams() ? 150 : 0;
  CHECK_EQ(st.leftovers, left);
  CHECK_EQ(st.streams_alive, 0);
  for (sim_stream *x = srv->streams; x != NULL; x = x->next) {
    CHECK_EQ(x->resets, 1);
    CHECK_EQ(x->closes, 1);
  }
  CHECK_EQ(qe_conn_streams_left(c->c, 1), 100); /* all credit came back */
  /* Resets of streams with data, and of bidirectional ones, leave nothing. */
  sim_stream *a = sim_open(c, 1), *b = sim_open(c, 0);
  REQUIRE(a != NULL && b != NULL && sim_write(a, 10, 10, 0) == 0);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(qe_stream_reset(a->s, 1), 0);
  CHECK_EQ(qe_stream_reset(b->s, 1), 0);
  sim_run(&s, QE_SECOND);
  qe_conn_get_stats(srv->c, &st);
  CHECK_EQ(st.leftovers, left);
  CHECK_EQ(c->closes, 0);
  /* As many as time has refilled, and then no more. */
  for (int i = 0; i < 60 && c->closes == 0; i++) {
    leave_one(c, 1);
    sim_run(&s, SIM_MS);
  }
  if (left == 0) {
    CHECK_EQ(c->closes, 0); /* nothing stays, however many there are */
    sim_free(&s);
    return;
  }
  CHECK(sim_until(&s, QE_SECOND, is_closed, c));
  CHECK_EQ(c->close.kind, QE_CLOSE_APPLICATION);
  CHECK_EQ(c->close.code, 0x107);
  CHECK_EQ(srv->close.remote, 0);
  sim_free(&s);
}

/* An honest peer behind a lossy path leaves some for as long as it lives. */
static void test_leftovers_refill_with_time(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 7);
  s.server.set.max_leftovers = 8;
  REQUIRE(start(&s, &c, &srv));
  for (int i = 0; i < 200; i++) {
    REQUIRE(leave_one(c, 1));
    sim_run(&s, 300 * SIM_MS);
  }
  CHECK_EQ(c->closes, 0);
  sim_free(&s);
}

static void test_leftovers_refill_with_streams_that_end_properly(void) {
  sim s;
  sim_conn *c, *srv;
  qe_conn_stats st;
  sim_init(&s, 7);
  s.server.set.max_leftovers = 8;
  REQUIRE(start(&s, &c, &srv));
  for (int i = 0; i < 200; i++) {
    for (int j = 0; j < 10; j++) {
      sim_stream *a = sim_open(c, 1);
      REQUIRE(a != NULL && sim_write(a, 10, 10, 1) == 0);
    }
    REQUIRE(leave_one(c, 1));
    sim_run(&s, 10 * SIM_MS);
  }
  sim_run(&s, QE_SECOND);
  qe_conn_get_stats(srv->c, &st);
  CHECK_EQ(st.leftovers, qe_leaks_reset_streams() ? 200 : 0);
  CHECK_EQ(c->closes, 0);
  sim_free(&s);
}

static void test_too_many_resets(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 8);
  s.server.set.max_resets_per_second = 50;
  s.server.set.excessive_load_code = 0x999;
  REQUIRE(start(&s, &c, &srv));
  for (int i = 0; i < 200 && c->c != NULL; i++) {
    sim_stream *a = sim_open(c, 0);
    if (a == NULL) {
      sim_run(&s, 20 * SIM_MS);
      continue;
    }
    CHECK_EQ(sim_write(a, 10, 10, 0), 0);
    sim_run(&s, SIM_MS);
    if (a->s != NULL) {
      qe_stream_reset(a->s, 1);
    }
  }
  CHECK(sim_until(&s, QE_SECOND, is_closed, c));
  CHECK_EQ(c->close.code, 0x999);
  CHECK_EQ(c->close.remote, 1);
  sim_free(&s);
}

/* ------------------------------------------------------------------ credit */

static void test_stream_credit(void) {
  sim s;
  sim_conn *c, *srv;
  qe_stream *none;
  sim_init(&s, 9);
  s.server.set.max_streams_uni = 3;
  s.server.set.max_streams_bidi = 2;
  s.server.hold_streams = 1;
  REQUIRE(start(&s, &c, &srv));
  CHECK_EQ(qe_conn_streams_left(c->c, 1), 3);
  CHECK_EQ(qe_conn_streams_left(c->c, 0), 2);
  for (int i = 0; i < 3; i++) {
    sim_stream *a = sim_open(c, 1);
    REQUIRE(a != NULL && sim_write(a, 10, 10, 1) == 0);
  }
  CHECK_EQ(qe_conn_open_stream(c->c, 1, NULL, &none), QE_ERR_STREAM_LIMIT);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(alive(srv), 0); /* all done, yet no credit */
  CHECK_EQ(qe_conn_open_stream(c->c, 1, NULL, &none), QE_ERR_STREAM_LIMIT);
  int told = c->streams_available[1];
  qe_conn_extend_streams(srv->c, 1, 2);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(c->streams_available[1], told + 1);
  CHECK_EQ(qe_conn_streams_left(c->c, 1), 2);
  CHECK_EQ(qe_conn_streams_left(c->c, 0), 2);
  CHECK(sim_open(c, 1) != NULL);
  CHECK(sim_open(c, 1) != NULL);
  CHECK(sim_open(c, 1) == NULL);
  sim_free(&s);
}

/* A reader that does not consume bounds what the sender may have sent. */
static void test_window(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 10);
  s.server.set.initial_max_stream_data = 100000;
  s.server.set.max_stream_window = 100000;
  s.server.set.initial_max_data = 250000;
  s.server.set.max_data_window = 250000;
  s.server.hold_credit = 1;
  REQUIRE(start(&s, &c, &srv));
  sim_stream *a[4];
  for (int i = 0; i < 4; i++) {
    a[i] = sim_open(c, 1);
    REQUIRE(a[i] != NULL && sim_write(a[i], 500000, 50000, 1) == 0);
  }
  sim_run(&s, 5 * QE_SECOND);
  uint64_t total = 0;
  for (sim_stream *x = srv->streams; x != NULL; x = x->next) {
    CHECK(x->received <= 100000);
    total += x->received;
  }
  CHECK_EQ(total, 250000);
  /* No more credit is returned than bytes were given to the user. */
  for (sim_stream *x = srv->streams; x != NULL; x = x->next) {
    qe_stream_consume(x->s, UINT64_MAX);
    qe_stream_consume(x->s, 1000);
  }
  qe_conn_consume(srv->c, UINT64_MAX);
  sim_run(&s, 5 * QE_SECOND);
  uint64_t total2 = 0;
  for (sim_stream *x = srv->streams; x != NULL; x = x->next) {
    CHECK(x->received <= 200000);
    total2 += x->received;
  }
  CHECK_EQ(total2, 500000);
  s.server.hold_credit = 0;
  for (int i = 0; i < 50; i++) {
    for (sim_stream *x = srv->streams; x != NULL; x = x->next) {
      if (x->s != NULL) {
        qe_stream_consume(x->s, UINT64_MAX);
      }
    }
    sim_run(&s, 100 * SIM_MS);
  }
  for (sim_stream *x = srv->streams; x != NULL; x = x->next) {
    CHECK_EQ(x->received, 500000);
    CHECK_EQ(x->fins, 1);
    CHECK_EQ(x->wrong, 0);
  }
  sim_free(&s);
}

static void test_writable(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 11);
  s.client.set.stream_write_low = 10000;
  REQUIRE(start(&s, &c, &srv));
  sim_stream *a = sim_open(c, 1);
  REQUIRE(a != NULL && sim_write(a, 10000, 10000, 0) == 0);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(a->writables, 0); /* was never above */
  CHECK_EQ(sim_write(a, 300000, 10000, 0), 0);
  CHECK_EQ(qe_stream_queued(a->s), 300000);
  CHECK_EQ(a->writables, 0);
  sim_run(&s, 5 * QE_SECOND);
  CHECK_EQ(a->writables, 1);
  CHECK_EQ(qe_stream_queued(a->s), 0);
  CHECK_EQ(qe_stream_unacked(a->s), 0);
  CHECK_EQ(sim_write(a, 10001, 10001, 0), 0);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(a->writables, 2);
  sim_free(&s);
}

/* ------------------------------------------------------------------- order */

static void test_send_order(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 12);
  s.up.bytes_per_second = 1000000;
  REQUIRE(start(&s, &c, &srv));
  sim_stream *a[3];
  const int64_t order[3] = {-1, 5, 2};
  for (int i = 0; i < 3; i++) {
    a[i] = sim_open(c, 1);
    REQUIRE(a[i] != NULL && sim_write(a[i], 1000000, 100000, 1) == 0);
    qe_stream_set_send_order(a[i]->s, order[i]);
  }
  sim_run(&s, 30 * QE_SECOND);
  sim_stream *b[3];
  for (int i = 0; i < 3; i++) {
    b[i] = sim_find(srv, a[i]->id);
    REQUIRE(b[i] != NULL && b[i]->fins == 1);
  }
  CHECK(b[1]->done_at + 300 * SIM_MS < b[2]->done_at);
  CHECK(b[2]->done_at + 300 * SIM_MS < b[0]->done_at);
  sim_free(&s);
}

static void test_fairness(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 13);
  s.up.bytes_per_second = 1000000;
  REQUIRE(start(&s, &c, &srv));
  sim_stream *a[4];
  for (int i = 0; i < 4; i++) {
    a[i] = sim_open(c, 1);
    REQUIRE(a[i] != NULL && sim_write(a[i], 2000000, 100000, 1) == 0);
  }
  sim_run(&s, 3 * QE_SECOND);
  uint64_t low = UINT64_MAX, high = 0;
  for (sim_stream *x = srv->streams; x != NULL; x = x->next) {
    low = x->received < low ? x->received : low;
    high = x->received > high ? x->received : high;
  }
  CHECK(low > 100000);
  CHECK(high - low < 200000);
  /* A newcomer does not wait for them. */
  sim_stream *small = sim_open(c, 1);
  REQUIRE(small != NULL && sim_write(small, 1000, 1000, 1) == 0);
  sim_run(&s, 100 * SIM_MS); /* first byte at the server by the link's queue */
  sim_stream *peer = NULL;
  for (int i = 0; i < 10 && (peer = sim_find(srv, small->id)) == NULL; i++) {
    sim_run(&s, 50 * SIM_MS);
  }
  REQUIRE(peer != NULL);
  CHECK(sim_until(&s, SIM_MS * 50, stream_is_done, peer));
  CHECK_EQ(sim_find(srv, a[0]->id)->fins, 0);
  sim_free(&s);
}

/* ------------------------------------------------------------------- chaos */

/* Everything at random; the ends of both sides must fit together. */
static void test_chaos(void) {
  for (uint64_t seed = 100; seed < 130; seed++) {
    sim s;
    sim_conn *c, *srv;
    sim_init(&s, seed);
    s.up.loss = s.down.loss = 0.03;
    s.up.reorder = s.down.reorder = 0.2;
    s.up.duplicate = s.down.duplicate = 0.05;
    REQUIRE(start(&s, &c, &srv));
    for (int i = 0; i < 1500; i++) {
      sim_conn *me = sim_random(&s) % 2 ? c : srv;
      sim_stream *st = me->streams;
      for (uint64_t k = sim_random(&s) % 12; k > 0 && st != NULL; k--) {
        st = st->next;
      }
      switch (sim_random(&s) % 8) {
      case 0:
        sim_open(me, (int)(sim_random(&s) % 2));
        break;
      case 1:
      case 2:
      case 3:
        if (st != NULL && st->s != NULL) {
          sim_write(st, sim_random(&s) % 20000, 3000, sim_random(&s) % 4 == 0);
        }
        break;
      case 4:
        if (st != NULL && st->s != NULL && sim_random(&s) % 3 == 0) {
          qe_stream_set_reliable_size(st->s, sim_random(&s) % 100);
          qe_stream_reset(st->s, 100 + (uint64_t)st->id);
        }
        break;
      case 5:
        if (st != NULL && st->s != NULL && sim_random(&s) % 3 == 0) {
          qe_stream_stop_sending(st->s, 200 + (uint64_t)st->id);
        }
        break;
      case 6:
        qe_conn_send_datagram(me->c, NULL, NULL, 0, (const uint8_t *)"hello", 5, 1, QE_NEVER);
        break;
      default:
        sim_run(&s, sim_random(&s) % 20 * SIM_MS);
      }
    }
    sim_run(&s, 20 * QE_SECOND);
    CHECK_EQ(s.stuck, 0);
    REQUIRE(c->closes == 0 && srv->closes == 0);
    for (int side = 0; side < 2; side++) {
      for (sim_stream *st = (side ? c : srv)->streams; st != NULL; st = st->next) {
        sim_stream *peer = sim_find(side ? srv : c, st->id);
        CHECK_EQ(st->wrong, 0);
        CHECK(st->fins + st->resets <= 1);
        if (peer == NULL) {
          continue; /* never used */
        }
        CHECK_EQ(st->closes, peer->closes);
        if (st->stops) {
          CHECK_EQ(st->stop_code, 200 + (uint64_t)st->id);
          CHECK_EQ(st->stop_has_code, 1);
        }
        if (st->fins) {
          CHECK_EQ(st->received, peer->written);
        }
        if (st->acks) {
          CHECK(peer->fins == 1 || peer->resets == 0);
        }
      }
    }
    /* And it still works. */
    sim_stream *last = sim_open(c, 1);
    if (last != NULL) {
      CHECK_EQ(sim_write(last, 100000, 10000, 1), 0);
      sim_run(&s, 5 * QE_SECOND);
      sim_stream *peer = sim_find(srv, last->id);
      CHECK(peer != NULL && peer->fins == 1 && peer->received == 100000);
    }
    sim_free(&s);
  }
}

int main(void) {
  if (sim_global_init() != 0) {
    printf("no certificates\n");
    return 1;
  }
  RUN(test_map);
  RUN(test_fin_both_ways);
  RUN(test_acked_with_loss);
  RUN(test_reset);
  RUN(test_reset_with_header);
  RUN(test_stop_sending);
  RUN(test_stop_first);
  RUN(test_stop_wrong_direction);
  RUN(test_leftovers);
  RUN(test_leftovers_refill_with_time);
  RUN(test_leftovers_refill_with_streams_that_end_properly);
  RUN(test_too_many_resets);
  RUN(test_stream_credit);
  RUN(test_window);
  RUN(test_writable);
  RUN(test_send_order);
  RUN(test_fairness);
  RUN(test_chaos);
  sim_global_free();
  return check_report();
}
