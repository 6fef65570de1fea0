#include "pathmtu.h"

#include "conn.h"
#include "engine.h"

/* More than the set-up of HTTP/3 and a session takes. */
#define START_BYTES 4096
#define START_LATEST (QE_SECOND / 2)

#define MIN_LOOK QE_SECOND
#define FIRST_RAISE (10 * QE_SECOND)
#define LONGEST_RAISE (600 * QE_SECOND) /* RFC 8899 section 5.1.1 */
/* Full-size datagrams lost in a row, over a whole look interval, that mean a smaller MTU. A
 * burst that overflows a buffer is shorter; and if a third of all packets are lost at random,
 * this happens once in sixty thousand times. */
#define LOST_IN_A_ROW 10

size_t qe_conn_mtu(const qe_conn *c) {
  size_t mtu = ngtcp2_conn_get_path_max_tx_udp_payload_size(c->ng);
  return c->pathmtu.cap != 0 && c->pathmtu.cap < mtu ? c->pathmtu.cap : mtu;
}

static uint64_t look_interval(const qe_conn *c) {
  return qe_max(3 * ngtcp2_conn_get_pto(c->ng), MIN_LOOK);
}

void qe_pathmtu_init(qe_pathmtu *m) {
  memset(m, 0, sizeof(*m));
  m->probe_id = -1;
}

/* What was learned about the packets of a path is forgotten, not that discovery was started. */
static void reset(qe_pathmtu *m) {
  int started = m->started;
  qe_tstamp start_at = m->start_at;

  qe_pathmtu_init(m);
  m->started = started;
  m->start_at = start_at;
}

void qe_pathmtu_start(qe_conn *c) {
  if (!c->pathmtu.started) {
    c->pathmtu.started = 1;
    qe_conn_touch(c);
  }
}

static int is_started(qe_conn *c, qe_tstamp now) {
  qe_pathmtu *m = &c->pathmtu;

  if (!m->started && c->handshake_done) {
    if (m->start_at == 0) {
      m->start_at = now + START_LATEST;
    }
    m->started = now >= m->start_at || c->stats.stream_bytes_sent >= START_BYTES;
  }
  return m->started;
}

static int may_probe(const qe_conn *c, qe_tstamp now) {
  return c->pathmtu.probe_id < 0 && now >= c->pathmtu.raise_at;
}

size_t qe_pathmtu_room(qe_conn *c, qe_tstamp now) {
  if (c->pathmtu.cap == 0) {
    return is_started(c, now) ? ngtcp2_conn_get_max_tx_udp_payload_size(c->ng)
                              : ngtcp2_conn_get_path_max_tx_udp_payload_size(c->ng);
  }
  return may_probe(c, now) ? ngtcp2_conn_get_path_max_tx_udp_payload_size(c->ng) : c->pathmtu.cap;
}

static void wait_for_raise(qe_pathmtu *m, qe_tstamp now) {
  m->raise_wait = m->raise_wait == 0 ? FIRST_RAISE : qe_min(2 * m->raise_wait, LONGEST_RAISE);
  m->raise_at = now + m->raise_wait;
  m->probe_id = -1;
}

void qe_pathmtu_sent(qe_conn *c, size_t n, const qe_stream *s, qe_tstamp now) {
  qe_pathmtu *m = &c->pathmtu;

  if (m->cap != 0) {
    if (n <= m->cap) {
      return;
    }
    if (s == NULL) {
      wait_for_raise(m, now); /* there would be no way to see whether it arrived */
      return;
    }
    m->probe_id = s->id;
    m->probe_end = s->out.sent;
    m->probe_at = now;
    m->probe_lost = ngtcp2_conn_get_stream_loss_count(c->ng, s->id);
    return;
  }
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
  wait_for_raise(m, c->engine->now);
  m->lost_dgrams = 0;
  m->lost_before = 0;
  m->sent_large = 0;
  c->stats.mtu_falls++;
  qe_conn_touch(c);
}

void qe_pathmtu_acked(qe_conn *c) {
  c->pathmtu.in_flight = 0;
}

/* If the large packet is lost, its bytes are sent again in a smaller one: when later packets are
 * acknowledged, or after a probe timeout. Only if neither has happened did the large packet
 * itself arrive. */
void qe_pathmtu_acked_stream(qe_conn *c, int64_t id, uint64_t end) {
  qe_pathmtu *m = &c->pathmtu;

  qe_pathmtu_acked(c);
  if (m->probe_id != id || end < m->probe_end) {
    return;
  }
  if (c->engine->now - m->probe_at > ngtcp2_conn_get_pto(c->ng) ||
      ngtcp2_conn_get_stream_loss_count(c->ng, id) != m->probe_lost) {
    wait_for_raise(m, c->engine->now);
    return;
  }
  reset(m);
}

void qe_pathmtu_dgram(qe_conn *c, int arrived) {
  qe_pathmtu *m = &c->pathmtu;

  if (!arrived) {
    m->lost_dgrams++;
    return;
  }
  m->lost_dgrams = 0;
  m->lost_before = 0;
  if (m->cap != 0) {
    reset(m); /* sent before the fall and yet arrived: the path takes full size */
  }
}

void qe_pathmtu_narrow(qe_conn *c, size_t largest) {
  /* Ignore refused probes: they are larger than the MTU in use. */
  if (c->handshake_done && c->end_mode == QE_END_NONE && largest < qe_conn_mtu(c)) {
    fall_back(c);
  }
}

void qe_pathmtu_forget(qe_conn *c) {
  reset(&c->pathmtu);
}

/* Whether a stream is stuck: it had bytes in flight at the last look, and none were acknowledged
 * since. Sets *waiting if any stream has bytes in flight. */
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
    if (m->probe_id >= 0 && now > m->probe_at + look_interval(c)) {
      wait_for_raise(m, now);
    }
    return;
  }
  if (m->check_at == 0 || now < m->check_at) {
    return;
  }
  ngtcp2_conn_info info;
  ngtcp2_conn_get_conn_info(c->ng, &info);
  m->check_at = 0;
  int stuck = any_stuck(c, &waiting) || m->in_flight > 0 ||
              (m->lost_before && m->lost_dgrams >= LOST_IN_A_ROW);
  if (stuck && m->sent_large) {
    fall_back(c);
    return;
  }
  m->lost_before = m->lost_dgrams > 0;
  m->sent_large = 0;
  m->in_flight = info.bytes_in_flight;
  if (waiting || m->in_flight > 0) {
    m->check_at = now + look_interval(c);
  }
}

/* While the size is capped no timer is needed: the next packet that is sent checks. */
qe_tstamp qe_pathmtu_next(const qe_conn *c) {
  if (!c->pathmtu.started && c->pathmtu.start_at != 0) {
    return c->pathmtu.start_at;
  }
  return c->pathmtu.check_at == 0 || c->pathmtu.cap != 0 ? QE_NEVER : c->pathmtu.check_at;
}
