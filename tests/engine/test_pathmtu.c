/* test_pathmtu.c - paths that no longer carry packets of the size in use. */
#include "check.h"
#include "conn.h"
#include "pathmtu.h"
#include "sim.h"
#include "udp.h"

#define MIB ((uint64_t)1 << 20)
#define FULL 1444 /* what discovery finds on Ethernet */

static int start(sim *s, sim_conn **c, sim_conn **srv) {
  s->up.delay = s->down.delay = 20 * SIM_MS;
  if (sim_start(s) != 0) {
    return 0;
  }
  *c = sim_connect(s);
  *srv = sim_handshake(s, *c);
  if (*srv != NULL) {
    sim_run(s, 2 * QE_SECOND); /* path MTU discovery is done */
  }
  return *srv != NULL;
}

static uint32_t mtu_of(sim_conn *c) {
  qe_conn_stats st;
  qe_conn_get_stats(c->c, &st);
  return st.max_udp_payload;
}

static uint64_t falls_of(sim_conn *c) {
  qe_conn_stats st;
  qe_conn_get_stats(c->c, &st);
  return st.mtu_falls;
}

struct want {
  sim_conn *conn;
  int64_t id;
  uint64_t bytes;
};

static int arrived(void *ctx) {
  struct want *w = ctx;
  sim_stream *st = sim_find(w->conn, w->id);
  return st != NULL && st->received >= w->bytes;
}

/* Sends on a new stream; returns how long it took to arrive, or QE_NEVER. */
static qe_tstamp send_on(sim *s, sim_conn *from, sim_conn *to, uint64_t n, qe_tstamp limit) {
  sim_stream *st = sim_open(from, 1);
  qe_tstamp t0 = s->now;
  if (st == NULL || sim_write(st, n, 10000, 1) != 0) {
    return QE_NEVER;
  }
  struct want w = {to, st->id, n};
  return sim_until(s, limit, arrived, &w) ? s->now - t0 : QE_NEVER;
}

/* Small packets of other streams arrive all the time. */
static void chatter(sim *s, sim_conn *c, sim_stream *st, int times) {
  for (int i = 0; i < times; i++) {
    sim_write(st, 10, 10, 0);
    qe_conn_send_datagram(c->c, NULL, NULL, 0, (const uint8_t *)"small", 5, 0, QE_NEVER);
    sim_run(s, 10 * SIM_MS);
  }
}

/* As start(), but with the handshake only. */
static int connect_only(sim *s, sim_conn **c, sim_conn **srv) {
  s->up.delay = s->down.delay = 20 * SIM_MS;
  if (sim_start(s) != 0) {
    return 0;
  }
  *c = sim_connect(s);
  *srv = sim_handshake(s, *c);
  return *srv != NULL;
}

static uint64_t sent_by(sim_conn *c) {
  qe_conn_stats st;
  qe_conn_get_stats(c->c, &st);
  return st.packets_sent;
}

static void test_discovery_waits_for_data_or_half_a_second(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 50);
  REQUIRE(connect_only(&s, &c, &srv));
  /* As much as it takes to open a session. */
  CHECK(send_on(&s, c, srv, 2000, QE_SECOND) != QE_NEVER);
  CHECK(send_on(&s, srv, c, 2000, QE_SECOND) != QE_NEVER);
  sim_run(&s, 150 * SIM_MS); /* credit for the stream that ended is told, too */
  uint64_t sent = sent_by(c) + sent_by(srv);
  sim_run(&s, 100 * SIM_MS);
  CHECK_EQ(sent_by(c) + sent_by(srv), sent);
  CHECK_EQ(mtu_of(c), QE_BASE_MTU);
  CHECK_EQ(mtu_of(srv), QE_BASE_MTU);
  sim_run(&s, QE_SECOND);
  CHECK(sent_by(c) + sent_by(srv) > sent);
  CHECK_EQ(mtu_of(c), FULL);
  CHECK_EQ(mtu_of(srv), FULL);
  sim_free(&s);
}

static void test_data_starts_discovery_of_who_sends_it(void) {
  for (int from_server = 0; from_server < 2; from_server++) {
    sim s;
    sim_conn *c, *srv;
    sim_init(&s, 51);
    REQUIRE(connect_only(&s, &c, &srv));
    sim_conn *from = from_server ? srv : c, *to = from_server ? c : srv;
    CHECK(send_on(&s, from, to, 20000, QE_SECOND) != QE_NEVER);
    sim_run(&s, 200 * SIM_MS);
    CHECK_EQ(mtu_of(from), FULL);
    CHECK_EQ(mtu_of(to), QE_BASE_MTU);
    sim_free(&s);
  }
}

/* What a datagram may hold depends on the size, so that even one that does not fit asks for it. */
static void test_a_datagram_starts_discovery(void) {
  static const uint8_t data[1300];

  for (int fits = 0; fits < 2; fits++) {
    sim s;
    sim_conn *c, *srv;
    sim_init(&s, 52);
    REQUIRE(connect_only(&s, &c, &srv));
    CHECK_EQ(
        qe_conn_send_datagram(c->c, NULL, NULL, 0, data, fits ? 10 : sizeof(data), 0, QE_NEVER),
        fits ? 0 : QE_ERR_DGRAM_TOO_LARGE);
    sim_run(&s, 300 * SIM_MS);
    CHECK_EQ(mtu_of(c), FULL);
    CHECK_EQ(qe_conn_send_datagram(c->c, NULL, NULL, 0, data, sizeof(data), 0, QE_NEVER), 0);
    sim_free(&s);
  }
}

static void test_a_new_path_is_looked_at_at_once(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 53);
  REQUIRE(start(&s, &c, &srv));
  qe_pathmtu_forget(c->c);
  CHECK_EQ(c->c->pathmtu.started, 1);
  sim_free(&s);
}

static void silent(int from_server) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 1);
  REQUIRE(start(&s, &c, &srv));
  sim_conn *from = from_server ? srv : c, *to = from_server ? c : srv;
  CHECK_EQ(mtu_of(from), FULL);
  s.up.mtu = s.down.mtu = 1272;
  CHECK(send_on(&s, from, to, 100000, 10 * QE_SECOND) < 5 * QE_SECOND);
  CHECK_EQ(mtu_of(from), QE_BASE_MTU);
  CHECK_EQ(falls_of(from), 1);
  CHECK(qe_conn_max_datagram_size(from->c) < QE_BASE_MTU - 20);
  /* From then on nothing is slow. */
  CHECK(send_on(&s, from, to, 100000, 5 * QE_SECOND) < QE_SECOND);
  CHECK_EQ(c->closes + srv->closes, 0);
  sim_free(&s);
}

static void test_a_silent_fall_is_noticed_by_a_client(void) {
  silent(0);
}

static void test_a_silent_fall_is_noticed_by_a_server(void) {
  silent(1);
}

static void test_a_silent_fall_is_noticed_beside_small_packets_that_arrive(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 2);
  REQUIRE(start(&s, &c, &srv));
  sim_stream *small = sim_open(c, 1), *large = sim_open(c, 1);
  REQUIRE(small != NULL && large != NULL);
  s.up.mtu = 1272;
  CHECK_EQ(sim_write(large, 4000, 4000, 0), 0);
  chatter(&s, c, small, 300);
  REQUIRE(sim_find(srv, large->id) != NULL);
  CHECK_EQ(sim_find(srv, large->id)->received, 4000);
  CHECK_EQ(mtu_of(c), QE_BASE_MTU);
  sim_free(&s);
}

static void test_datagrams_alone_notice_it(void) {
  sim s;
  sim_conn *c, *srv;
  static const uint8_t data[1300];

  sim_init(&s, 3);
  REQUIRE(start(&s, &c, &srv));
  CHECK(qe_conn_max_datagram_size(c->c) >= sizeof(data));
  s.up.mtu = 1272;
  int refused = 0;
  for (int i = 0; i < 200 && !refused; i++) {
    refused = qe_conn_send_datagram(c->c, NULL, NULL, 0, data, sizeof(data), 0, QE_NEVER) ==
              QE_ERR_DGRAM_TOO_LARGE;
    sim_run(&s, 20 * SIM_MS);
  }
  CHECK(refused);
  CHECK_EQ(mtu_of(c), QE_BASE_MTU);
  sim_free(&s);
}

static void test_a_signalled_fall_counts_at_once(void) {
  sim s;
  sim_conn *c, *srv;
  const struct sockaddr *server = (const struct sockaddr *)&s.server.addr;

  sim_init(&s, 4);
  REQUIRE(start(&s, &c, &srv));
  qe_engine_on_narrow_path(s.client.engine, server, sizeof(s.server.addr), FULL);
  CHECK_EQ(mtu_of(c), FULL); /* nothing above was refused */
  struct sockaddr_in other = s.server.addr;
  other.sin_addr.s_addr ^= htonl(1);
  qe_engine_on_narrow_path(s.client.engine, (const struct sockaddr *)&other, sizeof(other), 1272);
  CHECK_EQ(mtu_of(c), FULL); /* another path */
  s.up.mtu = 1272;
  qe_engine_on_narrow_path(s.client.engine, server, sizeof(s.server.addr), 1272);
  CHECK_EQ(mtu_of(c), QE_BASE_MTU);
  CHECK(send_on(&s, c, srv, 100000, 5 * QE_SECOND) < QE_SECOND);
  sim_free(&s);
}

static void test_full_size_is_tried_again(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 5);
  s.client.set.keep_alive = QE_SECOND;
  REQUIRE(start(&s, &c, &srv));
  s.up.mtu = 1272;
  CHECK(send_on(&s, c, srv, 100000, 5 * QE_SECOND) != QE_NEVER);
  CHECK_EQ(mtu_of(c), QE_BASE_MTU);
  s.up.mtu = 1500;
  sim_run(&s, 15 * QE_SECOND);
  CHECK(send_on(&s, c, srv, 100000, 5 * QE_SECOND) < QE_SECOND);
  CHECK_EQ(mtu_of(c), FULL);
  /* It falls again and stays low: each try costs one packet, not the connection. */
  s.up.mtu = 1272;
  CHECK(send_on(&s, c, srv, 20000, 10 * QE_SECOND) < 5 * QE_SECOND);
  uint64_t dropped = s.up.dropped;
  for (int i = 0; i < 200; i++) {
    CHECK(send_on(&s, c, srv, 20000, 10 * QE_SECOND) < QE_SECOND);
    CHECK_EQ(mtu_of(c), QE_BASE_MTU);
    sim_run(&s, QE_SECOND);
  }
  CHECK_EQ(falls_of(c), 2);
  CHECK(s.up.dropped > dropped && s.up.dropped <= dropped + 6); /* less and less often */
  s.up.mtu = 1500;
  for (int i = 0; i < 300 && mtu_of(c) != FULL; i++) {
    CHECK(send_on(&s, c, srv, 20000, 10 * QE_SECOND) < QE_SECOND);
    sim_run(&s, QE_SECOND);
  }
  CHECK_EQ(mtu_of(c), FULL);
  sim_free(&s);
}

static void test_loss_alone_is_no_fall(void) {
  sim s;
  sim_conn *c, *srv;

  for (uint64_t seed = 10; seed < 20; seed++) {
    sim_init(&s, seed);
    REQUIRE(start(&s, &c, &srv));
    s.up.loss = s.down.loss = 0.1;
    CHECK(send_on(&s, c, srv, MIB / 2, 120 * QE_SECOND) != QE_NEVER);
    CHECK_EQ(falls_of(c), 0);
    sim_free(&s);
  }
}

static void send_dgrams(sim *s, sim_conn *c, int n) {
  static const uint8_t data[1300];
  for (int i = 0; i < n; i++) {
    qe_conn_send_datagram(c->c, NULL, NULL, 0, data, sizeof(data), 0, QE_NEVER);
  }
  sim_run(s, 100 * SIM_MS);
}

/* A burst that overflows a buffer, among datagrams that arrive. */
static void test_a_burst_of_lost_datagrams_is_no_fall(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 40);
  REQUIRE(start(&s, &c, &srv));
  for (int i = 0; i < 200; i++) {
    s.up.loss = i % 20 == 10;
    send_dgrams(&s, c, s.up.loss > 0 ? 12 : 3);
  }
  CHECK_EQ(falls_of(c), 0);
  sim_free(&s);
}

/* A peer that was busy for seconds answers at last: the path carries full size as before. */
static void test_a_late_acknowledgement_of_a_full_size_datagram_undoes_a_fall(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 41);
  REQUIRE(start(&s, &c, &srv));
  s.down.delay = 4 * QE_SECOND;
  for (int i = 0; i < 35; i++) {
    send_dgrams(&s, c, 1);
  }
  CHECK_EQ(mtu_of(c), QE_BASE_MTU);
  sim_run(&s, 2 * QE_SECOND);
  CHECK_EQ(mtu_of(c), FULL);
  sim_free(&s);
}

static void test_slow_links_and_long_ones_are_no_fall(void) {
  sim s;
  sim_conn *c, *srv;

  for (int i = 0; i < 2; i++) {
    sim_init(&s, 30);
    REQUIRE(start(&s, &c, &srv));
    if (i == 0) {
      s.up.bytes_per_second = 20000;
    } else {
      s.up.delay = s.down.delay = 400 * SIM_MS;
    }
    CHECK(send_on(&s, c, srv, 200000, 120 * QE_SECOND) != QE_NEVER);
    CHECK_EQ(falls_of(c), 0);
    sim_free(&s);
  }
}

int main(void) {
  if (sim_global_init() != 0) {
    return 1;
  }
  RUN(test_discovery_waits_for_data_or_half_a_second);
  RUN(test_data_starts_discovery_of_who_sends_it);
  RUN(test_a_datagram_starts_discovery);
  RUN(test_a_new_path_is_looked_at_at_once);
  RUN(test_a_silent_fall_is_noticed_by_a_client);
  RUN(test_a_silent_fall_is_noticed_by_a_server);
  RUN(test_a_silent_fall_is_noticed_beside_small_packets_that_arrive);
  RUN(test_datagrams_alone_notice_it);
  RUN(test_a_signalled_fall_counts_at_once);
  RUN(test_full_size_is_tried_again);
  RUN(test_loss_alone_is_no_fall);
  RUN(test_a_burst_of_lost_datagrams_is_no_fall);
  RUN(test_a_late_acknowledgement_of_a_full_size_datagram_undoes_a_fall);
  RUN(test_slow_links_and_long_ones_are_no_fall);
  sim_global_free();
  return check_report();
}
