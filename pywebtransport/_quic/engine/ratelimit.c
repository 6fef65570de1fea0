#include "ratelimit.h"

#include <stdlib.h>
#include <string.h>

#include "addrcount.h"
#include "siphash.h"

/* 1024 x 8 entries of 24 bytes: 192 KiB, thousands of active addresses. */
#define SETS 1024
#define WAYS 8

typedef struct entry {
  uint64_t tag; /* hash of the address; 0 = free */
  double tokens;
  qe_tstamp last;
} entry;

struct qe_addrlimit {
  qe_sipkey key;
  double rate, burst;
  entry entries[SETS][WAYS];
};

static int take(double *tokens, double rate, double burst, qe_tstamp *last, qe_tstamp now) {
  if (now > *last) {
    *tokens += (double)(now - *last) * rate / (double)QE_SECOND;
    if (*tokens > burst) {
      *tokens = burst;
    }
    *last = now;
  }
  /* Allow for rounding: ten times a tenth is a little less than one. */
  if (*tokens < 1 - 1e-9) {
    return 0;
  }
  *tokens -= 1;
  return 1;
}

void qe_bucket_init(qe_bucket *b, double per_second, double burst) {
  b->tokens = burst;
  b->rate = per_second;
  b->burst = burst;
  b->last = 0;
}

int qe_bucket_take(qe_bucket *b, qe_tstamp now) {
  return take(&b->tokens, b->rate, b->burst, &b->last, now);
}

void qe_bucket_give(qe_bucket *b, double tokens) {
  b->tokens += tokens;
  if (b->tokens > b->burst) {
    b->tokens = b->burst;
  }
}

int qe_addrlimit_new(qe_addrlimit **out, double per_second, double burst) {
  qe_addrlimit *l = calloc(1, sizeof(*l));
  if (l == NULL) {
    return QE_ERR_NOMEM;
  }
  int rv = qe_sipkey_init(&l->key);
  if (rv != 0) {
    free(l);
    return rv;
  }
  l->rate = per_second;
  l->burst = burst;
  *out = l;
  return 0;
}

void qe_addrlimit_free(qe_addrlimit *l) {
  free(l);
}

int qe_addrlimit_take(qe_addrlimit *l, const struct sockaddr *addr, qe_tstamp now) {
  uint8_t prefix[QE_ADDR_PREFIX];
  size_t len = qe_addr_prefix(addr, prefix);
  uint64_t tag = qe_siphash(&l->key, prefix, len);
  entry *set = l->entries[tag % SETS];
  entry *oldest = &set[0];

  tag |= 1; /* never 0; the set is chosen already */
  for (int i = 0; i < WAYS; i++) {
    if (set[i].tag == tag) {
      return take(&set[i].tokens, l->rate, l->burst, &set[i].last, now);
    }
    if (oldest->tag != 0 && (set[i].tag == 0 || set[i].last < oldest->last)) {
      oldest = &set[i];
    }
  }
  oldest->tag = tag;
  oldest->tokens = l->burst;
  oldest->last = now;
  return take(&oldest->tokens, l->rate, l->burst, &oldest->last, now);
}
