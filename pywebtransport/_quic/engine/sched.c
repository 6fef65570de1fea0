#include "sched.h"

#include <stdlib.h>

#include "quicengine.h"

#define MIN_CAP 4

static int before(const qe_sched_node *a, const qe_sched_node *b) {
  return a->order != b->order ? a->order > b->order : a->turn < b->turn;
}

static void place(qe_sched *s, size_t pos, qe_sched_node *n) {
  s->heap[pos] = n;
  n->pos = pos;
}

static void sift_up(qe_sched *s, qe_sched_node *n) {
  size_t pos = n->pos;
  while (pos > 0) {
    size_t parent = (pos - 1) / 2;
    if (!before(n, s->heap[parent])) {
      break;
    }
    place(s, pos, s->heap[parent]);
    pos = parent;
  }
  place(s, pos, n);
}

static void sift_down(qe_sched *s, qe_sched_node *n) {
  size_t pos = n->pos;
  for (;;) {
    size_t child = pos * 2 + 1;
    if (child >= s->len) {
      break;
    }
    if (child + 1 < s->len && before(s->heap[child + 1], s->heap[child])) {
      child++;
    }
    if (!before(s->heap[child], n)) {
      break;
    }
    place(s, pos, s->heap[child]);
    pos = child;
  }
  place(s, pos, n);
}

void qe_sched_init(qe_sched *s) {
  s->heap = NULL;
  s->len = 0;
  s->cap = 0;
  s->turn = 0;
}

void qe_sched_free(qe_sched *s) {
  for (size_t i = 0; i < s->len; i++) {
    s->heap[i]->pos = SIZE_MAX;
  }
  free(s->heap);
  qe_sched_init(s);
}

void qe_sched_node_init(qe_sched_node *n) {
  n->order = 0;
  n->turn = 0;
  n->pos = SIZE_MAX;
  n->used = 0;
}

int qe_sched_reserve(qe_sched *s, size_t n) {
  size_t cap = s->cap == 0 ? MIN_CAP : s->cap;
  if (n <= s->cap) {
    return 0;
  }
  while (cap < n) {
    cap *= 2;
  }
  qe_sched_node **heap = realloc(s->heap, cap * sizeof(*heap));
  if (heap == NULL) {
    return QE_ERR_NOMEM;
  }
  s->heap = heap;
  s->cap = cap;
  return 0;
}

void qe_sched_add(qe_sched *s, qe_sched_node *n) {
  if (n->pos != SIZE_MAX || s->len == s->cap) {
    return;
  }
  n->turn = ++s->turn;
  n->used = 0;
  place(s, s->len++, n);
  sift_up(s, n);
}

void qe_sched_remove(qe_sched *s, qe_sched_node *n) {
  if (n->pos == SIZE_MAX) {
    return;
  }
  size_t pos = n->pos;
  qe_sched_node *last = s->heap[--s->len];
  n->pos = SIZE_MAX;
  if (last != n) {
    place(s, pos, last);
    sift_up(s, last);
    sift_down(s, last);
  }
}

qe_sched_node *qe_sched_top(const qe_sched *s) {
  return s->len == 0 ? NULL : s->heap[0];
}

void qe_sched_sent(qe_sched *s, qe_sched_node *n, size_t bytes) {
  if (n->pos == SIZE_MAX) {
    return;
  }
  n->used += bytes;
  if (n->used >= QE_SCHED_RUN / s->len) {
    n->used = 0;
    n->turn = ++s->turn;
    sift_down(s, n);
  }
}

void qe_sched_set_order(qe_sched *s, qe_sched_node *n, int64_t order) {
  if (n->order == order) {
    return;
  }
  n->order = order;
  if (n->pos != SIZE_MAX) {
    sift_up(s, n);
    sift_down(s, n);
  }
}
