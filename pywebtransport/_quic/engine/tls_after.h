/*
 * tls_after.h - checks the TLS messages that a peer sends after the handshake.
 *
 * QUIC allows only NewSessionTicket, from server to client (RFC 9001 sections 4.1.2 and 6: no
 * renegotiation, no KeyUpdate, no post-handshake authentication). This code parses the messages
 * without storing them, so that tickets can be ignored once the TLS session is freed.
 */
#ifndef QE_TLS_AFTER_H
#define QE_TLS_AFTER_H

#include <stddef.h>
#include <stdint.h>

#define QE_ALERT_UNEXPECTED_MESSAGE 10

typedef struct qe_tls_after {
  uint32_t left; /* bytes of the current message that are still missing */
  uint8_t head;  /* bytes of its header received so far, below 4 */
} qe_tls_after;

/* Checks the next bytes of the peer's 1-RTT CRYPTO stream. Returns 0 or a TLS alert. */
uint8_t qe_tls_after_feed(qe_tls_after *a, int is_server, const uint8_t *data, size_t len);

/* Whether the stream is between two messages. */
static inline int qe_tls_after_is_even(const qe_tls_after *a) {
  return a->left == 0 && a->head == 0;
}

#endif
