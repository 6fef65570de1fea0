/*
 * libFuzzer target: a peer with the right keys puts arbitrary frames into its packets.
 *
 * Two engines of tests/engine/sim.c talk under a virtual clock. The input chooses a side, a
 * packet number space and which of its packets carries the rest of the input as its payload
 * instead of its own; several packets can be replaced. Anything may follow but a crash, a
 * sanitizer's report, or work without end.
 */
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "replace.h"
#include "sim.h"

enum { MAX_REPLACED = 8 };

static struct {
  struct {
    uint8_t by_server, level, index;
    const uint8_t *bytes;
    size_t len;
  } wanted[MAX_REPLACED];
  size_t n;
  unsigned seen[2][3];
} plan;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *payload_for(int by_server, int level, size_t len, size_t *n) {
  unsigned number = plan.seen[by_server][level]++;

  for (size_t i = 0; i < plan.n; i++) {
    if (plan.wanted[i].by_server == by_server && plan.wanted[i].level == level &&
        plan.wanted[i].index == number) {
      *n = plan.wanted[i].len < len ? plan.wanted[i].len : len;
      return plan.wanted[i].bytes;
    }
  }
  return NULL;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  if (sim_global_init() != 0) {
    abort();
  }
  return 0;
}

/* Each replaced packet: a byte of side (1 bit), level (2) and index (5), two of length, payload. */
static void read_plan(const uint8_t *data, size_t size) {
  memset(&plan, 0, sizeof(plan));
  while (size >= 3 && plan.n < MAX_REPLACED) {
    size_t len = (size_t)data[1] << 8 | data[2];
    uint8_t where = data[0];
    data += 3;
    size -= 3;
    len = len < size ? len : size;
    plan.wanted[plan.n].by_server = where & 1;
    plan.wanted[plan.n].level = (where >> 1 & 3) % 3;
    plan.wanted[plan.n].index = where >> 3;
    plan.wanted[plan.n].bytes = data;
    plan.wanted[plan.n].len = len;
    plan.n++;
    data += len;
    size -= len;
  }
}

static void use(sim *s, sim_conn *client) {
  sim_conn *server = sim_handshake(s, client);

  if (server != NULL && server->c != NULL && client->c != NULL) {
    sim_stream *a = sim_open(client, 0), *b = sim_open(server, 1);
    if (a != NULL) {
      sim_write(a, 3000, 1000, 0);
    }
    if (b != NULL) {
      sim_write(b, 2000, 1000, 1);
    }
    if (client->c != NULL) {
      qe_conn_send_datagram(client->c, NULL, NULL, 0, (const uint8_t *)"d", 1, 0, QE_NEVER);
    }
    sim_run(s, 100 * SIM_MS);
    if (a != NULL && a->s != NULL) {
      qe_stream_reset(a->s, 4);
    }
    if (client->c != NULL) {
      qe_conn_initiate_key_update(client->c, s->now);
    }
    sim_run(s, QE_SECOND);
  }
  sim_run(s, 2 * QE_SECOND);
  if (client->c != NULL) {
    qe_conn_close(client->c, 1, 7, (const uint8_t *)"bye", 3);
  }
  sim_run(s, QE_SECOND);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static sim s;

  if (size < 4) {
    return 0;
  }
  sim_init(&s, 1);
  s.up.delay = s.down.delay = SIM_MS;
  if (data[0] & 1) {
    s.up.bytes_per_second = s.down.bytes_per_second = 200000; /* packets come one by one */
  }
  if (data[0] & 2) {
    s.server.set.retry = QE_RETRY_ALWAYS;
  }
  read_plan(data + 1, size - 1);
  if (sim_start(&s) != 0) {
    abort();
  }
  use(&s, sim_connect(&s));
  if (s.stuck) {
    abort();
  }
  sim_free(&s);
  return 0;
}
