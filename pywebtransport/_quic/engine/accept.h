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
/* A packet whose connection ID is unknown.  QE_ERR_NOMEM or 0. */
int qe_accept_packet(qe_engine *e, const ngtcp2_path *path, unsigned ecn, const uint8_t *data,
                     size_t len, qe_tstamp now);
/* A token for the next connection from this address; its length or 0. */
size_t qe_accept_new_token(qe_engine *e, const ngtcp2_addr *remote, uint8_t *out, qe_tstamp now);
/* Whether an address (NULL: one without any) has as many connections as it may. */
int qe_accept_is_full_for(const qe_engine *e, const qe_addrcount *address);

#endif
