#include "dgram.h"

#include <stdlib.h>
#include <string.h>

void qe_dgram_queue_init(qe_dgram_queue *q, qe_pool *pool, size_t max_count, size_t max_bytes) {
  memset(q, 0, sizeof(*q));
  q->pool = pool;
  q->max_count = max_count;
  q->max_bytes = max_bytes;
  q->first_deadline = QE_NEVER;
}

static void unlink_head(qe_dgram_queue *q, int p) {
  qe_dgram *d = q->head[p];
  q->head[p] = d->next;
  if (q->head[p] == NULL) {
    q->tail[p] = NULL;
  }
  q->count--;
  q->bytes -= d->len;
  qe_pool_free(q->pool, d);
}

/* Removes every datagram that belongs to group, has expired, or any if all = 1. */
static size_t sweep(qe_dgram_queue *q, const qe_group *group, int all, qe_tstamp now,
                    enum qe_dgram_fate fate, qe_dgram_gone gone, void *ctx) {
  size_t n = 0;
  q->first_deadline = QE_NEVER;
  for (int p = 0; p < QE_DGRAM_PRIORITIES; p++) {
    qe_dgram **link = &q->head[p];
    q->tail[p] = NULL;
    while (*link != NULL) {
      qe_dgram *d = *link;
      if (all || (group != NULL && d->group == group) || d->deadline <= now) {
        *link = d->next;
        q->count--;
        q->bytes -= d->len;
        gone(ctx, d, fate);
        qe_pool_free(q->pool, d);
        n++;
      } else {
        q->first_deadline = d->deadline < q->first_deadline ? d->deadline : q->first_deadline;
        q->tail[p] = d;
        link = &d->next;
      }
    }
  }
  return n;
}

static int full(const qe_dgram_queue *q, size_t len) {
  return q->count >= q->max_count || (q->count > 0 && q->bytes + len > q->max_bytes);
}

int qe_dgram_push(qe_dgram_queue *q, qe_group *group, const uint8_t *prefix, size_t prefix_len,
                  const uint8_t *data, size_t len, int priority, qe_tstamp deadline, qe_tstamp now,
                  qe_dgram_gone gone, void *ctx) {
  size_t total = prefix_len + len;

  if (full(q, total)) {
    if (q->first_deadline <= now) {
      sweep(q, NULL, 0, now, QE_DGRAM_EXPIRED, gone, ctx);
    }
    if (full(q, total)) {
      q->refused = 1;
      return QE_ERR_BLOCKED;
    }
  }
  qe_dgram *d = qe_pool_alloc(q->pool, sizeof(*d) + total);
  if (d == NULL) {
    return QE_ERR_NOMEM;
  }
  d->next = NULL;
  d->group = group;
  d->deadline = deadline;
  d->len = total;
  if (prefix_len > 0) {
    memcpy(d->data, prefix, prefix_len);
  }
  if (len > 0) {
    memcpy(d->data + prefix_len, data, len);
  }
  if (q->tail[priority] == NULL) {
    q->head[priority] = d;
  } else {
    q->tail[priority]->next = d;
  }
  q->tail[priority] = d;
  q->first_deadline = deadline < q->first_deadline ? deadline : q->first_deadline;
  q->count++;
  q->bytes += total;
  return 0;
}

qe_dgram *qe_dgram_peek(qe_dgram_queue *q, size_t max_len, qe_tstamp now, qe_dgram_gone gone,
                        void *ctx) {
  for (int p = QE_DGRAM_PRIORITIES - 1; p >= 0; p--) {
    while (q->head[p] != NULL) {
      qe_dgram *d = q->head[p];
      if (d->deadline <= now) {
        gone(ctx, d, QE_DGRAM_EXPIRED);
      } else if (d->len > max_len) {
        gone(ctx, d, QE_DGRAM_DROPPED);
      } else {
        return d;
      }
      unlink_head(q, p);
    }
  }
  return NULL;
}

void qe_dgram_pop(qe_dgram_queue *q) {
  for (int p = QE_DGRAM_PRIORITIES - 1; p >= 0; p--) {
    if (q->head[p] != NULL) {
      unlink_head(q, p);
      return;
    }
  }
}

size_t qe_dgram_clear(qe_dgram_queue *q, const qe_group *group, int all, qe_dgram_gone gone,
                      void *ctx) {
  return sweep(q, group, all, 0, QE_DGRAM_DROPPED, gone, ctx);
}

void qe_dgram_orphan(qe_dgram_queue *q, const qe_group *group) {
  for (int p = 0; p < QE_DGRAM_PRIORITIES; p++) {
    for (qe_dgram *d = q->head[p]; d != NULL; d = d->next) {
      if (d->group == group) {
        d->group = NULL;
      }
    }
  }
}

int qe_dgram_take_writable(qe_dgram_queue *q) {
  if (!q->refused || q->count > q->max_count / 2 || q->bytes > q->max_bytes / 2) {
    return 0;
  }
  q->refused = 0;
  return 1;
}

void qe_dgram_log_init(qe_dgram_log *l) {
  l->next_seq = 0;
  l->lost = NULL;
}

void qe_dgram_log_free(qe_dgram_log *l) {
  free(l->lost);
  l->lost = NULL;
}

static uint8_t *bit_of(const qe_dgram_log *l, uint64_t seq, uint8_t *mask) {
  size_t i = (size_t)(seq % QE_DGRAM_WINDOW);
  *mask = (uint8_t)(1u << (i % 8));
  return &l->lost[i / 8];
}

static int in_window(const qe_dgram_log *l, uint64_t seq) {
  return seq < l->next_seq && l->next_seq - seq <= QE_DGRAM_WINDOW;
}

uint64_t qe_dgram_log_sent(qe_dgram_log *l) {
  uint64_t seq = l->next_seq++;
  if (l->lost != NULL) {
    uint8_t mask;
    uint8_t *byte = bit_of(l, seq, &mask);
    *byte &= (uint8_t)~mask;
  }
  return seq;
}

int qe_dgram_log_lost(qe_dgram_log *l, uint64_t seq) {
  uint8_t mask;

  if (l->lost == NULL) {
    l->lost = calloc(1, QE_DGRAM_WINDOW / 8);
  }
  if (l->lost == NULL || !in_window(l, seq)) {
    return 1; /* out of memory or too old: a later ack will be counted too */
  }
  uint8_t *byte = bit_of(l, seq, &mask);
  if (*byte & mask) {
    return 0;
  }
  *byte |= mask;
  return 1;
}

int qe_dgram_log_acked(const qe_dgram_log *l, uint64_t seq) {
  uint8_t mask;
  if (l->lost == NULL || !in_window(l, seq)) {
    return 1;
  }
  return (*bit_of(l, seq, &mask) & mask) == 0;
}
