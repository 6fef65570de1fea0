/*
 * engine.h - one endpoint: connections by connection ID, timers, the list of connections to visit,
 * and outgoing batches.
 */
#ifndef QE_ENGINE_H
#define QE_ENGINE_H

#include "batch.h"
#include "cidmap.h"
#include "cipher.h"
#include "conn.h"
#include "internal.h"
#include "libmem.h"
#include "linger.h"
#include "pool.h"
#include "ratelimit.h"
#include "secrets.h"
#include "steer.h"

/* Least time between two calls of qe_engine_process for timers: event loops are no finer. */
#define QE_TICK_FLOOR (QE_MILLISECOND / 2)
/* Delay before the next try after running out of memory for packets. */
#define QE_STARVED_PAUSE (20 * QE_MILLISECOND)

typedef struct qe_sock_entry {
  qe_sock *sock;
  uintptr_t id; /* never reused */
} qe_sock_entry;

struct qe_engine {
  qe_settings set;
  qe_callbacks cb;
  void *user;
  qe_tls *tls;

  qe_tstamp now; /* latest time seen */
  qe_tstamp last_process;
  uint64_t wall_offset; /* wall clock - now, for tokens */
  int has_wall_offset;

  qe_secrets secrets;
  qe_steer steer;
  qe_cipher_pool ciphers;
  qe_scratch scratch;
  qe_cidmap cids;   /* connection ID -> qe_target */
  qe_cidmap tokens; /* stateless reset token of a peer -> qe_conn */
  qe_timers timers;
  qe_conn *conns;
  qe_conn *dirty_head, *dirty_tail;
  size_t dirty_count;
  qe_linger_list lingers;
  qe_batch batch;

  qe_sock_entry *socks;
  size_t sock_count;
  uintptr_t next_sock_id;

  qe_chunk *released; /* pinned buffers to release, copies to free */
  unsigned upcalls;   /* depth */
  qe_tstamp until;    /* see qe_engine_set_until */
  int stop_accepting;
  int dying;

  uint64_t queued_bytes; /* of the streams of all connections */

  qe_bucket stateless; /* resets, Version Negotiation, refusals */
  qe_bucket refusals;  /* an extra limit on the last two: they cost more, and must leave room for
                          resets */
  qe_addrlimit *addresses;
  qe_cidmap clients; /* address prefix -> qe_addrcount */
  uint16_t pmtud_probes[2];
  uint8_t *greeting; /* see greeting.h */
  size_t greeting_len;

  qe_pool pool;

  qe_engine_stats stats;
};

/* The current time, which never goes backwards. */
static inline qe_tstamp qe_engine_clock(qe_engine *e, qe_tstamp now) {
  if (now > e->now) {
    e->now = now;
  }
  return e->now;
}

uintptr_t qe_engine_sock_id(const qe_engine *e, const qe_sock *s);
qe_sock *qe_engine_sock(const qe_engine *e, uintptr_t id);
/* Makes a new local connection ID. Returns 0 or an error. */
int qe_engine_new_cid(qe_engine *e, ngtcp2_cid *cid, size_t len);
/* Releases the buffers in e->released. */
void qe_engine_release(qe_engine *e);
/* Wall-clock time in nanoseconds, derived from now; for tokens only. */
uint64_t qe_engine_wall(qe_engine *e, qe_tstamp now);

#endif
