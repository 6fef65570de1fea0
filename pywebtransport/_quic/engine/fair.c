#include "fair.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS 64
#define COUNTERS 256
#define PROBES 16 /* counters in a row, one of which is the connection's */

typedef struct queue {
  const void *key;
  struct queue *chain; /* next in the same bucket */
  struct queue *next;  /* next in the round */
  qe_fair_packet *head, *tail;
  size_t bytes;
  unsigned packets;
  int credit; /* packets that it may still take in this round */
} queue;

struct qe_fair {
  queue *buckets[BUCKETS];
  queue *head, *tail; /* the round; no queue in it is empty */
  size_t bytes, packets;
  uint64_t turn;
  struct counter {
    const void *key;
    uint64_t turn; /* in which it was taken; in any other turn it is free */
    unsigned used;
  } counters[COUNTERS];
};

qe_fair *qe_fair_new(void) {
  qe_fair *f = calloc(1, sizeof(*f));
  if (f != NULL) {
    f->turn = 1;
  }
  return f;
}

void qe_fair_free(qe_fair *f) {
  qe_fair_packet *p;

  if (f == NULL) {
    return;
  }
  while ((p = qe_fair_take(f)) != NULL) {
    free(p);
  }
  free(f);
}

void qe_fair_begin_turn(qe_fair *f) {
  f->turn++;
}

/* Keys are pointers of this process, so peers cannot choose them. */
static size_t hash(const void *key) {
  uint64_t x = (uint64_t)(uintptr_t)key * UINT64_C(0x9e3779b97f4a7c15);
  return (size_t)(x >> 48);
}

static queue **place_of(const qe_fair *f, const void *key) {
  queue **at = (queue **)&f->buckets[hash(key) % BUCKETS];
  while (*at != NULL && (*at)->key != key) {
    at = &(*at)->chain;
  }
  return at;
}

bool qe_fair_waits(const qe_fair *f, const void *key) {
  return f->packets > 0 && *place_of(f, key) != NULL;
}

/* The counter of a connection in this turn.  If PROBES connections with neighbouring hashes take
 * part in one turn, the next one shares the last counter: some of its packets then wait, in their
 * order, for the end of the turn although it is within its quota. */
static struct counter *counter_of(qe_fair *f, const void *key) {
  struct counter *c = NULL;

  for (size_t i = hash(key), end = i + PROBES; i < end; i++) {
    c = &f->counters[i % COUNTERS];
    if (c->turn != f->turn) {
      *c = (struct counter){.key = key, .turn = f->turn};
      return c;
    }
    if (c->key == key) {
      return c;
    }
  }
  return c;
}

bool qe_fair_admit(qe_fair *f, const void *key, unsigned count) {
  struct counter *c = counter_of(f, key);

  if (c->used + count > QE_FAIR_QUOTA) {
    return false;
  }
  c->used += count;
  return true;
}

static size_t cost(const qe_fair_packet *p) {
  return sizeof(*p) + p->len;
}

static void append(qe_fair *f, queue *q) {
  q->next = NULL;
  *(f->tail != NULL ? &f->tail->next : &f->head) = q;
  f->tail = q;
}

static queue *add_queue(qe_fair *f, queue **at, const void *key) {
  queue *q = calloc(1, sizeof(*q));
  if (q == NULL) {
    return NULL;
  }
  q->key = key;
  q->credit = QE_FAIR_QUOTA;
  *at = q;
  append(f, q);
  return q;
}

bool qe_fair_put(qe_fair *f, const void *key, const qe_fair_packet *head, const uint8_t *data) {
  queue **at = place_of(f, key);
  queue *q = *at;
  size_t bytes = cost(head);

  /* A connection may hold as many bytes as are free: one connection at most half of all, two a
   * third each, and so on. So there is room left for another connection, however many there are. */
  if ((q == NULL ? 0 : q->bytes) + bytes > QE_FAIR_MAX_BYTES - f->bytes ||
      (q == NULL ? 0 : q->packets) + head->count > QE_FAIR_MAX_PACKETS) {
    return false;
  }
  qe_fair_packet *p = malloc(bytes);
  if (p == NULL) {
    return false;
  }
  if (q == NULL && (q = add_queue(f, at, key)) == NULL) {
    free(p);
    return false;
  }
  memcpy(p, head, sizeof(*p));
  memcpy(p->data, data, head->len);
  p->next = NULL;
  *(q->tail != NULL ? &q->tail->next : &q->head) = p;
  q->tail = p;
  q->bytes += bytes;
  q->packets += p->count;
  f->bytes += bytes;
  f->packets += p->count;
  return true;
}

static void next_in_round(qe_fair *f) {
  f->head = f->head->next;
  if (f->head == NULL) {
    f->tail = NULL;
  }
}

qe_fair_packet *qe_fair_take(qe_fair *f) {
  /* This loop ends: each round adds credit, and the number of packets in a train is limited. */
  while (f->head != NULL && f->head->credit <= 0) {
    queue *q = f->head;
    q->credit += QE_FAIR_QUOTA;
    next_in_round(f);
    append(f, q);
  }
  queue *q = f->head;
  if (q == NULL) {
    return NULL;
  }
  qe_fair_packet *p = q->head;
  size_t bytes = cost(p);
  q->head = p->next;
  q->credit -= (int)p->count;
  q->bytes -= bytes;
  q->packets -= p->count;
  f->bytes -= bytes;
  f->packets -= p->count;
  if (q->head == NULL) {
    queue **at = place_of(f, q->key);
    *at = q->chain;
    next_in_round(f);
    free(q);
  }
  return p;
}

size_t qe_fair_packets(const qe_fair *f) {
  return f == NULL ? 0 : f->packets;
}
