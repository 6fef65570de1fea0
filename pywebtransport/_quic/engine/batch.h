/*
 * batch.h - outgoing packets on their way to packets_out: trains of equal-sized
 * packets in one arena that all connections of the engine share.
 */
#ifndef QE_BATCH_H
#define QE_BATCH_H

#include "internal.h"

#define QE_BATCH_TRAINS 16
#define QE_BATCH_SEGMENTS 64
#define QE_BATCH_TRAIN_BYTES 65507
#define QE_BATCH_MIN_ARENA ((size_t)131072)
#define QE_BATCH_MAX_ARENA ((size_t)1048576)

typedef struct qe_train {
  ngtcp2_path_storage path; /* user_data: socket number */
  size_t offset, len, segment;
  unsigned count;
  unsigned ecn;
  int closed; /* no more packets can be added */
} qe_train;

/* Where trains are sent and counted. */
typedef struct qe_outlet {
  qe_packets_out send; /* NULL: send through the sockets */
  void *send_ctx;
  qe_sock *(*sock)(const void *owner, uintptr_t id);
  const void *owner;
  qe_engine_stats *stats;
} qe_outlet;

typedef struct qe_batch {
  qe_outlet out;
  uint8_t *arena; /* NULL until the first packet */
  size_t cap, used;
  size_t want; /* the arena grows to this when it is empty */
  qe_train trains[QE_BATCH_TRAINS + 1];
  size_t n;
  int blocked; /* packets_out took less than it was given */
  int starved; /* out of memory for packets; cleared by the owner */
} qe_batch;

void qe_batch_init(qe_batch *b, qe_outlet out);
void qe_batch_free(qe_batch *b);

/* Returns room for one packet of up to len bytes, flushing first if necessary; NULL when blocked
 * or out of memory. */
uint8_t *qe_batch_reserve(qe_batch *b, size_t len);
/* Adds the first len reserved bytes as a packet. alone: do not combine it with others in a train
 * (path MTU probes). */
void qe_batch_commit(qe_batch *b, const ngtcp2_path *path, unsigned ecn, size_t len, int alone);
/* Reserves, copies and commits; drops the packet if there is no room. */
int qe_batch_put(qe_batch *b, const ngtcp2_path *path, unsigned ecn, const uint8_t *data,
                 size_t len);
void qe_batch_flush(qe_batch *b);

#endif
