#include "credit.h"

#include "conn.h"
#include "engine.h"

/* The peer may be ahead by so many times what is read in a round trip.  In slow start, what it
 * sends doubles in the round trip until it hears of new credit, and again until that is used. */
#define AHEAD 8
/* The reader is looked at once for so large a part of what the peer may be ahead. */
#define LOOK 16
/* Stream credit waits no longer for a packet that it can share. */
#define TELL_LATEST (QE_SECOND / 10)

/* More is given when a quarter of what the peer may be ahead is used. */
static void set_due(qe_credit *k) {
  uint64_t left = k->ahead - k->ahead / 4;
  k->due = k->granted > left ? k->granted - left : 0;
}

void qe_credit_init(qe_conn *c) {
  c->credit.granted = c->credit.ahead = c->engine->set.initial_max_data;
  c->credit.mark = 0;
  c->credit.mark_at = c->engine->now;
  set_due(&c->credit);
  c->stream_credit[0].allowed = c->engine->set.max_streams_bidi;
  c->stream_credit[1].allowed = c->engine->set.max_streams_uni;
  c->owed_until = QE_NEVER;
}

uint64_t qe_credit_window(const qe_conn *c) {
  return c->credit.granted - c->returned_bytes;
}

/* The most that the connection may hold and promise together. */
static uint64_t allowance(const qe_conn *c) {
  qe_engine *e = c->engine;
  uint64_t most = qe_max(e->set.max_unread_data, c->credit.ahead);

  if (e->cb.memory_left != NULL) {
    most = qe_min(most, e->cb.memory_left(e->user));
  }
  return qe_max(most, e->set.initial_max_data); /* whoever is read goes on */
}

void qe_credit_update(qe_conn *c) {
  qe_credit *k = &c->credit;

  if (c->handed_bytes <= k->due) {
    return;
  }
  uint64_t held = c->handed_bytes - c->returned_bytes;
  uint64_t wanted = c->returned_bytes + qe_min(held + k->ahead, allowance(c));
  if (wanted > k->granted) {
    ngtcp2_conn_extend_max_offset(c->ng, wanted - k->granted);
    k->granted = wanted;
    set_due(k);
  }
}

void qe_credit_measure(qe_conn *c) {
  qe_credit *k = &c->credit;
  const qe_settings *set = &c->engine->set;
  uint64_t read = c->returned_bytes - k->mark;
  ngtcp2_conn_info info;

  if (read < k->ahead / LOOK) {
    return;
  }
  uint64_t took = c->engine->now - k->mark_at;
  ngtcp2_conn_get_conn_info(c->ng, &info);
  uint64_t rtt = info.smoothed_rtt;
  if (took <= 2 * rtt) {
    k->ahead = qe_max(k->ahead, qe_min(AHEAD * read, set->max_data_window));
  } else if (2 * AHEAD * read / (took / qe_max(rtt, 1)) < k->ahead) {
    k->ahead = qe_max(k->ahead / 2, set->initial_max_data);
  }
  set_due(k);
  if (took >= rtt) {
    k->mark = c->returned_bytes;
    k->mark_at = c->engine->now;
  }
}

/* --------------------------------------------------------------- streams */

static void tell(qe_conn *c, int uni) {
  qe_stream_credit *k = &c->stream_credit[uni];
  uint64_t n = k->owed;

  k->owed = 0;
  k->allowed += n;
  if (uni) {
    ngtcp2_conn_extend_max_streams_uni(c->ng, (size_t)qe_min(n, SIZE_MAX));
  } else {
    ngtcp2_conn_extend_max_streams_bidi(c->ng, (size_t)qe_min(n, SIZE_MAX));
  }
  if (c->stream_credit[!uni].owed == 0) {
    c->owed_until = QE_NEVER;
  }
}

static int is_short(const qe_conn *c, int uni) {
  const qe_stream_credit *k = &c->stream_credit[uni];
  uint64_t window = uni ? c->engine->set.max_streams_uni : c->engine->set.max_streams_bidi;

  return k->allowed - k->opened < window - window / 2;
}

void qe_credit_stream_opened(qe_conn *c, int64_t id) {
  qe_stream_credit *k = &c->stream_credit[(id & 2) != 0];

  k->opened = qe_max(k->opened, (uint64_t)id / 4 + 1);
}

void qe_credit_add_streams(qe_conn *c, int uni, uint64_t n) {
  if (n == 0) {
    return;
  }
  c->stream_credit[uni].owed += n;
  if (c->owed_until == QE_NEVER) {
    c->owed_until = c->engine->now + TELL_LATEST;
  }
  qe_conn_touch(c);
}

void qe_credit_tell_streams(qe_conn *c, qe_tstamp now) {
  if (c->owed_until == QE_NEVER) {
    return;
  }
  int goes_along = qe_sched_top(&c->sched) != NULL || c->dgrams.count > 0;
  for (int uni = 0; uni < 2; uni++) {
    if (c->stream_credit[uni].owed > 0 &&
        (goes_along || now >= c->owed_until || is_short(c, uni))) {
      tell(c, uni);
    }
  }
}

qe_tstamp qe_credit_next(const qe_conn *c) {
  return c->owed_until;
}
