/* conn_io.c - reading packets, writing packets and timers of one connection. */
#include "accept.h"
#include "conn.h"
#include "engine.h"
#include "hold.h"

#define MAX_VECS 16
#define MAX_FRAMES 64 /* stream and datagram frames per packet */
#define MIN_PAUSE QE_MILLISECOND
#define MIN_BURST 10 /* packets that may always be sent in one burst */
#define MOST_POSTPONED (5 * QE_MILLISECOND)
#define MAX_QUEUED_ON_PATH ((uint64_t)1 << 20)

void qe_conn_touch(qe_conn *c) {
  qe_engine *e = c->engine;
  if (c->is_dirty) {
    return;
  }
  c->is_dirty = 1;
  c->dirty_next = NULL;
  c->dirty_prev = e->dirty_tail;
  *(e->dirty_tail != NULL ? &e->dirty_tail->dirty_next : &e->dirty_head) = c;
  e->dirty_tail = c;
  e->dirty_count++;
}

void qe_conn_postpone(qe_conn *c) {
  qe_tstamp now = c->engine->now;

  if (c->postponed_at == 0) {
    c->postponed_at = now;
  }
  c->postponed = now - c->postponed_at < MOST_POSTPONED;
}

static void untouch(qe_conn *c) {
  qe_engine *e = c->engine;
  if (!c->is_dirty) {
    return;
  }
  *(c->dirty_prev != NULL ? &c->dirty_prev->dirty_next : &e->dirty_head) = c->dirty_next;
  *(c->dirty_next != NULL ? &c->dirty_next->dirty_prev : &e->dirty_tail) = c->dirty_prev;
  c->is_dirty = 0;
  e->dirty_count--;
}

/* --------------------------------------------------------------- pacing */

/*
 * The library adds up the bytes written, and ngtcp2_conn_update_pkt_tx_time turns the sum into a
 * pause. Event loops cannot wait less than about a millisecond, so it is called during a burst only
 * if the pause is at least that long. A fast path therefore sends bursts that the congestion window
 * limits, and a slow path sends about a millisecond's worth at a time. A shorter pause is reported
 * to the library once it is over, so that bytes sent slowly enough do not add up to a pause later.
 */
static uint64_t pause_of(const qe_conn *c) {
  ngtcp2_conn_info info;

  ngtcp2_conn_get_conn_info(c->ng, &info);
  /* The library computes in whole nanoseconds per byte, so very fast paths are not paced. The
   * factor 1.25 is from RFC 9002 section 7.7. */
  return info.cwnd == 0 ? 0 : c->paced_bytes * (info.smoothed_rtt * 100 / 125 / info.cwnd);
}

void qe_conn_settle_pause(qe_conn *c, qe_tstamp now) {
  if (c->paced_bytes > 0 && now > c->last_event && c->engine->set.pacing &&
      now - c->last_event >= pause_of(c)) {
    ngtcp2_conn_update_pkt_tx_time(c->ng, c->last_event);
    c->paced_bytes = 0;
  }
  c->last_event = now;
}

/* Call it within a burst. Returns 1 if a pause begins. */
static int begin_pause(qe_conn *c, size_t mtu, qe_tstamp now) {
  if (!c->engine->set.pacing || c->paced_bytes < MIN_BURST * mtu || pause_of(c) < MIN_PAUSE) {
    return 0;
  }
  ngtcp2_conn_update_pkt_tx_time(c->ng, now);
  c->paced_bytes = 0;
  return 1;
}

/* --------------------------------------------------------------- reading */

/* A client's socket may be bound to a wildcard address, but the kernel reports the concrete
 * address that a packet was sent to. The library identifies a path by the address that it was
 * created with, so use the address that belongs to the socket. */
static void client_path(const qe_conn *c, ngtcp2_path *path) {
  const ngtcp2_path *cur = ngtcp2_conn_get_path(c->ng);

  if (path->user_data == NULL) {
    return;
  }
  if (cur->user_data == path->user_data) {
    path->local = cur->local;
  } else if (c->is_moving && c->moving->path.user_data == path->user_data) {
    path->local = c->moving->path.local;
  }
}

void qe_conn_read(qe_conn *c, const ngtcp2_path *from, unsigned ecn, const uint8_t *data,
                  size_t len, qe_tstamp now) {
  ngtcp2_pkt_info pi = {.ecn = (uint8_t)(ecn & 3)};
  ngtcp2_path path = *from;

  if (c->end_mode != QE_END_NONE) {
    return;
  }
  if (!c->is_server) {
    client_path(c, &path);
  }
  c->stats.packets_received++;
  c->stats.bytes_received += len;
  qe_conn_settle_pause(c, now);
  c->in_library = 1;
  qe_conn_set_current(c);
  int rv = ngtcp2_conn_read_pkt(c->ng, &path, &pi, data, len, now);
  qe_conn_set_current(NULL);
  c->in_library = 0;

  qe_conn_settle_doubtful(c);
  if (rv != 0) {
    qe_conn_end_library(c, rv);
  } else {
    qe_conn_apply_stops(c);
    qe_conn_drop_tls(c);
    if (qe_libmem_is_large(&c->libmem)) {
      qe_libmem_check(c);
    }
  }
  qe_conn_touch(c);
  qe_conn_run_work(c);

  qe_engine *e = c->engine;
  if (c->reported && c->end_mode == QE_END_NONE) {
    if (c->ev_streams_bidi) {
      c->ev_streams_bidi = 0;
      QE_UPCALL(e, streams_available, c, c->user, 0);
    }
    if (c->ev_streams_uni) {
      c->ev_streams_uni = 0;
      QE_UPCALL(e, streams_available, c, c->user, 1);
    }
  }
}

/* --------------------------------------------------------------- writing */

typedef struct packet_state {
  uint8_t *dest;
  size_t destlen;
  ngtcp2_path_storage ps;
  ngtcp2_pkt_info pi;
  ngtcp2_pkt_info *ppi; /* NULL without ECN */
  int pending;          /* the library holds an unfinished packet */
  int frames;           /* stream and datagram frames in it */
  qe_stream *last;      /* the stream whose bytes are last in it */
  int skip_dgrams, skip_streams;
  qe_tstamp now;
} packet_state;

void qe_conn_dgram_gone(void *ctx, const qe_dgram *d, enum qe_dgram_fate fate) {
  qe_conn *c = ctx;
  switch (fate) {
  case QE_DGRAM_SENT:
    c->stats.dgrams_sent++;
    break;
  case QE_DGRAM_DROPPED:
    c->stats.dgrams_dropped++;
    break;
  case QE_DGRAM_EXPIRED:
    c->stats.dgrams_expired++;
    break;
  }
  if (d->group != NULL) {
    qe_group_dgram_left(d->group, d->len, fate);
  }
}

size_t qe_conn_dgram_room(const qe_conn *c) {
  const ngtcp2_transport_params *tp = ngtcp2_conn_get_remote_transport_params(c->ng);
  /* Short header with a 4-byte packet number, AEAD tag, frame type. */
  size_t overhead = 1 + ngtcp2_conn_get_dcid(c->ng)->datalen + 4 + 16 + 1;

  if (tp == NULL || tp->max_datagram_frame_size < 2) {
    return 0;
  }
  uint64_t room = qe_conn_mtu(c) - overhead;
  room = qe_min(room, qe_min(tp->max_datagram_frame_size, 65535) - 1);
  /* The rest is the length field and the payload. */
  if (room > 2 + 63) {
    return (size_t)(room > 4 + 16383 ? room - 4 : qe_min(room - 2, 16383));
  }
  return (size_t)qe_min(room - 1, 63);
}

/*
 * Datagrams have no flow control, and the congestion window grows until something is lost: here,
 * until the receiver's socket overflows. So datagrams wait while more than a megabyte is queued on
 * the path. The queue is estimated from how far the round-trip time is above its minimum. This does
 * not limit a long fast path, and datagrams do not grow old in front of a slow receiver.
 */
static int path_is_full(const qe_conn *c) {
  ngtcp2_conn_info info;

  /* If streams are waiting, they would use the room, so holding datagrams back would not help. */
  if (c->dgrams.count == 0 || qe_sched_top(&c->sched) != NULL) {
    return 0;
  }
  ngtcp2_conn_get_conn_info(c->ng, &info);
  if (info.bytes_in_flight <= MAX_QUEUED_ON_PATH || info.latest_rtt <= info.min_rtt) {
    return 0;
  }
  double queued = 1.0 - (double)info.min_rtt / (double)info.latest_rtt;
  return (double)info.bytes_in_flight * queued > (double)MAX_QUEUED_ON_PATH;
}

/* Tries to add one datagram. Returns 1 if the packet is finished, with its result in *n, or 0 to
 * go on. */
static int step_dgram(qe_conn *c, packet_state *st, qe_dgram *d, ngtcp2_ssize *n) {
  uint32_t flags = NGTCP2_WRITE_DATAGRAM_FLAG_NONE;
  ngtcp2_vec vec = {d->data, d->len};
  int accepted = 0;
  uint64_t slot = d->group != NULL ? d->group->slot : 0;
  uint64_t id = (slot << 48) | (c->dgram_log.next_seq & QE_DGRAM_SEQ);

  if (d->len + QE_DGRAM_LARGE_OVERHEAD > QE_BASE_MTU) {
    id |= QE_DGRAM_LARGE; /* too large for a packet of QE_BASE_MTU bytes */
  }

  if (c->dgrams.count > 1 || qe_sched_top(&c->sched) != NULL) {
    flags = NGTCP2_WRITE_DATAGRAM_FLAG_MORE;
  }
  *n = ngtcp2_conn_writev_datagram(c->ng, &st->ps.path, st->ppi, st->dest, st->destlen, &accepted,
                                   flags, id, &vec, d->len > 0 ? 1 : 0, st->now);
  if (accepted) {
    st->last = NULL;
    qe_dgram_log_sent(&c->dgram_log);
    qe_conn_dgram_gone(c, d, QE_DGRAM_SENT);
    qe_dgram_pop(&c->dgrams);
  }
  if (*n == NGTCP2_ERR_WRITE_MORE) {
    st->pending = 1;
    st->frames++;
    return 0;
  }
  if (*n == 0 && !st->pending) {
    st->skip_dgrams = 1; /* the congestion window has no room, or not enough */
    return 0;
  }
  return 1;
}

static int step_stream(qe_conn *c, packet_state *st, qe_stream *s, int others, ngtcp2_ssize *n) {
  uint32_t flags = NGTCP2_WRITE_STREAM_FLAG_NONE;
  ngtcp2_vec vecs[MAX_VECS];
  ngtcp2_ssize written = -1;
  size_t total;
  int fin;
  size_t count = qe_stream_peek(s, st->destlen, vecs, MAX_VECS, &total, &fin);

  if (total == 0 && !fin) {
    if (s->group_blocked) {
      return 0; /* peek took it out of the schedule */
    }
    qe_sched_remove(&c->sched, &s->node);
    return 0;
  }
  if (fin) {
    flags |= NGTCP2_WRITE_STREAM_FLAG_FIN;
  }
  if (others && total < st->destlen) {
    flags |= NGTCP2_WRITE_STREAM_FLAG_MORE;
  }
  *n = ngtcp2_conn_writev_stream(c->ng, &st->ps.path, st->ppi, st->dest, st->destlen, &written,
                                 flags, s->id, vecs, count, st->now);
  if (written >= 0) {
    st->last = written > 0 ? s : NULL;
    qe_stream_sent(s, (size_t)written, fin && (size_t)written == total);
  }
  switch (*n) {
  case NGTCP2_ERR_WRITE_MORE:
    st->pending = 1;
    st->frames++;
    return 0;
  case NGTCP2_ERR_STREAM_DATA_BLOCKED:
    if (flags & NGTCP2_WRITE_STREAM_FLAG_MORE) {
      st->pending = 1;
    }
    s->flow_blocked = 1;
    qe_stream_reschedule(s);
    return 0;
  case NGTCP2_ERR_STREAM_SHUT_WR:
  case NGTCP2_ERR_STREAM_NOT_FOUND:
    qe_sched_remove(&c->sched, &s->node);
    qe_stream_on_stop_sending(s, 0, 0);
    return 0;
  default:
    if (*n == 0 && !st->pending && ngtcp2_conn_get_max_data_left(c->ng) == 0) {
      st->skip_streams = 1; /* no connection credit left; datagrams need none */
      return 0;
    }
    return 1;
  }
}

/* Writes one packet. Returns its length, 0 if nothing can be sent now, or an error. */
static ngtcp2_ssize write_packet(qe_conn *c, packet_state *st) {
  ngtcp2_ssize n;
  int dgram_first = c->dgram_turn;
  int shared = 0; /* streams and datagrams wait: they take turns */

  st->pending = 0;
  st->frames = 0;
  /* Each iteration adds a frame, takes a stream out of the schedule, sets a skip flag or ends
   * the loop. */
  while ((c->handshake_done || c->greeting != NULL) && st->frames < MAX_FRAMES) {
    qe_dgram *d = NULL;
    qe_sched_node *node = st->skip_streams ? NULL : qe_sched_top(&c->sched);

    if (!st->skip_dgrams && c->dgrams.count > 0) {
      d = qe_dgram_peek(&c->dgrams, qe_conn_dgram_room(c), st->now, qe_conn_dgram_gone, c);
    }
    if (d == NULL && node == NULL) {
      break;
    }
    if (d != NULL && node != NULL && !shared) {
      shared = 1;
      c->dgram_turn = !c->dgram_turn;
    }
    if (d != NULL && (node == NULL || dgram_first)) {
      if (step_dgram(c, st, d, &n)) {
        st->pending = 0;
        return n;
      }
    } else {
      if (step_stream(c, st, (qe_stream *)node, c->sched.len > 1 || d != NULL, &n)) {
        st->pending = 0;
        return n;
      }
    }
    if (c->end_mode != QE_END_NONE) {
      break;
    }
  }
  st->pending = 0;
  return ngtcp2_conn_writev_stream(c->ng, &st->ps.path, st->ppi, st->dest, st->destlen, NULL,
                                   NGTCP2_WRITE_STREAM_FLAG_NONE, -1, NULL, 0, st->now);
}

typedef enum write_result {
  WRITE_DONE,   /* nothing more can be sent now */
  WRITE_BUDGET, /* more to send, but other connections come first */
  WRITE_NO_ROOM /* the batch is full until the socket is writable */
} write_result;

static write_result conn_write(qe_conn *c, qe_tstamp now) {
  qe_engine *e = c->engine;
  packet_state st = {.now = now};
  size_t sent = 0;

  ngtcp2_path_storage_zero(&st.ps);
  st.ppi = e->set.ecn ? &st.pi : NULL;
  qe_pathmtu_check(c, now);
  st.skip_dgrams = path_is_full(c);
  qe_conn_settle_pause(c, now);
  while (sent < e->set.send_batch) {
    size_t mtu = qe_conn_mtu(c);
    st.destlen = qe_pathmtu_room(c, now);
    st.last = NULL;
    st.dest = qe_batch_reserve(&e->batch, st.destlen);
    if (st.dest == NULL) {
      return WRITE_NO_ROOM;
    }
    memset(&st.pi, 0, sizeof(st.pi));
    c->in_library = 1;
    qe_conn_set_current(c);
    ngtcp2_ssize n = write_packet(c, &st);
    qe_conn_set_current(NULL);
    c->in_library = 0;
    if (n < 0) {
      qe_conn_end_library(c, (int)n);
      return WRITE_DONE;
    }
    if (n == 0) {
      return WRITE_DONE;
    }
    qe_batch_commit(&e->batch, &st.ps.path, st.pi.ecn, (size_t)n, (size_t)n > mtu);
    sent += (size_t)n;
    c->stats.packets_sent++;
    c->stats.bytes_sent += (size_t)n;
    /* Probes of the library are larger than any other packet; their loss means nothing here. */
    qe_pathmtu_sent(c, (size_t)n > mtu && c->pathmtu.cap == 0 ? 0 : (size_t)n, st.last, now);
    c->paced_bytes += (size_t)n;
    if (begin_pause(c, mtu, now)) {
      return WRITE_DONE; /* the next expiry includes the pause */
    }
  }
  return WRITE_BUDGET;
}

/* ---------------------------------------------------------------- visits */

void qe_conn_expire(qe_conn *c, qe_tstamp now) {
  if (c->end_mode == QE_END_NONE) {
    qe_conn_settle_pause(c, now);
    c->in_library = 1;
    int rv = ngtcp2_conn_handle_expiry(c->ng, now);
    c->in_library = 0;
    if (rv != 0) {
      qe_conn_end_library(c, rv);
    }
  }
  qe_conn_touch(c);
}

static int same_path(const ngtcp2_path *a, const ngtcp2_path *b) {
  return a->user_data == b->user_data && qe_addr_eq(a->remote.addr, b->remote.addr) &&
         qe_addr_eq(a->local.addr, b->local.addr);
}

static void check_path(qe_conn *c) {
  qe_engine *e = c->engine;
  const ngtcp2_path *cur = ngtcp2_conn_get_path(c->ng);

  if (!same_path(cur, &c->path.path)) {
    ngtcp2_path_copy(&c->path.path, cur);
    qe_pathmtu_forget(c);
    if (c->is_moving && same_path(cur, &c->moving->path)) {
      c->is_moving = 0;
    }
    if (c->reported) {
      QE_UPCALL(e, path_changed, c, c->user, 1);
    }
  }
  if (c->ev_path_failed) {
    c->ev_path_failed = 0;
    c->is_moving = 0;
    if (c->reported) {
      QE_UPCALL(e, path_changed, c, c->user, 0);
    }
  }
}

static void give_token(qe_conn *c, qe_tstamp now) {
  uint8_t token[NGTCP2_CRYPTO_MAX_REGULAR_TOKENLEN];
  size_t len = qe_accept_new_token(c->engine, &ngtcp2_conn_get_path(c->ng)->remote, token, now);

  c->ev_new_token = 0;
  if (len > 0) {
    int rv = ngtcp2_conn_submit_new_token(c->ng, token, len);
    if (rv != 0) {
      qe_conn_end_library(c, rv);
    }
  }
}

static uint64_t in_flight(const qe_conn *c) {
  ngtcp2_conn_info info;

  ngtcp2_conn_get_conn_info(c->ng, &info);
  return info.bytes_in_flight;
}

int qe_conn_service(qe_conn *c, qe_tstamp now) {
  qe_engine *e = c->engine;
  write_result result = WRITE_DONE;

  untouch(c);
  if (c->postponed) {
    c->postponed = 0;
    if (c->end_mode == QE_END_NONE) {
      qe_conn_touch(c);
      return 0;
    }
  }
  if (c->end_mode == QE_END_NONE) {
    if (c->ev_new_token) {
      give_token(c, now);
    }
    qe_conn_expire_stops(c, now);
    if (c->holds != NULL) {
      qe_conn_settle_holds(c, now, 0);
    }
    qe_conn_run_work(c);
  }
  if (c->end_mode == QE_END_NONE) {
    qe_credit_tell_streams(c, now);
    uint64_t before = c->holds == NULL ? 0 : in_flight(c);
    result = conn_write(c, now);
    if (c->holds != NULL) {
      qe_conn_settle_holds(c, now, in_flight(c) > before);
    }
    qe_conn_run_work(c);
    if (qe_dgram_take_writable(&c->dgrams)) {
      c->ev_dgram_writable = 1;
    }
    if (c->end_mode == QE_END_NONE && c->reported && c->ev_dgram_writable) {
      c->ev_dgram_writable = 0;
      QE_UPCALL(e, dgram_writable, c, c->user);
    }
  }
  if (c->end_mode == QE_END_NONE) {
    check_path(c);
  }
  if (c->end_mode != QE_END_NONE) {
    qe_conn_finish(c, now);
    return 0;
  }
  qe_tstamp expiry = qe_min(ngtcp2_conn_get_expiry(c->ng), qe_conn_next_stop(c));
  expiry = qe_min(expiry, qe_pathmtu_next(c));
  expiry = qe_min(expiry, qe_conn_next_hold(c));
  expiry = qe_min(expiry, qe_credit_next(c));
  if (qe_timers_set(&e->timers, &c->target.timer, expiry) != 0) {
    qe_conn_end(c, QE_END_CLOSE, QE_CLOSE_INTERNAL, 0, NGTCP2_INTERNAL_ERROR, NULL, 0);
  }
  if (result != WRITE_DONE) {
    qe_conn_touch(c);
  }
  return result == WRITE_BUDGET;
}
