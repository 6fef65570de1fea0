#include "timers.h"

#include <stdlib.h>

/* Four children per node: half the levels of a binary heap, and the children
 * of one node share a cache line. */
#define ARITY 4
#define MIN_CAP 16

static void place(qe_timers *ts, size_t pos, qe_timer *t) {
  ts->heap[pos] = t;
  t->pos = pos;
}

static void sift_up(qe_timers *ts, qe_timer *t) {
  size_t pos = t->pos;
  while (pos > 0) {
    size_t parent = (pos - 1) / ARITY;
    if (ts->heap[parent]->at <= t->at) {
      break;
    }
    place(ts, pos, ts->heap[parent]);
    pos = parent;
  }
  place(ts, pos, t);
}

static void sift_down(qe_timers *ts, qe_timer *t) {
  size_t pos = t->pos;
  for (;;) {
    size_t first = pos * ARITY + 1;
    if (first >= ts->len) {
      break;
    }
    size_t end = first + ARITY < ts->len ? first + ARITY : ts->len;
    size_t best = first;
    for (size_t i = first + 1; i < end; i++) {
      if (ts->heap[i]->at < ts->heap[best]->at) {
        best = i;
      }
    }
    if (ts->heap[best]->at >= t->at) {
      break;
    }
    place(ts, pos, ts->heap[best]);
    pos = best;
  }
  place(ts, pos, t);
}

void qe_timer_init(qe_timer *t) {
  t->at = QE_NEVER;
  t->pos = SIZE_MAX;
}

int qe_timers_init(qe_timers *ts) {
  ts->heap = NULL;
  ts->len = 0;
  ts->cap = 0;
  return 0;
}

void qe_timers_free(qe_timers *ts) {
  for (size_t i = 0; i < ts->len; i++) {
    qe_timer_init(ts->heap[i]);
  }
  free(ts->heap);
  qe_timers_init(ts);
}

int qe_timers_set(qe_timers *ts, qe_timer *t, qe_tstamp at) {
  if (at == QE_NEVER) {
    qe_timers_remove(ts, t);
    return 0;
  }
  if (t->pos == SIZE_MAX) {
    if (ts->len == ts->cap) {
      size_t cap = ts->cap == 0 ? MIN_CAP : ts->cap * 2;
      qe_timer **heap = realloc(ts->heap, cap * sizeof(*heap));
      if (heap == NULL) {
        return QE_ERR_NOMEM;
      }
      ts->heap = heap;
      ts->cap = cap;
    }
    t->at = at;
    place(ts, ts->len++, t);
    sift_up(ts, t);
    return 0;
  }
  qe_tstamp before = t->at;
  t->at = at;
  if (at < before) {
    sift_up(ts, t);
  } else if (at > before) {
    sift_down(ts, t);
  }
  return 0;
}

void qe_timers_remove(qe_timers *ts, qe_timer *t) {
  if (t->pos == SIZE_MAX) {
    return;
  }
  size_t pos = t->pos;
  qe_timer *last = ts->heap[--ts->len];
  if (last != t) {
    place(ts, pos, last);
    sift_up(ts, last);
    sift_down(ts, last);
  }
  qe_timer_init(t);
}

qe_timer *qe_timers_top(const qe_timers *ts) {
  return ts->len == 0 ? NULL : ts->heap[0];
}
