/*
 * tls_ticket.h - session tickets as the application keeps them: GnuTLS's data
 * behind a header that binds them to how the server was verified.
 *
 * A resumed handshake shows no certificate.  So a ticket is used only for the
 * same name under the same verification rules, and no longer than the
 * certificates of the first handshake were valid; else the handshake is full.
 */
#ifndef QE_TLS_TICKET_H
#define QE_TLS_TICKET_H

#include <stddef.h>
#include <stdint.h>

#define QE_TICKET_BINDING_LEN 32 /* SHA-256 over rules and name */
#define QE_TICKET_HEADER_LEN (5 + QE_TICKET_BINDING_LEN + 8)

/* Returns a malloc'ed ticket of QE_TICKET_HEADER_LEN + len bytes, or NULL.
 * expires: seconds since 1970. */
uint8_t *qe_ticket_wrap(const uint8_t binding[QE_TICKET_BINDING_LEN], uint64_t expires,
                        const uint8_t *data, size_t len);
/* The data inside, or NULL when the ticket is not for this use.  *data_len is
 * its length, *expires the time it was wrapped with. */
const uint8_t *qe_ticket_unwrap(const uint8_t *ticket, size_t len,
                                const uint8_t binding[QE_TICKET_BINDING_LEN], uint64_t now,
                                size_t *data_len, uint64_t *expires);

#endif
