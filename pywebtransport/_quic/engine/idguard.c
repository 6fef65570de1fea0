#include "idguard.h"

#include <string.h>

#define WINDOW 64
#define SENT_MAX (sizeof(((qe_idguard *)0)->sent) / sizeof(((qe_idguard *)0)->sent[0]))

void qe_idguard_init(qe_idguard *g, uint64_t given, int64_t packet) {
  memset(g, 0, sizeof(*g));
  for (uint64_t id = 0; id <= given && g->n < QE_IDS_MAX; id++) {
    g->ids[g->n++] = id;
  }
  g->largest = packet;
  g->window = UINT64_MAX;
}

int qe_idguard_received(qe_idguard *g, int64_t packet) {
  if (packet > g->largest) {
    uint64_t step = (uint64_t)(packet - g->largest);
    g->window = step < WINDOW ? g->window << step | 1 : 1;
    g->largest = packet;
    return 1;
  }
  uint64_t age = (uint64_t)(g->largest - packet);
  if (age >= WINDOW || (g->window & (uint64_t)1 << age) != 0) {
    return 0;
  }
  g->window |= (uint64_t)1 << age;
  return 1;
}

int qe_idguard_given(qe_idguard *g, uint64_t given, uint64_t id) {
  if (id <= given) {
    return 0;
  }
  if (id - given > QE_IDS_MAX - g->n) {
    return -1;
  }
  while (given < id) {
    g->ids[g->n++] = ++given;
  }
  return 0;
}

void qe_idguard_retires(qe_idguard *g, uint64_t id, int64_t packet) {
  size_t at = g->nsent++ % SENT_MAX;
  g->sent[at].id = id;
  g->sent[at].packet = packet;
}

static void release(qe_idguard *g, uint64_t id) {
  for (size_t i = 0; i < g->n; i++) {
    if (g->ids[i] == id) {
      g->ids[i] = g->ids[--g->n];
      return;
    }
  }
}

void qe_idguard_acked(qe_idguard *g, int64_t first, int64_t last) {
  size_t n = g->nsent < SENT_MAX ? g->nsent : SENT_MAX;
  for (size_t i = 0; i < n; i++) {
    if (g->sent[i].packet >= first && g->sent[i].packet <= last) {
      release(g, g->sent[i].id);
    }
  }
}
