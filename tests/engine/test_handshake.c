/* test_handshake.c - handshakes that succeed, and handshakes that fail. */
#include <stdlib.h>

#include "check.h"
#include "engine.h"
#include "sim.h"
#include "udp.h"

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

static void test_settings(void) {
  qe_settings set;
  const char *field = "";
  qe_engine *e;
  qe_callbacks cb = {0};

  qe_settings_init(&set, 0);
  CHECK_EQ(qe_settings_check(&set, &field), 0);
  set.cid_len = 20;
  CHECK_EQ(qe_settings_check(&set, &field), QE_ERR_INVALID);
  CHECK_STR(field, "cid_len");
  set.cid_len = 8;
  set.max_data_window = 1;
  CHECK_EQ(qe_settings_check(&set, &field), QE_ERR_INVALID);
  CHECK_STR(field, "max_data_window");
  CHECK_EQ(qe_engine_new(&e, &set, &cb, NULL, NULL, NULL, NULL), QE_ERR_INVALID);
  qe_settings_init(&set, 0);
  set.qlog = 1;
  if (!qe_qlog_supported()) {
    CHECK_EQ(qe_engine_new(&e, &set, &cb, NULL, NULL, NULL, NULL), QE_ERR_UNSUPPORTED);
  }
  qe_settings_init(&set, 1);
  CHECK_EQ(qe_engine_new(&e, &set, &cb, NULL, NULL, NULL, NULL), QE_ERR_INVALID); /* no TLS */
  for (int i = QE_ERR_INTERNAL; i <= 0; i++) {
    CHECK(strcmp(qe_strerror(i), "unknown error") != 0);
  }
  CHECK_STR(qe_strerror(-99), "unknown error");
  CHECK(strlen(qe_ngtcp2_version()) > 2 && strlen(qe_gnutls_version()) > 2);
}

/* -------------------------------------------------------------- handshake */

static void test_handshake(void) {
  sim s;
  sim_conn *c, *srv;
  qe_engine_stats st;
  const uint8_t *der;

  sim_init(&s, 1);
  REQUIRE(start(&s, &c, &srv));
  CHECK_EQ(c->handshakes, 1);
  CHECK_EQ(srv->handshakes, 1);
  CHECK_STR(qe_conn_alpn(c->c), "h3");
  CHECK_STR(qe_conn_alpn(srv->c), "h3");
  CHECK_STR(qe_conn_server_name(srv->c), "sim.example");
  CHECK_STR(qe_conn_server_name(c->c), "sim.example");
  CHECK(qe_conn_peer_certificate(c->c, &der) > 100);
  CHECK_EQ(der[0], 0x30);
  CHECK_EQ(qe_conn_peer_certificate(srv->c, &der), 0);
  CHECK_EQ(qe_conn_resumed(c->c), 0);
  sim_run(&s, QE_SECOND);
  CHECK(c->streams_available[0] > 0);
  CHECK(c->streams_available[1] > 0);
  CHECK(srv->streams_available[0] > 0);
  CHECK(c->ticket_len > 0);
  CHECK(c->token_len > 0);
  CHECK(s.client.keylog_lines >= 4);
  CHECK_EQ(qe_conn_streams_left(c->c, 0), 100);
  CHECK_EQ(qe_conn_peer_max_datagram_frame_size(c->c), 65535);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.accepted, 1);
  CHECK_EQ(st.connections, 1);
  CHECK_EQ(st.half_open, 0);
  CHECK_EQ(st.handshake_failed, 0);
  qe_conn_stats cs;
  qe_conn_get_stats(c->c, &cs);
  CHECK_EQ(cs.version, 1);
  CHECK(cs.smoothed_rtt >= 20 * SIM_MS && cs.smoothed_rtt < 80 * SIM_MS);
  CHECK(cs.max_udp_payload > 1200); /* path MTU discovery went up */
  finish(&s);
}

static void test_exporter(void) {
  sim s;
  sim_conn *c, *srv;
  uint8_t a[32], b[32], other[32];

  sim_init(&s, 2);
  REQUIRE(start(&s, &c, &srv));
  CHECK_EQ(qe_conn_export(c->c, "EXPORTER-x", 10, (const uint8_t *)"ctx", 3, a, 32), 0);
  CHECK_EQ(qe_conn_export(srv->c, "EXPORTER-x", 10, (const uint8_t *)"ctx", 3, b, 32), 0);
  CHECK_EQ(qe_conn_export(srv->c, "EXPORTER-y", 10, (const uint8_t *)"ctx", 3, other, 32), 0);
  CHECK_EQ(memcmp(a, b, 32), 0);
  CHECK(memcmp(a, other, 32) != 0);
  CHECK_EQ(qe_conn_export(c->c, "x", 1, NULL, 0, a, 0), QE_ERR_INVALID);
  finish(&s);
}

static void test_resumption_and_token(void) {
  sim s;
  sim_conn *c, *srv, *c2, *srv2;
  qe_engine_stats st;

  sim_init(&s, 3);
  REQUIRE(start(&s, &c, &srv));
  sim_run(&s, QE_SECOND);
  REQUIRE(c->ticket_len > 0 && c->token_len > 0);
  c2 = sim_connect_with(&s, c->ticket, c->ticket_len, c->token, c->token_len);
  srv2 = sim_handshake(&s, c2);
  REQUIRE(srv2 != NULL);
  CHECK_EQ(qe_conn_resumed(c2->c), 1);
  CHECK_EQ(qe_conn_resumed(srv2->c), 1);
  CHECK(transfer(&s, c2, srv2, 1, 100000, 1000));
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.connections, 2);
  finish(&s);
}

static void test_version_2(void) {
  sim s;
  sim_conn *c, *srv;
  qe_conn_stats st;

  sim_init(&s, 4);
  s.client.set.prefer_v2 = 1;
  s.server.set.prefer_v2 = 1;
  REQUIRE(start(&s, &c, &srv));
  CHECK(transfer(&s, c, srv, 0, 100000, 5000));
  qe_conn_get_stats(c->c, &st);
  CHECK_EQ(st.version, 0x6b3343cf);
  qe_conn_get_stats(srv->c, &st);
  CHECK_EQ(st.version, 0x6b3343cf);
  finish(&s);

  sim_init(&s, 5); /* the client did not offer it */
  s.server.set.prefer_v2 = 1;
  REQUIRE(start(&s, &c, &srv));
  qe_conn_get_stats(c->c, &st);
  CHECK_EQ(st.version, 1);
  finish(&s);
}

/* Changes the client's Initial to an unknown version. */
static int unknown_version(sim *s, int to_server, const uint8_t *data, size_t len) {
  uint8_t copy[1500];
  if (!to_server || len > sizeof(copy) || (data[0] & 0x80) == 0 || data[1] != 0 || data[4] != 1) {
    return 1;
  }
  memcpy(copy, data, len);
  copy[1] = 0x1a;
  copy[2] = 0x2a;
  copy[3] = 0x3a;
  copy[4] = 0x5b;
  sim_inject(s, 1, &s->client.addr, copy, len);
  return 0;
}

static void test_version_negotiation(void) {
  sim s;
  qe_engine_stats st;

  sim_init(&s, 6);
  REQUIRE(sim_start(&s) == 0);
  s.filter = unknown_version;
  sim_conn *c = sim_connect(&s);
  REQUIRE(c != NULL);
  sim_run(&s, QE_SECOND);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK(st.version_negotiations_sent > 0);
  CHECK_EQ(st.half_open, 0);
  /* The list contains the client's version, so it must be ignored. */
  CHECK_EQ(c->closes, 0);
  finish(&s);
}

/* A real Version Negotiation without our versions ends the attempt. */
static int answer_vn(sim *s, int to_server, const uint8_t *data, size_t len) {
  uint8_t vn[64];
  size_t dcid = data[5], scid = data[6 + data[5]], n = 0;
  (void)len;
  if (!to_server) {
    return 1;
  }
  vn[n++] = 0xc0;
  memset(vn + n, 0, 4);
  n += 4;
  vn[n++] = (uint8_t)scid;
  memcpy(vn + n, data + 7 + dcid, scid);
  n += scid;
  vn[n++] = (uint8_t)dcid;
  memcpy(vn + n, data + 6, dcid);
  n += dcid;
  memcpy(vn + n, "\x1a\x2a\x3a\x4a\x0b\x0c\x0d\x0e", 8);
  n += 8;
  sim_inject(s, 0, &s->server.addr, vn, n);
  return 0;
}

static void test_no_common_version(void) {
  sim s;

  sim_init(&s, 7);
  REQUIRE(sim_start(&s) == 0);
  s.filter = answer_vn;
  sim_conn *c = sim_connect(&s);
  REQUIRE(c != NULL);
  CHECK(sim_until(&s, QE_SECOND, is_closed, c));
  CHECK_EQ(c->close.kind, QE_CLOSE_VERSION);
  CHECK_EQ(c->close.remote, 1);
  CHECK_EQ(c->close.handshake_done, 0);
  finish(&s);
}

static void test_retry(void) {
  sim s;
  sim_conn *c, *srv;
  qe_engine_stats st;

  sim_init(&s, 8);
  s.server.set.retry = QE_RETRY_ALWAYS;
  REQUIRE(start(&s, &c, &srv));
  CHECK(transfer(&s, c, srv, 0, 50000, 5000));
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.retries_sent, 1);
  CHECK_EQ(st.accepted, 1);
  sim_run(&s, QE_SECOND);
  REQUIRE(c->token_len > 0);
  /* With a token from an earlier connection, the address counts as validated. */
  sim_conn *c2 = sim_connect_with(&s, NULL, 0, c->token, c->token_len);
  REQUIRE(sim_handshake(&s, c2) != NULL);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.retries_sent, 1);
  /* From another address the same token is not valid: Retry again. */
  s.nat = 1;
  sim_conn *c3 = sim_connect_with(&s, NULL, 0, c->token, c->token_len);
  s.nat_addr.sin_addr.s_addr ^= htonl(1);
  REQUIRE(sim_handshake(&s, c3) != NULL);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK(st.retries_sent >= 2);
  finish(&s);
}

static void test_retry_under_load(void) {
  sim s;
  qe_engine_stats st;

  sim_init(&s, 9);
  s.server.set.retry_half_open = 3;
  REQUIRE(sim_start(&s) == 0);
  for (int i = 0; i < 10; i++) {
    REQUIRE(sim_connect(&s) != NULL);
  }
  sim_run(&s, 2 * QE_SECOND);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.retries_sent, 7);
  CHECK_EQ(st.accepted, 10);
  finish(&s);
}

static void test_limits(void) {
  sim s;
  qe_engine_stats st;
  sim_conn *c[4];

  sim_init(&s, 10);
  s.server.set.max_connections = 2;
  REQUIRE(sim_start(&s) == 0);
  for (int i = 0; i < 4; i++) {
    c[i] = sim_connect(&s);
    REQUIRE(c[i] != NULL);
    sim_run(&s, QE_SECOND);
  }
  CHECK_EQ(c[0]->handshakes, 1);
  CHECK_EQ(c[1]->handshakes, 1);
  for (int i = 2; i < 4; i++) {
    CHECK_EQ(c[i]->closes, 1);
    CHECK_EQ(c[i]->close.kind, QE_CLOSE_TRANSPORT);
    CHECK_EQ(c[i]->close.remote, 1);
    CHECK_EQ(c[i]->close.code, 2); /* CONNECTION_REFUSED */
  }
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.connections, 2);
  CHECK(st.refused >= 2);
  /* When one connection closes, another one is accepted. */
  CHECK_EQ(qe_conn_close(c[0]->c, 1, 0, NULL, 0), 0);
  sim_run(&s, QE_SECOND);
  sim_conn *late = sim_connect(&s);
  CHECK(sim_handshake(&s, late) != NULL);
  /* After stop_accepting no connection is accepted, and the others continue. */
  qe_engine_stop_accepting(s.server.engine);
  CHECK_EQ(qe_conn_close(c[1]->c, 1, 0, NULL, 0), 0);
  sim_run(&s, QE_SECOND);
  sim_conn *refused = sim_connect(&s);
  CHECK(sim_until(&s, QE_SECOND, is_closed, refused));
  CHECK_EQ(refused->close.code, 2);
  CHECK(transfer(&s, late, s.server.conns, 1, 1000, 1000));
  finish(&s);
}

static void test_address_rate(void) {
  sim s;
  qe_engine_stats st;

  sim_init(&s, 11);
  s.server.set.handshakes_per_address = 5;
  s.server.set.retry = QE_RETRY_OFF;
  s.client.set.handshake_timeout = QE_SECOND / 2;
  REQUIRE(sim_start(&s) == 0);
  for (int i = 0; i < 20; i++) {
    REQUIRE(sim_connect(&s) != NULL);
  }
  sim_run(&s, 100 * SIM_MS);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.accepted, 5);
  CHECK(st.rate_limited >= 15);
  finish(&s);
}

/* A token proves the address, but connections with one are counted too. */
static void test_address_rate_with_tokens(void) {
  sim s;
  qe_engine_stats st;

  sim_init(&s, 11);
  s.server.set.handshakes_per_address = 5;
  s.client.set.handshake_timeout = QE_SECOND / 2;
  REQUIRE(sim_start(&s) == 0);
  sim_conn *first = sim_connect(&s);
  REQUIRE(sim_handshake(&s, first) != NULL);
  sim_run(&s, 2 * QE_SECOND); /* the token is there, and the budget full again */
  REQUIRE(first->token_len > 0);
  for (int i = 0; i < 20; i++) {
    REQUIRE(sim_connect_with(&s, NULL, 0, first->token, first->token_len) != NULL);
  }
  sim_run(&s, 100 * SIM_MS);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.accepted, 1 + 5);
  CHECK(st.rate_limited >= 15);
  finish(&s);
}

static int drop_to_client(sim *s, int to_server, const uint8_t *data, size_t len) {
  (void)s;
  (void)data;
  (void)len;
  return to_server;
}

/* A flood of Initials does not use up the limit of connections. */
static void test_half_open_connections_have_a_budget_of_their_own(void) {
  sim s;
  qe_engine_stats st;

  sim_init(&s, 15);
  s.server.set.max_connections = 2;
  s.server.set.max_half_open = 8;
  s.server.set.retry = QE_RETRY_OFF;
  s.client.set.pmtud = s.server.set.pmtud = 0;
  REQUIRE(sim_start(&s) == 0);
  s.filter = drop_to_client;
  for (int i = 0; i < 6; i++) {
    REQUIRE(sim_connect(&s) != NULL);
  }
  sim_run(&s, 100 * SIM_MS);
  s.filter = NULL;
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.connections, 0);
  CHECK_EQ(st.half_open, 6);
  sim_conn *honest = sim_connect(&s);
  CHECK(sim_handshake(&s, honest) != NULL);
  /* More handshakes complete now than may: the limit is two connections. */
  sim_run(&s, 5 * QE_SECOND);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.connections, 2);
  CHECK_EQ(st.half_open, 0);
  int refused = 0;
  for (sim_conn *c = s.client.conns; c != NULL; c = c->next) {
    refused += c->closes == 1 && c->close.kind == QE_CLOSE_TRANSPORT && c->close.code == 2;
  }
  CHECK_EQ(refused, 5);
  CHECK_EQ(honest->closes, 0);
  finish(&s);
}

static int is_refused(const sim_conn *c) {
  return c->closes == 1 && c->close.kind == QE_CLOSE_TRANSPORT && c->close.remote &&
         c->close.code == 2;
}

/* One address cannot use all connections. A connection counts for its address until it ends,
 * even after it migrates. */
static void test_connections_of_one_address(void) {
  sim s;
  qe_engine_stats st;
  sim_conn *c[2], *srv[2];

  sim_init(&s, 16);
  s.server.set.max_connections_per_address = 2;
  REQUIRE(sim_start(&s) == 0);
  for (int i = 0; i < 2; i++) {
    c[i] = sim_connect(&s);
    srv[i] = sim_handshake(&s, c[i]);
    REQUIRE(srv[i] != NULL);
  }
  sim_conn *third = sim_connect(&s);
  sim_run(&s, QE_SECOND);
  CHECK(is_refused(third));
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.half_open, 0); /* no handshake was begun for it */
  CHECK_EQ(st.refused_for_address, 1);
  CHECK_EQ(st.refused, 1);

  /* The same sockets behind another address: one more finds room, and the old ones move there. */
  s.nat_addr = s.client.addr;
  s.nat_addr.sin_addr.s_addr = htonl(0x0a090909);
  s.nat = 1;
  for (int i = 0; i < 2; i++) {
    CHECK(transfer(&s, c[i], srv[i], 1, 1000, 1000));
    CHECK_EQ(srv[i]->path_changes, 1);
  }
  sim_conn *other = sim_connect(&s);
  CHECK(sim_handshake(&s, other) != NULL);
  s.nat = 0;
  sim_conn *again = sim_connect(&s);
  sim_run(&s, QE_SECOND);
  CHECK(is_refused(again));

  CHECK_EQ(qe_conn_close(c[0]->c, 1, 0, NULL, 0), 0);
  sim_run(&s, QE_SECOND);
  CHECK(sim_handshake(&s, sim_connect(&s)) != NULL);
  for (sim_conn *each = s.client.conns; each != NULL; each = each->next) {
    if (each->closes == 0 && each->c != NULL) {
      qe_conn_close(each->c, 1, 0, NULL, 0);
    }
  }
  sim_run(&s, QE_SECOND);
  CHECK_EQ(qe_cidmap_size(&s.server.engine->clients), 0);
  finish(&s);
}

/* Concurrent handshakes do not exceed the limit either. */
static void test_connections_of_one_address_at_once(void) {
  sim s;
  qe_engine_stats st;
  int refused = 0;

  sim_init(&s, 17);
  s.server.set.max_connections_per_address = 2;
  REQUIRE(sim_start(&s) == 0);
  for (int i = 0; i < 6; i++) {
    REQUIRE(sim_connect(&s) != NULL);
  }
  sim_run(&s, QE_SECOND);
  for (sim_conn *each = s.client.conns; each != NULL; each = each->next) {
    refused += is_refused(each);
  }
  CHECK_EQ(refused, 4);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.connections, 2);
  CHECK_EQ(st.half_open, 0);
  CHECK_EQ(st.refused_for_address, 4);
  finish(&s);
}

static void test_half_open_connections_of_one_address(void) {
  sim s;
  qe_engine_stats st;

  sim_init(&s, 18);
  s.server.set.max_half_open_per_address = 3;
  s.server.set.retry = QE_RETRY_OFF;
  s.client.set.pmtud = s.server.set.pmtud = 0;
  REQUIRE(sim_start(&s) == 0);
  s.filter = drop_to_client;
  for (int i = 0; i < 6; i++) {
    REQUIRE(sim_connect(&s) != NULL);
  }
  sim_run(&s, 100 * SIM_MS);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.half_open, 3);
  s.filter = NULL;
  s.nat_addr = s.client.addr;
  s.nat_addr.sin_addr.s_addr = htonl(0x0a090909);
  s.nat = 1;
  CHECK(sim_handshake(&s, sim_connect(&s)) != NULL);
  s.nat = 0;
  sim_run(&s, 8 * QE_SECOND); /* clients whose packets were dropped try again, and are accepted */
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.half_open, 0);
  CHECK_EQ(st.connections, 7);
  finish(&s);
}

/* After a restart, clients must get resets although another client causes refusals all the time. */
static void test_refusals_take_no_place_of_resets(void) {
  sim s;
  qe_engine_stats st;
  uint8_t unknown[1200] = {0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8};
  uint8_t lost[64] = {0x40, 9, 9, 9, 9, 9, 9, 9, 9};

  sim_init(&s, 19);
  REQUIRE(sim_start(&s) == 0);
  for (int i = 0; i < 5000; i++) {
    sim_inject(&s, 1, &s.client.addr, unknown, sizeof(unknown));
  }
  for (int i = 0; i < 1000; i++) {
    lost[1] = (uint8_t)i;
    sim_inject(&s, 1, &s.client.addr, lost, sizeof(lost));
  }
  sim_run(&s, 10 * SIM_MS);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.stateless_resets_sent, 1000);
  CHECK(st.version_negotiations_sent >= 100 && st.version_negotiations_sent <= 110);
  finish(&s);
}

static void test_handshake_timeout(void) {
  sim s;
  qe_engine_stats st;

  sim_init(&s, 12);
  s.client.set.handshake_timeout = 3 * QE_SECOND;
  s.server.set.handshake_timeout = 2 * QE_SECOND;
  REQUIRE(sim_start(&s) == 0);
  s.filter = drop_to_client;
  qe_tstamp t0 = s.now;
  sim_conn *c = sim_connect(&s);
  REQUIRE(c != NULL);
  sim_run(&s, QE_SECOND);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.half_open, 1);
  CHECK(sim_until(&s, 10 * QE_SECOND, is_closed, c));
  CHECK_EQ(c->close.kind, QE_CLOSE_HANDSHAKE_TIMEOUT);
  CHECK(s.now - t0 >= 3 * QE_SECOND && s.now - t0 < 4 * QE_SECOND);
  sim_run(&s, 5 * QE_SECOND);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.half_open, 0);
  CHECK(st.handshake_failed >= 1);
  CHECK(s.server.conns == NULL); /* never reported */
  finish(&s);
}

static void test_refused_by_icmp(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 13);
  REQUIRE(sim_start(&s) == 0);
  c = sim_connect(&s);
  qe_engine_on_unreachable(s.client.engine, (struct sockaddr *)&s.server.addr,
                           sizeof(s.server.addr), 111);
  CHECK(sim_until(&s, QE_SECOND, is_closed, c));
  CHECK_EQ(c->close.kind, QE_CLOSE_REFUSED);
  CHECK_EQ(c->close.sys_errno, 111);
  c = sim_connect(&s);
  srv = sim_handshake(&s, c);
  REQUIRE(srv != NULL);
  qe_engine_on_unreachable(s.client.engine, (struct sockaddr *)&s.server.addr,
                           sizeof(s.server.addr), 111);
  CHECK(transfer(&s, c, srv, 1, 1000, 1000)); /* an established connection ignores it */
  finish(&s);
}

static void test_bad_certificate(void) {
  sim s;
  qe_tls_options o = {.alpn = (const char *const[]){"h3"},
                      .alpn_count = 1,
                      .cert_hashes = (const uint8_t[1][32]){{1, 2, 3}},
                      .cert_hash_count = 1};
  qe_engine_stats st;

  sim_init(&s, 14);
  REQUIRE(sim_start(&s) == 0);
  qe_tls *tls;
  REQUIRE(qe_tls_new(&tls, &o) == 0);
  qe_engine_set_tls(s.client.engine, tls);
  qe_tls_unref(tls);
  sim_conn *c = sim_connect(&s);
  REQUIRE(c != NULL);
  CHECK(sim_until(&s, 5 * QE_SECOND, is_closed, c));
  CHECK_EQ(c->close.kind, QE_CLOSE_TRANSPORT);
  CHECK_EQ(c->close.remote, 0);
  CHECK(c->close.code >= 0x100 && c->close.code < 0x200);
  CHECK(strlen(c->close.tls_error) > 5);
  sim_run(&s, QE_SECOND);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.half_open, 0);
  CHECK_EQ(st.handshake_failed, 1);
  finish(&s);
}

int main(void) {
  if (sim_global_init() != 0) {
    printf("no certificates\n");
    return 1;
  }
  RUN(test_settings);
  RUN(test_handshake);
  RUN(test_exporter);
  RUN(test_resumption_and_token);
  RUN(test_version_2);
  RUN(test_version_negotiation);
  RUN(test_no_common_version);
  RUN(test_retry);
  RUN(test_retry_under_load);
  RUN(test_limits);
  RUN(test_address_rate);
  RUN(test_address_rate_with_tokens);
  RUN(test_half_open_connections_have_a_budget_of_their_own);
  RUN(test_connections_of_one_address);
  RUN(test_connections_of_one_address_at_once);
  RUN(test_half_open_connections_of_one_address);
  RUN(test_refusals_take_no_place_of_resets);
  RUN(test_handshake_timeout);
  RUN(test_refused_by_icmp);
  RUN(test_bad_certificate);
  sim_global_free();
  return check_report();
}
