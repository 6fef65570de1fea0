#include "tlspair.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

gnutls_session_t (*tlspair_odd_peer)(int is_server);

static struct sockaddr_in client_addr, server_addr;

void qe_conn_on_keylog(void *owner, const char *line) {
  tlspair_end *end = owner;
  size_t len = strlen(end->keylog);
  (void)snprintf(end->keylog + len, sizeof(end->keylog) - len, "%s\n", line);
}

void qe_conn_on_ticket(void *owner, const uint8_t *data, size_t len) {
  tlspair_end *end = owner;
  end->tickets++;
  if (len <= sizeof(end->ticket)) {
    memcpy(end->ticket, data, len);
    end->ticket_len = len;
  }
}

static ngtcp2_conn *get_conn(ngtcp2_crypto_conn_ref *ref) {
  return ((tlspair_end *)ref->user_data)->conn;
}

static void rand_cb(uint8_t *dest, size_t len, const ngtcp2_rand_ctx *ctx) {
  (void)ctx;
  memset(dest, 7, len);
}

static int new_cid_cb(ngtcp2_conn *conn, ngtcp2_cid *cid, uint8_t *token, size_t len,
                      void *user_data) {
  static uint16_t counter;
  (void)conn;
  (void)user_data;
  cid->datalen = len;
  memset(cid->data, 0xcc, len);
  memcpy(cid->data, &counter, sizeof(counter));
  memset(token, 0xdd, NGTCP2_STATELESS_RESET_TOKENLEN);
  memcpy(token, &counter, sizeof(counter));
  counter++;
  return 0;
}

static int completed_cb(ngtcp2_conn *conn, void *user_data) {
  tlspair_end *end = user_data;

  end->done = 1;
  /* An odd peer has a session of its own, without the engine's data. */
  return ngtcp2_conn_is_server(conn) && gnutls_db_get_ptr(end->session) != NULL
             ? qe_tls_session_send_tickets(end->session)
             : 0;
}

static void set_callbacks(ngtcp2_callbacks *cb) {
  memset(cb, 0, sizeof(*cb));
  cb->client_initial = ngtcp2_crypto_client_initial_cb;
  cb->recv_client_initial = ngtcp2_crypto_recv_client_initial_cb;
  cb->recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb;
  cb->handshake_completed = completed_cb;
  cb->encrypt = ngtcp2_crypto_encrypt_cb;
  cb->decrypt = ngtcp2_crypto_decrypt_cb;
  cb->hp_mask = ngtcp2_crypto_hp_mask_cb;
  cb->recv_retry = ngtcp2_crypto_recv_retry_cb;
  cb->rand = rand_cb;
  cb->get_new_connection_id = new_cid_cb;
  cb->update_key = ngtcp2_crypto_update_key_cb;
  cb->delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb;
  cb->delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb;
  cb->get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb;
  cb->version_negotiation = ngtcp2_crypto_version_negotiation_cb;
}

static ngtcp2_path path_of(int server) {
  struct sockaddr_in *local = server ? &server_addr : &client_addr;
  struct sockaddr_in *remote = server ? &client_addr : &server_addr;
  ngtcp2_path path = {
      {(struct sockaddr *)local, sizeof(*local)},
      {(struct sockaddr *)remote, sizeof(*remote)},
      NULL,
  };
  return path;
}

static int open_conn(tlspair *p, int server, const ngtcp2_cid *dcid, const ngtcp2_cid *scid) {
  tlspair_end *end = server ? &p->server : &p->client;
  ngtcp2_path path = path_of(server);
  ngtcp2_callbacks callbacks;
  ngtcp2_settings settings;
  ngtcp2_transport_params params;

  set_callbacks(&callbacks);
  ngtcp2_settings_default(&settings);
  settings.initial_ts = p->now;
  ngtcp2_transport_params_default(&params);
  if (server) {
    params.original_dcid = *dcid;
    params.original_dcid_present = 1;
    /* The client's source ID was 0x02 repeated. */
    ngtcp2_cid peer;
    memset(peer.data, 2, 8);
    peer.datalen = 8;
    return ngtcp2_conn_server_new(&end->conn, &peer, scid, &path, NGTCP2_PROTO_VER_V1, &callbacks,
                                  &settings, &params, NULL, end);
  }
  return ngtcp2_conn_client_new(&end->conn, dcid, scid, &path, NGTCP2_PROTO_VER_V1, &callbacks,
                                &settings, &params, NULL, end);
}

static int open_end(tlspair *p, int server, qe_tls *tls, const char *name, const uint8_t *ticket,
                    size_t ticket_len, const ngtcp2_cid *dcid, const ngtcp2_cid *scid) {
  tlspair_end *end = server ? &p->server : &p->client;
  qe_tls_session_params sp = {
      .tls = tls,
      .is_server = server,
      .server_name = name,
      .ticket = ticket,
      .ticket_len = ticket_len,
      .conn_ref = &end->ref,
      .owner = end,
  };

  end->ref.get_conn = get_conn;
  end->ref.user_data = end;
  int rv = qe_tls_session_new(&end->session, &sp);
  if (rv != 0) {
    return rv;
  }
  if (open_conn(p, server, dcid, scid) != 0) {
    return QE_ERR_INTERNAL;
  }
  gnutls_session_t odd = tlspair_odd_peer == NULL ? NULL : tlspair_odd_peer(server);
  if (odd != NULL) {
    qe_tls_session_free(end->session);
    end->session = odd;
    gnutls_session_set_ptr(odd, &end->ref);
  }
  ngtcp2_conn_set_tls_native_handle(end->conn, end->session);
  return 0;
}

/* Moves one packet; 1 when there was one. */
static int move(tlspair *p, int from_server) {
  tlspair_end *from = from_server ? &p->server : &p->client;
  tlspair_end *to = from_server ? &p->client : &p->server;
  uint8_t buf[1500];
  ngtcp2_pkt_info info = {0};
  ngtcp2_path path = path_of(!from_server);

  if (from->error != 0) {
    return 0;
  }
  p->now += NGTCP2_MILLISECONDS;
  ngtcp2_ssize n = ngtcp2_conn_write_pkt(from->conn, NULL, NULL, buf, sizeof(buf), p->now);
  if (n < 0) {
    from->error = (int)n;
    return 0;
  }
  if (n == 0 || to->error != 0) {
    return 0;
  }
  int rv = ngtcp2_conn_read_pkt(to->conn, &path, &info, buf, (size_t)n, p->now);
  if (rv != 0) {
    to->error = rv;
    to->alert = ngtcp2_conn_get_tls_alert(to->conn);
  }
  return 1;
}

int tlspair_run(tlspair *p, qe_tls *client_tls, qe_tls *server_tls, const char *name,
                const uint8_t *ticket, size_t ticket_len) {
  ngtcp2_cid dcid, client_scid, server_scid;

  memset(p, 0, sizeof(*p));
  p->now = NGTCP2_SECONDS;
  client_addr.sin_family = server_addr.sin_family = AF_INET;
  client_addr.sin_addr.s_addr = server_addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  client_addr.sin_port = htons(1000);
  server_addr.sin_port = htons(2000);
  memset(dcid.data, 1, 8);
  memset(client_scid.data, 2, 8);
  memset(server_scid.data, 3, 8);
  dcid.datalen = client_scid.datalen = server_scid.datalen = 8;

  int rv = open_end(p, 0, client_tls, name, ticket, ticket_len, &dcid, &client_scid);
  if (rv == 0) {
    rv = open_end(p, 1, server_tls, NULL, NULL, 0, &dcid, &server_scid);
  }
  if (rv != 0) {
    return rv;
  }
  for (int quiet = 0, rounds = 0; quiet < 2 && rounds < 200; rounds++) {
    int moved = move(p, rounds % 2);
    quiet = moved ? 0 : quiet + 1;
  }
  return 0;
}

void tlspair_free(tlspair *p) {
  ngtcp2_conn_del(p->client.conn);
  ngtcp2_conn_del(p->server.conn);
  qe_tls_session_free(p->client.session);
  qe_tls_session_free(p->server.session);
}
