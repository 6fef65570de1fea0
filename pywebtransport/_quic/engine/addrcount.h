/*
 * addrcount.h - how many connections each client address has.
 *
 * A connection counts for the address of its handshake until it ends, even after it migrates. So a
 * client cannot lower its own count by migrating, nor raise the count of another address.
 */
#ifndef QE_ADDRCOUNT_H
#define QE_ADDRCOUNT_H

#include <sys/socket.h>

#include "cidmap.h"

#define QE_ADDR_PREFIX 8

typedef struct qe_addrcount {
  uint32_t connections; /* handshake complete */
  uint32_t half_open;
  uint8_t prefix[QE_ADDR_PREFIX];
  uint8_t prefix_len;
} qe_addrcount;

/* The prefix that counts as one client: IPv4 /32 (IPv4-mapped addresses too), IPv6 /64. Returns
 * its length in bytes. */
size_t qe_addr_prefix(const struct sockaddr *addr, uint8_t out[QE_ADDR_PREFIX]);

/* The counts of an address; NULL if it has no connection. An entry exists only while its address
 * has a connection. */
qe_addrcount *qe_addrcount_find(const qe_cidmap *m, const struct sockaddr *addr);
/* Counts a new half-open connection. Returns 0 or QE_ERR_NOMEM. */
int qe_addrcount_enter(qe_cidmap *m, const struct sockaddr *addr, qe_addrcount **out);
/* Moves a connection from half-open to complete. */
void qe_addrcount_complete(qe_addrcount *a);
/* Removes a connection; complete: whether qe_addrcount_complete was called for it. */
void qe_addrcount_leave(qe_cidmap *m, qe_addrcount *a, int complete);

#endif
