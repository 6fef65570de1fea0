/*
 * dgram.h - outgoing datagrams of one connection: a queue per priority with an age limit per
 * datagram, and a log that counts every sent datagram exactly once, as acked or lost.
 */
#ifndef QE_DGRAM_H
#define QE_DGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "pool.h"
#include "quicengine.h"

#define QE_DGRAM_PRIORITIES 3

/* What became of a datagram. */
enum qe_dgram_fate { QE_DGRAM_SENT, QE_DGRAM_DROPPED, QE_DGRAM_EXPIRED };

typedef struct qe_dgram {
  struct qe_dgram *next;
  qe_group *group; /* may be NULL */
  qe_tstamp deadline;
  size_t len;
  uint8_t data[];
} qe_dgram;

typedef struct qe_dgram_queue {
  qe_pool *pool;
  qe_dgram *head[QE_DGRAM_PRIORITIES], *tail[QE_DGRAM_PRIORITIES];
  size_t count, bytes;
  size_t max_count, max_bytes;
  qe_tstamp first_deadline; /* no datagram expires earlier; a lower bound */
  int refused;              /* a push was refused since the queue was last half empty */
} qe_dgram_queue;

/* Called for every datagram that is removed from the queue without being sent. */
typedef void (*qe_dgram_gone)(void *ctx, const qe_dgram *d, enum qe_dgram_fate fate);

/* pool: where datagrams are allocated. */
void qe_dgram_queue_init(qe_dgram_queue *q, qe_pool *pool, size_t max_count, size_t max_bytes);
/* Copies prefix and data into one datagram. Removes expired datagrams first if the queue is
 * full. Returns 0, QE_ERR_BLOCKED or QE_ERR_NOMEM. */
int qe_dgram_push(qe_dgram_queue *q, qe_group *group, const uint8_t *prefix, size_t prefix_len,
                  const uint8_t *data, size_t len, int priority, qe_tstamp deadline, qe_tstamp now,
                  qe_dgram_gone gone, void *ctx);
/* The next datagram to send, by priority and then age; NULL if there is none. Drops datagrams
 * that have expired or are longer than max_len. */
qe_dgram *qe_dgram_peek(qe_dgram_queue *q, size_t max_len, qe_tstamp now, qe_dgram_gone gone,
                        void *ctx);
/* Removes and frees the datagram that peek returned. */
void qe_dgram_pop(qe_dgram_queue *q);
/* Removes the datagrams of group, or every datagram if all = 1, and reports each as dropped.
 * Returns how many were removed. */
size_t qe_dgram_clear(qe_dgram_queue *q, const qe_group *group, int all, qe_dgram_gone gone,
                      void *ctx);
/* Clears the group of queued datagrams that belong to it. */
void qe_dgram_orphan(qe_dgram_queue *q, const qe_group *group);
/* Returns 1 once when the queue is half empty after a refused push. */
int qe_dgram_take_writable(qe_dgram_queue *q);

/*
 * Sent datagrams. The library may report a packet as lost and later as acked. A bit per recent
 * datagram makes only the first report count. The bits are allocated at the first loss.
 */
#define QE_DGRAM_WINDOW 65536

/* The ID of a sent datagram in the library: the slot of its group in the upper 16 bits, the
 * QE_DGRAM_LARGE bit, and its number. */
#define QE_DGRAM_LARGE (UINT64_C(1) << 47)
#define QE_DGRAM_SEQ (QE_DGRAM_LARGE - 1)
/* The least overhead (headers and tag) of a packet with one datagram. */
#define QE_DGRAM_LARGE_OVERHEAD (1 + 1 + 2 + 1 + 16)

typedef struct qe_dgram_log {
  uint64_t next_seq;
  uint8_t *lost; /* QE_DGRAM_WINDOW bits by seq, or NULL */
} qe_dgram_log;

void qe_dgram_log_init(qe_dgram_log *l);
void qe_dgram_log_free(qe_dgram_log *l);
/* Returns the number of a new datagram. */
uint64_t qe_dgram_log_sent(qe_dgram_log *l);
/* Returns 1 if this is the first report about seq. */
int qe_dgram_log_lost(qe_dgram_log *l, uint64_t seq);
int qe_dgram_log_acked(const qe_dgram_log *l, uint64_t seq);

#endif
