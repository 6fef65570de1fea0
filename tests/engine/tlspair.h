/*
 * tlspair.h - one client and one server session of tls.c, joined by two QUIC
 * connections in memory.
 */
#ifndef QE_TLSPAIR_H
#define QE_TLSPAIR_H

#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>

#include "tls.h"

typedef struct tlspair_end {
  gnutls_session_t session;
  ngtcp2_conn *conn;
  ngtcp2_crypto_conn_ref ref;
  int done;          /* handshake completed */
  uint8_t alert;     /* of a TLS failure on this side; 0 = none */
  int error;         /* QUIC library error that ended this side; 0 = none */
  char keylog[4096]; /* lines, each ended by a newline */
  uint8_t ticket[8192];
  size_t ticket_len, tickets;
} tlspair_end;

typedef struct tlspair {
  tlspair_end client, server;
  ngtcp2_tstamp now;
} tlspair;

/* If set, creates the sessions of one side instead of tls.c: a peer that misbehaves. Returns
 * NULL for the side that stays unchanged. */
extern gnutls_session_t (*tlspair_odd_peer)(int is_server);

/* Runs the handshake and what follows it until both sides are quiet or one
 * failed.  0, or the error of qe_tls_session_new. */
int tlspair_run(tlspair *p, qe_tls *client_tls, qe_tls *server_tls, const char *name,
                const uint8_t *ticket, size_t ticket_len);
void tlspair_free(tlspair *p);

#endif
