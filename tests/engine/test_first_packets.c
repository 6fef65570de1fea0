/*
 * test_first_packets.c - a peer with correct keys sends every frame in each of its first packets.
 *
 * Nothing that a peer sends may abort the process, so a case passes if its connections continue or
 * close and the program is still running. Each form of a frame replaces a whole packet, alone, or
 * with PAIRS=1 followed by each other form. Either side sends it, in the Handshake and the 1-RTT
 * packet number space, with and without a write of the receiver in between.
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "engine.h"
#include "replace.h"
#include "sim.h"

typedef struct form {
  const char *name;
  const uint8_t *bytes;
  size_t len;
} form;

#define FORM(name, ...)                                                                            \
  {name, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})}
#define EIGHT(x) x, x, x, x, x, x, x, x
#define TOKEN EIGHT(0x55), EIGHT(0x55)
#define MAX8 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff

static const form forms[] = {
    FORM("PING", 0x01),
    FORM("ACK of 0", 0x02, 0, 0, 0, 0),
    FORM("ACK of 2^62-1", 0x02, MAX8, 0, 0, 0),
    FORM("ACK of a middling number", 0x02, 0x80, 0, 0xff, 0xff, 0, 0, 0),
    FORM("ACK with a range below 0", 0x02, 1, 0, 1, 1, 5, 5),
    FORM("ACK that delays 2^62-1", 0x02, 0, MAX8, 0, 0),
    FORM("ACK_ECN", 0x03, 0, 0, 0, 0, 9, 9, 9),
    FORM("RESET_STREAM of the server's bidirectional stream", 0x04, 1, 0, 0),
    FORM("RESET_STREAM of the client's bidirectional stream", 0x04, 0, 0, 0),
    FORM("RESET_STREAM of the server's unidirectional stream", 0x04, 3, 0, 0),
    FORM("RESET_STREAM of the client's unidirectional stream", 0x04, 2, 0, 0),
    FORM("RESET_STREAM with a large final size", 0x04, 0, 0, 0xbf, 0xff, 0xff, 0xff),
    FORM("STOP_SENDING 0", 0x05, 0, 0),
    FORM("STOP_SENDING 1", 0x05, 1, 0),
    FORM("STOP_SENDING 2", 0x05, 2, 0),
    FORM("STOP_SENDING 3", 0x05, 3, 0),
    FORM("CRYPTO with a ticket", 0x06, 0, 6, 4, 0, 0, 2, 0, 0),
    FORM("CRYPTO with KeyUpdate", 0x06, 0, 5, 0x18, 0, 0, 1, 0),
    FORM("CRYPTO with a second ServerHello", 0x06, 0, 6, 2, 0, 0, 2, 3, 3),
    FORM("CRYPTO with a second Finished", 0x06, 0, 6, 20, 0, 0, 2, 1, 1),
    FORM("CRYPTO after a gap", 0x06, 0x40, 0x90, 1, 0),
    FORM("CRYPTO at a far offset", 0x06, 0xbf, 0xff, 0xff, 0xff, 1, 0),
    FORM("CRYPTO at offset 2^62-1", 0x06, MAX8, 1, 0),
    FORM("CRYPTO without data", 0x06, 0, 0),
    FORM("NEW_TOKEN", 0x07, 2, 1, 2),
    FORM("NEW_TOKEN without data", 0x07, 0),
    FORM("STREAM 1 with FIN", 0x0b, 1, 1, 7),
    FORM("STREAM 0 with FIN", 0x0b, 0, 1, 7),
    FORM("STREAM 3", 0x0a, 3, 1, 7),
    FORM("STREAM 2", 0x0a, 2, 1, 7),
    FORM("STREAM 0 without data", 0x0a, 0, 0),
    FORM("STREAM at a far offset", 0x0e, 1, 0xbf, 0xff, 0xff, 0xff, 1, 7),
    FORM("STREAM of ID 2^62-1", 0x0a, MAX8, 1, 7),
    FORM("MAX_DATA", 0x10, 0x80, 0x10, 0, 0),
    FORM("MAX_DATA of 2^62-1", 0x10, MAX8),
    FORM("MAX_STREAM_DATA 0", 0x11, 0, 0x80, 0x10, 0, 0),
    FORM("MAX_STREAM_DATA 1", 0x11, 1, 0x80, 0x10, 0, 0),
    FORM("MAX_STREAM_DATA 2", 0x11, 2, 0x80, 0x10, 0, 0),
    FORM("MAX_STREAM_DATA 3", 0x11, 3, 0x80, 0x10, 0, 0),
    FORM("MAX_STREAMS of 2^60", 0x12, 0xd0, 0, 0, 0, 0, 0, 0, 0),
    FORM("MAX_STREAMS of 2^60, unidirectional", 0x13, 0xd0, 0, 0, 0, 0, 0, 0, 0),
    FORM("MAX_STREAMS of 2^62-1", 0x13, MAX8),
    FORM("DATA_BLOCKED", 0x14, 0),
    FORM("STREAM_DATA_BLOCKED 1", 0x15, 1, 0),
    FORM("STREAM_DATA_BLOCKED 0", 0x15, 0, 0),
    FORM("STREAMS_BLOCKED", 0x16, 0),
    FORM("STREAMS_BLOCKED, unidirectional", 0x17, 0),
    FORM("NEW_CONNECTION_ID 1, retires below 0", 0x18, 1, 0, 8, EIGHT(0x71), TOKEN),
    FORM("NEW_CONNECTION_ID 1, retires below 1", 0x18, 1, 1, 8, EIGHT(0x71), TOKEN),
    FORM("NEW_CONNECTION_ID 2, retires below 2", 0x18, 2, 2, 8, EIGHT(0x71), TOKEN),
    FORM("NEW_CONNECTION_ID 9, retires below 9", 0x18, 9, 9, 8, EIGHT(0x71), TOKEN),
    FORM("NEW_CONNECTION_ID 0, retires below 0", 0x18, 0, 0, 8, EIGHT(0x71), TOKEN),
    FORM("NEW_CONNECTION_ID 2, retires below 1", 0x18, 2, 1, 8, EIGHT(0x72), TOKEN),
    FORM("NEW_CONNECTION_ID 4, retires below 0", 0x18, 4, 0, 8, EIGHT(0x73), TOKEN),
    FORM("NEW_CONNECTION_ID 2^62-1", 0x18, MAX8, MAX8, 8, EIGHT(0x74), TOKEN),
    FORM("NEW_CONNECTION_ID, retires below 1, in long integers", 0x18, 0x40, 1, 0x80, 0, 0, 1, 8,
         EIGHT(0x75), TOKEN),
    FORM("RETIRE_CONNECTION_ID 0", 0x19, 0),
    FORM("RETIRE_CONNECTION_ID 1", 0x19, 1),
    FORM("RETIRE_CONNECTION_ID 2", 0x19, 2),
    FORM("RETIRE_CONNECTION_ID 7", 0x19, 7),
    FORM("RETIRE_CONNECTION_ID 2^62-1", 0x19, MAX8),
    FORM("PATH_CHALLENGE", 0x1a, EIGHT(1)),
    FORM("PATH_RESPONSE", 0x1b, EIGHT(1)),
    FORM("CONNECTION_CLOSE", 0x1c, 0, 0, 0),
    FORM("CONNECTION_CLOSE of the application", 0x1d, 0, 0),
    FORM("HANDSHAKE_DONE", 0x1e),
    FORM("HANDSHAKE_DONE in two bytes", 0x40, 0x1e),
    FORM("HANDSHAKE_DONE after STREAM", 0x0a, 1, 1, 7, 0x1e),
    FORM("HANDSHAKE_DONE after STOP_SENDING", 0x05, 1, 0, 0x1e),
    FORM("HANDSHAKE_DONE after ACK with ranges", 0x02, 9, 0, 1, 0, 1, 0, 0x1e),
    FORM("HANDSHAKE_DONE after PADDING and PING", 0, 0, 0, 1, 0x1e),
    FORM("DATAGRAM", 0x31, 1, 9),
    FORM("DATAGRAM without data", 0x31, 0),
    FORM("a frame of unknown type", 0x40, 0x99),
    FORM("nothing but PADDING", 0x00),
};
enum { FORMS = sizeof(forms) / sizeof(forms[0]) };

/* The case that runs. */
static struct {
  int level, by_server, index, one_by_one;
  uint8_t bytes[512];
  size_t len;
  int seen; /* packets of the level that the side has sent */
  int replaced;
  char name[256];
} now;

static const uint8_t *payload_for(int by_server, int level, size_t len, size_t *n) {
  if (level == now.level && by_server == now.by_server && now.seen++ == now.index &&
      now.len <= len) {
    now.replaced = 1;
    *n = now.len;
    return now.bytes;
  }
  return NULL;
}

static void on_abort(int number) {
  static const char lead[] = "  the process would have ended in: ";
  if (write(1, lead, sizeof(lead) - 1) < 0 || write(1, now.name, strlen(now.name)) < 0 ||
      write(1, "\n", 1) < 0) {
    _exit(3);
  }
  signal(number, SIG_DFL);
  raise(number);
}

/* Uses a connection in many ways, whether or not its peer has misbehaved. */
static void use(sim *s, sim_conn *client) {
  sim_conn *server = sim_handshake(s, client);

  if (server != NULL && server->c != NULL && client->c != NULL) {
    sim_stream *a = sim_open(client, 0), *b = sim_open(client, 1);
    sim_stream *d = sim_open(server, 0), *e = sim_take_greeting(server);
    if (a != NULL) {
      sim_write(a, 3000, 1000, 0);
    }
    if (b != NULL) {
      sim_write(b, 2000, 1000, 1);
    }
    if (d != NULL) {
      sim_write(d, 3000, 1000, 1);
    }
    if (e != NULL) {
      sim_write(e, 300, 100, 0);
    }
    sim_run(s, 20 * SIM_MS);
    if (a != NULL && a->s != NULL) {
      qe_stream_reset(a->s, 4);
    }
    if (d != NULL && d->s != NULL) {
      qe_stream_stop_sending(d->s, 4);
    }
    if (client->c != NULL) {
      qe_conn_initiate_key_update(client->c, s->now);
    }
  }
  sim_run(s, 5 * QE_SECOND);
  if (client->c != NULL) {
    qe_conn_close(client->c, 1, 7, (const uint8_t *)"bye", 3);
  }
  sim_run(s, 3 * QE_SECOND);
}

static int run_case(const form *first, const form *second) {
  static sim s;

  memcpy(now.bytes, first->bytes, first->len);
  now.len = first->len;
  if (second != NULL) {
    memcpy(now.bytes + now.len, second->bytes, second->len);
    now.len += second->len;
  }
  now.seen = now.replaced = 0;
  snprintf(now.name, sizeof(now.name), "%s, packet %d at level %d, %s: %s%s%s",
           now.by_server ? "server sends" : "client sends", now.index, now.level,
           now.one_by_one ? "one by one" : "in one batch", first->name,
           second != NULL ? ", then " : "", second != NULL ? second->name : "");
  sim_init(&s, 1);
  s.client.set.pmtud = s.server.set.pmtud = 0;
  s.up.delay = s.down.delay = SIM_MS;
  s.greeting = 100;
  if (now.one_by_one) {
    s.up.bytes_per_second = s.down.bytes_per_second = 200000;
  }
  if (sim_start(&s) != 0) {
    return -1;
  }
  use(&s, sim_connect(&s));
  CHECK(!s.stuck);
  sim_free(&s);
  return now.replaced;
}

/* Runs all forms in the position that `now` describes; returns how many took effect. */
static int run_forms(void) {
  int effective = 0;
  int pairs = getenv("PAIRS") != NULL;

  for (int i = 0; i < FORMS; i++) {
    for (int j = 0; j <= (pairs ? FORMS : 0); j++) {
      int rv = run_case(&forms[i], j > 0 ? &forms[j - 1] : NULL);
      CHECK(rv >= 0);
      effective += rv > 0;
    }
  }
  return effective;
}

static void run_level(int level, int side, int packets) {
  now.level = level;
  now.by_server = side;
  for (now.index = 0; now.index < packets; now.index++) {
    for (now.one_by_one = 0; now.one_by_one < 2; now.one_by_one++) {
      int effective = run_forms();
      if (now.index == 0) {
        /* Larger forms do not fit into a packet that is small. */
        CHECK(effective > FORMS / 3);
      }
    }
  }
}

static void test_one_rtt_packets_of_a_server(void) {
  run_level(LEVEL_ONE_RTT, 1, 3);
}

static void test_one_rtt_packets_of_a_client(void) {
  run_level(LEVEL_ONE_RTT, 0, 3);
}

static void test_handshake_packets_of_a_server(void) {
  run_level(LEVEL_HANDSHAKE, 1, 2);
}

static void test_handshake_packets_of_a_client(void) {
  run_level(LEVEL_HANDSHAKE, 0, 2);
}

/* The packet with the early frame counts as lost, and the connection is still established. */
static void test_an_early_frame_costs_its_packet_only(void) {
  static const uint8_t early[] = {0x1e};
  static sim s;

  now.level = LEVEL_ONE_RTT;
  now.by_server = 1;
  now.index = 0;
  now.seen = now.replaced = 0;
  memcpy(now.bytes, early, now.len = sizeof(early));
  snprintf(now.name, sizeof(now.name), "HANDSHAKE_DONE in the first packet");
  sim_init(&s, 1);
  s.up.delay = s.down.delay = SIM_MS;
  REQUIRE(sim_start(&s) == 0);
  sim_conn *c = sim_connect(&s);
  sim_conn *srv = sim_handshake(&s, c);
  REQUIRE(srv != NULL);
  sim_run(&s, 5 * QE_SECOND);
  CHECK_EQ(now.replaced, 1);
  CHECK_EQ(c->handshakes, 1);
  CHECK_EQ(c->closes, 0);
  sim_stream *st = sim_open(c, 1);
  REQUIRE(st != NULL);
  CHECK_EQ(sim_write(st, 1000, 1000, 1), 0);
  sim_run(&s, QE_SECOND);
  REQUIRE(sim_find(srv, st->id) != NULL);
  CHECK_EQ(sim_find(srv, st->id)->received, 1000);
  sim_free(&s);
}

int main(void) {
  signal(SIGABRT, on_abort);
  signal(SIGSEGV, on_abort);
  if (sim_global_init() != 0) {
    return 1;
  }
  RUN(test_one_rtt_packets_of_a_server);
  RUN(test_one_rtt_packets_of_a_client);
  RUN(test_handshake_packets_of_a_server);
  RUN(test_handshake_packets_of_a_client);
  RUN(test_an_early_frame_costs_its_packet_only);
  sim_global_free();
  return check_report();
}
