/*
 * steer.h - which worker a packet belongs to, by its connection ID.
 *
 * An ID of ours begins with the number of its worker.  A client's own choice, in its first packets,
 * chooses a worker with the four bytes behind the first: a place (one of `places`), whose present
 * worker takes new clients, and if nobody sits there, one of all that do.  So a place whose worker
 * changes moves only its own clients.  The filter on the sockets follows the same rule.
 */
#ifndef QE_STEER_H
#define QE_STEER_H

#include "internal.h"

#define QE_MAX_WORKERS 256

typedef struct qe_steer {
  int self;        /* -1: this engine is no worker */
  int leaves;      /* it takes no new clients any more, whatever the tables say */
  int ends;        /* nobody will: all workers leave, and none follows */
  uint32_t places; /* 0: there are no others */
  uint32_t open_count;
  int16_t homes[QE_MAX_WORKERS]; /* the worker of a place that takes new clients, or -1 */
  uint8_t open[QE_MAX_WORKERS];  /* all of those, in order */
  uint8_t alive[QE_MAX_WORKERS]; /* the worker has connections, or may have some */
} qe_steer;

/* Workers 0..count - 1 are alive and take new clients. */
void qe_steer_init(qe_steer *s, int self, uint32_t count);

/* New tables; QE_ERR_INVALID, and no change, for sizes or numbers out of range. */
int qe_steer_set(qe_steer *s, const int16_t *homes, size_t places, const uint8_t *alive,
                 size_t alive_len, int ends);

/* This worker takes no new clients from now on.  Tables that do not know it yet change nothing. */
void qe_steer_leave(qe_steer *s);

/* Whether another worker takes new clients, or will.  Then one that leaves tells no client that
 * there is no place for it. */
int qe_steer_has_others(const qe_steer *s);

/* The other worker for a packet with an ID that this one does not know; -1: none, it is answered
 * here.  `handed`: another worker has followed the first byte already, so only a client's choice is
 * left to be judged. */
int qe_steer_owner(const qe_steer *s, const uint8_t *cid, size_t len, int long_header, int handed);

#endif
