#include "hold.h"

#include <stdlib.h>

#include "conn.h"
#include "engine.h"

#define MAX_TRIES 8

static void leave(qe_stream *s) {
  *s->held_link = s->held_next;
  if (s->held_next != NULL) {
    s->held_next->held_link = s->held_link;
  }
  s->held_next = NULL;
  s->held_link = NULL;
  s->reset_held = s->stop_held = 0;
}

static void free_hold(qe_hold **link) {
  qe_hold *h = *link;

  while (h->members != NULL) {
    qe_stream *s = h->members;
    leave(s);
    qe_stream_add_work(s);
  }
  h->until->has_hold = 0;
  *link = h->next;
  free(h);
}

/* Whether the peer knows that the stream ended, or can no longer learn it. Having sent the FIN
 * is not enough: if its packet is lost, which is common when the receiver is overloaded, the
 * packets with the resets arrive first. For a reset, having sent it must do, because the library
 * does not report when it is acknowledged. */
static int has_ended(const qe_stream *s, int wrote) {
  return s->lib_gone || s->stopped || s->fin_acked || (wrote && s->reset_sent);
}

/* Whether the stream waits for credit. The peer may have to receive the resets first: they free
 * the data that its application does not read. */
static int is_blocked(const qe_stream *s) {
  return s->flow_blocked ||
         (qe_sendbuf_queued(&s->out) > 0 && ngtcp2_conn_get_max_data_left(s->conn->ng) == 0);
}

int qe_stream_hold(qe_stream *s, qe_stream *until) {
  if (s == NULL || until == NULL || s == until || s->conn != until->conn) {
    return QE_ERR_INVALID;
  }
  qe_conn *c = s->conn;
  if (s->lib_gone || c->end_mode != QE_END_NONE) {
    return QE_ERR_CLOSED;
  }
  if (s->held_link != NULL || has_ended(until, until->reset_sent)) {
    return 0;
  }
  qe_hold *h = c->holds;
  while (h != NULL && h->until != until) {
    h = h->next;
  }
  if (h == NULL) {
    h = calloc(1, sizeof(*h));
    if (h == NULL) {
      return QE_ERR_NOMEM;
    }
    h->until = until;
    h->deadline = QE_NEVER; /* set by the next visit, which knows the time */
    h->next = c->holds;
    c->holds = h;
    until->has_hold = 1;
    qe_conn_touch(c);
  }
  s->reset_held = !s->reset_wanted;
  s->stop_held = !s->stop_wanted;
  s->held_next = h->members;
  s->held_link = &h->members;
  if (h->members != NULL) {
    h->members->held_link = &s->held_next;
  }
  h->members = s;
  return 0;
}

void qe_hold_forget(qe_stream *s) {
  if (s->held_link != NULL) {
    leave(s);
  }
  if (s->has_hold) {
    qe_hold **link = &s->conn->holds;
    while ((*link)->until != s) {
      link = &(*link)->next;
    }
    free_hold(link);
  }
}

void qe_conn_settle_holds(qe_conn *c, qe_tstamp now, int wrote) {
  qe_hold **link = &c->holds;

  while (*link != NULL) {
    qe_hold *h = *link;
    int over = h->members == NULL || has_ended(h->until, wrote);
    int late = h->deadline <= now;
    if (late && !over) {
      /* If only the congestion window blocks the stream, the resets could not be sent either. */
      over = is_blocked(h->until) || ++h->tries == MAX_TRIES;
    }
    if (late || h->deadline == QE_NEVER) {
      h->deadline = qe_add_sat(now, ngtcp2_conn_get_pto(c->ng));
    }
    if (over) {
      free_hold(link);
    } else {
      link = &h->next;
    }
  }
}

void qe_conn_free_holds(qe_conn *c) {
  while (c->holds != NULL) {
    qe_hold *h = c->holds;
    while (h->members != NULL) {
      leave(h->members);
    }
    h->until->has_hold = 0;
    c->holds = h->next;
    free(h);
  }
}

qe_tstamp qe_conn_next_hold(const qe_conn *c) {
  qe_tstamp next = QE_NEVER;

  for (const qe_hold *h = c->holds; h != NULL; h = h->next) {
    next = qe_min(next, h->deadline);
  }
  return next;
}
