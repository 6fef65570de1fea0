/*
 * dgram.h - outgoing datagrams of one connection: a queue per priority, with
 * an age limit per datagram, and the memory that is needed to count every sent
 * one exactly once as acked or lost.
 */
#ifndef QE_DGRAM_H
#define QE_DGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "quicengine.h"

#define QE_DGRAM_PRIORITIES 3

/* Fates of a datagram; also the index of a counter. */
enum qe_dgram_fate { QE_DGRAM_SENT, QE_DGRAM_DROPPED, QE_DGRAM_EXPIRED };

typedef struct qe_dgram {
  struct qe_dgram *next;
  qe_group *group; /* may be NULL */
  qe_tstamp deadline;
  size_t len;
  uint8_t data[];
} qe_dgram;

typedef struct qe_dgram_queue {
  qe_dgram *head[QE_DGRAM_PRIORITIES], *tail[QE_DGRAM_PRIORITIES];
  size_t count, bytes;
  size_t max_count, max_bytes;
  qe_tstamp first_deadline; /* none is earlier; may be earlier than all */
  int refused;              /* a push was refused since the queue was last half empty */
} qe_dgram_queue;

/* Told about every datagram that leaves the queue unsent. */
typedef void (*qe_dgram_gone)(void *ctx, const qe_dgram *d, enum qe_dgram_fate fate);

void qe_dgram_queue_init(qe_dgram_queue *q, size_t max_count, size_t max_bytes);
/* Prefix and data are copied behind each other.  0, QE_ERR_BLOCKED or
 * QE_ERR_NOMEM.  Expired ones make room first. */
int qe_dgram_push(qe_dgram_queue *q, qe_group *group, const uint8_t *prefix, size_t prefix_len,
                  const uint8_t *data, size_t len, int priority, qe_tstamp deadline, qe_tstamp now,
                  qe_dgram_gone gone, void *ctx);
/* The next to send: highest priority first, oldest first.  Drops expired and
 * (max_len) oversized ones on the way.  NULL when empty. */
qe_dgram *qe_dgram_peek(qe_dgram_queue *q, size_t max_len, qe_tstamp now, qe_dgram_gone gone,
                        void *ctx);
/* Removes and frees what peek returned. */
void qe_dgram_pop(qe_dgram_queue *q);
/* Removes those of group, or all with all = 1; each is reported as dropped.
 * Returns how many. */
size_t qe_dgram_clear(qe_dgram_queue *q, const qe_group *group, int all, qe_dgram_gone gone,
                      void *ctx);
/* Forgets the group in what is queued. */
void qe_dgram_orphan(qe_dgram_queue *q, const qe_group *group);
/* 1 once when the queue is half empty after a refused push. */
int qe_dgram_take_writable(qe_dgram_queue *q);

/*
 * Sent datagrams.  The library may report one packet first as lost and later
 * as acked; a bit per recent datagram makes the first report the only one.
 * The bits are allocated at the first loss.
 */
#define QE_DGRAM_WINDOW 65536

/* What the library knows a sent datagram by: the slot of its group in the upper 16
 * bits, a mark, and its number. */
#define QE_DGRAM_LARGE (UINT64_C(1) << 47)
#define QE_DGRAM_SEQ (QE_DGRAM_LARGE - 1)
/* Headers and tag around a datagram that is alone in its packet, at least. */
#define QE_DGRAM_LARGE_OVERHEAD (1 + 1 + 2 + 1 + 16)

typedef struct qe_dgram_log {
  uint64_t next_seq;
  uint8_t *lost; /* QE_DGRAM_WINDOW bits by seq, or NULL */
} qe_dgram_log;

void qe_dgram_log_init(qe_dgram_log *l);
void qe_dgram_log_free(qe_dgram_log *l);
/* The number of a new datagram. */
uint64_t qe_dgram_log_sent(qe_dgram_log *l);
/* 1 when this is the first report about seq. */
int qe_dgram_log_lost(qe_dgram_log *l, uint64_t seq);
int qe_dgram_log_acked(const qe_dgram_log *l, uint64_t seq);

#endif
