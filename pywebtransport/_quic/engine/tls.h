/*
 * tls.h - TLS 1.3 for QUIC with GnuTLS: configurations that many connections share (qe_tls), and
 * sessions created from them.
 */
#ifndef QE_TLS_H
#define QE_TLS_H

#include <gnutls/gnutls.h>
#include <stddef.h>
#include <stdint.h>

#include "quicengine.h"
#include "tls_export.h"

typedef struct qe_tls_session_params {
  qe_tls *tls; /* the session keeps a reference */
  int is_server;
  const char *server_name; /* client: SNI and name to verify; NULL = none */
  const uint8_t *ticket;   /* client: from qe_conn_on_ticket; NULL = none */
  size_t ticket_len;
  void *conn_ref; /* ngtcp2_crypto_conn_ref, becomes the session pointer */
  void *owner;    /* the qe_conn, handed back to the hooks below */
} qe_tls_session_params;

/* Creates a session for ngtcp2_conn_set_tls_native_handle(). Returns 0, QE_ERR_NOMEM,
 * QE_ERR_INVALID or QE_ERR_TLS, and sets qe_last_error(). */
int qe_tls_session_new(gnutls_session_t *out, const qe_tls_session_params *p);
/* Why this session refused the peer's certificate, including the wrong value; "" if it did not. */
const char *qe_tls_session_error(gnutls_session_t s);
/* Copies the exporter; the handshake must be complete. Returns 0 or QE_ERR_TLS. */
int qe_tls_session_exporter(gnutls_session_t s, qe_exporter *out);
/* Server, once the handshake is complete: queues session tickets. GnuTLS would do it by itself, but
 * always two, and with its first flight, before the client has proved its address. Returns 0 or
 * QE_ERR_TLS. */
int qe_tls_session_send_tickets(gnutls_session_t s);
/* Whether a ticket that the user wants may still arrive. */
int qe_tls_session_awaits_ticket(gnutls_session_t s);
/* s may be NULL. */
void qe_tls_session_free(gnutls_session_t s);

/* Called by tls.c inside GnuTLS; implemented by conn.c.  line has no newline. */
void qe_conn_on_keylog(void *owner, const char *line);
void qe_conn_on_ticket(void *owner, const uint8_t *data, size_t len);

#endif
