/* conn_info.c - the part of the user API of a connection for datagrams, path, TLS and counters. */
#include <stdlib.h>

#include "conn.h"
#include "engine.h"

/* ------------------------------------------------------------- datagrams */

uint64_t qe_conn_peer_max_datagram_frame_size(const qe_conn *c) {
  const ngtcp2_transport_params *tp = ngtcp2_conn_get_remote_transport_params(c->ng);
  return tp == NULL ? 0 : tp->max_datagram_frame_size;
}

size_t qe_conn_max_datagram_size(const qe_conn *c) {
  return c->handshake_done ? qe_conn_dgram_room(c) : 0;
}

int qe_conn_send_datagram(qe_conn *c, qe_group *group, const uint8_t *prefix, size_t prefix_len,
                          const uint8_t *data, size_t len, int priority, qe_tstamp deadline) {
  if (c == NULL || priority < 0 || priority >= QE_DGRAM_PRIORITIES ||
      (prefix == NULL && prefix_len > 0) || (data == NULL && len > 0) ||
      (group != NULL && group->conn != c)) {
    return QE_ERR_INVALID;
  }
  if (c->end_mode != QE_END_NONE) {
    return QE_ERR_CLOSED;
  }
  if (!c->handshake_done) {
    return QE_ERR_NOT_READY;
  }
  if (qe_conn_peer_max_datagram_frame_size(c) == 0) {
    return QE_ERR_DGRAM_DISABLED;
  }
  qe_pathmtu_start(c);
  size_t room = qe_conn_dgram_room(c);
  if (prefix_len > room || len > room - prefix_len) {
    return QE_ERR_DGRAM_TOO_LARGE;
  }
  if (group != NULL && group->dgrams_queued >= group->dgram_limit) {
    group->dgram_blocked = 1;
    return QE_ERR_BLOCKED;
  }
  int rv = qe_dgram_push(&c->dgrams, group, prefix, prefix_len, data, len, priority, deadline,
                         c->engine->now, qe_conn_dgram_gone, c);
  if (rv != 0) {
    return rv;
  }
  if (group != NULL) {
    qe_group_dgram_queued(group, prefix_len + len);
  }
  qe_conn_touch(c);
  return 0;
}

size_t qe_conn_datagrams_queued(const qe_conn *c) {
  return c->dgrams.count;
}

/* ------------------------------------------------------------------ path */

int qe_conn_migrate(qe_conn *c, qe_sock *sock, const struct sockaddr *local, socklen_t local_len,
                    qe_tstamp now) {
  if (c == NULL || !qe_addr_ok(local, local_len)) {
    return QE_ERR_INVALID;
  }
  if (c->end_mode != QE_END_NONE) {
    return QE_ERR_CLOSED;
  }
  if (c->is_server) {
    return QE_ERR_MIGRATION;
  }
  if (!c->handshake_done || c->in_library) {
    return QE_ERR_NOT_READY;
  }
  const ngtcp2_path *cur = ngtcp2_conn_get_path(c->ng);
  if (cur->local.addr->sa_family != local->sa_family) {
    return QE_ERR_INVALID;
  }
  ngtcp2_path path = {qe_addr(local, local_len), cur->remote,
                      (void *)qe_engine_sock_id(c->engine, sock)};
  if (c->moving == NULL) {
    if ((c->moving = malloc(sizeof(*c->moving))) == NULL) {
      return QE_ERR_NOMEM;
    }
    ngtcp2_path_storage_zero(c->moving);
  }
  now = qe_engine_clock(c->engine, now);
  qe_conn_settle_pause(c, now);
  int rv = ngtcp2_conn_initiate_migration(c->ng, &path, now);
  switch (rv) {
  case 0:
    ngtcp2_path_copy(&c->moving->path, &path);
    c->is_moving = 1;
    qe_conn_touch(c);
    return 0;
  case NGTCP2_ERR_INVALID_ARGUMENT:
    return QE_ERR_INVALID;
  case NGTCP2_ERR_NOMEM:
    return QE_ERR_NOMEM;
  default:
    return QE_ERR_MIGRATION;
  }
}

int qe_conn_initiate_key_update(qe_conn *c, qe_tstamp now) {
  if (c == NULL) {
    return QE_ERR_INVALID;
  }
  if (c->end_mode != QE_END_NONE) {
    return QE_ERR_CLOSED;
  }
  /* The library fails an assert unless the handshake is finished, and on a client it is finished
   * only after the write that ends it. */
  if (!c->handshake_done || c->in_library || (!c->is_server && !c->past_handshake)) {
    return QE_ERR_NOT_READY;
  }
  now = qe_engine_clock(c->engine, now);
  qe_conn_settle_pause(c, now);
  if (ngtcp2_conn_initiate_key_update(c->ng, now) != 0) {
    return QE_ERR_NOT_READY; /* handshake not confirmed yet, or too soon after the last update */
  }
  qe_conn_touch(c);
  return 0;
}

static void copy_addr(struct sockaddr_storage *out, const ngtcp2_addr *a) {
  memset(out, 0, sizeof(*out));
  memcpy(out, a->addr, a->addrlen);
}

void qe_conn_get_path(const qe_conn *c, struct sockaddr_storage *local,
                      struct sockaddr_storage *remote) {
  const ngtcp2_path *p = ngtcp2_conn_get_path(c->ng);
  copy_addr(local, &p->local);
  copy_addr(remote, &p->remote);
}

qe_sock *qe_conn_get_sock(const qe_conn *c) {
  return qe_engine_sock(c->engine, qe_path_sock_id(ngtcp2_conn_get_path(c->ng)));
}

/* ------------------------------------------------------------------- TLS */

int qe_conn_export(qe_conn *c, const char *label, size_t label_len, const uint8_t *context,
                   size_t context_len, uint8_t *out, size_t out_len) {
  if (c == NULL || label == NULL || out == NULL) {
    return QE_ERR_INVALID;
  }
  if (!c->handshake_done) {
    return QE_ERR_NOT_READY;
  }
  return qe_export(&c->exporter, label, label_len, context, context_len, out, out_len);
}

size_t qe_conn_peer_certificate(qe_conn *c, const uint8_t **der) {
  *der = c->peer_cert;
  return c->peer_cert_len;
}

const char *qe_conn_alpn(const qe_conn *c) {
  return c->alpn;
}

const char *qe_conn_server_name(const qe_conn *c) {
  return c->server_name != NULL ? c->server_name : "";
}

int qe_conn_resumed(const qe_conn *c) {
  return c->resumed;
}

/* -------------------------------------------------------------- counters */

static void fill_counted(const qe_conn_counters *n, qe_conn_stats *st) {
  st->bytes_sent = n->bytes_sent;
  st->bytes_received = n->bytes_received;
  st->packets_sent = n->packets_sent;
  st->packets_received = n->packets_received;
  st->stream_bytes_sent = n->stream_bytes_sent;
  st->stream_bytes_received = n->stream_bytes_received;
  st->dgrams_sent = n->dgrams_sent;
  st->dgrams_received = n->dgrams_received;
  st->dgrams_acked = n->dgrams_acked;
  st->dgrams_lost = n->dgrams_lost;
  st->dgrams_dropped = n->dgrams_dropped;
  st->dgrams_expired = n->dgrams_expired;
  st->streams_opened_local = n->streams_opened_local;
  st->streams_opened_remote = n->streams_opened_remote;
  st->resets_received = n->resets_received;
  st->leftovers = n->leftovers;
  st->mtu_falls = n->mtu_falls;
  /* The counter is one ahead, because the keys of the first update are prepared in advance. */
  st->key_updates = n->key_updates > 0 ? n->key_updates - 1 : 0;
}

void qe_conn_get_stats(qe_conn *c, qe_conn_stats *st) {
  ngtcp2_conn_info info;

  memset(st, 0, sizeof(*st));
  fill_counted(&c->stats, st);
  ngtcp2_conn_get_conn_info(c->ng, &info);
  if (info.latest_rtt > 0 && info.min_rtt != UINT64_MAX) {
    st->smoothed_rtt = info.smoothed_rtt;
    st->latest_rtt = info.latest_rtt;
    st->min_rtt = info.min_rtt;
    st->rttvar = info.rttvar;
  }
  st->cwnd = info.cwnd;
  st->ssthresh = info.ssthresh;
  st->bytes_in_flight = info.bytes_in_flight;
  st->packets_lost = qe_packets_lost(&info);
  st->dgrams_queued = c->dgrams.count;
  st->streams_alive = c->streams.size;
  st->max_udp_payload = (uint32_t)qe_conn_mtu(c);
  st->version = ngtcp2_conn_get_negotiated_version(c->ng);
}
