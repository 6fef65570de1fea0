/* test_sim.c - connections between two engines: data, loss, rough networks, ends. */
#include <stdlib.h>

#include "check.h"
#include "compat.h"
#include "sim.h"

#define MIB ((uint64_t)1 << 20)

/* ---------------------------------------------------------------- helpers */

static int start(sim *s, sim_conn **c, sim_conn **srv) {
  if (sim_start(s) != 0) {
    return 0;
  }
  *c = sim_connect(s);
  *srv = sim_handshake(s, *c);
  return *srv != NULL;
}

/* Ends a simulation with the checks that hold for each. */
static void finish(sim *s) {
  CHECK_EQ(s->stuck, 0);
  CHECK_EQ(s->client.bad_trains, 0);
  CHECK_EQ(s->server.bad_trains, 0);
  for (int i = 0; i < 2; i++) {
    const sim_end *end = i == 0 ? &s->client : &s->server;
    for (const sim_conn *c = end->conns; c != NULL; c = c->next) {
      CHECK(c->handshakes <= 1);
      for (const sim_stream *st = c->streams; st != NULL; st = st->next) {
        CHECK_EQ(st->wrong, 0);
        CHECK(st->closes <= 1);
        CHECK(st->fins + st->resets <= 1);
        CHECK(st->stops <= 1);
        CHECK(st->acks <= 1);
      }
    }
  }
  sim_free(s);
  CHECK_EQ(s->client.owners_out, 0);
  CHECK_EQ(s->server.owners_out, 0);
}

struct want {
  sim_conn *conn;
  int64_t id;
};

static int got_fin(void *ctx) {
  struct want *w = ctx;
  sim_stream *st = sim_find(w->conn, w->id);
  return st != NULL && st->fins > 0;
}

static int is_closed(void *ctx) {
  return ((sim_conn *)ctx)->closes > 0;
}

static int stream_is_closed(void *ctx) {
  return ((sim_stream *)ctx)->closes > 0;
}

/* Sends n bytes on a new stream and waits for them at the other side. */
static int transfer(sim *s, sim_conn *from, sim_conn *to, int uni, uint64_t n, size_t piece) {
  sim_stream *st = sim_open(from, uni);
  if (st == NULL || sim_write(st, n, piece, 1) != 0) {
    return 0;
  }
  struct want w = {to, st->id};
  if (!sim_until(s, 300 * QE_SECOND, got_fin, &w)) {
    return 0;
  }
  sim_stream *peer = sim_find(to, st->id);
  return peer->received == n && peer->wrong == 0;
}

static void run_bulk(sim *s, uint64_t n) {
  sim_conn *c, *srv;
  REQUIRE(start(s, &c, &srv));
  CHECK(transfer(s, c, srv, 1, n, 65536));
  CHECK(transfer(s, srv, c, 1, n, 1000));
  sim_stream *up = sim_open(c, 0);
  REQUIRE(up != NULL && sim_write(up, n / 2, 4096, 1) == 0);
  sim_run(s, 5 * SIM_MS);
  CHECK(transfer(s, srv, c, 0, n / 2, 100000));
  struct want w = {srv, up->id};
  CHECK(sim_until(s, 300 * QE_SECOND, got_fin, &w));
  CHECK_EQ(sim_find(srv, up->id)->received, n / 2);
  CHECK_EQ(c->closes, 0);
  CHECK_EQ(srv->closes, 0);
}

static int drop_to_server(sim *s, int to_server, const uint8_t *data, size_t len) {
  (void)s;
  (void)data;
  (void)len;
  return !to_server;
}

static int drop_to_client(sim *s, int to_server, const uint8_t *data, size_t len) {
  (void)s;
  (void)data;
  (void)len;
  return to_server;
}

/* ---------------------------------------------------------------- transfer */

static void test_bulk(void) {
  sim s;
  sim_init(&s, 20);
  run_bulk(&s, 4 * MIB);
  CHECK(s.client.max_segments > 20); /* trains, not single packets */
  finish(&s);
}

static void test_bulk_loss(void) {
  sim s;
  sim_init(&s, 21);
  s.up.loss = s.down.loss = 0.05;
  run_bulk(&s, MIB);
  CHECK(s.up.dropped > 10);
  finish(&s);
}

static void test_bulk_rough(void) {
  for (uint64_t seed = 100; seed < 106; seed++) {
    sim s;
    sim_init(&s, seed);
    s.up.loss = s.down.loss = 0.02;
    s.up.duplicate = s.down.duplicate = 0.05;
    s.up.reorder = s.down.reorder = 0.1;
    run_bulk(&s, MIB / 2);
    finish(&s);
  }
}

static void test_small_mtu(void) {
  sim s;
  sim_conn *c, *srv;
  qe_conn_stats st;

  sim_init(&s, 23);
  s.up.mtu = s.down.mtu = 1200;
  REQUIRE(start(&s, &c, &srv));
  CHECK(transfer(&s, c, srv, 1, MIB, 65536));
  CHECK(transfer(&s, srv, c, 1, MIB, 65536));
  qe_conn_get_stats(c->c, &st);
  CHECK_EQ(st.max_udp_payload, 1200);
  finish(&s);

  sim_init(&s, 24);
  s.up.mtu = s.down.mtu = 9000;
  s.client.set.max_tx_udp_payload_size = s.server.set.max_tx_udp_payload_size = 8900;
  REQUIRE(start(&s, &c, &srv));
  CHECK(transfer(&s, c, srv, 1, MIB, 65536));
  qe_conn_get_stats(c->c, &st);
  CHECK_EQ(st.max_udp_payload, 8900);
  finish(&s);
}

/* A path of known size is filled from the first packet on, and nothing larger is tried. */
static void test_known_mtu(void) {
  for (uint32_t size = 1200; size <= 1452; size += 84) {
    sim s;
    sim_conn *c, *srv;
    qe_conn_stats st;

    sim_init(&s, 40 + size);
    s.up.mtu = s.down.mtu = size;
    s.client.set.max_tx_udp_payload_size = s.server.set.max_tx_udp_payload_size = size;
    s.client.set.known_mtu = s.server.set.known_mtu = 1;
    REQUIRE(start(&s, &c, &srv));
    qe_conn_get_stats(c->c, &st);
    CHECK_EQ(st.max_udp_payload, size);
    CHECK(qe_conn_max_datagram_size(c->c) + 48 >= size);
    CHECK(transfer(&s, c, srv, 1, MIB, 65536));
    CHECK(transfer(&s, srv, c, 1, MIB, 65536));
    qe_conn_get_stats(srv->c, &st);
    CHECK_EQ(st.max_udp_payload, size);
    CHECK(st.packets_lost == 0 || st.packets_lost == QE_NEVER);
    finish(&s);
  }
}

/* How many, the library says since 1.16. */
static void test_lost_packets_are_counted(void) {
  sim s;
  sim_conn *c, *srv;
  qe_conn_stats st;

  sim_init(&s, 41);
  s.up.loss = 0.05;
  REQUIRE(start(&s, &c, &srv));
  CHECK(transfer(&s, c, srv, 1, MIB, 65536));
  qe_conn_get_stats(c->c, &st);
  if (ngtcp2_version(0)->version_num < QE_NGTCP2(1, 16)) {
    CHECK_EQ(st.packets_lost, QE_NEVER);
  } else {
    CHECK(st.packets_lost > 10 && st.packets_lost < st.packets_sent);
  }
  finish(&s);
}

static void test_slow_link(void) {
  sim s;
  sim_init(&s, 25);
  s.up.bytes_per_second = s.down.bytes_per_second = 500000;
  run_bulk(&s, MIB);
  finish(&s);
}

static void test_blocked_socket(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 26);
  REQUIRE(start(&s, &c, &srv));
  sim_stream *st = sim_open(c, 1);
  REQUIRE(st != NULL && sim_write(st, MIB, 65536, 1) == 0);
  struct want w = {srv, st->id};
  int blocks = 0;
  s.client.out_limit = 0;
  for (int i = 0; i < 2000 && !got_fin(&w); i++) {
    sim_run(&s, 5 * SIM_MS);
    if (qe_engine_is_blocked(s.client.engine)) {
      blocks++;
      s.client.out_limit = (size_t)(i % 3 == 2); /* mostly none at all */
      qe_engine_unblock(s.client.engine);
    }
  }
  CHECK(got_fin(&w));
  CHECK(blocks >= 5);
  CHECK_EQ(sim_find(srv, st->id)->received, MIB);
  s.client.out_limit = SIZE_MAX;
  finish(&s);
}

static void test_pinned_buffers(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 27);
  s.up.loss = 0.02;
  REQUIRE(start(&s, &c, &srv));
  sim_stream *st = sim_open(c, 1);
  REQUIRE(st != NULL);
  uint64_t offset = 0;
  for (int i = 0; i < 200; i++) {
    size_t len = 1 + sim_random(&s) % 20000;
    uint8_t *buf = malloc(len);
    REQUIRE(buf != NULL);
    for (size_t k = 0; k < len; k++) {
      buf[k] = sim_byte(st->id, offset + k);
    }
    CHECK_EQ(qe_stream_write(st->s, buf, len, buf, i == 199), 0);
    s.client.owners_out++;
    offset += len;
  }
  CHECK_EQ(qe_stream_queued(st->s), offset);
  CHECK_EQ(qe_stream_unacked(st->s), offset);
  CHECK(sim_until(&s, 60 * QE_SECOND, stream_is_closed, st));
  CHECK_EQ(st->acks, 1);
  CHECK_EQ(sim_find(srv, st->id)->received, offset);
  CHECK_EQ(s.client.owners_out, 0);
  /* Those of a connection that just ends come back too. */
  st = sim_open(c, 1);
  uint8_t *buf = malloc(50000);
  REQUIRE(buf != NULL);
  memset(buf, 0, 50000);
  CHECK_EQ(qe_stream_write(st->s, buf, 50000, buf, 0), 0);
  s.client.owners_out++;
  qe_conn_abandon(c->c);
  CHECK_EQ(c->closes, 1);
  CHECK_EQ(s.client.owners_out, 0);
  finish(&s);
}

static void test_many_streams(void) {
  sim s;
  sim_conn *c, *srv;
  qe_conn_stats st;
  int closed = 0;

  sim_init(&s, 28);
  s.up.loss = s.down.loss = 0.01;
  REQUIRE(start(&s, &c, &srv));
  for (int round = 0; round < 20; round++) {
    while (qe_conn_streams_left(c->c, 1) > 0) {
      sim_stream *x = sim_open(c, 1);
      REQUIRE(x != NULL);
      CHECK_EQ(sim_write(x, sim_random(&s) % 3000, 700, 1), 0);
    }
    qe_stream *extra;
    CHECK_EQ(qe_conn_open_stream(c->c, 1, NULL, &extra), QE_ERR_STREAM_LIMIT);
    sim_run(&s, 500 * SIM_MS);
  }
  sim_run(&s, 5 * QE_SECOND);
  for (sim_stream *x = c->streams; x != NULL; x = x->next) {
    sim_stream *peer = sim_find(srv, x->id);
    closed++;
    CHECK_EQ(x->closes, 1);
    CHECK(peer != NULL && peer->closes == 1 && peer->fins == 1 && peer->received == x->written);
  }
  CHECK(closed > 1500);
  qe_conn_get_stats(c->c, &st);
  CHECK_EQ(st.streams_alive, 0);
  CHECK_EQ(st.streams_opened_local, closed);
  qe_conn_get_stats(srv->c, &st);
  CHECK_EQ(st.streams_alive, 0);
  CHECK_EQ(st.streams_opened_remote, closed);
  finish(&s);
}

/* Small streams share packets. */
static void test_coalescing(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 29);
  REQUIRE(start(&s, &c, &srv));
  sim_run(&s, QE_SECOND);
  uint64_t before = s.client.packets;
  for (int i = 0; i < 50; i++) {
    sim_stream *x = sim_open(c, 1);
    REQUIRE(x != NULL && sim_write(x, 20, 20, 1) == 0);
  }
  sim_run(&s, 5 * SIM_MS);
  CHECK(s.client.packets - before <= 3);
  CHECK(s.client.packets - before >= 1);
  finish(&s);
}

/* ------------------------------------------------------------- ECN, pacing */

static void test_ecn(void) {
  sim s;
  sim_conn *c, *srv;
  qe_conn_stats with, without;

  sim_init(&s, 30);
  REQUIRE(start(&s, &c, &srv));
  CHECK(transfer(&s, c, srv, 1, 2 * MIB, 65536));
  CHECK(s.server.ect_in > 500);
  qe_conn_get_stats(c->c, &without);
  finish(&s);

  sim_init(&s, 30); /* the same, with congestion marks */
  s.up.ce = 0.05;
  REQUIRE(start(&s, &c, &srv));
  CHECK(transfer(&s, c, srv, 1, 2 * MIB, 65536));
  qe_conn_get_stats(c->c, &with);
  CHECK(with.cwnd < without.cwnd);
  CHECK(with.ssthresh != UINT64_MAX);
  finish(&s);

  sim_init(&s, 31);
  s.client.set.ecn = 0;
  REQUIRE(start(&s, &c, &srv));
  CHECK(transfer(&s, c, srv, 1, MIB, 65536));
  CHECK_EQ(s.server.ect_in, 0);
  finish(&s);
}

static void test_pacing(void) {
  sim s;
  sim_conn *c, *srv;
  qe_conn_stats st;

  sim_init(&s, 32);
  s.up.delay = s.down.delay = 50 * SIM_MS;
  REQUIRE(start(&s, &c, &srv));
  sim_run(&s, QE_SECOND);
  s.client.max_burst = 0;
  CHECK(transfer(&s, c, srv, 1, 4 * MIB, 65536));
  qe_conn_get_stats(c->c, &st);
  /* Never much more at once than what the window allows in 2 ms of the round
   * trip, or ten packets. */
  uint64_t bound = 2 * st.cwnd * SIM_MS * 5 / 4 / st.smoothed_rtt;
  bound = bound > 14600 ? bound : 14600;
  CHECK(s.client.max_burst <= bound + 2 * 1452);
  CHECK(s.client.max_burst < st.cwnd / 4);
  uint64_t paced = s.client.max_burst;
  finish(&s);

  sim_init(&s, 32);
  s.client.set.pacing = 0;
  s.up.delay = s.down.delay = 50 * SIM_MS;
  REQUIRE(start(&s, &c, &srv));
  sim_run(&s, QE_SECOND);
  s.client.max_burst = 0;
  CHECK(transfer(&s, c, srv, 1, 4 * MIB, 65536));
  CHECK(s.client.max_burst > paced);
  finish(&s);
}

/* ---------------------------------------------------------------- keep-alive */

static void test_idle(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 40);
  s.client.set.idle_timeout = 5 * QE_SECOND;
  REQUIRE(start(&s, &c, &srv));
  qe_tstamp t0 = s.now;
  CHECK(sim_until(&s, 20 * QE_SECOND, is_closed, c));
  CHECK(s.now - t0 >= 5 * QE_SECOND && s.now - t0 < 6 * QE_SECOND);
  CHECK_EQ(c->close.kind, QE_CLOSE_IDLE);
  CHECK(sim_until(&s, 2 * QE_SECOND, is_closed, srv));
  CHECK_EQ(srv->close.kind, QE_CLOSE_IDLE);
  qe_engine_stats st;
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.connections, 0);
  CHECK_EQ(qe_engine_next_tick(s.server.engine), QE_NEVER);
  CHECK_EQ(qe_engine_next_tick(s.client.engine), QE_NEVER);
  finish(&s);
}

static void test_keep_alive(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 41);
  s.client.set.idle_timeout = 5 * QE_SECOND;
  s.client.set.keep_alive = 2 * QE_SECOND;
  REQUIRE(start(&s, &c, &srv));
  uint64_t before = s.client.packets;
  sim_run(&s, 60 * QE_SECOND);
  CHECK_EQ(c->closes, 0);
  CHECK_EQ(srv->closes, 0);
  CHECK(s.client.packets - before < 100); /* and no chatter */
  s.filter = drop_to_client;
  CHECK(sim_until(&s, 30 * QE_SECOND, is_closed, c)); /* a dead peer is noticed */
  finish(&s);
}

static void test_key_update(void) {
  sim s;
  sim_conn *c, *srv;
  qe_conn_stats st;

  sim_init(&s, 42);
  REQUIRE(start(&s, &c, &srv));
  sim_run(&s, QE_SECOND);
  for (int i = 0; i < 3; i++) {
    CHECK_EQ(qe_conn_initiate_key_update(i % 2 ? srv->c : c->c, s.now), 0);
    CHECK(transfer(&s, c, srv, 1, 100000, 10000));
    CHECK(transfer(&s, srv, c, 1, 100000, 10000));
    sim_run(&s, QE_SECOND);
    CHECK(transfer(&s, c, srv, 1, 1000, 1000));
  }
  qe_conn_get_stats(c->c, &st);
  CHECK_EQ(st.key_updates, 3);
  qe_conn_get_stats(srv->c, &st);
  CHECK_EQ(st.key_updates, 3);
  CHECK_EQ(qe_conn_initiate_key_update(c->c, s.now), 0);
  CHECK_EQ(qe_conn_initiate_key_update(c->c, s.now), QE_ERR_NOT_READY); /* too soon */
  finish(&s);
}

/* -------------------------------------------------------------------- ends */

static void test_close(void) {
  for (int from_server = 0; from_server < 2; from_server++) {
    sim s;
    sim_conn *c, *srv;
    sim_init(&s, 50);
    REQUIRE(start(&s, &c, &srv));
    sim_stream *st = sim_open(c, 0);
    REQUIRE(st != NULL && sim_write(st, 1000, 1000, 0) == 0);
    sim_run(&s, QE_SECOND);
    sim_conn *a = from_server ? srv : c, *b = from_server ? c : srv;
    CHECK_EQ(qe_conn_close(a->c, 1, 0x1234567, (const uint8_t *)"good bye", 8), 0);
    CHECK_EQ(qe_conn_close(a->c, 1, 1, NULL, 0), QE_ERR_CLOSED);
    CHECK_EQ(a->closes, 0); /* not inside the call */
    qe_stream *none;
    CHECK_EQ(qe_conn_open_stream(a->c, 1, NULL, &none), QE_ERR_CLOSED);
    CHECK(sim_until(&s, QE_SECOND, is_closed, b));
    CHECK_EQ(a->close.remote, 0);
    CHECK_EQ(b->close.remote, 1);
    for (int i = 0; i < 2; i++) {
      sim_conn *x = i ? a : b;
      CHECK_EQ(x->close.kind, QE_CLOSE_APPLICATION);
      CHECK_EQ(x->close.code, 0x1234567);
      CHECK_EQ(x->close.handshake_done, 1);
      CHECK_EQ(x->close.reason_len, 8);
      CHECK_EQ(memcmp(x->close.reason, "good bye", 8), 0);
      CHECK_EQ(x->streams->closes, 1);
    }
    qe_engine_stats es;
    qe_engine_get_stats(s.client.engine, &es);
    CHECK_EQ(es.lingering, 1);
    sim_run(&s, 10 * QE_SECOND);
    qe_engine_get_stats(s.client.engine, &es);
    CHECK_EQ(es.lingering, 0);
    CHECK_EQ(qe_engine_next_tick(s.client.engine), QE_NEVER);
    CHECK_EQ(qe_engine_next_tick(s.server.engine), QE_NEVER);
    finish(&s);
  }
}

static void test_transport_close(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 51);
  REQUIRE(start(&s, &c, &srv));
  CHECK_EQ(qe_conn_close(c->c, 0, 0x0a, NULL, 0), 0);
  CHECK(sim_until(&s, QE_SECOND, is_closed, srv));
  CHECK_EQ(srv->close.kind, QE_CLOSE_TRANSPORT);
  CHECK_EQ(srv->close.code, 0x0a);
  CHECK_EQ(qe_conn_close(NULL, 0, 0, NULL, 0), QE_ERR_INVALID);
  finish(&s);
}

static int lose_once;

static int drop_next_to_server(sim *s, int to_server, const uint8_t *data, size_t len) {
  (void)s;
  (void)data;
  (void)len;
  return !(to_server && lose_once-- > 0);
}

/* The close packet is lost: the peer continues, and gets it again as an answer. */
static void test_close_repeated(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 52);
  REQUIRE(start(&s, &c, &srv));
  sim_run(&s, QE_SECOND);
  sim_stream *st = sim_open(srv, 1);
  REQUIRE(st != NULL);
  lose_once = 1;
  s.filter = drop_next_to_server;
  CHECK_EQ(qe_conn_close(c->c, 1, 77, NULL, 0), 0);
  CHECK(sim_until(&s, SIM_MS, is_closed, c));
  uint64_t before = s.client.packets;
  CHECK_EQ(sim_write(st, MIB / 8, 1000, 0), 0);
  CHECK(sim_until(&s, QE_SECOND, is_closed, srv));
  CHECK_EQ(srv->close.code, 77);
  sim_run(&s, QE_SECOND);
  CHECK(s.client.packets - before >= 1 && s.client.packets - before <= 5);
  finish(&s);
}

static void test_stateless_reset(void) {
  sim s;
  sim_conn *c, *srv;
  qe_engine_stats st;

  sim_init(&s, 53);
  REQUIRE(start(&s, &c, &srv));
  sim_run(&s, QE_SECOND);
  REQUIRE(sim_restart_server(&s) == 0);
  sim_stream *x = sim_open(c, 1);
  REQUIRE(x != NULL && sim_write(x, 5000, 1000, 0) == 0);
  CHECK(sim_until(&s, 5 * QE_SECOND, is_closed, c));
  CHECK_EQ(c->close.kind, QE_CLOSE_STATELESS_RESET);
  CHECK_EQ(c->close.remote, 1);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK(st.stateless_resets_sent >= 1);
  finish(&s);
}

static void test_foreign_packets(void) {
  sim s;
  sim_conn *c, *srv;
  uint8_t junk[1500];
  qe_engine_stats st;

  sim_init(&s, 54);
  s.server.set.stateless_resets_per_second = 10;
  REQUIRE(start(&s, &c, &srv));
  for (int i = 0; i < 5000; i++) {
    size_t len = 1 + sim_random(&s) % sizeof(junk);
    for (size_t k = 0; k < len; k++) {
      junk[k] = (uint8_t)sim_random(&s);
    }
    if (i % 3 == 0) {
      memcpy(junk + 1, "\0\0\0\1", len > 5 ? 4 : 0);
    }
    sim_inject(&s, i % 2, i % 2 ? &s.client.addr : &s.server.addr, junk, len);
  }
  sim_run(&s, 100 * SIM_MS);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK(st.stateless_resets_sent + st.version_negotiations_sent <= 11);
  CHECK(st.rate_limited > 100);
  CHECK_EQ(c->closes, 0);
  CHECK(transfer(&s, c, srv, 0, 100000, 1000));
  finish(&s);
}

/* Flips every bit of real packets: the only effect may be loss. */
static int corrupt(sim *s, int to_server, const uint8_t *data, size_t len) {
  uint8_t copy[65536];
  if (sim_random(s) % 4 != 0) {
    return 1;
  }
  memcpy(copy, data, len);
  copy[sim_random(s) % len] ^= (uint8_t)(1u << (sim_random(s) % 8));
  sim_inject(s, to_server, to_server ? &s->client.addr : &s->server.addr, copy,
             sim_random(s) % 3 ? len : 1 + sim_random(s) % len);
  return 1;
}

static void test_corruption(void) {
  for (uint64_t seed = 200; seed < 210; seed++) {
    sim s;
    sim_conn *c, *srv;
    sim_init(&s, seed);
    REQUIRE(sim_start(&s) == 0);
    s.filter = corrupt;
    c = sim_connect(&s);
    srv = sim_handshake(&s, c);
    REQUIRE(srv != NULL);
    CHECK(transfer(&s, c, srv, 0, 200000, 5000));
    CHECK(transfer(&s, srv, c, 1, 200000, 5000));
    finish(&s);
  }
}

static void test_internal_error(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 55);
  REQUIRE(start(&s, &c, &srv));
  s.server.refuse_data = 1;
  sim_stream *st = sim_open(c, 1);
  REQUIRE(st != NULL && sim_write(st, 10, 10, 0) == 0);
  CHECK(sim_until(&s, QE_SECOND, is_closed, c));
  CHECK_EQ(srv->closes, 1);
  CHECK_EQ(srv->close.kind, QE_CLOSE_INTERNAL);
  CHECK_EQ(c->close.kind, QE_CLOSE_TRANSPORT);
  CHECK_EQ(c->close.code, 1);
  finish(&s);
}

static void test_abandon(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 56);
  REQUIRE(start(&s, &c, &srv));
  uint64_t before = s.client.packets;
  qe_conn_abandon(c->c);
  CHECK_EQ(c->closes, 1);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(s.client.packets, before);
  CHECK_EQ(srv->closes, 0);
  finish(&s);
}

static void test_debug_log(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 57);
  s.client.set.debug = 1;
  REQUIRE(start(&s, &c, &srv));
  CHECK(s.client.log_lines > 20);
  CHECK_EQ(s.server.log_lines, 0);
  finish(&s);
}

static void test_blackout(void) {
  sim s;
  sim_conn *c, *srv;
  sim_init(&s, 58);
  REQUIRE(start(&s, &c, &srv));
  sim_stream *st = sim_open(c, 1);
  REQUIRE(st != NULL && sim_write(st, MIB, 10000, 1) == 0);
  sim_run(&s, 30 * SIM_MS);
  s.filter = drop_to_server;
  sim_run(&s, 3 * QE_SECOND);
  s.filter = NULL;
  struct want w = {srv, st->id};
  CHECK(sim_until(&s, 20 * QE_SECOND, got_fin, &w));
  finish(&s);
}

int main(void) {
  if (sim_global_init() != 0) {
    printf("no certificates\n");
    return 1;
  }
  RUN(test_bulk);
  RUN(test_bulk_loss);
  RUN(test_bulk_rough);
  RUN(test_small_mtu);
  RUN(test_known_mtu);
  RUN(test_lost_packets_are_counted);
  RUN(test_slow_link);
  RUN(test_blocked_socket);
  RUN(test_pinned_buffers);
  RUN(test_many_streams);
  RUN(test_coalescing);
  RUN(test_ecn);
  RUN(test_pacing);
  RUN(test_idle);
  RUN(test_keep_alive);
  RUN(test_key_update);
  RUN(test_close);
  RUN(test_transport_close);
  RUN(test_close_repeated);
  RUN(test_stateless_reset);
  RUN(test_foreign_packets);
  RUN(test_corruption);
  RUN(test_internal_error);
  RUN(test_abandon);
  RUN(test_debug_log);
  RUN(test_blackout);
  sim_global_free();
  return check_report();
}
