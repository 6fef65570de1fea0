/*
 * tls_ticket.h - session tickets as the application stores them: GnuTLS's data after a header that
 * binds it to how the server was verified.
 *
 * A resumed handshake has no certificate message. So a ticket is used only for the same name, with
 * the same verification rules, and only while the certificates of the first handshake are valid.
 * Otherwise the handshake is full.
 */
#ifndef QE_TLS_TICKET_H
#define QE_TLS_TICKET_H

#include <stddef.h>
#include <stdint.h>

#define QE_TICKET_BINDING_LEN 32 /* SHA-256 over rules and name */
#define QE_TICKET_HEADER_LEN (5 + QE_TICKET_BINDING_LEN + 8)

/* Returns a ticket of QE_TICKET_HEADER_LEN + len bytes, to be freed with free(), or NULL.
 * expires: seconds since 1970. */
uint8_t *qe_ticket_wrap(const uint8_t binding[QE_TICKET_BINDING_LEN], uint64_t expires,
                        const uint8_t *data, size_t len);
/* Returns the data inside, or NULL if the ticket cannot be used here. Sets *data_len to its
 * length, and *expires to the time given to qe_ticket_wrap. */
const uint8_t *qe_ticket_unwrap(const uint8_t *ticket, size_t len,
                                const uint8_t binding[QE_TICKET_BINDING_LEN], uint64_t now,
                                size_t *data_len, uint64_t *expires);

#endif
