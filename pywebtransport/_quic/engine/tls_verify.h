/*
 * tls_verify.h - verifies the certificate of a peer, and says in plain English what is wrong with
 * it.
 */
#ifndef QE_TLS_VERIFY_H
#define QE_TLS_VERIFY_H

#include <gnutls/gnutls.h>
#include <stddef.h>
#include <stdint.h>

#include "quicengine.h"

#define QE_VERIFY_TEXT_MAX 512

typedef struct qe_verify_policy {
  int is_server; /* this is the server; the certificate is the client's */
  enum qe_verify mode;
  uint8_t (*hashes)[32]; /* count > 0: pinning instead of chain and name */
  size_t hash_count;
  int no_roots; /* the trust store is empty */
} qe_verify_policy;

/* Converts an IPv4 or IPv6 literal ("::1", "[::1]", "fe80::1%eth0") to raw bytes. Returns 4, 16,
 * or 0 if name is not a literal. */
size_t qe_parse_ip_literal(const char *name, uint8_t out[16]);

/* 0, or a GNUTLS_E_* (whose alert fits) with text filled.  name: client only.
 * *expires, for a client: when the first certificate of a good chain expires, in seconds since
 * 1970; 0 when that cannot be told. */
int qe_verify_peer(gnutls_session_t s, const qe_verify_policy *policy, const char *name,
                   char text[QE_VERIFY_TEXT_MAX], uint64_t *expires);

#endif
