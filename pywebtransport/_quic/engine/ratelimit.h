/*
 * ratelimit.h - token buckets, alone and per address.
 */
#ifndef QE_RATELIMIT_H
#define QE_RATELIMIT_H

#include <sys/socket.h>

#include "quicengine.h"

typedef struct qe_bucket {
  double tokens;
  double rate, burst; /* tokens per second; most that can be saved up */
  qe_tstamp last;     /* when tokens was brought up to date */
} qe_bucket;

/* Starts full. */
void qe_bucket_init(qe_bucket *b, double per_second, double burst);
/* Takes one token: 1 = allowed, 0 = not now. */
int qe_bucket_take(qe_bucket *b, qe_tstamp now);

/* Gives some back. */
void qe_bucket_give(qe_bucket *b, double tokens);

/*
 * One bucket per address, as qe_addr_prefix tells them apart.
 * The memory is fixed: under pressure the address that was idle longest is
 * forgotten and would start anew.
 */
typedef struct qe_addrlimit qe_addrlimit;

int qe_addrlimit_new(qe_addrlimit **out, double per_second, double burst);
void qe_addrlimit_free(qe_addrlimit *l);
int qe_addrlimit_take(qe_addrlimit *l, const struct sockaddr *addr, qe_tstamp now);

#endif
