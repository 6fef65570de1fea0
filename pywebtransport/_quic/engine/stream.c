#include "stream.h"

#include <stdlib.h>

#include "conn.h"
#include "engine.h"
#include "hold.h"

#define MIN_BUCKETS 8

/* ------------------------------------------------------------------- map */

static size_t bucket_of(const qe_stream_map *m, int64_t id) {
  uint64_t h = (uint64_t)id * UINT64_C(0x9E3779B97F4A7C15);
  return (size_t)(h >> 32) & (m->nbuckets - 1);
}

qe_stream *qe_stream_map_get(const qe_stream_map *m, int64_t id) {
  if (m->nbuckets == 0) {
    return NULL;
  }
  qe_stream *s = m->buckets[bucket_of(m, id)];
  while (s != NULL && s->id != id) {
    s = s->hash_next;
  }
  return s;
}

void qe_stream_map_add(qe_stream_map *m, qe_stream *s) {
  qe_stream **link = &m->buckets[bucket_of(m, s->id)];
  s->hash_next = *link;
  s->hash_link = link;
  if (*link != NULL) {
    (*link)->hash_link = &s->hash_next;
  }
  *link = s;
  m->size++;
}

void qe_stream_map_remove(qe_stream_map *m, qe_stream *s) {
  if (s->hash_link == NULL) {
    return;
  }
  *s->hash_link = s->hash_next;
  if (s->hash_next != NULL) {
    s->hash_next->hash_link = s->hash_link;
  }
  s->hash_link = NULL;
  m->size--;
}

int qe_stream_map_reserve(qe_stream_map *m, size_t n) {
  size_t want = m->nbuckets == 0 ? MIN_BUCKETS : m->nbuckets;
  while (want < n) {
    want *= 2;
  }
  if (want == m->nbuckets) {
    return 0;
  }
  qe_stream **fresh = calloc(want, sizeof(*fresh));
  if (fresh == NULL) {
    return QE_ERR_NOMEM;
  }
  qe_stream_map old = *m;
  m->buckets = fresh;
  m->nbuckets = want;
  m->size = 0;
  for (size_t i = 0; i < old.nbuckets; i++) {
    qe_stream *s = old.buckets[i];
    while (s != NULL) {
      qe_stream *next = s->hash_next;
      qe_stream_map_add(m, s);
      s = next;
    }
  }
  free(old.buckets);
  return 0;
}

void qe_stream_map_free(qe_stream_map *m) {
  free(m->buckets);
  memset(m, 0, sizeof(*m));
}

/* ------------------------------------------------------------------ life */

qe_stream *qe_stream_new(qe_conn *c) {
  qe_stream *s = qe_pool_zalloc(&c->engine->pool, sizeof(*s));
  if (s != NULL) {
    s->conn = c;
    s->in_flight_at = QE_NEVER;
    qe_sched_node_init(&s->node);
    qe_sendbuf_init(&s->out);
  }
  return s;
}

int qe_stream_prepare(qe_conn *c) {
  int rv = qe_stream_map_reserve(&c->streams, c->streams.size + 1);
  return rv != 0 ? rv : qe_sched_reserve(&c->sched, c->streams.size + 1);
}

void qe_stream_enter(qe_stream *s, int64_t id, void *user) {
  qe_conn *c = s->conn;
  int bidi = (id & 2) == 0;

  s->id = id;
  s->user = user;
  s->remote = ((id & 1) == 1) != (c->is_server != 0);
  s->can_send = bidi || !s->remote;
  s->can_recv = bidi || s->remote;
  s->known = !s->remote; /* remote streams become known in stream_opened */
  qe_stream_map_add(&c->streams, s);
  if (s->remote) {
    c->stats.streams_opened_remote++;
  } else {
    c->stats.streams_opened_local++;
  }
}

/* The queue may have changed: correct the sums. */
static void count_queued(qe_stream *s) {
  uint64_t change = qe_sendbuf_queued(&s->out) - s->counted; /* modulo 2^64 */
  s->counted += change;
  s->conn->queued_bytes += change;
  s->conn->engine->queued_bytes += change;
}

static void leave_stops(qe_stream *s) {
  qe_conn *c = s->conn;
  if (!s->in_stops) {
    return;
  }
  *(s->stop_prev != NULL ? &s->stop_prev->stop_next : &c->stops_head) = s->stop_next;
  *(s->stop_next != NULL ? &s->stop_next->stop_prev : &c->stops_tail) = s->stop_prev;
  s->in_stops = 0;
}

void qe_stream_destroy(qe_stream *s, int report) {
  qe_conn *c = s->conn;
  qe_engine *e = c->engine;

  leave_stops(s);
  qe_hold_forget(s);
  if (c->greeting == s) {
    c->greeting = NULL;
  }
  qe_sched_remove(&c->sched, &s->node);
  qe_sendbuf_clear(&s->out, &e->released);
  count_queued(s);
  if (s->group != NULL) {
    /* Nobody will read the rest, so return its credit to the session. */
    qe_group_add_consumed(s->group, s->consumed, s->received, s->recv_header);
    s->consumed = s->received;
    *s->member_link = s->member_next;
    if (s->member_next != NULL) {
      s->member_next->member_link = s->member_link;
    }
    s->group = NULL;
  }
  s->lib_gone = 1;
  if (report && s->known) {
    QE_UPCALL(e, stream_closed, s, s->user);
  }
  qe_stream_map_remove(&c->streams, s);
  qe_pool_free(&e->pool, s);
}

/* ------------------------------------------------------------------ work */

void qe_stream_add_work(qe_stream *s) {
  qe_conn *c = s->conn;
  if (!s->in_work) {
    s->in_work = 1;
    s->work_next = NULL;
    if (c->work_tail != NULL) {
      c->work_tail->work_next = s;
    } else {
      c->work_head = s;
    }
    c->work_tail = s;
  }
  qe_conn_touch(c);
}

/* Whether the reset may be sent: the prefix that must arrive has arrived, or nothing was
 * written. */
static int reset_is_due(const qe_stream *s) {
  return s->out.acked >= qe_min(s->reliable_size, s->out.end);
}

/*
 * After STOP_SENDING the library discards out-of-order bytes although their packets are
 * acknowledged. If the peer had sent everything, including the FIN, it need not send RESET_STREAM;
 * then the gap never closes and the library never ends the stream (1.11). So wait for the end only
 * for some round trips.
 */
static void join_stops(qe_stream *s) {
  qe_conn *c = s->conn;
  uint64_t wait = qe_max(3 * ngtcp2_conn_get_pto(c->ng), QE_SECOND);

  s->stop_deadline = qe_add_sat(c->engine->now, wait);
  if (c->stops_tail != NULL && c->stops_tail->stop_deadline > s->stop_deadline) {
    s->stop_deadline = c->stops_tail->stop_deadline; /* keeps the list in order */
  }
  s->stop_next = NULL;
  s->stop_prev = c->stops_tail;
  *(c->stops_tail != NULL ? &c->stops_tail->stop_next : &c->stops_head) = s;
  c->stops_tail = s;
  s->in_stops = 1;
}

/* Ends the stream for the user. The library keeps a small state, which no longer refers to the
 * stream. It does not send lost frames of a stream that was reset or stopped again, so the
 * buffered bytes can be released. */
static void retire(qe_stream *s) {
  qe_conn *c = s->conn;

  ngtcp2_conn_set_stream_user_data(c->ng, s->id, NULL);
  qe_sendbuf_clear(&s->out, &c->engine->released);
  count_queued(s);
  qe_conn_count_leftover(c);
  qe_stream_on_closed(s);
}

void qe_conn_expire_stops(qe_conn *c, qe_tstamp now) {
  while (c->stops_head != NULL && c->stops_head->stop_deadline <= now) {
    qe_stream *s = c->stops_head;
    leave_stops(s);
    s->gave_up = 1;
    qe_stream_add_work(s);
  }
}

qe_tstamp qe_conn_next_stop(const qe_conn *c) {
  return c->stops_head == NULL ? QE_NEVER : c->stops_head->stop_deadline;
}

static void run_commands(qe_stream *s) {
  qe_conn *c = s->conn;
  int rv;

  if (s->lib_gone || c->end_mode != QE_END_NONE) {
    return;
  }
  if (s->reset_wanted && !s->reset_sent && !s->reset_held && reset_is_due(s)) {
    s->reset_sent = 1;
    qe_sendbuf_truncate(&s->out, s->out.sent, &c->engine->released);
    count_queued(s);
    qe_stream_reschedule(s);
    rv = ngtcp2_conn_shutdown_stream_write(c->ng, 0, s->id, s->reset_code);
    if (rv != 0) {
      qe_conn_end_library(c, rv);
      return;
    }
  }
  if (s->stop_wanted && !s->stop_sent && !s->stop_held) {
    s->stop_sent = 1;
    rv = ngtcp2_conn_shutdown_stream_read(c->ng, 0, s->id, s->stop_code);
    if (rv != 0) {
      qe_conn_end_library(c, rv);
      return;
    }
    if (!s->fin_received && !s->reset_received) {
      join_stops(s);
    }
  }
  if (s->gave_up && (!s->can_send || s->fin_acked || s->reset_sent || s->stopped)) {
    retire(s);
  }
}

static void run_events(qe_stream *s) {
  qe_engine *e = s->conn->engine;

  if (s->ev_stopped) {
    s->ev_stopped = 0;
    QE_UPCALL(e, stream_stopped, s, s->user, s->peer_stop_code, s->has_stop_code);
  }
  if (s->ev_acked) {
    s->ev_acked = 0;
    QE_UPCALL(e, stream_acked, s, s->user);
  }
  if (s->ev_writable) {
    s->ev_writable = 0;
    QE_UPCALL(e, stream_writable, s, s->user);
  }
}

void qe_conn_run_work(qe_conn *c) {
  qe_engine *e = c->engine;

  qe_engine_release(e);
  while (c->work_head != NULL) {
    qe_stream *s = c->work_head;
    c->work_head = s->work_next;
    if (c->work_head == NULL) {
      c->work_tail = NULL;
    }
    s->in_work = 0;
    run_commands(s);
    if (c->reported && s->known) {
      run_events(s);
    }
    if (s->lib_gone) {
      if (s->in_work) { /* an upcall queued the stream again */
        qe_stream **link = &c->work_head;
        c->work_tail = NULL;
        while (*link != NULL) {
          if (*link == s) {
            *link = s->work_next;
          } else {
            c->work_tail = *link;
            link = &(*link)->work_next;
          }
        }
      }
      qe_stream_destroy(s, c->reported);
    }
    qe_engine_release(e);
  }
  while (c->group_events != NULL) {
    qe_group *g = c->group_events;
    c->group_events = g->event_next;
    g->in_events = 0;
    if (g->ev_blocked) {
      g->ev_blocked = 0;
      QE_UPCALL(e, group_blocked, g, g->user, g->send_limit);
    }
  }
}

/* --------------------------------------------------------------- sending */

void qe_stream_reschedule(qe_stream *s) {
  qe_sched *sched = &s->conn->sched;
  int ready = s->can_send && !s->lib_gone && !s->stopped && !s->reset_sent && !s->flow_blocked &&
              !s->group_blocked &&
              (qe_sendbuf_queued(&s->out) > 0 || (s->fin_queued && !s->fin_sent));
  if (ready) {
    qe_sched_add(sched, &s->node);
  } else {
    qe_sched_remove(sched, &s->node);
  }
}

size_t qe_stream_peek(qe_stream *s, uint64_t limit, ngtcp2_vec *vec, size_t max, size_t *total,
                      int *fin) {
  uint64_t queued = qe_sendbuf_queued(&s->out);
  size_t n;

  *total = 0;
  *fin = 0;
  if (s->group != NULL && queued > 0) {
    uint64_t credit = qe_group_sendable(s->group, s->out.sent, s->send_header);
    if (credit == 0) {
      qe_group *g = s->group;
      s->group_blocked = 1;
      if (qe_group_note_blocked(g)) {
        g->ev_blocked = 1;
        if (!g->in_events) {
          g->in_events = 1;
          g->event_next = s->conn->group_events;
          s->conn->group_events = g;
        }
      }
      qe_stream_reschedule(s);
      return 0;
    }
    limit = qe_min(limit, credit);
  }
  n = qe_sendbuf_peek(&s->out, limit, vec, max, total);
  *fin = s->fin_queued && *total == queued;
  return n;
}

void qe_stream_sent(qe_stream *s, size_t n, int fin) {
  qe_conn *c = s->conn;
  uint64_t before = s->out.sent;

  qe_sendbuf_advance(&s->out, n);
  count_queued(s);
  c->stats.stream_bytes_sent += n;
  if (s->group != NULL) {
    qe_group_add_sent(s->group, before, s->out.sent, s->send_header);
  }
  if (fin) {
    s->fin_sent = 1;
    s->fin_alone = n == 0;
  }
  if (s->above_low && qe_sendbuf_queued(&s->out) <= c->engine->set.stream_write_low) {
    s->above_low = 0;
    s->ev_writable = 1;
    qe_stream_add_work(s);
  }
  if (qe_sendbuf_queued(&s->out) == 0) {
    qe_stream_reschedule(s);
  }
  qe_sched_sent(&c->sched, &s->node, n);
}

static void check_fin_acked(qe_stream *s, int empty_report) {
  if (s->fin_acked || !s->fin_sent || s->reset_sent || s->stopped || s->out.acked < s->out.end) {
    return;
  }
  /* A FIN that was sent without data is acknowledged in a report of its own, without bytes.
   * After a loss it may have been sent again together with the last bytes. */
  if (s->fin_alone && !empty_report && ngtcp2_conn_get_stream_loss_count(s->conn->ng, s->id) == 0) {
    return;
  }
  s->fin_acked = 1;
  s->ev_acked = 1;
  qe_stream_add_work(s);
}

void qe_stream_on_acked(qe_stream *s, uint64_t offset, uint64_t len) {
  qe_sendbuf_ack(&s->out, offset + len, &s->conn->engine->released);
  check_fin_acked(s, len == 0);
  if (s->reset_wanted && !s->reset_sent) {
    qe_stream_add_work(s);
  }
}

void qe_stream_on_closed(qe_stream *s) {
  if (s->fin_sent && !s->fin_acked && !s->reset_sent && !s->stopped) {
    s->fin_acked = 1;
    s->ev_acked = 1;
  }
  leave_stops(s);
  s->lib_gone = 1;
  qe_sched_remove(&s->conn->sched, &s->node);
  qe_stream_add_work(s);
}

void qe_stream_on_stop_sending(qe_stream *s, uint64_t code, int has_code) {
  if (!s->can_send || s->stopped || s->lib_gone || s->fin_acked) {
    return;
  }
  s->stopped = 1;
  s->peer_stop_code = code;
  s->has_stop_code = has_code != 0;
  s->ev_stopped = 1;
  qe_sendbuf_truncate(&s->out, s->out.sent, &s->conn->engine->released);
  count_queued(s);
  qe_stream_reschedule(s);
  qe_stream_add_work(s);
}

int qe_stream_write(qe_stream *s, const uint8_t *data, size_t len, void *owner, int fin) {
  if (s == NULL || (data == NULL && len > 0)) {
    return QE_ERR_INVALID;
  }
  qe_conn *c = s->conn;
  if (s->lib_gone || c->end_mode != QE_END_NONE) {
    return QE_ERR_CLOSED;
  }
  if (!s->can_send || s->fin_queued || s->reset_wanted || s->stopped) {
    return QE_ERR_STREAM_SHUT;
  }
  if (len > QE_MAX_VARINT - s->out.end) {
    return QE_ERR_INVALID;
  }
  int rv = qe_sendbuf_write(&s->out, data, len, owner, &c->engine->released);
  if (rv != 0) {
    return rv;
  }
  count_queued(s);
  s->fin_queued = fin != 0;
  if (qe_sendbuf_queued(&s->out) > c->engine->set.stream_write_low) {
    s->above_low = 1;
  }
  if (len == 0 && owner != NULL) {
    qe_stream_add_work(s); /* only to release the buffer */
  }
  qe_stream_reschedule(s);
  qe_conn_touch(c);
  return 0;
}

size_t qe_stream_queued(const qe_stream *s) {
  return (size_t)qe_sendbuf_queued(&s->out);
}

int qe_stream_is_crowded(const qe_stream *s) {
  const qe_engine *e = s->conn->engine;
  return s->conn->queued_bytes > e->set.max_queued_data ||
         (e->cb.memory_left != NULL && e->queued_bytes > e->cb.memory_left(e->user));
}

size_t qe_stream_unacked(const qe_stream *s) {
  return (size_t)qe_sendbuf_unacked(&s->out);
}

int qe_stream_reset(qe_stream *s, uint64_t code) {
  if (s == NULL || code > QE_MAX_VARINT) {
    return QE_ERR_INVALID;
  }
  qe_conn *c = s->conn;
  if (s->lib_gone || c->end_mode != QE_END_NONE) {
    return QE_ERR_CLOSED;
  }
  if (!s->can_send || s->reset_wanted || s->stopped || s->fin_acked) {
    return QE_ERR_STREAM_SHUT;
  }
  s->reset_wanted = 1;
  s->reset_code = code;
  s->fin_queued = s->fin_sent; /* an unsent FIN is dropped as well */
  s->above_low = 0;
  qe_sendbuf_truncate(&s->out, qe_max(s->reliable_size, s->out.sent), &c->engine->released);
  count_queued(s);
  qe_stream_reschedule(s);
  qe_stream_add_work(s);
  return 0;
}

void qe_stream_set_reliable_size(qe_stream *s, uint64_t n) {
  s->reliable_size = n;
}

void qe_stream_set_send_order(qe_stream *s, int64_t order) {
  qe_sched_set_order(&s->conn->sched, &s->node, order);
}

/* ------------------------------------------------------------- receiving */

/* Sets the received bytes to `after`; reports a group that exceeds its limit. */
static void count_received(qe_stream *s, uint64_t after) {
  uint64_t before = s->received;
  s->received = after;
  if (s->group != NULL && qe_group_add_received(s->group, before, after, s->recv_header)) {
    qe_group *g = s->group;
    QE_UPCALL(s->conn->engine, group_violated, g, g->user, g->received, g->recv_limit);
  }
}

static void count_consumed(qe_stream *s, uint64_t after) {
  uint64_t before = s->consumed;
  s->consumed = qe_min(after, s->received);
  if (s->group != NULL) {
    qe_group_add_consumed(s->group, before, s->consumed, s->recv_header);
  }
}

int qe_stream_on_data(qe_stream *s, const uint8_t *data, size_t len, int fin) {
  qe_conn *c = s->conn;
  qe_engine *e = c->engine;
  int rv = 0;

  c->stats.stream_bytes_received += len;
  if (fin) {
    s->fin_received = 1;
  }
  if (s->stop_wanted || c->end_mode != QE_END_NONE) {
    /* Nobody reads the data: return its credit so that the connection's window does not shrink. */
    count_received(s, s->received + len);
    count_consumed(s, s->consumed + len);
    ngtcp2_conn_extend_max_offset(c->ng, len);
    return 0;
  }
  s->handed += len;
  c->handed_bytes += len;
  count_received(s, s->received + len);
  if (e->cb.stream_data != NULL) {
    e->upcalls++;
    rv = e->cb.stream_data(e->user, s, s->user, data, len, fin);
    e->upcalls--;
  }
  if (c->handed_bytes > c->credit.due) {
    qe_credit_update(c);
  }
  return rv;
}

void qe_stream_on_reset(qe_stream *s, uint64_t code, uint64_t final_size) {
  qe_conn *c = s->conn;

  if (s->reset_received) {
    return;
  }
  s->reset_received = 1;
  leave_stops(s);
  c->stats.resets_received++;
  if (final_size > s->received) {
    uint64_t lost = final_size - s->received; /* will never be given to the user */
    count_received(s, final_size);
    count_consumed(s, s->consumed + lost);
  }
  if (c->end_mode == QE_END_NONE && !s->fin_received) {
    QE_UPCALL(c->engine, stream_reset, s, s->user, code, final_size);
  }
}

int qe_stream_stop_sending(qe_stream *s, uint64_t code) {
  if (s == NULL || code > QE_MAX_VARINT) {
    return QE_ERR_INVALID;
  }
  if (s->lib_gone || s->conn->end_mode != QE_END_NONE) {
    return QE_ERR_CLOSED;
  }
  if (!s->can_recv || s->stop_wanted || s->fin_received || s->reset_received) {
    return QE_ERR_STREAM_SHUT;
  }
  s->stop_wanted = 1;
  s->stop_code = code;
  qe_stream_add_work(s);
  return 0;
}

void qe_stream_consume(qe_stream *s, uint64_t n) {
  qe_conn *c = s->conn;

  n = qe_min(n, s->handed - s->returned);
  if (n == 0) {
    return;
  }
  s->returned += n;
  count_consumed(s, s->consumed + n);
  if (!s->lib_gone && c->end_mode == QE_END_NONE) {
    int rv = ngtcp2_conn_extend_max_stream_offset(c->ng, s->id, n);
    if (rv != 0) {
      qe_conn_end_library(c, rv);
    }
  }
  qe_conn_consume(c, n);
}

/* --------------------------------------------------------------- queries */

void qe_stream_set_user(qe_stream *s, void *su) {
  s->user = su;
}

void *qe_stream_get_user(const qe_stream *s) {
  return s->user;
}

int64_t qe_stream_id(const qe_stream *s) {
  return s->id;
}

qe_conn *qe_stream_conn(const qe_stream *s) {
  return s->conn;
}
