#include "credit.h"

#include "conn.h"
#include "engine.h"

/* The peer may be ahead by so many times what is read in a round trip.  In slow start, what it
 * sends doubles in the round trip until it hears of new credit, and again until that is used. */
#define AHEAD 8
/* The reader is looked at once for so large a part of what the peer may be ahead. */
#define LOOK 16

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
