/*
 * group.h - credit and counters that the streams and datagrams of one session
 * share.  Body bytes are those after a stream's header.
 */
#ifndef QE_GROUP_H
#define QE_GROUP_H

#include "dgram.h"
#include "internal.h"

struct qe_group {
  qe_conn *conn;
  void *user;
  uint16_t slot;      /* its number in sent datagrams, 1.. */
  uint64_t first_seq; /* datagrams below belonged to a former owner of the slot */
  qe_stream *members;
  qe_group *event_next;
  unsigned in_events : 1;
  unsigned ev_blocked : 1;
  unsigned dgram_blocked : 1;
  uint64_t blocked_at;  /* the limit that was last reported */
  uint64_t violated_at; /* likewise */
  uint64_t sent, received, consumed;
  uint64_t send_limit, recv_limit;
  uint64_t dgram_limit;
  uint64_t dgrams_queued, dgrams_queued_bytes;
  uint64_t dgrams_sent, dgrams_acked, dgrams_lost, dgrams_dropped, dgrams_expired;
};

/* Body bytes in the first n of a stream. */
static inline uint64_t qe_body(uint64_t n, uint64_t header) {
  return n > header ? n - header : 0;
}

void qe_group_init(qe_group *g);
/* How many of the next bytes of a stream may be sent, given what it has sent:
 * the rest of its header is free, the body needs credit. */
uint64_t qe_group_sendable(const qe_group *g, uint64_t stream_sent, uint64_t header);
/* The stream went from `before` to `after` bytes. */
void qe_group_add_sent(qe_group *g, uint64_t before, uint64_t after, uint64_t header);
void qe_group_add_consumed(qe_group *g, uint64_t before, uint64_t after, uint64_t header);
/* 1 when this crossed the limit and was not reported for it yet. */
int qe_group_add_received(qe_group *g, uint64_t before, uint64_t after, uint64_t header);
/* Credit is used up: 1 when this was not reported for the limit yet. */
int qe_group_note_blocked(qe_group *g);
void qe_group_dgram_queued(qe_group *g, size_t len);
void qe_group_dgram_left(qe_group *g, size_t len, enum qe_dgram_fate fate);

/* The table of a connection: slot -> group. */
typedef struct qe_group_table {
  qe_group **slots; /* [slot - 1] */
  size_t cap;
} qe_group_table;

/* Gives the group a slot; QE_ERR_NOMEM or QE_ERR_LIMIT. */
int qe_group_table_add(qe_group_table *t, qe_group *g);
void qe_group_table_remove(qe_group_table *t, qe_group *g);
qe_group *qe_group_table_get(const qe_group_table *t, uint16_t slot);
void qe_group_table_free(qe_group_table *t);

/* Frees the group with nothing left behind; for the end of a connection too. */
void qe_group_destroy(qe_group *g);

#endif
