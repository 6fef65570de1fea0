/*
 * ratelimit.h - token buckets, single ones and one per address.
 */
#ifndef QE_RATELIMIT_H
#define QE_RATELIMIT_H

#include <sys/socket.h>

#include "quicengine.h"

typedef struct qe_bucket {
  double tokens;
  double rate, burst; /* tokens per second; largest number of tokens */
  qe_tstamp last;     /* when `tokens` was last updated */
} qe_bucket;

/* The bucket starts full. */
void qe_bucket_init(qe_bucket *b, double per_second, double burst);
/* Takes one token. Returns 1, or 0 if there is none now. */
int qe_bucket_take(qe_bucket *b, qe_tstamp now);

/* Puts tokens back. */
void qe_bucket_give(qe_bucket *b, double tokens);

/*
 * One bucket per address prefix (see qe_addr_prefix). The memory is fixed: if there are too many
 * addresses, the one that was idle longest is dropped and starts again with a full bucket.
 */
typedef struct qe_addrlimit qe_addrlimit;

int qe_addrlimit_new(qe_addrlimit **out, double per_second, double burst);
void qe_addrlimit_free(qe_addrlimit *l);
int qe_addrlimit_take(qe_addrlimit *l, const struct sockaddr *addr, qe_tstamp now);

#endif
