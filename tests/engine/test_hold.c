/* test_hold.c - resets and stops that wait until another stream has ended. */
#include "hold.h"

#include "check.h"
#include "conn.h"
#include "sim.h"

#define STREAMS 8

/* The stream whose end is sent first, and others that wait for it; then the same streams at the
 * other end. */
typedef struct bed {
  sim s;
  sim_conn *c, *srv;
  sim_stream *head, *head_peer;
  sim_stream *held[STREAMS], *held_peer[STREAMS];
} bed;

static int drop_first, seen; /* packets of the client: how many are lost, how many came */

static int drop(sim *s, int to_server, const uint8_t *data, size_t len) {
  (void)s;
  (void)data;
  (void)len;
  return !to_server || seen++ >= drop_first;
}

static int setup(bed *b, uint64_t seed) {
  sim_init(&b->s, seed);
  b->s.up.delay = b->s.down.delay = 10 * SIM_MS;
  return 0;
}

static int establish(bed *b) {
  if (sim_start(&b->s) != 0) {
    return 0;
  }
  b->c = sim_connect(&b->s);
  b->srv = sim_handshake(&b->s, b->c);
  if (b->srv == NULL) {
    return 0;
  }
  sim_run(&b->s, QE_SECOND);
  b->head = sim_open(b->c, 0);
  if (b->head == NULL || sim_write(b->head, 10, 10, 0) != 0) {
    return 0;
  }
  qe_stream_set_send_order(b->head->s, INT64_MAX);
  for (int i = 0; i < STREAMS; i++) {
    b->held[i] = sim_open(b->c, i % 2);
    if (b->held[i] == NULL || sim_write(b->held[i], 100, 100, 0) != 0) {
      return 0;
    }
  }
  sim_run(&b->s, QE_SECOND);
  b->head_peer = sim_find(b->srv, b->head->id);
  for (int i = 0; i < STREAMS; i++) {
    b->held_peer[i] = sim_find(b->srv, b->held[i]->id);
  }
  drop_first = seen = 0;
  b->s.filter = drop;
  return 1;
}

static void tear_down(bed *b) {
  for (int i = 0; i < STREAMS; i++) {
    CHECK_EQ(qe_stream_hold(b->held[i]->s, b->head->s), 0);
    CHECK_EQ(qe_stream_reset(b->held[i]->s, 7), 0);
    if (i % 2 == 0) {
      CHECK_EQ(qe_stream_stop_sending(b->held[i]->s, 7), 0);
    }
  }
}

static int resets(const bed *b) {
  int n = 0;
  for (int i = 0; i < STREAMS; i++) {
    n += b->held_peer[i]->resets;
  }
  return n;
}

static int stops(const bed *b) {
  int n = 0;
  for (int i = 0; i < STREAMS; i++) {
    n += b->held_peer[i]->stops;
  }
  return n;
}

/* The resets wait until the FIN is acknowledged, even if its first packet is lost. */
static void test_fin_first(void) {
  for (int lost = 0; lost < 2; lost++) {
    bed b = {0};
    setup(&b, 1);
    REQUIRE(establish(&b));
    drop_first = lost;
    tear_down(&b);
    CHECK_EQ(sim_write(b.head, 20, 20, 1), 0);
    sim_run(&b.s, 16 * SIM_MS);
    CHECK_EQ(b.head_peer->fins, !lost);
    CHECK_EQ(resets(&b), 0);
    CHECK_EQ(stops(&b), 0);
    sim_run(&b.s, QE_SECOND);
    CHECK_EQ(b.head_peer->fins, 1);
    CHECK_EQ(resets(&b), STREAMS);
    CHECK_EQ(stops(&b), STREAMS / 2);
    for (int i = 0; i < STREAMS; i++) {
      CHECK(b.held_peer[i]->done_at > b.head_peer->done_at);
    }
    CHECK(b.c->c->holds == NULL);
    sim_free(&b.s);
  }
}

/* If the stream ends with a reset, that is sent in a packet before the others, so losing it
 * loses no other reset. */
static void test_reset_first(void) {
  bed b = {0};
  setup(&b, 2);
  REQUIRE(establish(&b));
  drop_first = 1;
  tear_down(&b);
  CHECK_EQ(qe_stream_reset(b.head->s, 9), 0);
  sim_run(&b.s, 16 * SIM_MS);
  CHECK_EQ(b.head_peer->resets, 0);
  CHECK_EQ(resets(&b), STREAMS);
  sim_run(&b.s, QE_SECOND);
  CHECK_EQ(b.head_peer->resets, 1);
  CHECK_EQ(b.head_peer->reset_code, 9);
  sim_free(&b.s);
}

/* Nothing of the streams is sent while they wait, and waiters are not told twice. */
static void test_unsent_data(void) {
  bed b = {0};
  setup(&b, 3);
  REQUIRE(establish(&b));
  for (int i = 0; i < STREAMS; i++) {
    CHECK_EQ(sim_write(b.held[i], 1000000, 100000, 0), 0);
  }
  tear_down(&b);
  for (int i = 0; i < STREAMS; i++) {
    CHECK_EQ(qe_stream_queued(b.held[i]->s), 0);
  }
  CHECK_EQ(sim_write(b.head, 20, 20, 1), 0);
  sim_run(&b.s, QE_SECOND);
  CHECK_EQ(resets(&b), STREAMS);
  for (int i = 0; i < STREAMS; i++) {
    CHECK_EQ(b.held_peer[i]->received, 100);
  }
  sim_free(&b.s);
}

/* The end cannot be sent for lack of the peer's credit: the resets go after a
 * probe timeout, and not before. */
static void test_no_stream_credit(void) {
  bed b = {0};
  setup(&b, 4);
  b.s.server.set.initial_max_stream_data = 1000;
  b.s.server.set.max_stream_window = 1000;
  b.s.server.hold_credit = 1;
  REQUIRE(establish(&b));
  tear_down(&b);
  CHECK_EQ(sim_write(b.head, 2000, 2000, 1), 0);
  sim_run(&b.s, 25 * SIM_MS);
  CHECK_EQ(resets(&b), 0);
  CHECK(b.c->c->holds != NULL);
  sim_run(&b.s, QE_SECOND);
  CHECK_EQ(resets(&b), STREAMS);
  CHECK_EQ(b.head_peer->fins, 0);
  CHECK(b.c->c->holds == NULL);
  sim_free(&b.s);
}

/* Credit of the connection that only the resets free. */
static void test_no_connection_credit(void) {
  bed b = {0};
  setup(&b, 5);
  b.s.server.set.initial_max_data = 100000;
  b.s.server.set.max_data_window = 100000;
  b.s.server.hold_credit = 1;
  REQUIRE(establish(&b));
  for (int i = 0; i < STREAMS; i++) {
    CHECK_EQ(sim_write(b.held[i], 50000, 50000, 0), 0);
  }
  sim_run(&b.s, QE_SECOND);
  tear_down(&b);
  CHECK_EQ(sim_write(b.head, 20, 20, 1), 0);
  sim_run(&b.s, 25 * SIM_MS);
  CHECK_EQ(resets(&b), 0);
  sim_run(&b.s, QE_SECOND);
  CHECK_EQ(resets(&b), STREAMS);
  CHECK(b.c->c->holds == NULL);
  sim_free(&b.s);
}

/* No packet arrives for a while, and the order is still kept. */
static void test_blackout(void) {
  bed b = {0};
  setup(&b, 6);
  REQUIRE(establish(&b));
  /* Fill the congestion window first, so that the end cannot be sent at all. */
  sim_stream *bulk = sim_open(b.c, 1);
  REQUIRE(bulk != NULL && sim_write(bulk, 20000000, 1000000, 0) == 0);
  drop_first = 1000000;
  sim_run(&b.s, 2 * SIM_MS);
  tear_down(&b);
  CHECK_EQ(sim_write(b.head, 20, 20, 1), 0);
  sim_run(&b.s, 300 * SIM_MS);
  CHECK_EQ(b.head_peer->fins, 0);
  CHECK_EQ(resets(&b), 0);
  drop_first = 0;
  sim_run(&b.s, 10 * QE_SECOND);
  CHECK_EQ(b.head_peer->fins, 1);
  CHECK_EQ(resets(&b), STREAMS);
  for (int i = 0; i < STREAMS; i++) {
    CHECK(b.held_peer[i]->done_at >= b.head_peer->done_at);
  }
  sim_free(&b.s);
}

/* A stream that never ends does not hold back others forever. */
static void test_end_that_never_comes(void) {
  bed b = {0};
  setup(&b, 7);
  REQUIRE(establish(&b));
  tear_down(&b);
  sim_run(&b.s, 30 * SIM_MS);
  CHECK_EQ(resets(&b), 0);
  sim_run(&b.s, 10 * QE_SECOND);
  CHECK_EQ(resets(&b), STREAMS);
  CHECK(b.c->c->holds == NULL);
  sim_free(&b.s);
}

/* A reset from before the hold is sent immediately; only the first hold of a stream counts. */
static void test_earlier_commands(void) {
  bed b = {0};
  setup(&b, 8);
  REQUIRE(establish(&b));
  CHECK_EQ(qe_stream_reset(b.held[0]->s, 5), 0);
  CHECK_EQ(qe_stream_stop_sending(b.held[2]->s, 5), 0);
  for (int i = 0; i < 4; i++) {
    CHECK_EQ(qe_stream_hold(b.held[i]->s, b.head->s), 0);
    CHECK_EQ(qe_stream_hold(b.held[i]->s, b.held[7]->s), 0);
  }
  CHECK_EQ(qe_stream_stop_sending(b.held[0]->s, 7), 0);
  CHECK_EQ(qe_stream_reset(b.held[2]->s, 7), 0);
  sim_run(&b.s, 15 * SIM_MS);
  CHECK_EQ(b.held_peer[0]->resets, 1);
  CHECK_EQ(b.held_peer[0]->stops, 0);
  CHECK_EQ(b.held_peer[2]->stops, 1);
  CHECK_EQ(sim_write(b.head, 0, 1, 1), 0);
  sim_run(&b.s, 60 * SIM_MS);
  CHECK_EQ(b.held_peer[0]->stops, 1);
  CHECK_EQ(qe_stream_hold(b.held[4]->s, b.head->s), 0); /* it has ended: nothing to wait for */
  CHECK(b.c->c->holds == NULL);
  CHECK_EQ(qe_stream_hold(b.held[4]->s, b.held[4]->s), QE_ERR_INVALID);
  CHECK_EQ(qe_stream_hold(NULL, b.head->s), QE_ERR_INVALID);
  CHECK_EQ(qe_stream_hold(b.held[4]->s, NULL), QE_ERR_INVALID);
  sim_free(&b.s);
}

/* Either stream may end first, also because the connection ends. */
static void test_streams_go_away(void) {
  for (int how = 0; how < 4; how++) {
    bed b = {0};
    setup(&b, 9);
    REQUIRE(establish(&b));
    tear_down(&b);
    if (how == 0) { /* the peer ends the held ones by itself */
      for (int i = 0; i < STREAMS; i++) {
        CHECK_EQ(qe_stream_stop_sending(b.held_peer[i]->s, 1), 0);
        if (i % 2 == 0) {
          CHECK_EQ(qe_stream_reset(b.held_peer[i]->s, 1), 0);
        }
      }
    } else if (how == 1) { /* and here the one that is waited for */
      CHECK_EQ(qe_stream_stop_sending(b.head_peer->s, 1), 0);
      CHECK_EQ(qe_stream_reset(b.head_peer->s, 1), 0);
    } else if (how == 2) {
      qe_conn_close(b.c->c, 1, 0x100, NULL, 0);
    } else {
      qe_conn_abandon(b.c->c);
    }
    sim_run(&b.s, 10 * QE_SECOND);
    if (how < 2) {
      CHECK(b.c->c->holds == NULL);
      for (int i = 0; i < STREAMS; i++) {
        CHECK_EQ(b.held[i]->closes, 1);
      }
    } else {
      CHECK_EQ(b.c->closes, 1);
    }
    sim_free(&b.s);
  }
}

int main(void) {
  if (sim_global_init() != 0) {
    printf("no certificates\n");
    return 1;
  }
  RUN(test_fin_first);
  RUN(test_reset_first);
  RUN(test_unsent_data);
  RUN(test_no_stream_credit);
  RUN(test_no_connection_credit);
  RUN(test_blackout);
  RUN(test_end_that_never_comes);
  RUN(test_earlier_commands);
  RUN(test_streams_go_away);
  sim_global_free();
  return check_report();
}
