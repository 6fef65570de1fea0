/*
 * stream.h - one stream: its send buffer, its receive counters, and the work that must wait until
 * no library call is on the stack.
 */
#ifndef QE_STREAM_H
#define QE_STREAM_H

#include "internal.h"
#include "sched.h"
#include "sendbuf.h"

struct qe_stream {
  qe_sched_node node; /* first member */
  qe_conn *conn;
  void *user;
  int64_t id;

  qe_stream *hash_next, **hash_link;     /* in the connection's map */
  qe_stream *work_next;                  /* in the connection's work list */
  qe_stream *member_next, **member_link; /* in its group */
  qe_stream *stop_prev, *stop_next;      /* in the connection's list of stopped ones */
  qe_stream *held_next, **held_link;     /* among the streams of one hold */

  qe_sendbuf out;
  uint64_t counted; /* of its queued bytes, in the sum of the connection */
  uint64_t reliable_size;
  uint64_t reset_code, stop_code, peer_stop_code;
  qe_tstamp stop_deadline; /* after STOP_SENDING: wait until then for the peer to end the stream */

  uint64_t received; /* bytes given to the user, or skipped */
  uint64_t consumed; /* never above received */
  uint64_t handed;   /* bytes given to the user */
  uint64_t returned; /* credit returned for these */

  qe_group *group;
  uint64_t send_header, recv_header;

  uint64_t in_flight_at; /* acknowledged bytes at the last look of pathmtu.c; or QE_NEVER */

  unsigned can_send : 1;
  unsigned can_recv : 1;
  unsigned remote : 1;
  /* sending */
  unsigned fin_queued : 1;
  unsigned fin_sent : 1;
  unsigned fin_alone : 1; /* the FIN was sent in a frame without data */
  unsigned fin_acked : 1;
  unsigned reset_wanted : 1;
  unsigned reset_sent : 1;
  unsigned stopped : 1; /* STOP_SENDING received */
  unsigned flow_blocked : 1;
  unsigned group_blocked : 1;
  unsigned above_low : 1;
  unsigned reset_held : 1; /* see hold.h; these two are set only with held_link */
  unsigned stop_held : 1;
  unsigned has_hold : 1; /* other streams wait for the end of this one */
  /* receiving */
  unsigned fin_received : 1;
  unsigned reset_received : 1;
  unsigned stop_wanted : 1;
  unsigned stop_sent : 1;
  unsigned in_stops : 1;
  unsigned gave_up : 1; /* stop_deadline passed */
  /* life */
  unsigned lib_gone : 1; /* the library has forgotten it */
  unsigned known : 1;    /* the user has the handle */
  unsigned in_work : 1;
  unsigned ev_stopped : 1;
  unsigned has_stop_code : 1;
  unsigned ev_acked : 1;
  unsigned ev_writable : 1;
};

/* Streams of a connection by ID. */
typedef struct qe_stream_map {
  qe_stream **buckets;
  size_t nbuckets, size;
} qe_stream_map;

qe_stream *qe_stream_map_get(const qe_stream_map *m, int64_t id);
int qe_stream_map_reserve(qe_stream_map *m, size_t n);
void qe_stream_map_add(qe_stream_map *m, qe_stream *s);
void qe_stream_map_remove(qe_stream_map *m, qe_stream *s);
void qe_stream_map_free(qe_stream_map *m);

/* Returns NULL when out of memory. The stream is not in the map yet. */
qe_stream *qe_stream_new(qe_conn *c);
/* Reserves room for one more stream in all tables of the connection. */
int qe_stream_prepare(qe_conn *c);
/* Adds a new stream to the map under its ID. */
void qe_stream_enter(qe_stream *s, int64_t id, void *user);
/* Releases the chunks, calls stream_closed (if report = 1) and frees the stream. */
void qe_stream_destroy(qe_stream *s, int report);

/* Gets the next bytes for a packet. Returns the number of vectors; sets *total to the number of
 * bytes, and *fin if they are the last. Sets group_blocked if only the credit of the group is
 * missing. */
size_t qe_stream_peek(qe_stream *s, uint64_t limit, ngtcp2_vec *vec, size_t max, size_t *total,
                      int *fin);
/* Records that n of the peeked bytes, and the FIN if fin, are in a packet. */
void qe_stream_sent(qe_stream *s, size_t n, int fin);
/* Puts the stream into the schedule or takes it out, depending on its state. */
void qe_stream_reschedule(qe_stream *s);

/* From the library's callbacks and the STOP_SENDING scan. */
void qe_stream_on_acked(qe_stream *s, uint64_t offset, uint64_t len);
void qe_stream_on_closed(qe_stream *s);
void qe_stream_on_stop_sending(qe_stream *s, uint64_t code, int has_code);
int qe_stream_on_data(qe_stream *s, const uint8_t *data, size_t len, int fin);
void qe_stream_on_reset(qe_stream *s, uint64_t code, uint64_t final_size);

/* Gives up on stopped streams whose deadline has passed. */
void qe_conn_expire_stops(qe_conn *c, qe_tstamp now);
/* When qe_conn_expire_stops must be called; QE_NEVER if no stream waits. */
qe_tstamp qe_conn_next_stop(const qe_conn *c);

/* Queues the stream for resets, stops and upcalls that have to wait. */
void qe_stream_add_work(qe_stream *s);
void qe_conn_run_work(qe_conn *c);

#endif
