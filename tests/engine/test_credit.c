/* test_credit.c - credit of a connection: little at first, more while there is room. */
#include "check.h"
#include "conn.h"
#include "engine.h"
#include "sim.h"

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)
#define STREAM (100 * KIB) /* window of a stream, and of an idle connection */
#define MOST (1000 * KIB)  /* unread in one connection */

static uint64_t limit; /* of the process */

static uint64_t memory_left(void *eu) {
  const sim_end *end = eu;
  uint64_t held = 0;

  for (const sim_conn *c = end->conns; c != NULL; c = c->next) {
    held += c->c == NULL ? 0 : qe_conn_held(c->c);
  }
  return held < limit ? limit - held : 0;
}

/* A server that keeps what it gets. */
static void setup(sim *s, uint64_t seed) {
  sim_init(s, seed);
  s->up.delay = s->down.delay = 5 * SIM_MS;
  s->server.set.initial_max_stream_data = s->server.set.max_stream_window = STREAM;
  s->server.set.initial_max_data = STREAM;
  s->server.set.max_unread_data = s->server.set.max_data_window = MOST;
  s->server.hold_credit = 1;
}

static int start(sim *s, sim_conn **c, sim_conn **srv) {
  if (s->server.engine == NULL && sim_start(s) != 0) {
    return 0;
  }
  *c = sim_connect(s);
  *srv = sim_handshake(s, *c);
  return *srv != NULL;
}

/* Streams full of bytes that nobody reads. */
static int fill(sim_conn *c, int streams) {
  for (int i = 0; i < streams; i++) {
    sim_stream *st = sim_open(c, 1);
    if (st == NULL || sim_write(st, STREAM, STREAM, 0) != 0) {
      return 0;
    }
  }
  return 1;
}

static uint64_t held(const sim_conn *srv) {
  return srv->c == NULL ? 0 : qe_conn_held(srv->c);
}

static void test_unread_streams_do_not_stop_others(void) {
  sim s;
  sim_conn *c, *srv;
  setup(&s, 1);
  REQUIRE(start(&s, &c, &srv));
  CHECK_EQ(ngtcp2_conn_get_remote_transport_params(c->c->ng)->initial_max_data, STREAM);
  REQUIRE(fill(c, 9));
  sim_run(&s, 5 * QE_SECOND);
  CHECK_EQ(held(srv), 9 * STREAM);
  sim_stream *other = sim_open(c, 1);
  REQUIRE(other != NULL && sim_write(other, 10 * KIB, KIB, 1) == 0);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(sim_find(srv, other->id)->fins, 1);
  CHECK(qe_credit_window(srv->c) <= MOST);
  sim_free(&s);
}

static void test_unread_bytes_end_at_the_allowance(void) {
  sim s;
  sim_conn *c, *srv;
  setup(&s, 2);
  REQUIRE(start(&s, &c, &srv));
  REQUIRE(fill(c, 20));
  sim_run(&s, 5 * QE_SECOND);
  CHECK(held(srv) > MOST - STREAM / 2); /* a last small piece is not announced */
  CHECK(held(srv) <= MOST);
  /* Reading one stream lets the others go on, and no more than was read. */
  uint64_t before = held(srv);
  sim_stream *read = srv->streams;
  uint64_t size = read->received;
  qe_stream_consume(read->s, UINT64_MAX);
  CHECK_EQ(held(srv), before - size);
  sim_run(&s, 5 * QE_SECOND);
  CHECK(held(srv) > MOST - STREAM / 2);
  CHECK(held(srv) <= MOST);
  sim_free(&s);
}

static void test_an_idle_connection_has_the_first_credit_only(void) {
  sim s;
  sim_conn *c, *srv;
  setup(&s, 3);
  REQUIRE(start(&s, &c, &srv));
  sim_stream *st = sim_open(c, 1);
  REQUIRE(st != NULL && sim_write(st, 10 * KIB, KIB, 0) == 0);
  sim_run(&s, 5 * QE_SECOND);
  CHECK_EQ(qe_credit_window(srv->c), STREAM);
  sim_free(&s);
}

/* However many hold something, there is room for the next. */
static void test_connections_share_what_is_free(void) {
  enum { COUNT = 5 };
  sim s;
  sim_conn *c, *srv[COUNT];
  setup(&s, 4);
  s.server.set.initial_max_data = STREAM / 10;
  s.server.set.max_streams_uni = 100;
  limit = 9 * STREAM;
  REQUIRE(sim_start(&s) == 0);
  s.server.engine->cb.memory_left = memory_left;
  for (int i = 0; i < COUNT; i++) {
    REQUIRE(start(&s, &c, &srv[i]));
    REQUIRE(fill(c, 20));
    sim_run(&s, QE_SECOND);
    CHECK(memory_left(&s.server) > 0);
  }
  /* Each may take half of what those before it left. */
  for (int i = 0; i < COUNT; i++) {
    CHECK(held(srv[i]) <= (limit >> (i + 1)) + STREAM / 10);
    CHECK(held(srv[i]) > limit >> (i + 2));
  }
  sim_free(&s);
}

/* Nothing is left: whoever is read goes on with the first credit. */
static void test_without_memory_readers_go_on(void) {
  sim s;
  sim_conn *c, *srv;
  setup(&s, 5);
  s.server.hold_credit = 0;
  limit = 0;
  REQUIRE(sim_start(&s) == 0);
  s.server.engine->cb.memory_left = memory_left;
  REQUIRE(start(&s, &c, &srv));
  sim_stream *st = sim_open(c, 1);
  REQUIRE(st != NULL && sim_write(st, 3 * MIB, 64 * KIB, 1) == 0);
  for (int i = 0; i < 1000 && sim_find(srv, st->id) == NULL; i++) {
    sim_run(&s, SIM_MS);
  }
  sim_stream *far = sim_find(srv, st->id);
  REQUIRE(far != NULL);
  for (int i = 0; i < 10000 && far->fins == 0; i++) {
    sim_run(&s, SIM_MS);
    CHECK(srv->c == NULL || qe_credit_window(srv->c) <= STREAM);
  }
  CHECK_EQ(far->received, 3 * MIB);
  sim_free(&s);
}

/* Several streams over a long path; nanoseconds until all have ended. */
static qe_tstamp transfer(uint64_t first, enum qe_cc cc, qe_tstamp delay, uint64_t *window) {
  enum { STREAMS = 12 };
  sim s;
  sim_conn *c, *srv;
  qe_tstamp begun = 0;
  sim_init(&s, 6);
  s.up.delay = s.down.delay = delay;
  s.up.bytes_per_second = 100 * 1000 * 1000;
  s.up.queue = 64 * MIB;
  s.client.set.cc = cc;
  s.server.set.initial_max_data = first;
  s.server.set.max_unread_data = 16 * MIB;
  s.server.set.max_data_window = 64 * MIB;
  if (start(&s, &c, &srv)) {
    for (int i = 0; i < STREAMS; i++) {
      sim_stream *st = sim_open(c, 1);
      if (st != NULL) {
        sim_write(st, 8 * MIB, MIB, 1);
      }
    }
    begun = s.now;
    unsigned ended = 0;
    while (ended < STREAMS && s.now < begun + 100 * QE_SECOND) {
      sim_run(&s, SIM_MS);
      ended = 0;
      for (const sim_stream *st = srv->streams; st != NULL; st = st->next) {
        ended += st->fins > 0;
      }
    }
    CHECK_EQ(ended, STREAMS);
    begun = s.now - begun;
    *window = qe_credit_window(srv->c);
  }
  sim_free(&s);
  return begun;
}

static void test_little_credit_at_first_costs_no_time(void) {
  const qe_tstamp delays[] = {SIM_MS, 50 * SIM_MS};
  for (int i = 0; i < 2; i++) {
    for (int cc = 0; cc < 2; cc++) {
      enum qe_cc algorithm = cc == 0 ? QE_CC_CUBIC : QE_CC_BBR;
      uint64_t window = 0, constant = 0;
      qe_tstamp all = transfer(16 * MIB, algorithm, delays[i], &constant);
      qe_tstamp few = transfer(MIB + 64 * KIB, algorithm, delays[i], &window);
      printf("  %d ms, %s: %llu and %llu ms; window %llu KiB\n", (int)(delays[i] / SIM_MS),
             cc == 0 ? "CUBIC" : "BBR", (unsigned long long)(all / SIM_MS),
             (unsigned long long)(few / SIM_MS), (unsigned long long)(window / KIB));
      REQUIRE(all > 0 && few > 0);
      CHECK(few <= all + all / 100 + 2 * SIM_MS);
    }
  }
}

/* A reader that was fast and is slow now is not far behind the peer for ever. */
static void test_a_slow_reader_gets_less_ahead_again(void) {
  sim s;
  sim_conn *c, *srv;
  setup(&s, 7);
  s.server.set.max_stream_window = MOST;
  s.server.set.max_unread_data = STREAM;
  s.server.hold_credit = 0;
  REQUIRE(start(&s, &c, &srv));
  sim_stream *st = sim_open(c, 1);
  REQUIRE(st != NULL && sim_write(st, 8 * MIB, 64 * KIB, 0) == 0);
  sim_run(&s, 10 * QE_SECOND);
  CHECK_EQ(sim_find(srv, st->id)->received, 8 * MIB);
  CHECK(qe_credit_window(srv->c) > 4 * STREAM);
  CHECK(qe_credit_window(srv->c) <= MOST);
  for (int i = 0; i < 3000; i++) { /* ten a second */
    REQUIRE(sim_write(st, KIB, KIB, 0) == 0);
    sim_run(&s, 100 * SIM_MS);
  }
  CHECK(qe_credit_window(srv->c) <= 2 * STREAM);
  sim_free(&s);
}

/* Bytes that wait for a gap count for the process, and no longer when the gap is closed. */
static int dropped;

static int drop_one(sim *s, int to_server, const uint8_t *data, size_t len) {
  (void)s;
  (void)data;
  if (to_server && len > 1000 && !dropped) {
    dropped = 1;
    return 0;
  }
  return 1;
}

static int64_t of_the_library;

static void library_memory(void *eu, int64_t change) {
  (void)eu;
  of_the_library += change;
}

static void test_pieces_out_of_order_are_held(void) {
  sim s;
  sim_conn *c, *srv;
  setup(&s, 8);
  s.up.delay = s.down.delay = 50 * SIM_MS;
  s.server.set.initial_max_stream_data = s.server.set.max_stream_window = MOST;
  s.server.set.initial_max_data = MOST;
  s.server.hold_credit = 0;
  REQUIRE(sim_start(&s) == 0);
  of_the_library = 0;
  s.server.engine->cb.library_memory = library_memory;
  REQUIRE(start(&s, &c, &srv));
  sim_stream *st = sim_open(c, 1);
  REQUIRE(st != NULL && sim_write(st, 700 * KIB, 64 * KIB, 1) == 0);
  /* Not at first: what comes behind a gap is a round trip's worth. */
  while (srv->streams == NULL || srv->streams->received < 200 * KIB) {
    sim_run(&s, SIM_MS);
  }
  CHECK_EQ(held(srv), 0);
  dropped = 0;
  s.filter = drop_one;
  uint64_t most = 0;
  for (int i = 0; i < 5000; i++) {
    sim_run(&s, SIM_MS);
    CHECK(of_the_library >= 0);
    CHECK(srv->c == NULL || (int64_t)held(srv) == of_the_library);
    most = qe_max(most, (uint64_t)of_the_library);
  }
  CHECK(dropped);
  CHECK_EQ(srv->streams->received, 700 * KIB);
  CHECK(most >= 32 * KIB);
  CHECK(most <= MOST);
  CHECK_EQ(of_the_library, 0);
  sim_free(&s);
  CHECK_EQ(of_the_library, 0);
}

static uint64_t queued(const sim_conn *c) {
  uint64_t sum = 0;
  for (const sim_stream *st = c->streams; st != NULL; st = st->next) {
    sum += st->s == NULL ? 0 : qe_stream_queued(st->s);
  }
  return sum;
}

/* Whatever becomes of them. */
static void test_queued_bytes_of_all_streams_are_counted(void) {
  enum { STREAMS = 8 };
  sim s;
  sim_conn *c, *srv;
  sim_stream *st[STREAMS];
  setup(&s, 9);
  s.client.set.max_queued_data = 2 * MIB;
  REQUIRE(start(&s, &c, &srv));
  for (int i = 0; i < STREAMS; i++) {
    st[i] = sim_open(c, 1);
    REQUIRE(st[i] != NULL && sim_write(st[i], 300 * KIB, 64 * KIB, i == 0) == 0);
    CHECK_EQ(c->c->queued_bytes, queued(c));
    CHECK_EQ(qe_stream_is_crowded(st[i]->s), (i + 1) * 300 * KIB > 2 * MIB);
  }
  CHECK_EQ(queued(c), STREAMS * 300 * KIB);
  sim_run(&s, QE_SECOND); /* as far as the credit goes */
  CHECK_EQ(queued(c), STREAMS * 200 * KIB);
  CHECK_EQ(c->c->queued_bytes, queued(c));
  CHECK(!qe_stream_is_crowded(st[0]->s));
  limit = MIB;
  s.client.engine->cb.memory_left = memory_left;
  CHECK(qe_stream_is_crowded(st[0]->s));
  s.client.engine->cb.memory_left = NULL;
  CHECK_EQ(qe_stream_reset(st[1]->s, 1), 0);
  CHECK_EQ(c->c->queued_bytes, queued(c));
  CHECK_EQ(qe_stream_stop_sending(sim_find(srv, st[2]->id)->s, 1), 0);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(st[2]->stops, 1);
  CHECK_EQ(queued(c), (STREAMS - 2) * 200 * KIB);
  CHECK_EQ(c->c->queued_bytes, queued(c));
  CHECK_EQ(s.client.engine->queued_bytes, queued(c));
  qe_conn_close(c->c, 1, 0, NULL, 0);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(c->closes, 1);
  CHECK_EQ(s.client.engine->queued_bytes, 0);
  sim_free(&s);
}

/* --------------------------------------------------------------- streams */

/* The client opens n streams, and both ends finish them. */
static int use_streams(sim *s, sim_conn *c, int n) {
  for (int i = 0; i < n; i++) {
    sim_stream *st = sim_open(c, 1);
    if (st == NULL || sim_write(st, 10, 10, 1) != 0) {
      return 0;
    }
  }
  sim_run(s, 20 * SIM_MS);
  return 1;
}

/* 10 streams at a time, on a path of 5 ms. */
static int setup_streams(sim *s, sim_conn **c, sim_conn **srv) {
  sim_init(s, 5);
  s->up.delay = s->down.delay = 5 * SIM_MS;
  s->client.set.pmtud = s->server.set.pmtud = 0;
  s->server.set.max_streams_uni = 10;
  if (!start(s, c, srv)) {
    return 0;
  }
  sim_run(s, QE_SECOND);
  return qe_conn_streams_left((*c)->c, 1) == 10;
}

static void test_stream_credit_waits_for_a_packet_that_it_can_share(void) {
  sim s;
  sim_conn *c, *srv;

  REQUIRE(setup_streams(&s, &c, &srv));
  REQUIRE(use_streams(&s, c, 2));
  uint64_t packets = s.server.packets;
  CHECK_EQ(qe_conn_streams_left(c->c, 1), 8);
  sim_run(&s, 60 * SIM_MS);
  CHECK_EQ(s.server.packets, packets);
  CHECK_EQ(qe_conn_streams_left(c->c, 1), 8);
  sim_stream *st = sim_open(srv, 1);
  REQUIRE(st != NULL && sim_write(st, 10, 10, 0) == 0);
  sim_run(&s, 6 * SIM_MS);
  CHECK_EQ(s.server.packets, packets + 1);
  CHECK_EQ(qe_conn_streams_left(c->c, 1), 10);
  sim_free(&s);
}

static void test_stream_credit_does_not_wait_long(void) {
  sim s;
  sim_conn *c, *srv;

  REQUIRE(setup_streams(&s, &c, &srv));
  REQUIRE(use_streams(&s, c, 1));
  CHECK_EQ(qe_conn_streams_left(c->c, 1), 9);
  sim_run(&s, 120 * SIM_MS);
  CHECK_EQ(qe_conn_streams_left(c->c, 1), 10);
  sim_free(&s);
}

static void test_stream_credit_that_is_needed_does_not_wait(void) {
  sim s;
  sim_conn *c, *srv;

  REQUIRE(setup_streams(&s, &c, &srv));
  for (int i = 0; i < 10; i++) { /* they ask for 60 streams, in 60 round trips of theirs */
    REQUIRE(use_streams(&s, c, 6));
    CHECK(qe_conn_streams_left(c->c, 1) >= 6);
  }
  /* Streams that stay open leave room for one at a time: the room is not kept back. */
  s.server.hold_streams = 1;
  REQUIRE(use_streams(&s, c, (int)qe_conn_streams_left(c->c, 1)));
  CHECK_EQ(qe_conn_streams_left(c->c, 1), 0);
  qe_conn_extend_streams(srv->c, 1, 1);
  sim_run(&s, 6 * SIM_MS);
  CHECK_EQ(qe_conn_streams_left(c->c, 1), 1);
  sim_free(&s);
}

int main(void) {
  if (sim_global_init() != 0) {
    return 1;
  }
  RUN(test_unread_streams_do_not_stop_others);
  RUN(test_unread_bytes_end_at_the_allowance);
  RUN(test_an_idle_connection_has_the_first_credit_only);
  RUN(test_connections_share_what_is_free);
  RUN(test_without_memory_readers_go_on);
  RUN(test_little_credit_at_first_costs_no_time);
  RUN(test_a_slow_reader_gets_less_ahead_again);
  RUN(test_pieces_out_of_order_are_held);
  RUN(test_queued_bytes_of_all_streams_are_counted);
  RUN(test_stream_credit_waits_for_a_packet_that_it_can_share);
  RUN(test_stream_credit_does_not_wait_long);
  RUN(test_stream_credit_that_is_needed_does_not_wait);
  sim_global_free();
  return check_report();
}
