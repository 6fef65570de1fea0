/*
 * accept.h - what a server does with packets that belong to no connection:
 * new connections, Version Negotiation, Retry, stateless reset, refusals.
 */
#ifndef QE_ACCEPT_H
#define QE_ACCEPT_H

#include "addrcount.h"
#include "internal.h"

#define QE_FULL_FOR_ADDRESS "too many connections from this address"

void qe_accept_version_negotiation(qe_engine *e, const ngtcp2_version_cid *vc,
                                   const ngtcp2_path *path, qe_tstamp now);
/* Handles a packet with an unknown connection ID. Returns 0 or QE_ERR_NOMEM. */
int qe_accept_packet(qe_engine *e, const ngtcp2_path *path, unsigned ecn, const uint8_t *data,
                     size_t len, qe_tstamp now);
/* Writes a token for the next connection from this address; returns its length, or 0 on failure. */
size_t qe_accept_new_token(qe_engine *e, const ngtcp2_addr *remote, uint8_t *out, qe_tstamp now);
/* Whether the address has reached max_connections_per_address; NULL is an address without
 * connections. */
int qe_accept_is_full_for(const qe_engine *e, const qe_addrcount *address);

#endif
