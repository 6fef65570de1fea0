#include "group.h"

#include <stdlib.h>

#include "conn.h"
#include "engine.h"

void qe_group_init(qe_group *g) {
  memset(g, 0, sizeof(*g));
  g->send_limit = QE_NEVER;
  g->recv_limit = QE_NEVER;
  g->blocked_at = QE_NEVER;
  g->violated_at = QE_NEVER;
  g->dgram_limit = QE_NEVER;
}

uint64_t qe_group_sendable(const qe_group *g, uint64_t stream_sent, uint64_t header) {
  uint64_t free_bytes = stream_sent < header ? header - stream_sent : 0;
  uint64_t credit = g->send_limit > g->sent ? g->send_limit - g->sent : 0;
  return qe_add_sat(free_bytes, credit);
}

void qe_group_add_sent(qe_group *g, uint64_t before, uint64_t after, uint64_t header) {
  g->sent += qe_body(after, header) - qe_body(before, header);
}

void qe_group_add_consumed(qe_group *g, uint64_t before, uint64_t after, uint64_t header) {
  g->consumed += qe_body(after, header) - qe_body(before, header);
}

int qe_group_add_received(qe_group *g, uint64_t before, uint64_t after, uint64_t header) {
  g->received += qe_body(after, header) - qe_body(before, header);
  if (g->received <= g->recv_limit || g->violated_at == g->recv_limit) {
    return 0;
  }
  g->violated_at = g->recv_limit;
  return 1;
}

int qe_group_note_blocked(qe_group *g) {
  if (g->blocked_at == g->send_limit) {
    return 0;
  }
  g->blocked_at = g->send_limit;
  return 1;
}

void qe_group_dgram_queued(qe_group *g, size_t len) {
  g->dgrams_queued++;
  g->dgrams_queued_bytes += len;
}

void qe_group_dgram_left(qe_group *g, size_t len, enum qe_dgram_fate fate) {
  g->dgrams_queued--;
  g->dgrams_queued_bytes -= len;
  switch (fate) {
  case QE_DGRAM_SENT:
    g->dgrams_sent++;
    break;
  case QE_DGRAM_DROPPED:
    g->dgrams_dropped++;
    break;
  case QE_DGRAM_EXPIRED:
    g->dgrams_expired++;
    break;
  }
  if (g->dgram_blocked && g->dgrams_queued <= g->dgram_limit / 2) {
    g->dgram_blocked = 0;
    g->conn->ev_dgram_writable = 1;
    qe_conn_touch(g->conn);
  }
}

int qe_group_table_add(qe_group_table *t, qe_group *g) {
  size_t i = 0;
  while (i < t->cap && t->slots[i] != NULL) {
    i++;
  }
  if (i >= UINT16_MAX) {
    return QE_ERR_LIMIT;
  }
  if (i == t->cap) {
    size_t cap = t->cap == 0 ? 2 : t->cap * 2;
    qe_group **slots = realloc(t->slots, cap * sizeof(*slots));
    if (slots == NULL) {
      return QE_ERR_NOMEM;
    }
    memset(slots + t->cap, 0, (cap - t->cap) * sizeof(*slots));
    t->slots = slots;
    t->cap = cap;
  }
  t->slots[i] = g;
  g->slot = (uint16_t)(i + 1);
  return 0;
}

void qe_group_table_remove(qe_group_table *t, qe_group *g) {
  if (g->slot > 0 && g->slot <= t->cap && t->slots[g->slot - 1] == g) {
    t->slots[g->slot - 1] = NULL;
  }
}

qe_group *qe_group_table_get(const qe_group_table *t, uint16_t slot) {
  return slot == 0 || slot > t->cap ? NULL : t->slots[slot - 1];
}

void qe_group_table_free(qe_group_table *t) {
  free(t->slots);
  t->slots = NULL;
  t->cap = 0;
}

int qe_group_new(qe_conn *c, void *gu, qe_group **out) {
  if (c == NULL || out == NULL) {
    return QE_ERR_INVALID;
  }
  qe_group *g = malloc(sizeof(*g));
  if (g == NULL) {
    return QE_ERR_NOMEM;
  }
  qe_group_init(g);
  int rv = qe_group_table_add(&c->groups, g);
  if (rv != 0) {
    free(g);
    return rv;
  }
  g->conn = c;
  g->user = gu;
  g->first_seq = c->dgram_log.next_seq;
  *out = g;
  return 0;
}

static void leave(qe_stream *s) {
  *s->member_link = s->member_next;
  if (s->member_next != NULL) {
    s->member_next->member_link = s->member_link;
  }
  s->member_next = NULL;
  s->member_link = NULL;
  s->group = NULL;
  s->group_blocked = 0;
}

void qe_group_destroy(qe_group *g) {
  qe_conn *c = g->conn;

  while (g->members != NULL) {
    qe_stream *s = g->members;
    leave(s);
    qe_stream_reschedule(s);
  }
  qe_dgram_orphan(&c->dgrams, g);
  for (qe_group **link = &c->group_events; *link != NULL; link = &(*link)->event_next) {
    if (*link == g) {
      *link = g->event_next;
      break;
    }
  }
  qe_group_table_remove(&c->groups, g);
  free(g);
}

void qe_group_free(qe_group *g) {
  if (g != NULL) {
    qe_conn_touch(g->conn); /* blocked streams may be able to send now */
    qe_group_destroy(g);
  }
}

int qe_stream_join_group(qe_stream *s, qe_group *g, uint64_t send_header_size,
                         uint64_t recv_header_size) {
  if (s == NULL || g == NULL || s->conn != g->conn || send_header_size > QE_MAX_VARINT ||
      recv_header_size > QE_MAX_VARINT) {
    return QE_ERR_INVALID;
  }
  if (s->group != NULL) {
    leave(s);
  }
  s->group = g;
  s->send_header = send_header_size;
  s->recv_header = recv_header_size;
  s->member_next = g->members;
  s->member_link = &g->members;
  if (g->members != NULL) {
    g->members->member_link = &s->member_next;
  }
  g->members = s;

  qe_group_add_sent(g, 0, s->out.sent, send_header_size);
  qe_group_add_consumed(g, 0, s->consumed, recv_header_size);
  if (qe_group_add_received(g, 0, s->received, recv_header_size)) {
    QE_UPCALL(s->conn->engine, group_violated, g, g->user, g->received, g->recv_limit);
  }
  return 0;
}

void qe_group_set_send_limit(qe_group *g, uint64_t limit) {
  if (limit == g->send_limit) {
    return;
  }
  g->send_limit = limit;
  for (qe_stream *s = g->members; s != NULL; s = s->member_next) {
    if (s->group_blocked) {
      s->group_blocked = 0;
      qe_stream_reschedule(s);
    }
  }
  qe_conn_touch(g->conn);
}

void qe_group_set_recv_limit(qe_group *g, uint64_t limit) {
  g->recv_limit = limit;
}

void qe_group_set_datagram_limit(qe_group *g, uint64_t limit) {
  if (g == NULL) {
    return;
  }
  g->dgram_limit = limit;
  if (g->dgram_blocked && g->dgrams_queued < limit) {
    g->dgram_blocked = 0;
    g->conn->ev_dgram_writable = 1;
    qe_conn_touch(g->conn);
  }
}

void qe_group_get_stats(const qe_group *g, qe_group_stats *st) {
  st->bytes_sent = g->sent;
  st->bytes_received = g->received;
  st->bytes_consumed = g->consumed;
  st->send_limit = g->send_limit;
  st->recv_limit = g->recv_limit;
  st->dgrams_queued = g->dgrams_queued;
  st->dgrams_queued_bytes = g->dgrams_queued_bytes;
  st->dgrams_sent = g->dgrams_sent;
  st->dgrams_acked = g->dgrams_acked;
  st->dgrams_lost = g->dgrams_lost;
  st->dgrams_dropped = g->dgrams_dropped;
  st->dgrams_expired = g->dgrams_expired;
}

size_t qe_group_clear_datagrams(qe_group *g) {
  return qe_dgram_clear(&g->conn->dgrams, g, 0, qe_conn_dgram_gone, g->conn);
}
