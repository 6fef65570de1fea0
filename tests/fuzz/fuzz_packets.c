/*
 * libFuzzer target: UDP payloads of anybody, and packets that the network has changed.
 *
 * The input is a list of actions on two engines of tests/engine/sim.c that are connecting or
 * connected: hand arbitrary bytes to one of them, or change bytes of a packet that is on its way.
 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *left;
static size_t left_size;

static unsigned take(void) {
  if (left_size == 0) {
    return 0;
  }
  left_size--;
  return *left++;
}

/* Changes one byte of a passing packet by the next three of the input, and lets a copy go on. */
static int change(sim *s, int to_server, const uint8_t *data, size_t len) {
  static uint8_t copy[65536];
  static int inside;

  if (inside || left_size < 3 || (take() & 3) != 0 || len == 0 || len > sizeof(copy)) {
    return 1;
  }
  size_t at = (take() << 4 | take() >> 4) % len;
  memcpy(copy, data, len);
  copy[at] ^= (uint8_t)(take() | 1);
  inside = 1;
  const struct sockaddr_in *from = to_server ? &s->client.addr : &s->server.addr;
  sim_inject(s, to_server, from, copy, len);
  inside = 0;
  return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  if (sim_global_init() != 0) {
    abort();
  }
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static sim s;

  left = data;
  left_size = size;
  unsigned mode = take();
  sim_init(&s, 1);
  s.up.delay = s.down.delay = SIM_MS;
  s.server.set.retry = mode & 1 ? QE_RETRY_ALWAYS : QE_RETRY_AUTO;
  if (mode & 2) {
    s.server.set.worker_index = 0;
    s.server.set.worker_count = 2;
  }
  if (sim_start(&s) != 0) {
    abort();
  }
  if (mode & 4) {
    s.filter = change;
  }
  sim_conn *c = sim_connect(&s);
  if (mode & 8) {
    sim_run(&s, 200 * SIM_MS);
  }
  while (left_size > 2) {
    unsigned where = take();
    size_t len = (size_t)take() << 2;
    len = len < left_size ? len : left_size;
    int to_server = where & 1;
    const struct sockaddr_in *from = to_server ? &s.client.addr : &s.server.addr;
    sim_inject(&s, to_server, from, left, len);
    left += len;
    left_size -= len;
    if (where & 2) {
      sim_run(&s, (where >> 2) * SIM_MS);
    }
  }
  if (c != NULL && c->c != NULL) {
    sim_stream *a = sim_open(c, 0);
    if (a != NULL) {
      sim_write(a, 100, 100, 1);
    }
  }
  sim_run(&s, 2 * QE_SECOND);
  if (s.stuck) {
    abort();
  }
  sim_free(&s);
  return 0;
}
