/*
 * addrcount.h - how many connections each client address has.
 *
 * A connection counts for the address of its handshake until its end, wherever it migrates: no
 * address gets rid of what it has by moving it, and none is charged with what others move to it.
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

/* What one customer has: IPv4 /32 (IPv4-mapped counts as IPv4), IPv6 /64.  Returns its length. */
size_t qe_addr_prefix(const struct sockaddr *addr, uint8_t out[QE_ADDR_PREFIX]);

/* The figures of an address; NULL when it has no connection.  They live as long as one of its
 * connections, and the map holds no others. */
qe_addrcount *qe_addrcount_find(const qe_cidmap *m, const struct sockaddr *addr);
/* One more that is half open.  0 or QE_ERR_NOMEM. */
int qe_addrcount_enter(qe_cidmap *m, const struct sockaddr *addr, qe_addrcount **out);
/* Its handshake is complete. */
void qe_addrcount_complete(qe_addrcount *a);
/* It is gone; complete: whether qe_addrcount_complete was called for it. */
void qe_addrcount_leave(qe_cidmap *m, qe_addrcount *a, int complete);

#endif
