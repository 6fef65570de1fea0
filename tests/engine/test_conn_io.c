/* test_conn_io.c - how much a connection sends at once. */
#include "check.h"
#include "conn.h"
#include "sim.h"

#define MIB ((uint64_t)1 << 20)

/* Keeps the datagram queue full for a time; returns the largest number of bytes in flight. */
static uint64_t flood(sim *s, sim_conn *c, qe_tstamp duration) {
  static const uint8_t payload[1000];
  uint64_t most = 0;
  qe_conn_stats st;

  for (qe_tstamp end = s->now + duration; s->now < end;) {
    while (qe_conn_send_datagram(c->c, NULL, NULL, 0, payload, sizeof(payload), 1, QE_NEVER) == 0) {
    }
    sim_run(s, SIM_MS);
    qe_conn_get_stats(c->c, &st);
    most = st.bytes_in_flight > most ? st.bytes_in_flight : most;
  }
  return most;
}

static sim_conn *start(sim *s, qe_tstamp delay, uint64_t bytes_per_second) {
  sim_init(s, 1);
  s->up.delay = s->down.delay = delay;
  s->up.bytes_per_second = bytes_per_second;
  sim_conn *c = sim_start(s) == 0 ? sim_connect(s) : NULL;
  return c != NULL && sim_handshake(s, c) != NULL ? c : NULL;
}

/* The path or the receiver becomes slow when the congestion window is already large. As nothing
 * is lost, the window does not shrink. */
static void test_datagrams_do_not_pile_up_on_the_path(void) {
  sim s;
  sim_conn *c = start(&s, SIM_MS, 0);
  qe_conn_stats st;
  REQUIRE(c != NULL);
  flood(&s, c, QE_SECOND / 20);
  qe_conn_get_stats(c->c, &st);
  CHECK(st.cwnd > 2 * MIB); /* newer versions of the library let it grow less */
  s.up.bytes_per_second = 20 * MIB;
  flood(&s, c, QE_SECOND / 2); /* until the round-trip time shows it */
  qe_conn_get_stats(c->c, &st);
  uint64_t before = st.dgrams_sent;
  uint64_t most = flood(&s, c, QE_SECOND);
  qe_conn_get_stats(c->c, &st);
  CHECK(st.cwnd > 2 * MIB); /* the window was not the limit */
  CHECK(most < 3 * MIB / 2);
  CHECK(st.dgrams_sent - before > 18000); /* and the bottleneck was busy all the time */
  CHECK_EQ(st.dgrams_lost, 0);
  sim_free(&s);
}

/* Bytes in flight on a long fast path do not count as queued. */
static void test_long_paths_are_filled(void) {
  sim s;
  sim_conn *c = start(&s, 50 * SIM_MS, 0);
  REQUIRE(c != NULL);
  CHECK(flood(&s, c, QE_SECOND) > 3 * MIB);
  sim_free(&s);
}

/* ------------------------------------------------------- waiting for the user */

static void test_packets_of_a_new_connection_wait_once(void) {
  sim s;

  sim_init(&s, 4);
  s.client.set.pmtud = s.server.set.pmtud = 0;
  REQUIRE(sim_start(&s) == 0);
  sim_conn *c = sim_connect(&s);
  sim_conn *srv = sim_handshake(&s, c);
  REQUIRE(srv != NULL);
  sim_run(&s, QE_SECOND);
  sim_stream *st = sim_open(srv, 1);
  REQUIRE(st != NULL && sim_write(st, 10, 10, 0) == 0);
  uint64_t packets = s.server.packets;
  qe_conn_postpone(srv->c);
  CHECK_EQ(qe_engine_process(s.server.engine, s.now), 1); /* it waits, and is not forgotten */
  CHECK_EQ(s.server.packets, packets);
  CHECK_EQ(sim_write(st, 10, 10, 0), 0);
  qe_engine_process(s.server.engine, s.now);
  CHECK_EQ(s.server.packets, packets + 1); /* both in one */
  /* Not for longer than some milliseconds in all. */
  sim_run(&s, 10 * SIM_MS);
  packets = s.server.packets;
  CHECK_EQ(sim_write(st, 10, 10, 0), 0);
  qe_conn_postpone(srv->c);
  qe_engine_process(s.server.engine, s.now);
  CHECK_EQ(s.server.packets, packets + 1);
  /* A connection that ends does not wait. */
  qe_conn_postpone(c->c);
  CHECK_EQ(qe_conn_close(c->c, 1, 3, NULL, 0), 0);
  qe_engine_process(s.client.engine, s.now);
  CHECK_EQ(c->closes, 1);
  sim_free(&s);
}

int main(void) {
  if (sim_global_init() != 0) {
    printf("no certificates\n");
    return 1;
  }
  RUN(test_datagrams_do_not_pile_up_on_the_path);
  RUN(test_long_paths_are_filled);
  RUN(test_packets_of_a_new_connection_wait_once);
  sim_global_free();
  return check_report();
}
