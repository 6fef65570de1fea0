/* conn_callbacks.c - callbacks that the QUIC library makes while it reads or writes. Except for
 * the data upcalls they only record what happened; qe_conn_run_work acts on it later. */
#include <stdlib.h>

#include "accept.h"
#include "cipher.h"
#include "conn.h"
#include "conn_keys.h"
#include "engine.h"
#include "greeting.h"
#include "stopscan.h"
#include "tls.h"

#define MAX_STOPS 512 /* per UDP payload */
#define LEFTOVERS_PER_STREAM 0.125

/* The encrypt and decrypt callbacks get no connection argument, so the caller stores it here. */
static _Thread_local struct {
  qe_conn *conn;
  int64_t packet; /* number of the packet that is being scanned */
  int is_new;     /* not a duplicate */
  int refused;    /* over the limit for PATH_CHALLENGE: drop it */
  size_t count;
  struct {
    int64_t id;
    uint64_t code;
  } stops[MAX_STOPS];
} current;

void qe_conn_set_current(qe_conn *c) {
  current.conn = c;
  if (c != NULL) {
    current.count = 0;
  }
}

static void found_stop(void *ctx, int64_t id, uint64_t code) {
  (void)ctx;
  if (current.count < MAX_STOPS) {
    current.stops[current.count].id = id;
    current.stops[current.count].code = code;
    current.count++;
  }
}

/* Applies what the scan found. Call it only after the library has accepted the packet. */
void qe_conn_apply_stops(qe_conn *c) {
  for (size_t i = 0; i < current.count; i++) {
    qe_stream *s = qe_stream_map_get(&c->streams, current.stops[i].id);
    if (s != NULL && !s->stopped) {
      qe_conn_count_reset(c);
      qe_stream_on_stop_sending(s, current.stops[i].code, 1);
    }
  }
  current.count = 0;
}

/* Starts to track the peer's connection IDs. Earlier than this no ID can be retired, so there is
 * nothing to count. */
/*
 * A NAT gives a client another address, and the client moves to a third path before the first one
 * was found to be gone (up to three seconds): the library then retires the ID of the first two
 * paths while it still counts it for the second (1.11 to 1.25). The client replaces the ID, as it
 * should, and the library takes that for more IDs than it allows. So it counts with more than the
 * client was told, from the first change of a path on.
 */
static void leave_room_for_ids(qe_conn *c) {
  ngtcp2_transport_params *p =
      (ngtcp2_transport_params *)ngtcp2_conn_get_local_transport_params(c->ng);
  p->active_connection_id_limit = QE_PEER_IDS + QE_PEER_IDS_SLACK;
}

static int watch_ids(qe_conn *c) {
  if (c->idguard == NULL && c->is_server) {
    c->idguard = malloc(sizeof(*c->idguard));
    if (c->idguard == NULL) {
      c->out_of_memory = 1;
      return -1;
    }
    qe_idguard_init(c->idguard, c->peer_ids, current.packet);
    leave_room_for_ids(c);
  }
  return 0;
}

static void found_new_id(void *ctx, uint64_t seq, uint64_t retire_prior_to) {
  qe_conn *c = ctx;
  if (!c->is_server) {
    return; /* only a server can fail the assert, see idguard.h */
  }
  int rv = retire_prior_to > 0 ? watch_ids(c) : 0;

  if (rv == 0 && c->idguard != NULL) {
    rv = qe_idguard_given(c->idguard, c->peer_ids, seq);
  } else if (rv == 0 && seq > QE_IDS_MAX) {
    rv = -1;
  }
  if (rv != 0) {
    qe_conn_end(c, QE_END_CLOSE, QE_CLOSE_TRANSPORT, 0, NGTCP2_CONNECTION_ID_LIMIT_ERROR,
                "too many connection IDs", 23);
  } else {
    c->peer_ids = seq > c->peer_ids ? seq : c->peer_ids;
  }
}

static void found_challenge(void *ctx) {
  qe_conn *c = ctx;
  watch_ids(c); /* the answer may use up an ID for its path */
  current.refused |= !qe_bucket_take(&c->challenges, c->engine->now);
}

static void found_ack(void *ctx, uint64_t first, uint64_t last) {
  qe_conn *c = ctx;
  if (c->idguard != NULL && current.is_new) {
    qe_idguard_acked(c->idguard, (int64_t)first, (int64_t)last);
  }
}

static void found_retire(void *ctx, uint64_t seq) {
  qe_conn *c = ctx;
  qe_idguard_retires(c->idguard, seq, current.packet);
}

static const qe_idscan_found IN_RECEIVED = {
    .new_id = found_new_id, .challenge = found_challenge, .acked = found_ack};
static const qe_idscan_found IN_SENT = {.retire_id = found_retire};

static int encrypt_cb(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                      const ngtcp2_crypto_aead_ctx *aead_ctx, const uint8_t *plaintext,
                      size_t plaintext_len, const uint8_t *nonce, size_t nonce_len,
                      const uint8_t *aad, size_t aad_len) {
  qe_conn *c = current.conn;
  if (c != NULL && c->idguard != NULL && aad_len > 0 && (aad[0] & 0x80) == 0) {
    current.packet = qe_cipher_packet_number(aead_ctx->native_handle, nonce, nonce_len);
    qe_idscan(plaintext, plaintext_len, &IN_SENT, c);
  }
  return qe_cipher_encrypt_cb(dest, aead, aead_ctx, plaintext, plaintext_len, nonce, nonce_len, aad,
                              aad_len);
}

static int decrypt_cb(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                      const ngtcp2_crypto_aead_ctx *aead_ctx, const uint8_t *ciphertext,
                      size_t ciphertext_len, const uint8_t *nonce, size_t nonce_len,
                      const uint8_t *aad, size_t aad_len) {
  qe_conn *c = current.conn;
  /* aad is the packet header: without the long-header bit it is 1-RTT. */
  int one_rtt = c != NULL && aad_len > 0 && (aad[0] & 0x80) == 0;

  /* If the key phase differs, the library still tries the current key and then drops the packet:
   * skip the work. */
  if (one_rtt && !qe_cipher_fits_phase(aead_ctx->native_handle, aad[0])) {
    return NGTCP2_ERR_DECRYPT;
  }
  int rv = qe_cipher_decrypt_cb(dest, aead, aead_ctx, ciphertext, ciphertext_len, nonce, nonce_len,
                                aad, aad_len);
  if (rv != 0 || !one_rtt || ciphertext_len <= aead->max_overhead) {
    return rv;
  }
  size_t len = ciphertext_len - aead->max_overhead;
  if (!c->is_server && !c->past_handshake && qe_scan_early(dest, len)) {
    return NGTCP2_ERR_DECRYPT; /* treat it as lost: an honest peer retransmits */
  }
  unsigned seen = qe_stopscan(dest, len, found_stop, NULL);
  current.packet = qe_cipher_packet_number(aead_ctx->native_handle, nonce, nonce_len);
  if (seen != 0 || c->idguard != NULL) {
    current.is_new = c->idguard != NULL && qe_idguard_received(c->idguard, current.packet);
    current.refused = 0;
    qe_idscan(dest, len, &IN_RECEIVED, c);
    return c->end_mode == QE_END_NONE && !current.refused ? 0 : NGTCP2_ERR_DECRYPT;
  }
  return 0;
}

static int fail(qe_conn *c, int rv) {
  if (rv == QE_ERR_NOMEM) {
    c->out_of_memory = 1;
  }
  return NGTCP2_ERR_CALLBACK_FAILURE;
}

void qe_conn_count_reset(qe_conn *c) {
  if (!qe_bucket_take(&c->resets, c->engine->now)) {
    qe_conn_end_excessive(c, "too many stream resets");
  }
}

/*
 * The library frees the state of such a stream (less than half a kilobyte) only with the connection
 * (1.11). With packet loss even honest peers cause some, as long as the connection lasts. So the
 * allowance grows with time and with the number of streams that end properly.
 */
void qe_conn_count_leftover(qe_conn *c) {
  c->stats.leftovers++;
  if (!qe_bucket_take(&c->leftovers, c->engine->now)) {
    qe_conn_end_excessive(c, "too many streams that never end");
  }
}

/* ------------------------------------------------------------- handshake */

static void note_alpn(qe_conn *c) {
  gnutls_datum_t name;
  if (gnutls_alpn_get_selected_protocol(c->tls, &name) == 0 && name.size < sizeof(c->alpn)) {
    memcpy(c->alpn, name.data, name.size);
    c->alpn[name.size] = '\0';
  }
}

static int note_server_name(qe_conn *c) {
  char name[256];
  size_t len = sizeof(name);
  unsigned type;

  if (gnutls_server_name_get(c->tls, name, &len, &type, 0) != 0 || type != GNUTLS_NAME_DNS) {
    return 0;
  }
  c->server_name = strndup(name, len);
  return c->server_name == NULL ? QE_ERR_NOMEM : 0;
}

static int note_certificate(qe_conn *c) {
  unsigned count = 0;
  const gnutls_datum_t *chain = gnutls_certificate_get_peers(c->tls, &count);

  if (chain == NULL || count == 0 || chain[0].size == 0) {
    return 0;
  }
  c->peer_cert = malloc(chain[0].size);
  if (c->peer_cert == NULL) {
    return QE_ERR_NOMEM;
  }
  memcpy(c->peer_cert, chain[0].data, chain[0].size);
  c->peer_cert_len = chain[0].size;
  return 0;
}

/* Copies everything that users may ask for later, because the TLS session is freed early. */
static int note_session(qe_conn *c) {
  note_alpn(c);
  c->resumed = gnutls_session_is_resumed(c->tls) != 0;
  int rv = qe_tls_session_exporter(c->tls, &c->exporter);
  if (rv == 0 && c->is_server) {
    rv = note_server_name(c);
  }
  return rv == 0 ? note_certificate(c) : rv;
}

static int handshake_completed(ngtcp2_conn *ng, void *user_data) {
  qe_conn *c = user_data;
  qe_engine *e = c->engine;
  (void)ng;

  int rv = note_session(c);
  if (rv != 0) {
    return fail(c, rv);
  }
  if (c->is_server && e->stats.connections >= e->set.max_connections) {
    /* Another connection took the last place during the handshake. */
    e->stats.refused++;
    qe_conn_end(c, QE_END_CLOSE, QE_CLOSE_TRANSPORT, 0, NGTCP2_CONNECTION_REFUSED,
                "too many connections", 20);
    return 0;
  }
  if (c->is_server && qe_accept_is_full_for(e, c->address)) {
    e->stats.refused++;
    e->stats.refused_for_address++;
    qe_conn_end(c, QE_END_CLOSE, QE_CLOSE_TRANSPORT, 0, NGTCP2_CONNECTION_REFUSED,
                QE_FULL_FOR_ADDRESS, sizeof(QE_FULL_FOR_ADDRESS) - 1);
    return 0;
  }
  if (c->is_server) {
    if (qe_tls_session_send_tickets(c->tls) != 0) {
      return fail(c, QE_ERR_TLS);
    }
    c->ev_new_token = 1;
    e->stats.accepted++;
    qe_addrcount_complete(c->address);
  }
  c->handshake_done = 1;
  e->stats.half_open--;
  e->stats.connections++;
  c->reported = 1;
  QE_UPCALL(e, conn_handshake, c, c->user);
  return 0;
}

/* A server may send before the client has finished the handshake; nothing secret, though. */
static int recv_tx_key(ngtcp2_conn *ng, ngtcp2_encryption_level level, void *user_data) {
  qe_conn *c = user_data;
  (void)ng;

  int rv = level == NGTCP2_ENCRYPTION_LEVEL_1RTT ? qe_greeting_open(c) : 0;
  return rv == 0 ? 0 : fail(c, rv);
}

/* The TLS session must see each message that needs an answer. No message that a peer may send
 * after the handshake needs one, so it may be gone by then. */
static int recv_crypto_data(ngtcp2_conn *ng, ngtcp2_encryption_level level, uint64_t offset,
                            const uint8_t *data, size_t len, void *user_data) {
  qe_conn *c = user_data;
  uint8_t alert = 0;

  if (level == NGTCP2_ENCRYPTION_LEVEL_1RTT) {
    alert = qe_tls_after_feed(&c->after, c->is_server, data, len);
  } else if (c->tls == NULL) {
    alert = QE_ALERT_UNEXPECTED_MESSAGE;
  }
  if (alert != 0) {
    ngtcp2_conn_set_tls_alert(ng, alert);
    return NGTCP2_ERR_CRYPTO;
  }
  return c->tls == NULL
             ? 0
             : ngtcp2_crypto_recv_crypto_data_cb(ng, level, offset, data, len, user_data);
}

void qe_conn_drop_tls(qe_conn *c) {
  if (c->tls == NULL || !c->handshake_done || c->end_mode != QE_END_NONE ||
      !qe_tls_after_is_even(&c->after) || qe_tls_session_awaits_ticket(c->tls)) {
    return;
  }
  ngtcp2_conn_set_tls_native_handle(c->ng, NULL);
  qe_tls_session_free(c->tls);
  c->tls = NULL;
}

static int recv_new_token(ngtcp2_conn *ng, const uint8_t *token, size_t len, void *user_data) {
  qe_conn *c = user_data;
  (void)ng;
  QE_UPCALL(c->engine, new_token, c, c->user, token, len);
  return 0;
}

static int recv_stateless_reset(ngtcp2_conn *ng, const ngtcp2_pkt_stateless_reset *sr,
                                void *user_data) {
  qe_conn *c = user_data;
  (void)ng;
  (void)sr;
  c->got_stateless_reset = 1;
  return 0;
}

void qe_conn_on_keylog(void *owner, const char *line) {
  qe_conn *c = owner;
  QE_UPCALL(c->engine, keylog_line, line);
}

void qe_conn_on_ticket(void *owner, const uint8_t *data, size_t len) {
  qe_conn *c = owner;
  if (c->reported && c->end_mode == QE_END_NONE) {
    QE_UPCALL(c->engine, session_ticket, c, c->user, data, len);
  }
}

/* -------------------------------------------------------- connection IDs */

/* The library asks for a byte or two per packet. Random bytes are fetched in blocks because
 * GnuTLS makes a system call each time, to detect a fork. */
static void rand_cb(uint8_t *dest, size_t len, const ngtcp2_rand_ctx *ctx) {
  static _Thread_local struct {
    uint8_t bytes[512];
    size_t left;
  } pool;

  (void)ctx;
  if (len > pool.left) {
    size_t want = len > sizeof(pool.bytes) ? 0 : sizeof(pool.bytes);
    if (want == 0 || qe_random(pool.bytes, want) != 0) {
      if (qe_random(dest, len) != 0) {
        memset(dest, 0, len); /* acceptable: nothing secret depends on it */
      }
      return;
    }
    pool.left = want;
  }
  pool.left -= len;
  memcpy(dest, pool.bytes + pool.left, len);
}

static int get_new_connection_id(ngtcp2_conn *ng, ngtcp2_cid *cid, uint8_t *token, size_t len,
                                 void *user_data) {
  qe_conn *c = user_data;
  qe_engine *e = c->engine;
  (void)ng;

  int rv = qe_engine_new_cid(e, cid, len);
  if (rv == 0) {
    rv = qe_secrets_reset_token(&e->secrets, 0, cid, token);
  }
  if (rv == 0) {
    rv = qe_conn_add_key(c, &c->cids, &e->cids, cid->data, cid->datalen);
  }
  return rv == 0 ? 0 : fail(c, rv);
}

static int remove_connection_id(ngtcp2_conn *ng, const ngtcp2_cid *cid, void *user_data) {
  qe_conn *c = user_data;
  (void)ng;
  qe_conn_remove_key(c, &c->cids, &c->engine->cids, cid->data, cid->datalen);
  return 0;
}

static int dcid_status(ngtcp2_conn *ng, ngtcp2_connection_id_status_type type, uint64_t seq,
                       const ngtcp2_cid *cid, const uint8_t *token, void *user_data) {
  qe_conn *c = user_data;
  (void)ng;
  (void)cid;
  if (type == NGTCP2_CONNECTION_ID_STATUS_TYPE_ACTIVATE) {
    c->past_handshake = 1; /* first called in the write that ends the handshake */
    if (seq > 0 && watch_ids(c) != 0) {
      return fail(c, QE_ERR_NOMEM);
    }
  }
  if (token == NULL) {
    return 0;
  }
  if (type == NGTCP2_CONNECTION_ID_STATUS_TYPE_DEACTIVATE) {
    qe_conn_remove_key(c, &c->tokens, &c->engine->tokens, token, NGTCP2_STATELESS_RESET_TOKENLEN);
    return 0;
  }
  int rv =
      qe_conn_add_key(c, &c->tokens, &c->engine->tokens, token, NGTCP2_STATELESS_RESET_TOKENLEN);
  return rv == 0 ? 0 : fail(c, rv);
}

static int path_validation(ngtcp2_conn *ng, uint32_t flags, const ngtcp2_path *path,
                           const ngtcp2_path *old_path, ngtcp2_path_validation_result res,
                           void *user_data) {
  qe_conn *c = user_data;
  (void)ng;
  (void)path;
  (void)old_path;
  if (res == NGTCP2_PATH_VALIDATION_RESULT_SUCCESS) {
    if (flags & NGTCP2_PATH_VALIDATION_FLAG_NEW_TOKEN) {
      c->ev_new_token = 1;
    }
  } else if (c->is_moving) {
    c->ev_path_failed = 1;
  }
  return 0;
}

/* --------------------------------------------------------------- streams */

static int stream_open(ngtcp2_conn *ng, int64_t id, void *user_data) {
  qe_conn *c = user_data;

  int rv = qe_stream_prepare(c);
  qe_stream *s = rv == 0 ? qe_stream_new(c) : NULL;
  if (s == NULL) {
    return fail(c, QE_ERR_NOMEM);
  }
  if (ngtcp2_conn_set_stream_user_data(ng, id, s) != 0) {
    qe_pool_free(&c->engine->pool, s);
    return fail(c, QE_ERR_INTERNAL);
  }
  qe_stream_enter(s, id, NULL);
  qe_credit_stream_opened(c, id);
  if (c->end_mode == QE_END_NONE) {
    s->known = 1;
    QE_UPCALL(c->engine, stream_opened, c, c->user, s);
  }
  return 0;
}

static int recv_stream_data(ngtcp2_conn *ng, uint32_t flags, int64_t id, uint64_t offset,
                            const uint8_t *data, size_t len, void *user_data,
                            void *stream_user_data) {
  qe_conn *c = user_data;
  qe_stream *s = stream_user_data;
  (void)ng;
  (void)id;
  (void)offset;
  if (s == NULL) {
    return 0;
  }
  int rv = qe_stream_on_data(s, data, len, (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0);
  return rv == 0 ? 0 : fail(c, QE_ERR_NOMEM);
}

static int acked_stream_data_offset(ngtcp2_conn *ng, int64_t id, uint64_t offset, uint64_t len,
                                    void *user_data, void *stream_user_data) {
  (void)ng;
  qe_pathmtu_acked_stream(user_data, id, offset + len);
  if (stream_user_data != NULL) {
    qe_stream_on_acked(stream_user_data, offset, len);
  }
  return 0;
}

static int stream_close(ngtcp2_conn *ng, uint32_t flags, int64_t id, uint64_t code, void *user_data,
                        void *stream_user_data) {
  qe_conn *c = user_data;
  qe_stream *s = stream_user_data;
  (void)ng;
  (void)flags;
  (void)id;
  (void)code;
  if (s == NULL) {
    return 0;
  }
  if (c->doubtful == s) {
    c->doubtful = NULL;
  }
  qe_bucket_give(&c->leftovers, LEFTOVERS_PER_STREAM);
  qe_stream_on_closed(s);
  return 0;
}

/*
 * If the first frame of a peer's unidirectional stream is RESET_STREAM, the library never closes
 * the stream (before 1.23). It closes any other reset stream right after this callback. So
 * the last stream that was reset is kept in c->doubtful. If it is still there at the next reset or
 * at the end of the packet, the library will not close it.
 */
static int retire_orphan(qe_conn *c, ngtcp2_conn *ng) {
  qe_stream *s = c->doubtful;

  if (s == NULL) {
    return 0;
  }
  c->doubtful = NULL;
  ngtcp2_conn_set_stream_user_data(ng, s->id, NULL);
  qe_conn_count_leftover(c);
  qe_stream_on_closed(s);
  return 0;
}

void qe_conn_settle_doubtful(qe_conn *c) {
  retire_orphan(c, c->ng);
}

static int stream_reset(ngtcp2_conn *ng, int64_t id, uint64_t final_size, uint64_t code,
                        void *user_data, void *stream_user_data) {
  qe_conn *c = user_data;
  qe_stream *s = stream_user_data;
  (void)id;

  qe_conn_count_reset(c);
  if (s == NULL) {
    return 0;
  }
  retire_orphan(c, ng);
  if (s->remote && !s->can_send) {
    c->doubtful = s;
  }
  qe_stream_on_reset(s, code, final_size);
  return 0;
}

static int extend_max_stream_data(ngtcp2_conn *ng, int64_t id, uint64_t max_data, void *user_data,
                                  void *stream_user_data) {
  qe_stream *s = stream_user_data;
  (void)ng;
  (void)id;
  (void)max_data;
  (void)user_data;
  if (s != NULL && s->flow_blocked) {
    s->flow_blocked = 0;
    qe_stream_reschedule(s);
  }
  return 0;
}

static int extend_streams_bidi(ngtcp2_conn *ng, uint64_t max, void *user_data) {
  (void)ng;
  (void)max;
  ((qe_conn *)user_data)->ev_streams_bidi = 1;
  return 0;
}

static int extend_streams_uni(ngtcp2_conn *ng, uint64_t max, void *user_data) {
  (void)ng;
  (void)max;
  ((qe_conn *)user_data)->ev_streams_uni = 1;
  return 0;
}

/* ------------------------------------------------------------- datagrams */

static int recv_datagram(ngtcp2_conn *ng, uint32_t flags, const uint8_t *data, size_t len,
                         void *user_data) {
  qe_conn *c = user_data;
  (void)ng;
  (void)flags;
  c->stats.dgrams_received++;
  if (c->reported && c->end_mode == QE_END_NONE) {
    QE_UPCALL(c->engine, dgram_received, c, c->user, data, len);
  }
  return 0;
}

/* The group that sent the datagram, if it still exists. */
static qe_group *group_of(const qe_conn *c, uint64_t dgram_id) {
  qe_group *g = qe_group_table_get(&c->groups, (uint16_t)(dgram_id >> 48));
  return g != NULL && (dgram_id & QE_DGRAM_SEQ) >= g->first_seq ? g : NULL;
}

static int ack_datagram(ngtcp2_conn *ng, uint64_t dgram_id, void *user_data) {
  qe_conn *c = user_data;
  (void)ng;
  qe_pathmtu_acked(c);
  if (dgram_id & QE_DGRAM_LARGE) {
    qe_pathmtu_dgram(c, 1);
  }
  if (qe_dgram_log_acked(&c->dgram_log, dgram_id & QE_DGRAM_SEQ)) {
    qe_group *g = group_of(c, dgram_id);
    c->stats.dgrams_acked++;
    if (g != NULL) {
      g->dgrams_acked++;
    }
  }
  return 0;
}

static int lost_datagram(ngtcp2_conn *ng, uint64_t dgram_id, void *user_data) {
  qe_conn *c = user_data;
  (void)ng;
  if (dgram_id & QE_DGRAM_LARGE) {
    qe_pathmtu_dgram(c, 0);
  }
  if (qe_dgram_log_lost(&c->dgram_log, dgram_id & QE_DGRAM_SEQ)) {
    qe_group *g = group_of(c, dgram_id);
    c->stats.dgrams_lost++;
    if (g != NULL) {
      g->dgrams_lost++;
    }
  }
  return 0;
}

/* ----------------------------------------------------------------- table */

void qe_conn_fill_callbacks(ngtcp2_callbacks *cb, int is_server) {
  memset(cb, 0, sizeof(*cb));
  if (is_server) {
    cb->recv_client_initial = ngtcp2_crypto_recv_client_initial_cb;
    cb->recv_tx_key = recv_tx_key;
  } else {
    cb->client_initial = ngtcp2_crypto_client_initial_cb;
    cb->recv_retry = ngtcp2_crypto_recv_retry_cb;
    cb->recv_new_token = recv_new_token;
  }
  cb->recv_crypto_data = recv_crypto_data;
  cb->encrypt = encrypt_cb;
  cb->decrypt = decrypt_cb;
  cb->hp_mask = qe_cipher_mask_cb;
  cb->rand = rand_cb;
  cb->update_key = qe_conn_update_key_cb;
  cb->delete_crypto_aead_ctx = qe_cipher_delete_aead_cb;
  cb->delete_crypto_cipher_ctx = qe_cipher_delete_mask_cb;
  cb->get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb;
  cb->version_negotiation = ngtcp2_crypto_version_negotiation_cb;
  cb->handshake_completed = handshake_completed;
  cb->recv_stateless_reset = recv_stateless_reset;
  cb->get_new_connection_id = get_new_connection_id;
  cb->remove_connection_id = remove_connection_id;
  cb->dcid_status = dcid_status;
  cb->path_validation = path_validation;
  cb->stream_open = stream_open;
  cb->recv_stream_data = recv_stream_data;
  cb->acked_stream_data_offset = acked_stream_data_offset;
  cb->stream_close = stream_close;
  cb->stream_reset = stream_reset;
  cb->extend_max_stream_data = extend_max_stream_data;
  cb->extend_max_local_streams_bidi = extend_streams_bidi;
  cb->extend_max_local_streams_uni = extend_streams_uni;
  cb->recv_datagram = recv_datagram;
  cb->ack_datagram = ack_datagram;
  cb->lost_datagram = lost_datagram;
}
