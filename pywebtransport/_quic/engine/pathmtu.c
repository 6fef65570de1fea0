#include "pathmtu.h"

#include "conn.h"
#include "engine.h"

#define MIN_LOOK QE_SECOND
#define FIRST_RAISE (10 * QE_SECOND)
#define LONGEST_RAISE (600 * QE_SECOND) /* RFC 8899 section 5.1.1 */
/* At a third of the packets lost, so many in a row are one case in sixty thousand. */
#define LOST_IN_A_ROW 10

size_t qe_conn_mtu(const qe_conn *c) {
  size_t mtu = ngtcp2_conn_get_path_max_tx_udp_payload_size(c->ng);
  return c->pathmtu.cap != 0 && c->pathmtu.cap < mtu ? c->pathmtu.cap : mtu;
}

static uint64_t look_interval(const qe_conn *c) {
  return qe_max(3 * ngtcp2_conn_get_pto(c->ng), MIN_LOOK);
}

void qe_pathmtu_sent(qe_conn *c, size_t n, qe_tstamp now) {
  qe_pathmtu *m = &c->pathmtu;

  if (n > QE_BASE_MTU) {
    m->sent_large = 1;
  }
  if (m->check_at == 0 && m->sent_large) {
    m->check_at = now + look_interval(c);
  }
}

static void fall_back(qe_conn *c) {
  qe_pathmtu *m = &c->pathmtu;

  if (m->cap != 0) {
    return;
  }
  m->cap = QE_BASE_MTU;
  m->raise_wait = m->raise_wait == 0 ? FIRST_RAISE : qe_min(2 * m->raise_wait, LONGEST_RAISE);
  m->raise_at = c->engine->now + m->raise_wait;
  m->lost_dgrams = 0;
  m->sent_large = 0;
  c->stats.mtu_falls++;
  qe_conn_touch(c);
}

void qe_pathmtu_acked(qe_conn *c) {
  c->pathmtu.in_flight = 0;
}

void qe_pathmtu_dgram(qe_conn *c, int arrived) {
  qe_pathmtu *m = &c->pathmtu;

  if (arrived) {
    m->lost_dgrams = 0;
  } else if (m->cap == 0 && ++m->lost_dgrams >= LOST_IN_A_ROW) {
    fall_back(c);
  }
}

void qe_pathmtu_narrow(qe_conn *c, size_t largest) {
  /* Probes are larger than the MTU in use, and may well be refused. */
  if (c->handshake_done && c->end_mode == QE_END_NONE && largest < qe_conn_mtu(c)) {
    fall_back(c);
  }
}

void qe_pathmtu_forget(qe_conn *c) {
  memset(&c->pathmtu, 0, sizeof(c->pathmtu));
}

/* Is a stream stuck: bytes in flight at the last look, and none acknowledged since?
 * *waiting: there are bytes in flight. */
static int any_stuck(qe_conn *c, int *waiting) {
  int stuck = 0;

  *waiting = 0;
  for (size_t i = 0; i < c->streams.nbuckets; i++) {
    for (qe_stream *s = c->streams.buckets[i]; s != NULL; s = s->hash_next) {
      if (s->out.sent == s->out.acked || s->reset_sent || s->stopped || s->lib_gone) {
        s->in_flight_at = QE_NEVER;
        continue;
      }
      *waiting = 1;
      if (s->in_flight_at == s->out.acked) {
        stuck = 1;
      }
      s->in_flight_at = s->out.acked;
    }
  }
  return stuck;
}

void qe_pathmtu_check(qe_conn *c, qe_tstamp now) {
  qe_pathmtu *m = &c->pathmtu;
  int waiting;

  if (m->cap != 0) {
    if (now < m->raise_at) {
      return;
    }
    m->cap = 0;
  }
  if (m->check_at == 0 || now < m->check_at) {
    return;
  }
  ngtcp2_conn_info info;
  ngtcp2_conn_get_conn_info(c->ng, &info);
  m->check_at = 0;
  if ((any_stuck(c, &waiting) || m->in_flight > 0) && m->sent_large) {
    fall_back(c);
    return;
  }
  m->sent_large = 0;
  m->in_flight = info.bytes_in_flight;
  if (waiting || m->in_flight > 0) {
    m->check_at = now + look_interval(c);
  }
}

/* While the size is capped, what is sent comes by anyway. */
qe_tstamp qe_pathmtu_next(const qe_conn *c) {
  return c->pathmtu.check_at == 0 || c->pathmtu.cap != 0 ? QE_NEVER : c->pathmtu.check_at;
}
