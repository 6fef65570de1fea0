/*
 * group.h - credit and counters shared by the streams and datagrams of one session. Body bytes are
 * the bytes after the header of a stream.
 */
#ifndef QE_GROUP_H
#define QE_GROUP_H

#include "dgram.h"
#include "internal.h"

struct qe_group {
  qe_conn *conn;
  void *user;
  uint16_t slot;      /* from 1; identifies the group in sent datagrams */
  uint64_t first_seq; /* earlier datagrams belong to a former owner of the slot */
  qe_stream *members;
  qe_group *event_next;
  unsigned in_events : 1;
  unsigned ev_blocked : 1;
  unsigned dgram_blocked : 1;
  uint64_t blocked_at;  /* the limit that was last reported */
  uint64_t violated_at; /* the same for violations */
  uint64_t sent, received, consumed;
  uint64_t send_limit, recv_limit;
  uint64_t dgram_limit;
  uint64_t dgrams_queued, dgrams_queued_bytes;
  uint64_t dgrams_sent, dgrams_acked, dgrams_lost, dgrams_dropped, dgrams_expired;
};

/* The number of body bytes among the first n bytes of a stream. */
static inline uint64_t qe_body(uint64_t n, uint64_t header) {
  return n > header ? n - header : 0;
}

void qe_group_init(qe_group *g);
/* How many bytes a stream may send now, after it has sent stream_sent bytes. The rest of its
 * header is free; the body needs credit. */
uint64_t qe_group_sendable(const qe_group *g, uint64_t stream_sent, uint64_t header);
/* Counts a stream that grew from `before` to `after` bytes. */
void qe_group_add_sent(qe_group *g, uint64_t before, uint64_t after, uint64_t header);
void qe_group_add_consumed(qe_group *g, uint64_t before, uint64_t after, uint64_t header);
/* Returns 1 if this exceeds the limit and the violation of that limit was not reported yet. */
int qe_group_add_received(qe_group *g, uint64_t before, uint64_t after, uint64_t header);
/* Call it when the credit is used up. Returns 1 if that was not reported for this limit yet. */
int qe_group_note_blocked(qe_group *g);
void qe_group_dgram_queued(qe_group *g, size_t len);
void qe_group_dgram_left(qe_group *g, size_t len, enum qe_dgram_fate fate);

/* The groups of a connection by slot. */
typedef struct qe_group_table {
  qe_group **slots; /* [slot - 1] */
  size_t cap;
} qe_group_table;

/* Gives the group a slot. Returns 0, QE_ERR_NOMEM or QE_ERR_LIMIT. */
int qe_group_table_add(qe_group_table *t, qe_group *g);
void qe_group_table_remove(qe_group_table *t, qe_group *g);
qe_group *qe_group_table_get(const qe_group_table *t, uint16_t slot);
void qe_group_table_free(qe_group_table *t);

/* Removes the group from its connection and frees it; also used when a connection ends. */
void qe_group_destroy(qe_group *g);

#endif
