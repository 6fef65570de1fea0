/*
 * sched.h - decides which stream of a connection sends next: the one with the highest send order,
 * and round-robin among equals. It is a heap of (order, turn) with intrusive nodes.
 *
 * A node keeps its turn for a run of bytes. The run is long if few streams wait and short if many
 * do, so that a small stream waits for at most about QE_SCHED_RUN bytes, or one packet of each
 * stream before it.
 */
#ifndef QE_SCHED_H
#define QE_SCHED_H

#include <stddef.h>
#include <stdint.h>

#define QE_SCHED_RUN 20480 /* about 16 packets */

typedef struct qe_sched_node {
  int64_t order;
  uint64_t turn;
  size_t pos;    /* SIZE_MAX if not waiting */
  uint64_t used; /* bytes sent in the current run */
} qe_sched_node;

typedef struct qe_sched {
  qe_sched_node **heap;
  size_t len, cap;
  uint64_t turn;
} qe_sched;

void qe_sched_init(qe_sched *s);
void qe_sched_free(qe_sched *s);
void qe_sched_node_init(qe_sched_node *n);
/* Reserves room for at least n waiting nodes, so that qe_sched_add cannot fail. */
int qe_sched_reserve(qe_sched *s, size_t n);
/* Does nothing if the node is waiting already. Room must have been reserved. */
void qe_sched_add(qe_sched *s, qe_sched_node *n);
void qe_sched_remove(qe_sched *s, qe_sched_node *n);
qe_sched_node *qe_sched_top(const qe_sched *s);
/* Counts bytes that the node sent. When its run is over, nodes of the same order go first. */
void qe_sched_sent(qe_sched *s, qe_sched_node *n, size_t bytes);
void qe_sched_set_order(qe_sched *s, qe_sched_node *n, int64_t order);

static inline int qe_sched_waiting(const qe_sched_node *n) {
  return n->pos != SIZE_MAX;
}

#endif
