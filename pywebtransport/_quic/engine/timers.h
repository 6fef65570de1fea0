/*
 * timers.h - a heap of deadlines. It is intrusive: a timer is part of its owner, so arming one
 * allocates only if the heap itself has to grow.
 */
#ifndef QE_TIMERS_H
#define QE_TIMERS_H

#include <stddef.h>
#include <stdint.h>

#include "quicengine.h"

typedef struct qe_timer {
  qe_tstamp at;
  size_t pos; /* index in the heap; SIZE_MAX if not in it */
} qe_timer;

typedef struct qe_timers {
  qe_timer **heap;
  size_t len, cap;
} qe_timers;

void qe_timer_init(qe_timer *t);
int qe_timers_init(qe_timers *ts);
/* Frees the heap and disarms every timer that is still in it. */
void qe_timers_free(qe_timers *ts);
/* Arms or moves a timer; at == QE_NEVER removes it. Returns 0, or QE_ERR_NOMEM with the timer
 * unchanged; moving and removing never fail. */
int qe_timers_set(qe_timers *ts, qe_timer *t, qe_tstamp at);
void qe_timers_remove(qe_timers *ts, qe_timer *t);
/* The earliest timer; NULL if there is none. */
qe_timer *qe_timers_top(const qe_timers *ts);

#endif
