#include "engine.h"

#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <time.h>

#include "accept.h"
#include "tls.h"
#include "udp.h"

#define REFUSALS_PER_SECOND 100

/* ----------------------------------------------------------- life, socks */

static void engine_destroy(qe_engine *e) {
  qe_linger_clear(&e->lingers);
  qe_batch_free(&e->batch);
  qe_timers_free(&e->timers);
  qe_cidmap_free(&e->cids);
  qe_cidmap_free(&e->tokens);
  qe_addrlimit_free(e->addresses);
  qe_cidmap_free(&e->clients);
  gnutls_memset(&e->secrets, 0, sizeof(e->secrets));
  gnutls_memset(e->set.secrets, 0, sizeof(e->set.secrets));
  if (e->tls != NULL) {
    qe_tls_unref(e->tls);
  }
  qe_scratch_free(&e->scratch);
  qe_pool_clear(&e->pool);
  free(e->socks);
  free(e->greeting);
  free(e);
}

/* A qe_outlet.sock function. */
static qe_sock *sock_of(const void *owner, uintptr_t id) {
  return qe_engine_sock(owner, id);
}

int qe_engine_new(qe_engine **out_engine, const qe_settings *settings, const qe_callbacks *cb,
                  void *engine_user, qe_tls *tls, qe_packets_out out, void *out_ctx) {
  if (out_engine == NULL || settings == NULL || cb == NULL ||
      (settings->is_server && tls == NULL)) {
    return QE_ERR_INVALID;
  }
  int rv = qe_settings_check(settings, NULL);
  if (rv != 0) {
    return rv;
  }
  if (settings->qlog && !qe_qlog_supported()) {
    return QE_ERR_UNSUPPORTED;
  }
  qe_engine *e = calloc(1, sizeof(*e));
  if (e == NULL) {
    return QE_ERR_NOMEM;
  }
  e->set = *settings;
  e->cb = *cb;
  e->user = engine_user;
  e->until = QE_NEVER;
  qe_batch_init(
      &e->batch,
      (qe_outlet){
          .send = out, .send_ctx = out_ctx, .sock = sock_of, .owner = e, .stats = &e->stats});
  qe_linger_init(&e->lingers, &e->cids, &e->timers, &e->batch);
  qe_bucket_init(&e->stateless, settings->stateless_resets_per_second,
                 settings->stateless_resets_per_second);
  qe_bucket_init(&e->refusals, REFUSALS_PER_SECOND, REFUSALS_PER_SECOND);
  if (settings->max_tx_udp_payload_size > 1452) {
    /* The library's own list of probe sizes ends at the Ethernet MTU. */
    e->pmtud_probes[0] = 1444;
    e->pmtud_probes[1] = (uint16_t)settings->max_tx_udp_payload_size;
  }
  if ((rv = qe_cidmap_init(&e->cids)) != 0 || (rv = qe_cidmap_init(&e->tokens)) != 0 ||
      (rv = qe_cidmap_init(&e->clients)) != 0 || (rv = qe_timers_init(&e->timers)) != 0) {
    goto fail;
  }
  if (settings->is_server && settings->handshakes_per_address > 0 &&
      (rv = qe_addrlimit_new(&e->addresses, settings->handshakes_per_address,
                             settings->handshakes_per_address)) != 0) {
    goto fail;
  }
  qe_steer_init(&e->steer, e->set.worker_index, (uint32_t)e->set.worker_count);
  qe_steer_set_lb(&e->steer, e->set.lb_config, e->set.lb_server_id, e->set.lb_server_id_len);
  if ((rv = qe_secrets_init(&e->secrets, e->set.secrets, e->set.secret_count)) != 0) {
    goto fail;
  }
  qe_engine_set_tls(e, tls);
  *out_engine = e;
  return 0;
fail:
  engine_destroy(e);
  return rv;
}

void qe_engine_free(qe_engine *e) {
  if (e == NULL) {
    return;
  }
  e->dying = 1;
  while (e->conns != NULL) {
    qe_conn *c = e->conns;
    qe_conn_end(c, QE_END_SILENT, QE_CLOSE_APPLICATION, 0, 0, "abandoned", 9);
    qe_conn_finish(c, e->now);
  }
  engine_destroy(e);
}

void qe_engine_set_tls(qe_engine *e, qe_tls *tls) {
  if (tls != NULL) {
    qe_tls_ref(tls);
  }
  if (e->tls != NULL) {
    qe_tls_unref(e->tls);
  }
  e->tls = tls;
}

int qe_engine_set_secrets(qe_engine *e, const uint8_t (*secrets)[32], size_t n) {
  qe_secrets made;
  int rv = n == 0 ? QE_ERR_INVALID : qe_secrets_init(&made, secrets, n);
  if (rv == 0) {
    e->secrets = made;
  }
  return rv;
}

int qe_engine_set_steering(qe_engine *e, const int16_t *homes, size_t places, const uint8_t *alive,
                           size_t alive_len, int ends) {
  return qe_steer_set(&e->steer, homes, places, alive, alive_len, ends);
}

void qe_engine_stop_accepting(qe_engine *e) {
  e->stop_accepting = 1;
  qe_steer_leave(&e->steer);
}

void qe_engine_add_sock(qe_engine *e, qe_sock *s) {
  qe_sock_entry *socks = realloc(e->socks, (e->sock_count + 1) * sizeof(*socks));
  if (socks == NULL) {
    return; /* its packets will be dropped, like those of a freed socket */
  }
  e->socks = socks;
  socks[e->sock_count].sock = s;
  socks[e->sock_count].id = ++e->next_sock_id;
  e->sock_count++;
}

void qe_engine_forget_sock(qe_engine *e, qe_sock *s) {
  for (size_t i = 0; i < e->sock_count; i++) {
    if (e->socks[i].sock == s) {
      e->socks[i] = e->socks[--e->sock_count];
      return;
    }
  }
}

uint32_t qe_engine_recv_batch(const qe_engine *e) {
  return e->set.recv_batch;
}

const void *qe_engine_owner(const qe_engine *e, const uint8_t *data, size_t len) {
  ngtcp2_version_cid vc;

  if (len == 0 || ngtcp2_pkt_decode_version_cid(&vc, data, len, e->set.cid_len) != 0 ||
      vc.dcidlen > NGTCP2_MAX_CIDLEN) {
    return NULL;
  }
  qe_target *t = qe_cidmap_get(&e->cids, vc.dcid, vc.dcidlen);
  return t != NULL && t->kind == QE_TARGET_CONN ? t : NULL;
}

void qe_engine_count_backlog(qe_engine *e, int64_t waiting, uint64_t dropped) {
  e->stats.backlog_packets += (uint64_t)waiting;
  e->stats.backlog_dropped += dropped;
}

void qe_engine_count_io(qe_engine *e, uint64_t send_calls, uint64_t recv_calls) {
  e->stats.send_calls += send_calls;
  e->stats.recv_calls += recv_calls;
}

uintptr_t qe_engine_sock_id(const qe_engine *e, const qe_sock *s) {
  for (size_t i = 0; i < e->sock_count; i++) {
    if (e->socks[i].sock == s) {
      return e->socks[i].id;
    }
  }
  return 0;
}

qe_sock *qe_engine_sock(const qe_engine *e, uintptr_t id) {
  for (size_t i = 0; i < e->sock_count; i++) {
    if (e->socks[i].id == id) {
      return e->socks[i].sock;
    }
  }
  return NULL;
}

/* --------------------------------------------------------------- helpers */

int qe_engine_new_cid(qe_engine *e, ngtcp2_cid *cid, size_t len) {
  do {
    if (qe_random(cid->data, len) != 0) {
      return QE_ERR_INTERNAL;
    }
    cid->datalen = len;
    qe_steer_stamp(&e->steer, cid->data, len);
  } while (qe_cidmap_get(&e->cids, cid->data, len) != NULL);
  return 0;
}

void qe_engine_release(qe_engine *e) {
  while (e->released != NULL) {
    qe_chunk *c = e->released;
    e->released = c->next;
    if (c->cap == 0 && c->owner != NULL) {
      QE_UPCALL(e, buffer_released, c->owner);
    }
    free(c);
  }
}

/* Tokens outlive the process and may be checked on another machine, so they carry wall-clock
 * time. The wall clock is read once; from then on the time advances with `now`. */
uint64_t qe_engine_wall(qe_engine *e, qe_tstamp now) {
  if (!e->has_wall_offset) {
    struct timespec ts = {0};
    clock_gettime(CLOCK_REALTIME, &ts);
    e->wall_offset = (uint64_t)ts.tv_sec * QE_SECOND + (uint64_t)ts.tv_nsec - now;
    e->has_wall_offset = 1;
  }
  return e->wall_offset + now;
}

/* --------------------------------------------------------------- packets */

/* After this many hops a packet is answered where it is: workers that learn of changes at
 * different times must not pass it around forever. */
#define QE_MAX_HOPS 3

/* A stateless reset looks like a packet with an unknown connection ID. Its last 16 bytes
 * identify the connection. */
static qe_target *find_by_reset_token(const qe_engine *e, const uint8_t *data, size_t len) {
  if ((data[0] & 0x80) != 0 || len < 21 || qe_cidmap_size(&e->tokens) == 0) {
    return NULL;
  }
  return qe_cidmap_get(&e->tokens, data + len - NGTCP2_STATELESS_RESET_TOKENLEN,
                       NGTCP2_STATELESS_RESET_TOKENLEN);
}

static int packet_in(qe_engine *e, qe_sock *sock, const struct sockaddr *local, socklen_t local_len,
                     const struct sockaddr *remote, socklen_t remote_len, unsigned ecn,
                     const uint8_t *data, size_t len, unsigned hops, qe_tstamp now) {
  ngtcp2_version_cid vc;

  now = qe_engine_clock(e, now);
  e->stats.packets_received++;
  e->stats.bytes_received += len;
  if (len == 0 || !qe_addr_ok(local, local_len) || !qe_addr_ok(remote, remote_len)) {
    e->stats.dropped_packets++;
    return 0;
  }
  ngtcp2_path path = {qe_addr(local, local_len), qe_addr(remote, remote_len),
                      (void *)qe_engine_sock_id(e, sock)};
  int rv = ngtcp2_pkt_decode_version_cid(&vc, data, len, e->set.cid_len);
  if (rv == NGTCP2_ERR_VERSION_NEGOTIATION && e->set.is_server) {
    qe_accept_version_negotiation(e, &vc, &path, now);
    return 0;
  }
  if (rv != 0) {
    e->stats.dropped_packets++;
    return 0;
  }
  qe_target *t =
      vc.dcidlen <= NGTCP2_MAX_CIDLEN ? qe_cidmap_get(&e->cids, vc.dcid, vc.dcidlen) : NULL;
  if (t == NULL) {
    t = find_by_reset_token(e, data, len);
  }
  if (t == NULL) {
    if (e->set.is_server) {
      int owner = qe_steer_owner(&e->steer, vc.dcid, vc.dcidlen, (data[0] & 0x80) != 0, hops > 0);
      if (owner < 0 || hops >= QE_MAX_HOPS) {
        return qe_accept_packet(e, &path, ecn, data, len, now);
      }
      e->stats.foreign_packets++;
      QE_UPCALL(e, foreign_packet, (unsigned)owner, hops + 1, sock, local, local_len, remote,
                remote_len, ecn, data, len);
      return 0;
    }
    e->stats.dropped_packets++;
    return 0;
  }
  if (t->kind == QE_TARGET_CONN) {
    qe_conn_read((qe_conn *)t, &path, ecn, data, len, now);
  } else {
    qe_linger_on_packet(&e->lingers, (qe_linger *)t, &path);
  }
  return 0;
}

int qe_engine_packet_in(qe_engine *e, qe_sock *sock, const struct sockaddr *local,
                        socklen_t local_len, const struct sockaddr *remote, socklen_t remote_len,
                        unsigned ecn, const uint8_t *data, size_t len, qe_tstamp now) {
  return packet_in(e, sock, local, local_len, remote, remote_len, ecn, data, len, 0, now);
}

int qe_engine_packet_handed(qe_engine *e, qe_sock *sock, const struct sockaddr *local,
                            socklen_t local_len, const struct sockaddr *remote,
                            socklen_t remote_len, unsigned ecn, const uint8_t *data, size_t len,
                            unsigned hops, qe_tstamp now) {
  return packet_in(e, sock, local, local_len, remote, remote_len, ecn, data, len,
                   hops == 0 ? 1 : hops, now);
}

void qe_engine_on_unreachable(qe_engine *e, const struct sockaddr *remote, socklen_t len,
                              int sys_errno) {
  if (e->set.is_server || !qe_addr_ok(remote, len)) {
    return;
  }
  for (qe_conn *c = e->conns; c != NULL; c = c->next) {
    /* Anyone can forge ICMP, so established connections ignore it. */
    if (c->handshake_done || c->end_mode != QE_END_NONE ||
        !qe_addr_eq(ngtcp2_conn_get_path(c->ng)->remote.addr, remote)) {
      continue;
    }
    qe_conn_end(c, QE_END_SILENT, QE_CLOSE_REFUSED, 0, 0, NULL, 0);
    if (c->end != NULL) {
      c->end->sys_errno = sys_errno;
    }
  }
}

void qe_engine_on_narrow_path(qe_engine *e, const struct sockaddr *remote, socklen_t len,
                              size_t largest) {
  if (!qe_addr_ok(remote, len)) {
    return;
  }
  for (qe_conn *c = e->conns; c != NULL; c = c->next) {
    if (qe_addr_eq(ngtcp2_conn_get_path(c->ng)->remote.addr, remote)) {
      qe_pathmtu_narrow(c, largest);
    }
  }
}

int qe_engine_connect(qe_engine *e, qe_conn **out, const qe_connect_options *opt, qe_tstamp now) {
  if (e == NULL || out == NULL || opt == NULL || e->set.is_server ||
      !qe_addr_ok(opt->local, opt->local_len) || !qe_addr_ok(opt->remote, opt->remote_len) ||
      opt->local->sa_family != opt->remote->sa_family || (opt->tls == NULL && e->tls == NULL)) {
    return QE_ERR_INVALID;
  }
  return qe_conn_new_client(e, out, opt, qe_engine_sock_id(e, opt->sock), qe_engine_clock(e, now));
}

/* --------------------------------------------------------------- process */

/* Connections, or timers, handled between two readings of the clock. */
#define PROCESS_STEP 16

void qe_engine_set_until(qe_engine *e, qe_tstamp until) {
  e->until = until;
}

bool qe_engine_is_late(const qe_engine *e) {
  return e->until != QE_NEVER && qe_udp_clock() >= e->until;
}

/* Returns false if due timers are left for a later call. */
static bool run_timers(qe_engine *e, qe_tstamp now) {
  qe_timer *top;

  for (size_t done = 0; (top = qe_timers_top(&e->timers)) != NULL && top->at <= now; done++) {
    if (done > 0 && done % PROCESS_STEP == 0 && qe_engine_is_late(e)) {
      return false;
    }
    qe_target *t = qe_target_of_timer(top);
    if (t->kind == QE_TARGET_LINGER) {
      qe_linger_remove(&e->lingers, (qe_linger *)t);
    } else {
      qe_timers_remove(&e->timers, top); /* the visit re-arms it */
      qe_conn_expire((qe_conn *)t, now);
    }
  }
  return true;
}

int qe_engine_process(qe_engine *e, qe_tstamp now) {
  int budget_left_work = 0;

  now = qe_engine_clock(e, now);
  e->last_process = now;
  e->batch.starved = 0;
  qe_batch_flush(&e->batch);
  budget_left_work = !run_timers(e, now);
  /* Visit each connection in the list once; connections that are added meanwhile wait. */
  for (size_t n = e->dirty_count, done = 0; done < n && e->dirty_head != NULL; done++) {
    if (done > 0 && done % PROCESS_STEP == 0 && qe_engine_is_late(e)) {
      break;
    }
    budget_left_work |= qe_conn_service(e->dirty_head, now);
  }
  qe_batch_flush(&e->batch);
  qe_engine_release(e);
  return (budget_left_work || e->dirty_head != NULL) && !e->batch.blocked && !e->batch.starved;
}

qe_tstamp qe_engine_next_tick(qe_engine *e) {
  if (!e->batch.blocked && (e->dirty_head != NULL || e->batch.n > 0)) {
    return e->batch.starved ? e->last_process + QE_STARVED_PAUSE : e->now;
  }
  qe_timer *top = qe_timers_top(&e->timers);
  if (top == NULL) {
    return QE_NEVER;
  }
  return qe_max(top->at, e->last_process + QE_TICK_FLOOR);
}

int qe_engine_in_upcall(const qe_engine *e) {
  return e->upcalls != 0;
}

int qe_engine_is_blocked(const qe_engine *e) {
  return e->batch.blocked;
}

void qe_engine_unblock(qe_engine *e) {
  e->batch.blocked = 0;
}

void qe_engine_get_stats(const qe_engine *e, qe_engine_stats *st) {
  *st = e->stats;
  st->lingering = e->lingers.count;
}
