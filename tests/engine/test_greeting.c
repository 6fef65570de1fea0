/* test_greeting.c - bytes that a server sends before the handshake is complete. */
#include "greeting.h"

#include "check.h"
#include "conn.h"
#include "sim.h"

#define DELAY (20 * SIM_MS)
#define GREETING 100

static int drop_from_server, drop_to_server, seen[2]; /* packets to drop, and those that came */

static int drop(sim *s, int to_server, const uint8_t *data, size_t len) {
  int *left = to_server ? &drop_to_server : &drop_from_server;
  (void)s;
  (void)data;
  (void)len;
  seen[to_server]++;
  return *left == 0 || (*left)-- == 0;
}

static int is_ready(void *ctx) {
  return ((sim_conn *)ctx)->handshakes > 0;
}

static int setup(sim *s, size_t greeting) {
  sim_init(s, 1);
  s->up.delay = s->down.delay = DELAY;
  s->client.set.pmtud = s->server.set.pmtud = 0;
  s->greeting = greeting;
  s->filter = drop;
  drop_from_server = drop_to_server = seen[0] = seen[1] = 0;
  return sim_start(s) == 0;
}

static void test_it_comes_with_the_handshake(void) {
  sim s;

  REQUIRE(setup(&s, GREETING));
  qe_tstamp begin = s.now;
  sim_conn *c = sim_connect(&s);
  REQUIRE(sim_until(&s, QE_SECOND, is_ready, c));
  CHECK_EQ(s.now - begin, 2 * DELAY); /* one round trip */
  sim_stream *st = sim_find(c, 3);
  REQUIRE(st != NULL);
  CHECK_EQ(st->received, GREETING);
  CHECK_EQ(st->wrong, 0);
  CHECK_EQ(st->fins, 0);
  CHECK_EQ(s.server.conns == NULL, 1); /* its user does not know of the connection yet */
  sim_free(&s);
}

static void test_the_stream_goes_on_once_it_was_taken(void) {
  sim s;
  qe_conn_stats st;

  REQUIRE(setup(&s, GREETING));
  sim_conn *c = sim_connect(&s);
  sim_conn *srv = sim_handshake(&s, c);
  REQUIRE(srv != NULL);
  sim_stream *mine = sim_take_greeting(srv);
  REQUIRE(mine != NULL);
  CHECK_EQ(mine->id, 3);
  CHECK(sim_take_greeting(srv) == NULL); /* once */
  qe_conn_get_stats(srv->c, &st);
  CHECK_EQ(st.streams_opened_local, 1);
  CHECK_EQ(sim_write(mine, 5000, 1000, 0), 0);
  sim_stream *next = sim_open(srv, 1);
  REQUIRE(next != NULL);
  CHECK_EQ(next->id, 7);
  sim_run(&s, QE_SECOND);
  sim_stream *far = sim_find(c, 3);
  REQUIRE(far != NULL);
  CHECK_EQ(far->received, GREETING + 5000);
  CHECK_EQ(far->wrong, 0);
  CHECK_EQ(qe_stream_unacked(mine->s), 0);
  CHECK_EQ(mine->stops + mine->closes, 0);
  sim_free(&s);
}

static void test_a_lost_one_is_sent_again(void) {
  for (int lost = 1; lost <= 3; lost++) {
    sim s;

    REQUIRE(setup(&s, GREETING));
    drop_from_server = lost;
    sim_conn *c = sim_connect(&s);
    sim_conn *srv = sim_handshake(&s, c);
    REQUIRE(srv != NULL);
    sim_run(&s, 3 * QE_SECOND);
    sim_stream *far = sim_find(c, 3);
    REQUIRE(far != NULL);
    CHECK_EQ(far->received, GREETING);
    CHECK_EQ(far->wrong, 0);
    CHECK_EQ(c->closes, 0);
    sim_free(&s);
  }
}

static void test_a_client_without_room_gets_none(void) {
  sim s;

  sim_init(&s, 1);
  s.greeting = GREETING;
  s.client.set.max_streams_uni = 0;
  REQUIRE(sim_start(&s) == 0);
  sim_conn *c = sim_connect(&s);
  sim_conn *srv = sim_handshake(&s, c);
  REQUIRE(srv != NULL);
  CHECK(sim_take_greeting(srv) == NULL);
  sim_run(&s, QE_SECOND);
  CHECK(sim_find(c, 3) == NULL);
  CHECK_EQ(c->closes, 0);
  sim_free(&s);
}

/* RFC 9000 section 8.1: three times as much as came, until the address of the client is known. */
static void test_a_large_one_is_no_amplifier(void) {
  sim s;

  REQUIRE(setup(&s, 20000));
  sim_conn *c = sim_connect(&s);
  drop_to_server = 0;
  sim_run(&s, DELAY + SIM_MS); /* the first packet has arrived, and was answered */
  CHECK(s.server.bytes > 0);
  CHECK(s.server.bytes <= 3 * s.client.bytes);
  drop_to_server = 1000;
  sim_run(&s, QE_SECOND / 2);
  CHECK(s.server.bytes <= 3 * 1200);
  drop_to_server = 0;
  sim_conn *srv = sim_handshake(&s, c);
  REQUIRE(srv != NULL);
  sim_run(&s, 3 * QE_SECOND);
  sim_stream *far = sim_find(c, 3);
  REQUIRE(far != NULL);
  CHECK_EQ(far->received, 20000);
  CHECK_EQ(far->wrong, 0);
  sim_free(&s);
}

static void test_its_end_is_told_when_it_is_taken(void) {
  sim s;

  REQUIRE(setup(&s, GREETING));
  sim_conn *c = sim_connect(&s);
  REQUIRE(sim_until(&s, QE_SECOND, is_ready, c));
  sim_stream *far = sim_find(c, 3);
  REQUIRE(far != NULL);
  CHECK_EQ(qe_stream_stop_sending(far->s, 77), 0); /* leaves with the end of the handshake */
  sim_conn *srv = sim_handshake(&s, c);
  REQUIRE(srv != NULL);
  sim_stream *mine = sim_take_greeting(srv);
  REQUIRE(mine != NULL);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(mine->stops, 1);
  CHECK_EQ(mine->stop_code, 77);
  CHECK_EQ(mine->closes, 1);
  sim_free(&s);
}

static void test_one_that_nobody_takes_does_no_harm(void) {
  sim s;

  REQUIRE(setup(&s, GREETING));
  sim_conn *c = sim_connect(&s);
  sim_conn *srv = sim_handshake(&s, c);
  REQUIRE(srv != NULL);
  sim_run(&s, QE_SECOND);
  sim_stream *far = sim_find(c, 3);
  REQUIRE(far != NULL);
  CHECK_EQ(qe_stream_stop_sending(far->s, 1), 0);
  sim_run(&s, QE_SECOND);
  CHECK(sim_take_greeting(srv) == NULL); /* it is gone */
  CHECK_EQ(qe_conn_close(c->c, 1, 0, NULL, 0), 0);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(srv->closes, 1);
  CHECK(sim_take_greeting(srv) == NULL);
  sim_free(&s);
}

static void test_it_can_be_changed(void) {
  static const uint8_t bytes[] = {1, 2, 3};
  sim s;

  REQUIRE(setup(&s, GREETING));
  CHECK_EQ(qe_engine_set_greeting(s.client.engine, bytes, 3), QE_ERR_INVALID);
  CHECK_EQ(qe_engine_set_greeting(s.server.engine, NULL, 3), QE_ERR_INVALID);
  CHECK_EQ(qe_engine_set_greeting(NULL, bytes, 3), QE_ERR_INVALID);
  CHECK_EQ(qe_engine_set_greeting(s.server.engine, NULL, 0), 0);
  sim_conn *c = sim_connect(&s);
  sim_conn *srv = sim_handshake(&s, c);
  REQUIRE(srv != NULL);
  sim_run(&s, QE_SECOND);
  CHECK(sim_take_greeting(srv) == NULL);
  CHECK(sim_find(c, 3) == NULL);
  sim_free(&s);
}

int main(void) {
  if (sim_global_init() != 0) {
    return 1;
  }
  RUN(test_it_comes_with_the_handshake);
  RUN(test_the_stream_goes_on_once_it_was_taken);
  RUN(test_a_lost_one_is_sent_again);
  RUN(test_a_client_without_room_gets_none);
  RUN(test_a_large_one_is_no_amplifier);
  RUN(test_its_end_is_told_when_it_is_taken);
  RUN(test_one_that_nobody_takes_does_no_harm);
  RUN(test_it_can_be_changed);
  sim_global_free();
  return check_report();
}
