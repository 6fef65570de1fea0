/*
 * timers.h - a heap of deadlines.  Intrusive: the timer lives in its owner, so
 * arming one allocates only when the heap itself has to grow.
 */
#ifndef QE_TIMERS_H
#define QE_TIMERS_H

#include <stddef.h>
#include <stdint.h>

#include "quicengine.h"

typedef struct qe_timer {
  qe_tstamp at;
  size_t pos; /* index in the heap; SIZE_MAX when not in it */
} qe_timer;

typedef struct qe_timers {
  qe_timer **heap;
  size_t len, cap;
} qe_timers;

void qe_timer_init(qe_timer *t);
int qe_timers_init(qe_timers *ts);
/* Disarms every timer that is still in. */
void qe_timers_free(qe_timers *ts);
/* Arms or moves; at == QE_NEVER removes.  0 or QE_ERR_NOMEM (then the timer is
 * left as it was; moving and removing never fail). */
int qe_timers_set(qe_timers *ts, qe_timer *t, qe_tstamp at);
void qe_timers_remove(qe_timers *ts, qe_timer *t);
/* The earliest, NULL when empty. */
qe_timer *qe_timers_top(const qe_timers *ts);

#endif
