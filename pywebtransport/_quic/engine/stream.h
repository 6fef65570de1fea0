/*
 * stream.h - one stream: its send buffer, what was delivered, and the work
 * that waits until no library call is on the stack.
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
  qe_stream *held_next, **held_link;     /* among those that wait for one stream's end */

  qe_sendbuf out;
  uint64_t counted; /* of its queued bytes, in the sum of the connection */
  uint64_t reliable_size;
  uint64_t reset_code, stop_code, peer_stop_code;
  qe_tstamp stop_deadline; /* after STOP_SENDING: wait for the peer's end until then */

  uint64_t received; /* bytes handed up, or given up on */
  uint64_t consumed; /* never above received */
  uint64_t handed;   /* bytes handed up */
  uint64_t returned; /* of those, credit given back */

  qe_group *group;
  uint64_t send_header, recv_header;

  uint64_t in_flight_at; /* acknowledged bytes when the path was last looked at; or QE_NEVER */

  unsigned can_send : 1;
  unsigned can_recv : 1;
  unsigned remote : 1;
  /* sending */
  unsigned fin_queued : 1;
  unsigned fin_sent : 1;
  unsigned fin_alone : 1; /* the FIN went in a frame without data */
  unsigned fin_acked : 1;
  unsigned reset_wanted : 1;
  unsigned reset_sent : 1;
  unsigned stopped : 1; /* STOP_SENDING received */
  unsigned flow_blocked : 1;
  unsigned group_blocked : 1;
  unsigned above_low : 1;
  unsigned reset_held : 1; /* see hold.h; these two need held_link */
  unsigned stop_held : 1;
  unsigned has_hold : 1; /* others wait for the end of this one */
  /* receiving */
  unsigned fin_received : 1;
  unsigned reset_received : 1;
  unsigned stop_wanted : 1;
  unsigned stop_sent : 1;
  unsigned in_stops : 1;
  unsigned gave_up : 1; /* the peer's end never came */
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

/* NULL when out of memory; not in the map yet. */
qe_stream *qe_stream_new(qe_conn *c);
/* Room for one more stream in all tables of the connection. */
int qe_stream_prepare(qe_conn *c);
/* Enters a new stream under its ID. */
void qe_stream_enter(qe_stream *s, int64_t id, void *user);
/* Releases its chunks, tells stream_closed (report = 1) and frees it. */
void qe_stream_destroy(qe_stream *s, int report);

/* The next bytes for a packet.  Returns the vectors used; *total bytes, *fin
 * when they are the last.  group_blocked is set when only credit is missing. */
size_t qe_stream_peek(qe_stream *s, uint64_t limit, ngtcp2_vec *vec, size_t max, size_t *total,
                      int *fin);
/* n of the peeked bytes, and the FIN if fin, are in a packet. */
void qe_stream_sent(qe_stream *s, size_t n, int fin);
/* Puts the stream into the schedule or takes it out, as its state asks. */
void qe_stream_reschedule(qe_stream *s);

/* From the library's callbacks and the STOP_SENDING scan. */
void qe_stream_on_acked(qe_stream *s, uint64_t offset, uint64_t len);
void qe_stream_on_closed(qe_stream *s);
void qe_stream_on_stop_sending(qe_stream *s, uint64_t code, int has_code);
int qe_stream_on_data(qe_stream *s, const uint8_t *data, size_t len, int fin);
void qe_stream_on_reset(qe_stream *s, uint64_t code, uint64_t final_size);

/* Gives up on stopped streams whose deadline has passed. */
void qe_conn_expire_stops(qe_conn *c, qe_tstamp now);
/* When qe_conn_expire_stops has work; QE_NEVER if none is waiting. */
qe_tstamp qe_conn_next_stop(const qe_conn *c);

/* Resets, stops and upcalls that had to wait. */
void qe_stream_add_work(qe_stream *s);
void qe_conn_run_work(qe_conn *c);

#endif
