/*
 * test_floods.c - a client with correct keys that sends only one kind of frame.
 *
 * The tests measure the cost for the server: memory, answers, and time in proportion to packets
 * with data.
 */
#include <stdlib.h>
#include <time.h>

#include "check.h"
#include "conn.h"
#include "engine.h"
#include "replace.h"
#include "sim.h"

#define ROOM 1100 /* of a payload */
#define PACKET 1200
#define PACKETS 5000
#define DEAREST 100 /* processor time in packets with data; the worst case takes 15 */
#define PIECES 4900 /* in one stream; the library closes at 5000 */
#define MEMORY (QE_LIBMEM_SPARE + ((uint64_t)17 << 20)) /* 16 MiB of credit, and one packet */

enum outcome { STAYS, ENDS };

static struct {
  void (*fill)(void); /* writes the next payload */
  uint8_t bytes[ROOM];
  size_t len;
  uint64_t counter; /* for the fill function */
  uint64_t packets;
  uint64_t ns; /* the server's processor time */
} flood;

static const uint8_t *payload_for(int by_server, int level, size_t len, size_t *n) {
  if (by_server || level != LEVEL_ONE_RTT || flood.fill == NULL || len < ROOM) {
    return NULL;
  }
  flood.len = 0;
  flood.fill();
  flood.packets++;
  *n = flood.len;
  return flood.bytes;
}

/* ---------------------------------------------------------------- payloads */

static int room(size_t n) {
  return flood.len + n <= ROOM;
}

static void put(unsigned byte) {
  flood.bytes[flood.len++] = (uint8_t)byte;
}

static void put_short(uint64_t v) { /* two bytes */
  put(0x40 | (unsigned)(v >> 8));
  put((unsigned)v & 0xff);
}

static void put_long(uint64_t v) { /* eight */
  put(0xc0);
  for (int shift = 48; shift >= 0; shift -= 8) {
    put((unsigned)(v >> shift) & 0xff);
  }
}

static void fill_with(const uint8_t *frame, size_t n) {
  while (room(n)) {
    for (size_t i = 0; i < n; i++) {
      put(frame[i]);
    }
  }
}

#define SAME(name, ...)                                                                            \
  static void name(void) {                                                                         \
    static const uint8_t frame[] = {__VA_ARGS__};                                                  \
    fill_with(frame, sizeof(frame));                                                               \
  }

SAME(pings, 0x01)
SAME(stream_data_blocked, 0x15, 0, 0)
SAME(data_blocked, 0x14, 0)
SAME(streams_blocked, 0x16, 0)
SAME(empty_streams, 0x0a, 0, 0)
SAME(empty_crypto, 0x06, 0, 0)
SAME(same_crypto, 0x06, 5, 1, 7)
SAME(stop_sending, 0x05, 0, 0)
SAME(empty_datagrams, 0x31, 0)
SAME(retired_ids, 0x19, 1)
SAME(path_responses, 0x1b, 1, 2, 3, 4, 5, 6, 7, 8)
SAME(resets_of_one_stream, 0x04, 4, 0, 0)

static void data(void) {
  put(0x0e);
  put(0);
  put_long(flood.counter % 900000);
  put_short(ROOM - flood.len - 2);
  while (room(1)) {
    put(7);
  }
  flood.counter += ROOM;
}

static void challenges(void) {
  while (room(9)) {
    put(0x1a);
    for (int shift = 0; shift < 64; shift += 8) {
      put((unsigned)(flood.counter >> shift) & 0xff);
    }
    flood.counter++;
  }
}

static void growing(unsigned type, int with_stream) {
  while (room(11)) {
    put(type);
    if (with_stream) {
      put(0);
    }
    put_long(2000000 + flood.counter++);
  }
}

static void max_data(void) {
  growing(0x10, 0);
}

static void max_streams(void) {
  growing(0x12, 0);
}

static void max_stream_data(void) {
  growing(0x11, 1);
}

static void piece(uint64_t id, uint64_t offset) {
  put(0x0e);
  put_short(id);
  put_long(offset);
  put(1);
  put(7);
}

static void pieces_of_one_stream(void) {
  while (room(13)) {
    piece(0, 1 + 2 * flood.counter++);
  }
}

static void pieces_of_all_streams(void) {
  while (room(13)) {
    uint64_t n = flood.counter++;
    piece(n / PIECES * 4 % 400, 1 + 2 * (n % PIECES));
  }
}

static void pieces_far_apart(void) {
  while (room(13)) {
    uint64_t n = flood.counter++;
    piece(n % 16 * 4, 1000 + 4096 * (n / 16 % 250));
  }
}

static void pieces_of_crypto(void) {
  while (room(12)) {
    put(0x06);
    put_long(1 + 2 * (flood.counter++ % 30000));
    put(1);
    put(7);
  }
}

static void crypto_far_away(void) {
  put(0x06);
  put_long((uint64_t)1 << 40);
  put(1);
  put(7);
}

/* As many ranges as the packets of the server allow: every second packet. */
static void ranges(void) {
  int64_t n = flood.packets < 2100 ? (int64_t)flood.packets / 4 : 500;
  put(0x01);
  put(0x02);
  put_long((uint64_t)sent_number[1]);
  put(0);
  put_short((uint64_t)n);
  put(0);
  while (n-- > 0) {
    put(0);
    put(0);
  }
}

static void same_acks(void) {
  put(0x01); /* so that it is answered */
  while (room(13)) {
    put(0x02);
    put_long((uint64_t)sent_number[1]);
    put(0);
    put(0);
    put(0);
  }
}

static void ack_of_what_was_not_sent(void) {
  put(0x02);
  put_long((uint64_t)sent_number[1] + 1000);
  put(0);
  put(0);
  put(0);
}

/* ------------------------------------------------------------------- time */

#define IN_SIGNATURE                                                                               \
  qe_engine *e, qe_sock *sock, const struct sockaddr *local, socklen_t local_len,                  \
      const struct sockaddr *remote, socklen_t remote_len, unsigned ecn, const uint8_t *bytes,     \
      size_t len, qe_tstamp at

int __real_qe_engine_packet_in(IN_SIGNATURE);
int __wrap_qe_engine_packet_in(IN_SIGNATURE);

static uint64_t processor_time(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (uint64_t)t.tv_sec * QE_SECOND + (uint64_t)t.tv_nsec;
}

int __wrap_qe_engine_packet_in(IN_SIGNATURE) {
  uint64_t start = processor_time();
  int rv = __real_qe_engine_packet_in(e, sock, local, local_len, remote, remote_len, ecn, bytes,
                                      len, at);
  flood.ns += e->set.is_server ? processor_time() - start : 0;
  return rv;
}

/* ------------------------------------------------------------------ floods */

/* The time per packet. */
static double run(const char *name, void (*fill)(void), enum outcome wanted) {
  static sim s;
  static const uint8_t filler[1150];
  sim_conn *c, *srv;
  uint64_t memory = 0;

  sim_init(&s, 1);
  s.up.delay = s.down.delay = SIM_MS;
  s.client.set.pmtud = s.server.set.pmtud = 0;
  flood.fill = NULL;
  sim_start(&s);
  c = sim_connect(&s);
  srv = sim_handshake(&s, c);
  sim_stream *st = sim_open(c, 0);
  if (srv == NULL || st == NULL) {
    CHECK(0);
    return 0;
  }
  sim_write(st, 10, 10, 0);
  sim_run(&s, QE_SECOND);
  s.server.hold_credit = 1;
  uint64_t packets = s.server.packets, bytes = s.server.bytes;
  flood.counter = flood.packets = flood.ns = 0;
  flood.fill = fill;
  for (int i = 0; i < PACKETS && c->c != NULL && srv->c != NULL; i++) {
    qe_conn_send_datagram(c->c, NULL, NULL, 0, filler, sizeof(filler), 0, QE_NEVER);
    sim_run(&s, SIM_MS);
    if (srv->c != NULL && srv->c->libmem.bytes > memory) {
      memory = srv->c->libmem.bytes;
    }
  }
  flood.fill = NULL;
  packets = s.server.packets - packets;
  bytes = s.server.bytes - bytes;
  double each = (double)flood.ns / (double)flood.packets;
  printf("  %-26s %4llu packets, %6.0f ns each, %5llu KiB; %llu answers; %s %.*s\n", name,
         (unsigned long long)flood.packets, each, (unsigned long long)(memory >> 10),
         (unsigned long long)packets, srv->closes ? "ends:" : "stays", (int)srv->close.reason_len,
         srv->close.reason);
  /* From 1.15 on the library itself closes in some cases. */
  CHECK(srv->closes == (int)wanted || (wanted == STAYS && qe_limits_glitches()));
  CHECK(memory <= MEMORY);
  /* There are at most a few more answers than packets in the flood. */
  CHECK(packets <= flood.packets + 120);
  CHECK(bytes <= flood.packets * PACKET + (uint64_t)120 * PACKET);
  CHECK(!s.stuck);
  sim_free(&s);
  return each;
}

#define FLOOD(name, outcome) {#name, name, outcome}

static void test_floods(void) {
  static const struct {
    const char *name;
    void (*fill)(void);
    enum outcome outcome;
  } floods[] = {
      FLOOD(pings, STAYS),
      FLOOD(challenges, STAYS),
      FLOOD(path_responses, STAYS),
      FLOOD(stream_data_blocked, STAYS),
      FLOOD(data_blocked, STAYS),
      FLOOD(streams_blocked, STAYS),
      FLOOD(max_data, STAYS),
      FLOOD(max_streams, STAYS),
      FLOOD(max_stream_data, STAYS),
      FLOOD(empty_streams, STAYS),
      FLOOD(empty_datagrams, STAYS),
      FLOOD(empty_crypto, STAYS),
      FLOOD(same_crypto, STAYS),
      FLOOD(stop_sending, STAYS),
      FLOOD(resets_of_one_stream, STAYS),
      FLOOD(retired_ids, STAYS),
      FLOOD(pieces_far_apart, STAYS), /* within its credit */
      FLOOD(pieces_of_one_stream, ENDS),
      FLOOD(pieces_of_all_streams, ENDS),
      FLOOD(pieces_of_crypto, ENDS),
      FLOOD(crypto_far_away, ENDS),
      FLOOD(ranges, STAYS),
      FLOOD(same_acks, STAYS),
      FLOOD(ack_of_what_was_not_sent, ENDS),
  };
  double ordinary = run("data", data, STAYS);
  for (size_t i = 0; i < sizeof(floods) / sizeof(floods[0]); i++) {
    CHECK(run(floods[i].name, floods[i].fill, floods[i].outcome) < DEAREST * ordinary);
  }
}

int main(void) {
  if (sim_global_init() != 0) {
    return 1;
  }
  RUN(test_floods);
  sim_global_free();
  return check_report();
}
