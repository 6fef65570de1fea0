#include "accept.h"

#include <stdlib.h>
#include <string.h>

#include "conn.h"
#include "engine.h"

#define RETRY_TOKEN_LIFE (10 * QE_SECOND)
#define REGULAR_TOKEN_LIFE (24 * 3600 * QE_SECOND)
#define MIN_RESET (NGTCP2_MIN_STATELESS_RESET_RANDLEN + NGTCP2_STATELESS_RESET_TOKENLEN) /* 21 */
#define MAX_RESET_RAND 24

/* Copies an address with all unused fields zero: the result may be hashed, and the kernel does
 * not promise to clear them. */
static socklen_t plain_addr(const ngtcp2_addr *a, ngtcp2_sockaddr_union *out) {
  memset(out, 0, sizeof(*out));
  if (a->addr->sa_family == AF_INET) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)a->addr;
    out->in.sin_family = AF_INET;
    out->in.sin_port = in->sin_port;
    out->in.sin_addr = in->sin_addr;
    return sizeof(out->in);
  }
  const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)a->addr;
  out->in6.sin6_family = AF_INET6;
  out->in6.sin6_port = in6->sin6_port;
  out->in6.sin6_addr = in6->sin6_addr;
  return sizeof(out->in6);
}

/* Whether a refused client gets an answer now: refusals are rate-limited. */
static int may_refuse(qe_engine *e, qe_tstamp now) {
  if (qe_bucket_take(&e->refusals, now) && qe_bucket_take(&e->stateless, now)) {
    return 1;
  }
  e->stats.rate_limited++;
  return 0;
}

/* Reports a client that gets an answer but no connection. */
static void tell_refused(qe_engine *e, const ngtcp2_path *path, enum qe_close_kind kind,
                         uint64_t code, const char *reason) {
  qe_close_info info = {.kind = kind, .code = code, .reason_len = strlen(reason)};

  memcpy(info.reason, reason, info.reason_len);
  QE_UPCALL(e, handshake_failed, path->remote.addr, path->remote.addrlen, &info);
}

void qe_accept_version_negotiation(qe_engine *e, const ngtcp2_version_cid *vc,
                                   const ngtcp2_path *path, qe_tstamp now) {
  uint32_t versions[3] = {NGTCP2_PROTO_VER_V1, NGTCP2_PROTO_VER_V2, 0};
  uint8_t packet[7 + 2 * 255 + sizeof(versions)];
  uint8_t random;
  uint32_t grease;

  if (!may_refuse(e, now)) {
    return;
  }
  if (qe_random(&random, 1) != 0 || qe_random((uint8_t *)&grease, sizeof(grease)) != 0) {
    return;
  }
  versions[2] = (grease & 0xf0f0f0f0u) | 0x0a0a0a0au; /* RFC 9000 section 15 */
  ngtcp2_ssize n =
      ngtcp2_pkt_write_version_negotiation(packet, sizeof(packet), random & 0x3f, vc->scid,
                                           vc->scidlen, vc->dcid, vc->dcidlen, versions, 3);
  if (n > 0 && qe_batch_put(&e->batch, path, 0, packet, (size_t)n) == 0) {
    e->stats.version_negotiations_sent++;
    tell_refused(e, path, QE_CLOSE_VERSION, 0, "");
  }
}

/* Answers a short header with an unknown connection ID. The reset is shorter than the packet
 * that triggered it, so that two endpoints cannot answer each other forever (RFC 9000 section
 * 10.3). */
static void send_stateless_reset(qe_engine *e, const ngtcp2_path *path, const uint8_t *data,
                                 size_t len, qe_tstamp now) {
  uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN];
  uint8_t random[MAX_RESET_RAND];
  uint8_t packet[MAX_RESET_RAND + NGTCP2_STATELESS_RESET_TOKENLEN];
  ngtcp2_cid cid;
  size_t random_len = MAX_RESET_RAND;

  /* With a shared secret, the reset would end a connection that another server has: the balancer
   * made a mistake, or has not learnt of a change yet. */
  if (len <= MIN_RESET || len < (size_t)e->set.cid_len + MIN_RESET ||
      qe_steer_is_elsewhere(&e->steer, data + 1, e->set.cid_len)) {
    e->stats.dropped_packets++;
    return;
  }
  if (!qe_bucket_take(&e->stateless, now)) {
    e->stats.rate_limited++;
    return;
  }
  if (len - 1 < random_len + sizeof(token)) {
    random_len = len - 1 - sizeof(token);
  }
  ngtcp2_cid_init(&cid, data + 1, e->set.cid_len);
  /* The connection may be older than the current secret, so one reset is sent per secret; the
   * peer recognizes the token that it was given. */
  for (size_t i = 0; i < e->secrets.n; i++) {
    if (qe_random(random, sizeof(random)) != 0 ||
        qe_secrets_reset_token(&e->secrets, i, &cid, token) != 0) {
      return;
    }
    ngtcp2_ssize n =
        ngtcp2_pkt_write_stateless_reset(packet, sizeof(packet), token, random, random_len);
    if (n > 0 && qe_batch_put(&e->batch, path, 0, packet, (size_t)n) == 0) {
      e->stats.stateless_resets_sent++;
    }
  }
}

/* Sends CONNECTION_CLOSE in an Initial packet without creating a connection. */
static void refuse(qe_engine *e, const ngtcp2_pkt_hd *hd, const ngtcp2_path *path, uint64_t code,
                   const char *reason, qe_tstamp now) {
  uint8_t packet[NGTCP2_MAX_UDP_PAYLOAD_SIZE];

  e->stats.refused++;
  if (!may_refuse(e, now)) {
    return;
  }
  ngtcp2_ssize n = ngtcp2_crypto_write_connection_close(packet, sizeof(packet), hd->version,
                                                        &hd->scid, &hd->dcid, code,
                                                        (const uint8_t *)reason, strlen(reason));
  if (n > 0) {
    qe_batch_put(&e->batch, path, 0, packet, (size_t)n);
  }
  tell_refused(e, path, QE_CLOSE_TRANSPORT, code, reason);
}

static void send_retry(qe_engine *e, const ngtcp2_pkt_hd *hd, const ngtcp2_path *path,
                       qe_tstamp now) {
  uint8_t packet[NGTCP2_MAX_UDP_PAYLOAD_SIZE];
  uint8_t token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN2];
  ngtcp2_sockaddr_union addr;
  socklen_t addr_len = plain_addr(&path->remote, &addr);
  ngtcp2_cid scid;
  uint64_t wall = qe_engine_wall(e, now);
  uint8_t key[QE_SECRET_LEN];

  if (hd->dcid.datalen < NGTCP2_MIN_INITIAL_DCIDLEN ||
      qe_engine_new_cid(e, &scid, e->set.cid_len) != 0 ||
      qe_secrets_token_key(&e->secrets, 0, QE_TOKEN_RETRY, wall, 0, key) != 0) {
    e->stats.dropped_packets++;
    return;
  }
  ngtcp2_ssize token_len = ngtcp2_crypto_generate_retry_token2(
      token, key, sizeof(key), hd->version, &addr.sa, addr_len, &scid, &hd->dcid, wall);
  if (token_len < 0) {
    return;
  }
  ngtcp2_ssize n = ngtcp2_crypto_write_retry(packet, sizeof(packet), hd->version, &hd->scid, &scid,
                                             &hd->dcid, token, (size_t)token_len);
  if (n > 0 && qe_batch_put(&e->batch, path, 0, packet, (size_t)n) == 0) {
    e->stats.retries_sent++;
  }
}

size_t qe_accept_new_token(qe_engine *e, const ngtcp2_addr *remote, uint8_t *out, qe_tstamp now) {
  ngtcp2_sockaddr_union addr;
  socklen_t len = plain_addr(remote, &addr);
  uint64_t wall = qe_engine_wall(e, now);
  uint8_t key[QE_SECRET_LEN];

  if (qe_secrets_token_key(&e->secrets, 0, QE_TOKEN_REGULAR, wall, 0, key) != 0) {
    return 0;
  }
  ngtcp2_ssize n = ngtcp2_crypto_generate_regular_token(out, key, sizeof(key), &addr.sa, len, wall);
  return n > 0 ? (size_t)n : 0;
}

typedef enum token_result { TOKEN_NONE, TOKEN_GOOD, TOKEN_BAD } token_result;

/* Whether the token was made with this key; TOKEN_NONE if it cannot be read. */
static token_result try_key(const uint8_t key[QE_SECRET_LEN], const ngtcp2_pkt_hd *hd,
                            const ngtcp2_sockaddr_union *addr, socklen_t addr_len,
                            ngtcp2_cid *odcid, uint64_t wall) {
  int rv;

  if (hd->token[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2) {
    rv = ngtcp2_crypto_verify_retry_token2(odcid, hd->token, hd->tokenlen, key, QE_SECRET_LEN,
                                           hd->version, &addr->sa, addr_len, &hd->dcid,
                                           RETRY_TOKEN_LIFE, wall);
    return rv == 0 ? TOKEN_GOOD : rv == NGTCP2_CRYPTO_ERR_VERIFY_TOKEN ? TOKEN_BAD : TOKEN_NONE;
  }
  rv = ngtcp2_crypto_verify_regular_token(hd->token, hd->tokenlen, key, QE_SECRET_LEN, &addr->sa,
                                          addr_len, REGULAR_TOKEN_LIFE, wall);
  return rv == 0 ? TOKEN_GOOD : TOKEN_NONE;
}

/* Returns TOKEN_BAD only for a Retry token that this server did not give to this client: another
 * Retry would not help. An expired or foreign NEW_TOKEN token counts as none (RFC 9000 section
 * 8.1.3). */
static token_result check_token(qe_engine *e, const ngtcp2_pkt_hd *hd, const ngtcp2_path *path,
                                ngtcp2_cid *odcid, qe_accept_params *p, qe_tstamp now) {
  ngtcp2_sockaddr_union addr;
  socklen_t addr_len = plain_addr(&path->remote, &addr);
  uint64_t wall = qe_engine_wall(e, now);
  token_result result = TOKEN_NONE;
  qe_token_kind kind;

  if (hd->tokenlen == 0) {
    return TOKEN_NONE;
  }
  if (hd->token[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2) {
    kind = QE_TOKEN_RETRY;
  } else if (hd->token[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_REGULAR) {
    kind = QE_TOKEN_REGULAR;
  } else {
    return TOKEN_NONE;
  }
  /* A token expires before its key has been replaced twice, so the current and the previous key
   * are enough. */
  for (size_t i = 0; i < e->secrets.n; i++) {
    for (unsigned ago = 0; ago < 2; ago++) {
      uint8_t key[QE_SECRET_LEN];
      if (qe_secrets_token_key(&e->secrets, i, kind, wall, ago, key) != 0) {
        continue;
      }
      token_result found = try_key(key, hd, &addr, addr_len, odcid, wall);
      if (found == TOKEN_GOOD) {
        p->token_type =
            kind == QE_TOKEN_RETRY ? NGTCP2_TOKEN_TYPE_RETRY : NGTCP2_TOKEN_TYPE_NEW_TOKEN;
        if (kind == QE_TOKEN_RETRY) {
          p->original_dcid = odcid;
          p->after_retry = 1;
        }
        return TOKEN_GOOD;
      }
      if (found == TOKEN_BAD) {
        result = TOKEN_BAD;
      }
    }
  }
  return result;
}

int qe_accept_is_full_for(const qe_engine *e, const qe_addrcount *address) {
  return address != NULL && e->set.max_connections_per_address > 0 &&
         address->connections >= e->set.max_connections_per_address;
}

static int accept_initial(qe_engine *e, const ngtcp2_pkt_hd *hd, const ngtcp2_path *path,
                          unsigned ecn, const uint8_t *data, size_t len, qe_tstamp now) {
  ngtcp2_cid odcid;
  qe_accept_params p = {
      .hd = hd, .path = path, .original_dcid = &hd->dcid, .token_type = NGTCP2_TOKEN_TYPE_UNKNOWN};
  qe_conn *c;

  if (e->stop_accepting) {
    /* The packet came here because the steering tables of the workers do not agree yet. Drop it:
     * the client sends it again and then reaches another worker, whereas a refusal would end its
     * attempt. */
    if (qe_steer_has_others(&e->steer)) {
      e->stats.dropped_packets++;
      return 0;
    }
    refuse(e, hd, path, NGTCP2_CONNECTION_REFUSED, "not accepting connections", now);
    return 0;
  }
  /* Half-open connections have their own limit, so that a flood of Initials cannot use up
   * max_connections; see handshake_completed. */
  if (e->stats.connections >= e->set.max_connections) {
    refuse(e, hd, path, NGTCP2_CONNECTION_REFUSED, "too many connections", now);
    return 0;
  }
  const qe_addrcount *address = qe_addrcount_find(&e->clients, path->remote.addr);
  if (qe_accept_is_full_for(e, address)) {
    e->stats.refused_for_address++;
    refuse(e, hd, path, NGTCP2_CONNECTION_REFUSED, QE_FULL_FOR_ADDRESS, now);
    return 0;
  }
  if (e->stats.half_open >= e->set.max_half_open ||
      (address != NULL && e->set.max_half_open_per_address > 0 &&
       address->half_open >= e->set.max_half_open_per_address)) {
    e->stats.dropped_packets++;
    return 0;
  }
  token_result token = check_token(e, hd, path, &odcid, &p, now);
  if (token == TOKEN_BAD) {
    refuse(e, hd, path, NGTCP2_INVALID_TOKEN, "invalid Retry token", now);
    return 0;
  }
  if (token == TOKEN_NONE) {
    /* The address is not validated: send Retry first, which costs least. */
    if (e->set.retry == QE_RETRY_ALWAYS ||
        (e->set.retry == QE_RETRY_AUTO && e->stats.half_open >= e->set.retry_half_open)) {
      send_retry(e, hd, path, now);
      return 0;
    }
    if (hd->dcid.datalen < NGTCP2_MIN_INITIAL_DCIDLEN) {
      e->stats.dropped_packets++;
      return 0;
    }
  }
  /* A client with a token is counted too: the token proves its address, but the handshake costs
   * as much. */
  if (e->addresses != NULL && !qe_addrlimit_take(e->addresses, path->remote.addr, now)) {
    e->stats.rate_limited++;
    return 0;
  }
  int rv = qe_conn_new_server(e, &c, &p, now);
  if (rv != 0) {
    return rv == QE_ERR_NOMEM ? rv : 0;
  }
  qe_conn_read(c, path, ecn, data, len, now);
  if (c->end_mode == QE_END_RETRY) {
    qe_conn_discard(c);
    send_retry(e, hd, path, now);
  } else if (c->end_mode == QE_END_SILENT && !c->reported) {
    qe_conn_discard(c); /* not a valid first packet: keep nothing */
    e->stats.dropped_packets++;
  }
  return 0;
}

int qe_accept_packet(qe_engine *e, const ngtcp2_path *path, unsigned ecn, const uint8_t *data,
                     size_t len, qe_tstamp now) {
  ngtcp2_pkt_hd hd;

  if ((data[0] & 0x80) == 0) {
    send_stateless_reset(e, path, data, len, now);
    return 0;
  }
  if (ngtcp2_accept(&hd, data, len) != 0) {
    e->stats.dropped_packets++;
    return 0;
  }
  return accept_initial(e, &hd, path, ecn, data, len, now);
}
