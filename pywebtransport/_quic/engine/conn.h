/*
 * conn.h - one QUIC connection, a wrapper around the library's ngtcp2_conn.
 *
 * conn.c: creating and ending; conn_io.c: reading, writing, timers; conn_callbacks.c: callbacks
 * from the library; conn_info.c: queries.
 */
#ifndef QE_CONN_H
#define QE_CONN_H

#include <gnutls/gnutls.h>

#include "cidmap.h"
#include "credit.h"
#include "dgram.h"
#include "group.h"
#include "idguard.h"
#include "internal.h"
#include "libmem.h"
#include "pathmtu.h"
#include "ratelimit.h"
#include "sched.h"
#include "stream.h"
#include "tls_after.h"
#include "tls_export.h"

/* Connection IDs that a peer may have issued at a time, as it is told; and how many more the
 * library accepts once paths change, see leave_room_for_ids(). */
#define QE_PEER_IDS 4
#define QE_PEER_IDS_SLACK 2

/* How a connection ends, once that is decided. */
typedef enum qe_end_mode {
  QE_END_NONE,
  QE_END_CLOSE,  /* send CONNECTION_CLOSE, then linger */
  QE_END_DRAIN,  /* the peer closed: linger without sending */
  QE_END_SILENT, /* send nothing and do not linger */
  QE_END_RETRY   /* server, first packet: send Retry instead of accepting */
} qe_end_mode;

/* Keys of this connection in one of the engine's maps: connection IDs or reset tokens. They are
 * listed here so that ending a connection allocates nothing. */
typedef struct qe_keys {
  struct {
    uint8_t len;
    uint8_t data[NGTCP2_MAX_CIDLEN];
  } *items;
  size_t n, cap;
} qe_keys;

/* Counters that the library does not keep; the meaning is that of qe_conn_stats. */
typedef struct qe_conn_counters {
  uint64_t bytes_sent, bytes_received, packets_sent, packets_received;
  uint64_t stream_bytes_sent, stream_bytes_received;
  uint64_t dgrams_sent, dgrams_received, dgrams_acked, dgrams_lost, dgrams_dropped, dgrams_expired;
  uint64_t streams_opened_local, streams_opened_remote;
  uint64_t resets_received, leftovers;
  uint64_t key_updates, mtu_falls;
} qe_conn_counters;

struct qe_conn {
  qe_target target; /* first member */
  qe_engine *engine;
  qe_conn *prev, *next;
  qe_conn *dirty_prev, *dirty_next;
  ngtcp2_conn *ng;
  gnutls_session_t tls; /* NULL when no longer needed */
  ngtcp2_crypto_conn_ref ref;
  void *user;

  unsigned is_dirty : 1;
  unsigned handshake_done : 1;
  unsigned reported : 1; /* the user knows the handle */
  unsigned is_server : 1;
  unsigned ev_streams_bidi : 1;
  unsigned ev_streams_uni : 1;
  unsigned ev_new_token : 1; /* server: give the peer a token for its new address */
  unsigned ev_path_failed : 1;
  unsigned ev_dgram_writable : 1; /* a blocked group has room again */
  unsigned got_stateless_reset : 1;
  unsigned out_of_memory : 1;
  unsigned dgram_turn : 1; /* if both wait, datagrams go first in the next packet */
  unsigned in_library : 1;
  unsigned past_handshake : 1; /* client: the library has left its handshake states */
  unsigned resumed : 1;
  unsigned is_moving : 1; /* the migration to c->moving is in progress */
  unsigned postponed : 1; /* see qe_conn_postpone */

  qe_end_mode end_mode;
  qe_close_info *end; /* NULL if it could not be allocated */
  uint64_t end_code;  /* a copy for CONNECTION_CLOSE, in case end is NULL */

  qe_sched sched;
  qe_stream_map streams;
  qe_stream *work_head, *work_tail;
  qe_stream *stops_head, *stops_tail; /* STOP_SENDING sent, awaiting the end; by deadline */
  struct qe_hold *holds;              /* streams whose resets are held back, see hold.h */
  qe_stream *doubtful; /* a reset unidirectional stream of the peer, see retire_orphan */
  qe_stream *greeting; /* server: not taken yet, see greeting.h */

  qe_group_table groups;
  qe_group *group_events;
  qe_dgram_queue dgrams;
  qe_dgram_log dgram_log;

  qe_libmem libmem;

  qe_bucket resets;
  qe_bucket challenges;   /* PATH_CHALLENGE frames that may be answered */
  qe_bucket leftovers;    /* ended streams that the library keeps as long as the connection */
  uint64_t paced_bytes;   /* sent since the library last computed a pacing delay */
  qe_tstamp last_event;   /* latest time given to the library */
  qe_tstamp postponed_at; /* for the first time, or 0 */

  struct qe_addrcount *address; /* server: the counts that include it, see addrcount.h */
  ngtcp2_path_storage path;     /* last reported */
  qe_pathmtu pathmtu;
  ngtcp2_path_storage *moving; /* client: target of the latest migration, or NULL */
  qe_keys cids;                /* ours, in engine->cids */
  uint64_t peer_ids;           /* largest sequence number among the peer's connection IDs */
  qe_idguard *idguard;         /* server: NULL until an ID of the peer may have to be retired */
  qe_keys tokens;              /* the peer's stateless reset tokens, in engine->tokens */
  uint8_t *peer_cert;          /* DER of the leaf */
  size_t peer_cert_len;
  qe_exporter exporter;
  qe_tls_after after; /* checks the peer's TLS messages after the handshake */
  char alpn[32];
  char *server_name;

  uint64_t handed_bytes, returned_bytes; /* stream bytes handed up, and those read */
  qe_credit credit;
  qe_stream_credit stream_credit[2]; /* of bidirectional and of unidirectional streams */
  qe_tstamp owed_until;              /* when the peer has to be told of it */
  uint64_t queued_bytes;             /* of all streams, not yet in a packet */
  qe_conn_counters stats;
};

/* Creates the connection; sends nothing yet. */
int qe_conn_new_client(qe_engine *e, qe_conn **out, const qe_connect_options *opt, uintptr_t sock,
                       qe_tstamp now);

typedef struct qe_accept_params {
  const ngtcp2_pkt_hd *hd;
  const ngtcp2_path *path;
  const ngtcp2_cid *original_dcid; /* the client's first choice */
  int after_retry;
  ngtcp2_token_type token_type; /* UNKNOWN: the token is not used */
} qe_accept_params;

int qe_conn_new_server(qe_engine *e, qe_conn **out, const qe_accept_params *p, qe_tstamp now);

/* Frees the connection without an upcall or a packet. */
void qe_conn_discard(qe_conn *c);
/* Ends the connection according to end_mode: sends the packet, lingers, makes the upcalls,
 * frees. */
void qe_conn_finish(qe_conn *c, qe_tstamp now);

/* Adds a key to the list and to the map. Returns 0 or QE_ERR_NOMEM. */
int qe_conn_add_key(qe_conn *c, qe_keys *keys, qe_cidmap *map, const uint8_t *key, size_t len);
void qe_conn_remove_key(qe_conn *c, qe_keys *keys, qe_cidmap *map, const uint8_t *key, size_t len);

/* Decides how the connection ends; later calls change nothing. */
void qe_conn_end(qe_conn *c, qe_end_mode mode, enum qe_close_kind kind, int remote, uint64_t code,
                 const void *reason, size_t reason_len);
void qe_conn_end_library(qe_conn *c, int liberr);
void qe_conn_end_excessive(qe_conn *c, const char *why);

/* Queues a visit by the next qe_engine_process, because there may be something to send. */
void qe_conn_touch(qe_conn *c);

void qe_conn_read(qe_conn *c, const ngtcp2_path *path, unsigned ecn, const uint8_t *data,
                  size_t len, qe_tstamp now);
/* Call this before every call that gives the library a new time: it tells the library about an
 * earlier pause that is over by now, which needs the previous time. */
void qe_conn_settle_pause(qe_conn *c, qe_tstamp now);
void qe_conn_expire(qe_conn *c, qe_tstamp now);
/* Visits the connection once. Returns 1 if the budget ran out; may free the connection. */
int qe_conn_service(qe_conn *c, qe_tstamp now);

/* conn_callbacks.c */
void qe_conn_fill_callbacks(ngtcp2_callbacks *cb, int is_server);
void qe_conn_settle_doubtful(qe_conn *c);
/* Frees the TLS session if nothing can need it any more: it is a quarter of the memory of an
 * idle connection. Do not call it from inside a library call. */
void qe_conn_drop_tls(qe_conn *c);
/* Sets the connection whose packet this thread is reading. */
void qe_conn_set_current(qe_conn *c);
void qe_conn_apply_stops(qe_conn *c);
/* Counts a received RESET_STREAM or STOP_SENDING. */
void qe_conn_count_reset(qe_conn *c);
/* Counts a stream that ended for the user but whose state the library never frees. */
void qe_conn_count_leftover(qe_conn *c);

/* A qe_dgram_gone function; ctx is the connection. */
void qe_conn_dgram_gone(void *ctx, const qe_dgram *d, enum qe_dgram_fate fate);
/* The largest DATAGRAM payload that fits into an empty packet now. */
size_t qe_conn_dgram_room(const qe_conn *c);

#endif
