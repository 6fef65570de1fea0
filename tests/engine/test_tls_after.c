/* test_tls_after.c - the peer's TLS messages after the handshake, and connections that continue
 * without their TLS session. */
#include "check.h"
#include "conn.h"
#include "sim.h"
#include "tls_after.h"

/* ---------------------------------------------------------------- messages */

static void test_tickets_pass_in_any_pieces(void) {
  static const uint8_t two[] = {4, 0, 0, 3, 'a', 'b', 'c', 4, 0, 0, 0, 4, 0, 1, 0};
  for (size_t piece = 1; piece <= sizeof(two); piece++) {
    qe_tls_after a = {0};
    for (size_t at = 0; at < sizeof(two); at += piece) {
      size_t n = sizeof(two) - at < piece ? sizeof(two) - at : piece;
      CHECK_EQ(qe_tls_after_feed(&a, 0, two + at, n), 0);
    }
    CHECK_EQ(a.left, 256);
    CHECK(!qe_tls_after_is_even(&a));
    uint8_t body[256] = {24, 24}; /* bytes of a message are not looked at */
    CHECK_EQ(qe_tls_after_feed(&a, 0, body, sizeof(body)), 0);
    CHECK(qe_tls_after_is_even(&a));
  }
}

static void test_length_has_24_bits(void) {
  static const uint8_t head[] = {4, 0xff, 0xfe, 0xfd};
  qe_tls_after a = {0};
  CHECK_EQ(qe_tls_after_feed(&a, 0, head, 2), 0);
  CHECK(!qe_tls_after_is_even(&a));
  CHECK_EQ(qe_tls_after_feed(&a, 0, head + 2, 2), 0);
  CHECK_EQ(a.left, 0xfffefd);
}

static void test_other_messages_are_refused(void) {
  for (int type = 0; type < 256; type++) {
    uint8_t byte = (uint8_t)type;
    qe_tls_after a = {0};
    CHECK_EQ(qe_tls_after_feed(&a, 0, &byte, 1), type == 4 ? 0 : QE_ALERT_UNEXPECTED_MESSAGE);
    qe_tls_after b = {0};
    CHECK_EQ(qe_tls_after_feed(&b, 1, &byte, 1), QE_ALERT_UNEXPECTED_MESSAGE);
  }
}

/* ------------------------------------------------------------- connections */

static int start(sim *s, uint64_t seed, sim_conn **c, sim_conn **srv) {
  sim_init(s, seed);
  if (sim_start(s) != 0) {
    return 0;
  }
  *c = sim_connect(s);
  *srv = sim_handshake(s, *c);
  if (*srv == NULL) {
    return 0;
  }
  sim_run(s, QE_SECOND);
  return 1;
}

/* Sends bytes in CRYPTO frames of 1-RTT packets. */
static void say(sim *s, sim_conn *from, const uint8_t *data, size_t len) {
  CHECK_EQ(ngtcp2_conn_submit_crypto_data(from->c->ng, NGTCP2_ENCRYPTION_LEVEL_1RTT, data, len), 0);
  qe_conn_touch(from->c);
  sim_run(s, QE_SECOND);
}

static void test_session_is_gone_on_both_sides(void) {
  sim s;
  sim_conn *c, *srv;
  uint8_t a[64], b[64];
  const uint8_t *der;

  REQUIRE(start(&s, 1, &c, &srv));
  CHECK(srv->c->tls == NULL);
  CHECK(c->c->tls == NULL);
  CHECK(c->ticket_len > 0); /* it waited for this */
  CHECK_STR(qe_conn_alpn(srv->c), "h3");
  CHECK_STR(qe_conn_server_name(srv->c), "sim.example");
  CHECK(qe_conn_peer_certificate(c->c, &der) > 100);
  CHECK_EQ(qe_conn_export(c->c, "EXPORTER-x", 10, NULL, 0, a, sizeof(a)), 0);
  CHECK_EQ(qe_conn_export(srv->c, "EXPORTER-x", 10, NULL, 0, b, sizeof(b)), 0);
  CHECK_EQ(memcmp(a, b, sizeof(a)), 0);

  sim_conn *again = sim_connect_with(&s, c->ticket, c->ticket_len, NULL, 0);
  sim_conn *again_srv = sim_handshake(&s, again);
  REQUIRE(again_srv != NULL);
  CHECK_EQ(qe_conn_resumed(again->c), 1);
  CHECK_EQ(qe_conn_resumed(again_srv->c), 1);
  sim_free(&s);
}

static int transfer(sim *s, sim_conn *from, sim_conn *to) {
  sim_stream *st = sim_open(from, 0);
  if (st == NULL || sim_write(st, 10000, 1000, 1) != 0) {
    return 0;
  }
  sim_run(s, 5 * QE_SECOND);
  sim_stream *far = sim_find(to, st->id);
  return far != NULL && far->received == 10000 && far->wrong == 0;
}

static void test_keys_are_updated_without_a_session(void) {
  sim s;
  sim_conn *c, *srv;
  qe_conn_stats st;

  REQUIRE(start(&s, 2, &c, &srv));
  for (int i = 0; i < 2; i++) {
    CHECK_EQ(qe_conn_initiate_key_update(i == 0 ? c->c : srv->c, s.now), 0);
    CHECK(transfer(&s, c, srv));
    CHECK(transfer(&s, srv, c));
    CHECK(transfer(&s, c, srv));
  }
  qe_conn_get_stats(srv->c, &st);
  CHECK_EQ(st.key_updates, 2);
  sim_free(&s);
}

static void test_client_that_talks_tls_is_closed(void) {
  static const uint8_t message[][4] = {
      {24, 0, 0, 1} /* KeyUpdate */, {4, 0, 0, 0}, {1, 0, 0, 0}, {11, 0xff, 0xff, 0xff}};
  for (size_t i = 0; i < sizeof(message) / sizeof(message[0]); i++) {
    sim s;
    sim_conn *c, *srv;
    REQUIRE(start(&s, 3, &c, &srv));
    say(&s, c, message[i], sizeof(message[i]));
    CHECK_EQ(srv->closes, 1);
    CHECK_EQ(srv->close.kind, QE_CLOSE_TRANSPORT);
    CHECK_EQ(srv->close.code, 0x100 + QE_ALERT_UNEXPECTED_MESSAGE);
    CHECK_EQ(c->close.code, 0x100 + QE_ALERT_UNEXPECTED_MESSAGE);
    CHECK_EQ(c->close.remote, 1);
    sim_free(&s);
  }
}

static void test_late_tickets_are_ignored(void) {
  static const uint8_t ticket[] = {4, 0, 0, 2, 1, 2, 4, 0, 0, 9};
  static const uint8_t update[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 24};
  sim s;
  sim_conn *c, *srv;

  REQUIRE(start(&s, 4, &c, &srv));
  say(&s, srv, ticket, sizeof(ticket));
  CHECK_EQ(c->closes, 0);
  say(&s, srv, update, sizeof(update)); /* the rest of the ticket, then KeyUpdate */
  CHECK_EQ(c->closes, 1);
  CHECK_EQ(c->close.code, 0x100 + QE_ALERT_UNEXPECTED_MESSAGE);
  sim_free(&s);
}

int main(void) {
  if (sim_global_init() != 0) {
    return 1;
  }
  RUN(test_tickets_pass_in_any_pieces);
  RUN(test_length_has_24_bits);
  RUN(test_other_messages_are_refused);
  RUN(test_session_is_gone_on_both_sides);
  RUN(test_keys_are_updated_without_a_session);
  RUN(test_client_that_talks_tls_is_closed);
  RUN(test_late_tickets_are_ignored);
  sim_global_free();
  return check_report();
}
