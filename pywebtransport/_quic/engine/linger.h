/*
 * linger.h - what is kept of a connection after its end: its connection IDs and, if we closed it,
 * the CONNECTION_CLOSE packet, to repeat it for a peer that has not received it (RFC 9000 section
 * 10.2).
 */
#ifndef QE_LINGER_H
#define QE_LINGER_H

#include "batch.h"
#include "cidmap.h"
#include "conn.h"
#include "internal.h"

#define QE_LINGER_MAX 10000 /* per engine; the oldest is dropped first */

typedef struct qe_linger {
  qe_target target; /* first member */
  struct qe_linger *prev, *next;
  ngtcp2_path_storage path;
  uint64_t received; /* packets since the end */
  size_t cid_count;
  size_t packet_len; /* 0: draining, never sends */
  uint8_t data[];    /* cid_count * (1 + 20) bytes, then the packet */
} qe_linger;

typedef struct qe_linger_list {
  qe_cidmap *cids;   /* the map of their connection IDs */
  qe_timers *timers; /* when each is dropped */
  qe_batch *batch;   /* sends their packets */
  qe_linger *oldest, *newest;
  size_t count;
} qe_linger_list;

void qe_linger_init(qe_linger_list *list, qe_cidmap *cids, qe_timers *timers, qe_batch *batch);
/* Takes over the connection IDs, in the map too. When out of memory, removes the IDs instead. */
void qe_linger_add(qe_linger_list *list, const qe_keys *cids, const ngtcp2_path *path,
                   const uint8_t *packet, size_t packet_len, qe_tstamp until);
void qe_linger_on_packet(qe_linger_list *list, qe_linger *l, const ngtcp2_path *path);
void qe_linger_remove(qe_linger_list *list, qe_linger *l);
void qe_linger_clear(qe_linger_list *list);

#endif
