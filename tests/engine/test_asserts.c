/*
 * test_asserts.c - a peer with correct keys tries to make the library's own checks fail.
 *
 * The checks are asserts, which end the process. A case passes if its connection continues or
 * closes. docs/topics/engine.md lists them.
 */
#include <signal.h>
#include <stdlib.h>

#include "check.h"
#include "conn.h"
#include "engine.h"
#include "replace.h"
#include "sim.h"

static struct {
  uint8_t bytes[1200];
  size_t len; /* of the payload that replaces the client's next 1-RTT packets; 0: none */
  uint8_t dcid[8];
  int with_dcid; /* those packets go to dcid */
} forged;

static const uint8_t *payload_for(int by_server, int level, size_t len, size_t *n) {
  if (by_server || level != LEVEL_ONE_RTT || forged.len == 0 || forged.len > len) {
    return NULL;
  }
  *n = forged.len;
  return forged.bytes;
}

static void change_header(int by_server, int level, uint8_t *header, size_t len) {
  if (!by_server && level == LEVEL_ONE_RTT && forged.with_dcid && len > 9) {
    memcpy(header + 1, forged.dcid, sizeof(forged.dcid));
  }
}

static void add(const uint8_t *bytes, size_t n) {
  memcpy(forged.bytes + forged.len, bytes, n);
  forged.len += n;
}

static void add_new_id(uint8_t seq, uint8_t retire) {
  uint8_t frame[3 + 1 + 8 + 16] = {0x18, seq, retire, 8};
  memset(frame + 4, 0x40 + seq, 24);
  add(frame, sizeof(frame));
}

/* The client's engine writes a packet, whose payload is replaced. */
static void send_forged(sim *s, sim_stream *st) {
  sim_write(st, 1100, 1100, 0);
  sim_run(s, 5 * SIM_MS);
  forged.len = 0;
}

/* IDs of the server that the client has not used yet. */
static int fresh_id(const sim_conn *srv, size_t nth) {
  size_t found = 0;
  if (srv->c == NULL) {
    return 0;
  }
  for (size_t i = 0; i < srv->c->cids.n; i++) {
    if (srv->c->cids.items[i].len == 8 && found++ == nth) {
      memcpy(forged.dcid, srv->c->cids.items[i].data, 8);
      return 1;
    }
  }
  return 0;
}

static int start(sim *s, sim_conn **c, sim_conn **srv) {
  s->up.delay = s->down.delay = SIM_MS;
  /* So that forged payloads fit with any seed: packets of 1,200 bytes. */
  s->client.set.pmtud = s->server.set.pmtud = 0;
  if (sim_start(s) != 0) {
    return 0;
  }
  *c = sim_connect(s);
  *srv = sim_handshake(s, *c);
  sim_run(s, QE_SECOND);
  return *srv != NULL;
}

/* A client makes the server retire `retired` of its IDs, acknowledges nothing, and then sends
 * from one address after another. If the library's list is full, it fails an assert. */
static void never_acknowledge(uint8_t retired) {
  static sim s;
  sim_conn *c, *srv;
  uint8_t next = 4;

  sim_init(&s, 1);
  REQUIRE(start(&s, &c, &srv));
  sim_stream *st = sim_open(c, 1);
  REQUIRE(st != NULL);
  header_for = change_header;
  forged.with_dcid = 0;
  for (; next < 3 + retired; next++) {
    add_new_id(next, next);
  }
  send_forged(&s, st);
  for (size_t i = 0; i < 3; i++, next++) {
    add_new_id(next, 0);
    add((const uint8_t[]){0x01}, 1);
    forged.with_dcid = fresh_id(srv, 1 + i);
    s.nat = 1;
    s.nat_addr.sin_port++;
    send_forged(&s, st);
  }
  header_for = NULL;
  CHECK_EQ(srv->closes, 1);
  CHECK_EQ(srv->close.kind, QE_CLOSE_TRANSPORT);
  CHECK_EQ(srv->close.code, NGTCP2_CONNECTION_ID_LIMIT_ERROR);
  sim_free(&s);
}

static void test_retired_ids_that_are_never_acknowledged(void) {
  for (uint8_t retired = 11; retired < 18; retired++) {
    never_acknowledge(retired);
  }
}

/* A client that moves after one to two times `pause`: to a new address each time, or back and
 * forth behind a NAT that rebinds meanwhile. */
static void move(sim *s, sim_conn *c, sim_conn *srv, int times, qe_tstamp pause, int rebind) {
  sim_stream *st = sim_open(c, 1), *back = sim_open(srv, 1);
  REQUIRE(st != NULL && back != NULL);
  for (int i = 0; i < times && c->closes + srv->closes == 0; i++) {
    struct sockaddr_in *to = i % 2 ? &s->client.addr : &s->client.addr2;
    to->sin_port += rebind ? 0 : htons(1);
    qe_conn_migrate(c->c, NULL, (struct sockaddr *)to, sizeof(*to), s->now);
    if (rebind && sim_random(s) % 4 == 0) {
      s->nat = !s->nat;
      s->nat_addr.sin_port++;
    }
    REQUIRE(sim_write(st, 2000, 1000, 0) == 0 && sim_write(back, 3000, 1000, 0) == 0);
    sim_run(s, pause + sim_random(s) % pause);
  }
}

static void rough(sim *s) {
  s->up.loss = s->down.loss = 0.05;
  s->up.reorder = s->down.reorder = 0.2;
  s->up.duplicate = s->down.duplicate = 0.1;
  s->up.ce = s->down.ce = 0.02;
}

/* It may do so any number of times, even with packet loss. */
static void test_a_client_that_moves_all_the_time_is_not_closed(void) {
  static sim s;
  sim_conn *c, *srv;

  sim_init(&s, 2);
  REQUIRE(start(&s, &c, &srv));
  rough(&s);
  move(&s, c, srv, 600, 200 * SIM_MS, 0);
  if (qe_limits_migrations() && c->closes > 0) {
    CHECK(strstr((const char *)srv->close.reason, "too many") == NULL); /* not our limit */
    sim_free(&s);
    return;
  }
  CHECK_EQ(c->closes + srv->closes, 0);
  REQUIRE(srv->c != NULL);
  CHECK(srv->c->peer_ids > 500); /* the budget was used again and again */
  CHECK(srv->c->idguard != NULL && srv->c->idguard->n < QE_IDS_MAX / 2);
  sim_free(&s);
}

/* Moves faster than paths can be validated. The library may then lose count of the IDs, and
 * closes. */
static void test_paths_that_change_before_they_are_validated(void) {
  static sim s;
  sim_conn *c, *srv;

  for (uint64_t seed = 0; seed < 80; seed++) {
    sim_init(&s, seed);
    s.client.set.cc = s.server.set.cc = seed % 2 ? QE_CC_BBR : QE_CC_CUBIC;
    REQUIRE(start(&s, &c, &srv));
    rough(&s);
    move(&s, c, srv, 40, (seed % 8 + 1) * SIM_MS, 1);
    sim_run(&s, 5 * QE_SECOND);
    CHECK(!s.stuck);
    sim_free(&s);
  }
}

/* Bit 2 of a short header, in one packet after the other. */
static struct {
  int by_server, index, seen;
} flip;

static void flip_phase(int by_server, int level, uint8_t *header, size_t len) {
  (void)len;
  if (level == LEVEL_ONE_RTT && by_server == flip.by_server && flip.seen++ == flip.index) {
    header[0] ^= 0x04;
  }
}

static void test_a_key_phase_that_is_not_the_keys(void) {
  static sim s;
  sim_conn *c, *srv;

  for (flip.by_server = 0; flip.by_server < 2; flip.by_server++) {
    for (flip.index = 0; flip.index < 12; flip.index++) {
      flip.seen = 0;
      sim_init(&s, 3);
      header_for = flip_phase;
      REQUIRE(start(&s, &c, &srv));
      sim_stream *st = sim_open(c, 0);
      REQUIRE(st != NULL && sim_write(st, 20000, 1000, 1) == 0);
      sim_run(&s, 3 * QE_SECOND);
      if (c->c != NULL) {
        qe_conn_initiate_key_update(c->c, s.now);
      }
      sim_run(&s, 3 * QE_SECOND);
      header_for = NULL;
      CHECK_EQ(c->closes, 0); /* it counts as lost */
      CHECK_EQ(sim_find(srv, st->id)->received, 20000);
      sim_free(&s);
    }
  }
}

static void test_a_clock_that_jumps(void) {
  static sim s;
  sim_conn *c, *srv;

  sim_init(&s, 4);
  REQUIRE(start(&s, &c, &srv));
  sim_stream *st = sim_open(c, 1);
  REQUIRE(st != NULL);
  for (int i = 0; i < 5; i++) {
    REQUIRE(sim_write(st, 20000, 1000, 0) == 0);
    sim_run(&s, SIM_MS);
    s.now -= 3 * QE_SECOND; /* the engines' time stands still until it is as late again */
    qe_engine_process(s.client.engine, s.now);
    qe_engine_process(s.server.engine, s.now);
    sim_run(&s, 10 * QE_SECOND);
  }
  CHECK_EQ(c->closes + srv->closes, 0);
  CHECK_EQ(sim_find(srv, st->id)->received, 100000);
  s.now += 3600 * QE_SECOND; /* the machine slept */
  sim_run(&s, QE_SECOND);
  CHECK_EQ(c->close.kind, QE_CLOSE_IDLE);
  CHECK_EQ(srv->close.kind, QE_CLOSE_IDLE);
  sim_free(&s);
}

int main(void) {
  if (sim_global_init() != 0) {
    return 1;
  }
  RUN(test_retired_ids_that_are_never_acknowledged);
  RUN(test_a_client_that_moves_all_the_time_is_not_closed);
  RUN(test_paths_that_change_before_they_are_validated);
  RUN(test_a_key_phase_that_is_not_the_keys);
  RUN(test_a_clock_that_jumps);
  sim_global_free();
  return check_report();
}
