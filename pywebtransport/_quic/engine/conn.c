/* conn.c - creating and ending a connection. */
#include "conn.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "addrcount.h"
#include "conn_keys.h"
#include "engine.h"
#include "hold.h"
#include "tls.h"

static const uint32_t V1_ONLY[] = {NGTCP2_PROTO_VER_V1};
static const uint32_t V1_FIRST[] = {NGTCP2_PROTO_VER_V1, NGTCP2_PROTO_VER_V2};
static const uint32_t V2_FIRST[] = {NGTCP2_PROTO_VER_V2, NGTCP2_PROTO_VER_V1};

#define CLIENT_DCID_LEN 18
/* Each challenge is answered with a full-size packet. A new path needs three, and three more
 * after a timeout. */
#define CHALLENGES_PER_SECOND 20
#define MAX_CHALLENGES 100
#define LEFTOVERS_PER_SECOND 4

/* ------------------------------------------------------------------ keys */

int qe_conn_add_key(qe_conn *c, qe_keys *keys, qe_cidmap *map, const uint8_t *key, size_t len) {
  if (len > NGTCP2_MAX_CIDLEN) {
    return QE_ERR_INVALID;
  }
  if (keys->n == keys->cap) {
    size_t cap = keys->cap == 0 ? 2 : keys->cap * 2;
    void *items = realloc(keys->items, cap * sizeof(*keys->items));
    if (items == NULL) {
      return QE_ERR_NOMEM;
    }
    keys->items = items;
    keys->cap = cap;
  }
  int rv = qe_cidmap_set(map, key, len, c);
  if (rv != 0) {
    return rv;
  }
  keys->items[keys->n].len = (uint8_t)len;
  memcpy(keys->items[keys->n].data, key, len);
  keys->n++;
  return 0;
}

void qe_conn_remove_key(qe_conn *c, qe_keys *keys, qe_cidmap *map, const uint8_t *key, size_t len) {
  if (qe_cidmap_get(map, key, len) == c) {
    qe_cidmap_del(map, key, len);
  }
  for (size_t i = 0; i < keys->n; i++) {
    if (keys->items[i].len == len && memcmp(keys->items[i].data, key, len) == 0) {
      keys->items[i] = keys->items[--keys->n];
      return;
    }
  }
}

static void forget_keys(qe_conn *c, qe_keys *keys, qe_cidmap *map) {
  for (size_t i = 0; i < keys->n; i++) {
    if (qe_cidmap_get(map, keys->items[i].data, keys->items[i].len) == c) {
      qe_cidmap_del(map, keys->items[i].data, keys->items[i].len);
    }
  }
  keys->n = 0;
}

/* ---------------------------------------------------------------- making */

static ngtcp2_conn *get_conn(ngtcp2_crypto_conn_ref *ref) {
  return ((qe_conn *)ref->user_data)->ng;
}

static void log_printf(void *user_data, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void log_printf(void *user_data, const char *format, ...) {
  qe_conn *c = user_data;
  char line[1024];
  va_list ap;

  va_start(ap, format);
  vsnprintf(line, sizeof(line), format, ap);
  va_end(ap);
  QE_UPCALL(c->engine, log_line, line);
}

static void qlog_write(void *user_data, uint32_t flags, const void *data, size_t len) {
  qe_conn *c = user_data;
  QE_UPCALL(c->engine, qlog_data, c, c->user, data, len, (flags & NGTCP2_QLOG_WRITE_FLAG_FIN) != 0);
}

static const uint16_t NO_PROBE[] = {UINT16_MAX}; /* larger than any UDP payload */

static int fill_settings(qe_engine *e, ngtcp2_settings *s, qe_tstamp now) {
  uint32_t number;

  ngtcp2_settings_default(s);
  s->initial_ts = now;
  switch (e->set.cc) {
  case QE_CC_RENO:
    s->cc_algo = NGTCP2_CC_ALGO_RENO;
    break;
  case QE_CC_BBR:
    s->cc_algo = NGTCP2_CC_ALGO_BBR;
    break;
  case QE_CC_CUBIC:
    s->cc_algo = NGTCP2_CC_ALGO_CUBIC;
    break;
  }
  s->max_tx_udp_payload_size = e->set.max_tx_udp_payload_size;
  s->no_tx_udp_payload_size_shaping = e->set.known_mtu != 0;
  if (e->set.pmtud == 0 || e->set.known_mtu != 0) {
    s->no_pmtud = (uint8_t)qe_no_pmtud_is_safe();
    if (!s->no_pmtud) { /* a size above the limit is never probed */
      s->pmtud_probes = NO_PROBE;
      s->pmtud_probeslen = 1;
    }
  } else if (e->pmtud_probes[1] != 0) {
    s->pmtud_probes = e->pmtud_probes;
    s->pmtud_probeslen = 2;
  }
  s->max_window = e->set.initial_max_data; /* see credit.h */
  s->max_stream_window = e->set.max_stream_window;
  s->handshake_timeout = e->set.handshake_timeout;
  if (qe_random((uint8_t *)&number, sizeof(number)) != 0) {
    return QE_ERR_INTERNAL;
  }
  s->initial_pkt_num = number & 0xffff;
  if (e->set.debug) {
    s->log_printf = log_printf;
  }
  if (e->set.qlog) {
    s->qlog_write = qlog_write;
  }
  if (e->set.is_server) {
    s->preferred_versions = e->set.prefer_v2 ? V2_FIRST : V1_FIRST;
    s->preferred_versionslen = 2;
    s->available_versions = s->preferred_versions;
    s->available_versionslen = 2;
  } else {
    s->available_versions = e->set.prefer_v2 ? V2_FIRST : V1_ONLY;
    s->available_versionslen = e->set.prefer_v2 ? 2 : 1;
  }
  return 0;
}

static void fill_params(const qe_engine *e, ngtcp2_transport_params *p) {
  ngtcp2_transport_params_default(p);
  p->initial_max_data = e->set.initial_max_data;
  p->initial_max_stream_data_bidi_local = e->set.initial_max_stream_data;
  p->initial_max_stream_data_bidi_remote = e->set.initial_max_stream_data;
  p->initial_max_stream_data_uni = e->set.initial_max_stream_data;
  p->initial_max_streams_bidi = e->set.max_streams_bidi;
  p->initial_max_streams_uni = e->set.max_streams_uni;
  p->max_idle_timeout = e->set.idle_timeout;
  /* One ID in use and spares for three new paths. Each ID costs both sides a keyed hash, entries
   * in two tables and 30 bytes of the first flight. */
  p->active_connection_id_limit = QE_PEER_IDS;
  p->max_datagram_frame_size = e->set.max_datagram_frame_size;
  p->disable_active_migration = e->set.enable_migration == 0;
  p->grease_quic_bit = 1;
}

static qe_conn *conn_alloc(qe_engine *e) {
  qe_conn *c = calloc(1, sizeof(*c));
  if (c == NULL) {
    return NULL;
  }
  c->target.kind = QE_TARGET_CONN;
  qe_timer_init(&c->target.timer);
  c->engine = e;
  c->is_server = e->set.is_server != 0;
  c->ref.get_conn = get_conn;
  c->ref.user_data = c;
  qe_sched_init(&c->sched);
  qe_dgram_queue_init(&c->dgrams, &e->pool, e->set.dgram_queue_count, e->set.dgram_queue_bytes);
  qe_dgram_log_init(&c->dgram_log);
  qe_pathmtu_init(&c->pathmtu);
  c->pathmtu.started = e->set.pmtud == 0 || e->set.known_mtu != 0; /* there is nothing to start */
  qe_libmem_init(&c->libmem, &e->scratch);
  qe_credit_init(c);
  qe_bucket_init(&c->challenges, CHALLENGES_PER_SECOND, MAX_CHALLENGES);
  qe_bucket_init(&c->resets, e->set.max_resets_per_second, e->set.max_resets_per_second);
  qe_bucket_init(&c->leftovers, LEFTOVERS_PER_SECOND, e->set.max_leftovers);
  ngtcp2_path_storage_zero(&c->path);

  c->next = e->conns;
  if (e->conns != NULL) {
    e->conns->prev = c;
  }
  e->conns = c;
  e->stats.half_open++;
  return c;
}

/* Arms the timer and queues the first visit. This is the last step of creation that can fail. */
static int conn_start(qe_conn *c, const ngtcp2_path *path, qe_tstamp now) {
  ngtcp2_path_copy(&c->path.path, path);
  c->last_event = now;
  if (c->engine->set.keep_alive > 0) {
    ngtcp2_conn_set_keep_alive_timeout(c->ng, c->engine->set.keep_alive);
  }
  int rv = qe_timers_set(&c->engine->timers, &c->target.timer, now);
  if (rv == 0) {
    qe_conn_touch(c);
  }
  return rv;
}

static int library_error(int rv) {
  return rv == NGTCP2_ERR_NOMEM ? QE_ERR_NOMEM : QE_ERR_INTERNAL;
}

static int attach_tls(qe_conn *c, qe_tls *tls, const char *server_name, const uint8_t *ticket,
                      size_t ticket_len) {
  qe_tls_session_params tp = {
      .tls = tls,
      .is_server = c->is_server,
      .server_name = server_name,
      .ticket = ticket,
      .ticket_len = ticket_len,
      .conn_ref = &c->ref,
      .owner = c,
  };
  int rv = qe_tls_session_new(&c->tls, &tp);
  if (rv == 0) {
    qe_conn_hook_secrets(c->tls);
    ngtcp2_conn_set_tls_native_handle(c->ng, c->tls);
  }
  return rv;
}

int qe_conn_new_client(qe_engine *e, qe_conn **out, const qe_connect_options *opt, uintptr_t sock,
                       qe_tstamp now) {
  ngtcp2_settings settings;
  ngtcp2_transport_params params;
  ngtcp2_callbacks callbacks;
  ngtcp2_cid dcid, scid;
  ngtcp2_path path = {qe_addr(opt->local, opt->local_len), qe_addr(opt->remote, opt->remote_len),
                      (void *)sock};
  qe_tls *tls = opt->tls != NULL ? opt->tls : e->tls;
  int rv = fill_settings(e, &settings, now);

  if (rv != 0) {
    return rv;
  }
  fill_params(e, &params);
  settings.token = opt->token;
  settings.tokenlen = opt->token == NULL ? 0 : opt->token_len;
  qe_conn_fill_callbacks(&callbacks, 0);
  dcid.datalen = CLIENT_DCID_LEN;
  if ((rv = qe_random(dcid.data, dcid.datalen)) != 0 ||
      (rv = qe_engine_new_cid(e, &scid, e->set.cid_len)) != 0) {
    return rv;
  }
  qe_conn *c = conn_alloc(e);
  if (c == NULL) {
    return QE_ERR_NOMEM;
  }
  c->user = opt->conn_user;
  rv = ngtcp2_conn_client_new(&c->ng, &dcid, &scid, &path, NGTCP2_PROTO_VER_V1, &callbacks,
                              &settings, &params, &c->libmem.mem, c);
  if (rv != 0) {
    c->ng = NULL;
    rv = library_error(rv);
    goto fail;
  }
  if (opt->server_name != NULL && (c->server_name = strdup(opt->server_name)) == NULL) {
    rv = QE_ERR_NOMEM;
    goto fail;
  }
  if ((rv = attach_tls(c, tls, opt->server_name, opt->ticket, opt->ticket_len)) != 0 ||
      (rv = qe_conn_add_key(c, &c->cids, &e->cids, scid.data, scid.datalen)) != 0 ||
      (rv = conn_start(c, &path, now)) != 0) {
    goto fail;
  }
  c->reported = 1;
  *out = c;
  return 0;
fail:
  qe_conn_discard(c);
  return rv;
}

int qe_conn_new_server(qe_engine *e, qe_conn **out, const qe_accept_params *p, qe_tstamp now) {
  ngtcp2_settings settings;
  ngtcp2_transport_params params;
  ngtcp2_callbacks callbacks;
  ngtcp2_cid scid;
  int rv = fill_settings(e, &settings, now);

  if (rv != 0) {
    return rv;
  }
  fill_params(e, &params);
  qe_conn_fill_callbacks(&callbacks, 1);
  if ((rv = qe_engine_new_cid(e, &scid, e->set.cid_len)) != 0) {
    return rv;
  }
  params.original_dcid = *p->original_dcid;
  params.original_dcid_present = 1;
  if (p->after_retry) {
    params.retry_scid = p->hd->dcid;
    params.retry_scid_present = 1;
  }
  if (p->token_type != NGTCP2_TOKEN_TYPE_UNKNOWN) {
    settings.token = p->hd->token;
    settings.tokenlen = p->hd->tokenlen;
    settings.token_type = p->token_type;
  }
  if (qe_secrets_reset_token(&e->secrets, 0, &scid, params.stateless_reset_token) != 0) {
    return QE_ERR_INTERNAL;
  }
  params.stateless_reset_token_present = 1;

  qe_conn *c = conn_alloc(e);
  if (c == NULL) {
    return QE_ERR_NOMEM;
  }
  rv = ngtcp2_conn_server_new(&c->ng, &p->hd->scid, &scid, p->path, p->hd->version, &callbacks,
                              &settings, &params, &c->libmem.mem, c);
  if (rv != 0) {
    c->ng = NULL;
    rv = library_error(rv);
    goto fail;
  }
  if ((rv = qe_addrcount_enter(&e->clients, p->path->remote.addr, &c->address)) != 0 ||
      (rv = attach_tls(c, e->tls, NULL, NULL, 0)) != 0 ||
      (rv = qe_conn_add_key(c, &c->cids, &e->cids, scid.data, scid.datalen)) != 0 ||
      (rv = qe_conn_add_key(c, &c->cids, &e->cids, p->hd->dcid.data, p->hd->dcid.datalen)) != 0 ||
      (rv = conn_start(c, p->path, now)) != 0) {
    goto fail;
  }
  *out = c;
  return 0;
fail:
  qe_conn_discard(c);
  return rv;
}

/* ---------------------------------------------------------------- ending */

void qe_conn_end(qe_conn *c, qe_end_mode mode, enum qe_close_kind kind, int remote, uint64_t code,
                 const void *reason, size_t reason_len) {
  if (c->end_mode != QE_END_NONE) {
    return;
  }
  c->end_mode = mode;
  c->end_code = code;
  c->end = calloc(1, sizeof(*c->end));
  if (c->end != NULL) {
    c->end->kind = kind;
    c->end->remote = remote;
    c->end->code = code;
    c->end->reason_len = qe_min(reason_len, QE_REASON_MAX);
    if (c->end->reason_len > 0) {
      memcpy(c->end->reason, reason, c->end->reason_len);
    }
    c->end->handshake_done = c->handshake_done;
    if (!remote && c->tls != NULL) {
      const char *text = qe_tls_session_error(c->tls);
      size_t len = qe_min(strlen(text), sizeof(c->end->tls_error) - 1);
      memcpy(c->end->tls_error, text, len);
    }
  }
  qe_conn_touch(c);
}

void qe_conn_end_excessive(qe_conn *c, const char *why) {
  qe_conn_end(c, QE_END_CLOSE, QE_CLOSE_APPLICATION, 0, c->engine->set.excessive_load_code, why,
              strlen(why));
}

/* Ends the connection after a CONNECTION_CLOSE or stateless reset of the peer. */
static void end_draining(qe_conn *c) {
  const ngtcp2_ccerr *err = ngtcp2_conn_get_ccerr(c->ng);

  if (c->got_stateless_reset) {
    qe_conn_end(c, QE_END_DRAIN, QE_CLOSE_STATELESS_RESET, 1, 0, NULL, 0);
  } else {
    qe_conn_end(c, QE_END_DRAIN,
                err->type == NGTCP2_CCERR_TYPE_APPLICATION ? QE_CLOSE_APPLICATION
                                                           : QE_CLOSE_TRANSPORT,
                1, err->error_code, err->reason, err->reason == NULL ? 0 : err->reasonlen);
  }
}

void qe_conn_end_library(qe_conn *c, int liberr) {
  ngtcp2_ccerr err;

  if (c->out_of_memory || liberr == NGTCP2_ERR_NOMEM) {
    qe_conn_end(c, QE_END_CLOSE, QE_CLOSE_INTERNAL, 0, NGTCP2_INTERNAL_ERROR, NULL, 0);
    return;
  }
  switch (liberr) {
  case NGTCP2_ERR_DRAINING:
    end_draining(c);
    return;
  case NGTCP2_ERR_IDLE_CLOSE:
    qe_conn_end(c, QE_END_SILENT, QE_CLOSE_IDLE, 0, 0, NULL, 0);
    return;
  case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
    qe_conn_end(c, QE_END_SILENT, QE_CLOSE_HANDSHAKE_TIMEOUT, 0, 0, NULL, 0);
    return;
  case NGTCP2_ERR_RECV_VERSION_NEGOTIATION:
    qe_conn_end(c, QE_END_SILENT, QE_CLOSE_VERSION, 1, 0, NULL, 0);
    return;
  case NGTCP2_ERR_RETRY:
    qe_conn_end(c, QE_END_RETRY, QE_CLOSE_TRANSPORT, 0, 0, NULL, 0);
    return;
  case NGTCP2_ERR_DROP_CONN:
  case NGTCP2_ERR_CLOSING:
    qe_conn_end(c, QE_END_SILENT, QE_CLOSE_TRANSPORT, 0, 0, NULL, 0);
    return;
  case NGTCP2_ERR_CRYPTO:
    ngtcp2_ccerr_default(&err);
    ngtcp2_ccerr_set_tls_alert(&err, ngtcp2_conn_get_tls_alert(c->ng), NULL, 0);
    if (ngtcp2_conn_get_tls_error(c->ng) != 0) {
      ngtcp2_ccerr_set_liberr(&err, ngtcp2_conn_get_tls_error(c->ng), NULL, 0);
    }
    qe_conn_end(c, QE_END_CLOSE, QE_CLOSE_TRANSPORT, 0, err.error_code, NULL, 0);
    return;
  case NGTCP2_ERR_CALLBACK_FAILURE:
    qe_conn_end(c, QE_END_CLOSE, QE_CLOSE_INTERNAL, 0, NGTCP2_INTERNAL_ERROR, NULL, 0);
    return;
  default:
    ngtcp2_ccerr_default(&err);
    ngtcp2_ccerr_set_liberr(&err, liberr, NULL, 0);
    qe_conn_end(c, QE_END_CLOSE, QE_CLOSE_TRANSPORT, 0, err.error_code, ngtcp2_strerror(liberr),
                strlen(ngtcp2_strerror(liberr)));
    return;
  }
}

/* Writes CONNECTION_CLOSE into buf; returns its length or 0. *ps receives the path. */
static size_t write_close(qe_conn *c, uint8_t *buf, size_t size, ngtcp2_path_storage *ps,
                          qe_tstamp now) {
  ngtcp2_ccerr err;
  ngtcp2_pkt_info pi = {0};
  const uint8_t *reason = c->end != NULL ? c->end->reason : NULL;
  size_t reason_len = c->end != NULL ? c->end->reason_len : 0;

  ngtcp2_ccerr_default(&err);
  if (c->end != NULL && c->end->kind == QE_CLOSE_APPLICATION) {
    ngtcp2_ccerr_set_application_error(&err, c->end_code, reason, reason_len);
  } else {
    ngtcp2_ccerr_set_transport_error(&err, c->end != NULL ? c->end_code : NGTCP2_INTERNAL_ERROR,
                                     reason, reason_len);
  }
  ngtcp2_ssize n = ngtcp2_conn_write_connection_close(c->ng, &ps->path, &pi, buf, size, &err, now);
  return n > 0 ? (size_t)n : 0;
}

/* Removes the connection from every table of the engine. */
static void conn_unlink(qe_conn *c) {
  qe_engine *e = c->engine;

  forget_keys(c, &c->cids, &e->cids);
  forget_keys(c, &c->tokens, &e->tokens);
  qe_timers_remove(&e->timers, &c->target.timer);
  if (c->is_dirty) {
    *(c->dirty_prev != NULL ? &c->dirty_prev->dirty_next : &e->dirty_head) = c->dirty_next;
    *(c->dirty_next != NULL ? &c->dirty_next->dirty_prev : &e->dirty_tail) = c->dirty_prev;
    c->is_dirty = 0;
    e->dirty_count--;
  }
  *(c->prev != NULL ? &c->prev->next : &e->conns) = c->next;
  if (c->next != NULL) {
    c->next->prev = c->prev;
  }
  if (c->handshake_done) {
    e->stats.connections--;
  } else {
    e->stats.half_open--;
  }
  if (c->address != NULL) {
    qe_addrcount_leave(&e->clients, c->address, c->handshake_done);
    c->address = NULL;
  }
}

static void conn_free(qe_conn *c, int report) {
  qe_engine *e = c->engine;

  qe_conn_free_holds(c);
  for (size_t i = 0; i < c->streams.nbuckets; i++) {
    while (c->streams.buckets[i] != NULL) {
      qe_stream_destroy(c->streams.buckets[i], report);
    }
  }
  qe_libmem_forget(c);
  c->work_head = c->work_tail = NULL;
  qe_engine_release(e);
  qe_dgram_clear(&c->dgrams, NULL, 1, qe_conn_dgram_gone, c);
  if (report) {
    qe_close_info internal = {.kind = QE_CLOSE_INTERNAL, .handshake_done = c->handshake_done};
    QE_UPCALL(e, conn_closed, c, c->user, c->end != NULL ? c->end : &internal);
    qe_engine_release(e);
  }
  for (size_t i = 0; i < c->groups.cap; i++) {
    if (c->groups.slots[i] != NULL) {
      qe_group_destroy(c->groups.slots[i]);
    }
  }
  /* Not earlier: the upcalls may have touched the connection again. */
  conn_unlink(c);
  if (c->ng != NULL) {
    ngtcp2_conn_del(c->ng);
  }
  qe_tls_session_free(c->tls);
  qe_engine_release(e);
  qe_group_table_free(&c->groups);
  qe_stream_map_free(&c->streams);
  qe_sched_free(&c->sched);
  qe_dgram_log_free(&c->dgram_log);
  free(c->end);
  free(c->cids.items);
  free(c->tokens.items);
  free(c->peer_cert);
  free(c->moving);
  free(c->idguard);
  qe_exporter_wipe(&c->exporter);
  free(c->server_name);
  free(c);
}

void qe_conn_discard(qe_conn *c) {
  conn_free(c, 0);
}

void qe_conn_finish(qe_conn *c, qe_tstamp now) {
  qe_engine *e = c->engine;
  uint8_t packet[NGTCP2_MAX_UDP_PAYLOAD_SIZE];
  ngtcp2_path_storage ps;
  size_t len = 0;

  ngtcp2_path_storage_zero(&ps);
  ngtcp2_path_copy(&ps.path, ngtcp2_conn_get_path(c->ng));
  if (!c->handshake_done) {
    e->stats.handshake_failed++;
    if (!c->reported && !e->dying && c->end != NULL) {
      QE_UPCALL(e, handshake_failed, ps.path.remote.addr, ps.path.remote.addrlen, c->end);
    }
  }
  uint64_t wait = 3 * ngtcp2_conn_get_pto(c->ng);
  if (c->end_mode == QE_END_CLOSE && !e->dying) {
    len = write_close(c, packet, sizeof(packet), &ps, now);
    if (len > 0) {
      qe_batch_put(&e->batch, &ps.path, 0, packet, len);
      c->stats.packets_sent++;
      c->stats.bytes_sent += len;
    }
  }
  if (!e->dying && (len > 0 || (c->end_mode == QE_END_DRAIN && !c->got_stateless_reset))) {
    qe_linger_add(&e->lingers, &c->cids, &ps.path, packet, len, qe_add_sat(now, wait));
    c->cids.n = 0;
  }
  conn_free(c, c->reported);
}

int qe_conn_close(qe_conn *c, int app, uint64_t code, const uint8_t *reason, size_t reason_len) {
  if (c == NULL || code > QE_MAX_VARINT || (reason == NULL && reason_len > 0)) {
    return QE_ERR_INVALID;
  }
  if (c->end_mode != QE_END_NONE) {
    return QE_ERR_CLOSED;
  }
  qe_conn_end(c, QE_END_CLOSE, app ? QE_CLOSE_APPLICATION : QE_CLOSE_TRANSPORT, 0, code, reason,
              reason_len);
  return 0;
}

void qe_conn_abandon(qe_conn *c) {
  if (c->end_mode == QE_END_NONE) {
    qe_conn_end(c, QE_END_SILENT, QE_CLOSE_APPLICATION, 0, 0, "abandoned", 9);
  } else if (c->end_mode == QE_END_CLOSE) {
    c->end_mode = QE_END_SILENT;
  }
  if (c->engine->upcalls == 0 && !c->in_library) {
    qe_conn_finish(c, c->engine->now);
  }
}

/* --------------------------------------------------- small public setters */

void qe_conn_set_user(qe_conn *c, void *cu) {
  c->user = cu;
}

void *qe_conn_get_user(const qe_conn *c) {
  return c->user;
}

int qe_conn_open_stream(qe_conn *c, int uni, void *su, qe_stream **out) {
  int64_t id;

  if (c == NULL || out == NULL) {
    return QE_ERR_INVALID;
  }
  if (c->end_mode != QE_END_NONE) {
    return QE_ERR_CLOSED;
  }
  if (!c->handshake_done) {
    return QE_ERR_NOT_READY;
  }
  int rv = qe_stream_prepare(c);
  if (rv != 0) {
    return rv;
  }
  qe_stream *s = qe_stream_new(c);
  if (s == NULL) {
    return QE_ERR_NOMEM;
  }
  rv = uni ? ngtcp2_conn_open_uni_stream(c->ng, &id, s)
           : ngtcp2_conn_open_bidi_stream(c->ng, &id, s);
  if (rv != 0) {
    qe_pool_free(&c->engine->pool, s);
    return rv == NGTCP2_ERR_STREAM_ID_BLOCKED ? QE_ERR_STREAM_LIMIT : library_error(rv);
  }
  qe_stream_enter(s, id, su);
  *out = s;
  return 0;
}

uint64_t qe_conn_streams_left(const qe_conn *c, int uni) {
  if (!c->handshake_done || c->end_mode != QE_END_NONE) {
    return 0;
  }
  return uni ? ngtcp2_conn_get_streams_uni_left(c->ng) : ngtcp2_conn_get_streams_bidi_left(c->ng);
}

void qe_conn_extend_streams(qe_conn *c, int uni, uint64_t n) {
  if (c->end_mode == QE_END_NONE) {
    qe_credit_add_streams(c, uni != 0, n);
  }
}

void qe_conn_consume(qe_conn *c, uint64_t n) {
  n = qe_min(n, c->handed_bytes - c->returned_bytes);
  if (n == 0 || c->end_mode != QE_END_NONE) {
    return;
  }
  c->returned_bytes += n;
  qe_credit_measure(c);
  if (c->handed_bytes > c->credit.due) {
    qe_credit_update(c);
  }
  qe_conn_touch(c);
}
