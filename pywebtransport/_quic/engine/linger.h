/*
 * linger.h - what stays of a connection after its end: its connection IDs and,
 * when we closed it, the CONNECTION_CLOSE packet to repeat for a peer that has
 * not heard of it.  RFC 9000 section 10.2.
 */
#ifndef QE_LINGER_H
#define QE_LINGER_H

#include "batch.h"
#include "cidmap.h"
#include "conn.h"
#include "internal.h"

#define QE_LINGER_MAX 10000 /* per engine; the oldest goes first */

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
  qe_cidmap *cids;   /* where their connection IDs are */
  qe_timers *timers; /* when each is forgotten */
  qe_batch *batch;   /* where their packets go */
  qe_linger *oldest, *newest;
  size_t count;
} qe_linger_list;

void qe_linger_init(qe_linger_list *list, qe_cidmap *cids, qe_timers *timers, qe_batch *batch);
/* Takes the connection IDs over (in the map too).  Without memory the
 * IDs are just removed. */
void qe_linger_add(qe_linger_list *list, const qe_keys *cids, const ngtcp2_path *path,
                   const uint8_t *packet, size_t packet_len, qe_tstamp until);
void qe_linger_on_packet(qe_linger_list *list, qe_linger *l, const ngtcp2_path *path);
void qe_linger_remove(qe_linger_list *list, qe_linger *l);
void qe_linger_clear(qe_linger_list *list);

#endif
