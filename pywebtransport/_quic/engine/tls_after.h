/*
 * tls_after.h - which TLS messages a peer may send after the handshake.
 *
 * In QUIC only NewSessionTicket, from server to client (RFC 9001 sections 4.1.2
 * and 6: no renegotiation, no KeyUpdate, no post-handshake authentication).
 * This follows the messages without keeping them, so that tickets can be
 * ignored when the TLS session is gone.
 */
#ifndef QE_TLS_AFTER_H
#define QE_TLS_AFTER_H

#include <stddef.h>
#include <stdint.h>

#define QE_ALERT_UNEXPECTED_MESSAGE 10

typedef struct qe_tls_after {
  uint32_t left; /* bytes of the present message that are still to come */
  uint8_t head;  /* bytes of its header that were seen, below 4 */
} qe_tls_after;

/* The next bytes of the peer's 1-RTT CRYPTO stream: 0, or the TLS alert. */
uint8_t qe_tls_after_feed(qe_tls_after *a, int is_server, const uint8_t *data, size_t len);

/* Between two messages? */
static inline int qe_tls_after_is_even(const qe_tls_after *a) {
  return a->left == 0 && a->head == 0;
}

#endif
