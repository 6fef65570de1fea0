/*
 * secrets.h - derives keys from the secrets that servers share. The keys are for what servers give
 * to their clients: stateless reset tokens and address validation tokens.
 *
 * Each use has its own key, derived with HKDF (RFC 5869), so that a leak in one use does not affect
 * the others. The keys of tokens change over time. Each server that knows the secret derives the
 * current key from its own clock.
 */
#ifndef QE_SECRETS_H
#define QE_SECRETS_H

#include <ngtcp2/ngtcp2.h>

#include "quicengine.h"

#define QE_SECRET_LEN 32

/* The first secret is used for new tokens; all are tried for tokens that come back. */
typedef struct qe_secrets {
  struct {
    uint8_t master[QE_SECRET_LEN];
    uint8_t reset[QE_SECRET_LEN];
  } list[QE_MAX_SECRETS];
  size_t n;
} qe_secrets;

typedef enum qe_token_kind { QE_TOKEN_RETRY, QE_TOKEN_REGULAR } qe_token_kind;

/* n = 0: makes one random secret. Returns 0 or a negative error. */
int qe_secrets_init(qe_secrets *s, const uint8_t (*masters)[QE_SECRET_LEN], size_t n);
/* Derives a stateless reset token (RFC 9000 section 10.3.2): HMAC-SHA256 of the connection ID. A
 * connection needs several, and the library's own derivation takes four times as long. Returns 0 or
 * QE_ERR_INTERNAL. */
int qe_secrets_reset_token(const qe_secrets *s, size_t which, const ngtcp2_cid *cid,
                           uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN]);
/* How many seconds each key of a kind is used. */
uint64_t qe_secrets_period(qe_token_kind kind);
/* Derives the key of tokens that were made `ago` periods before `wall` (ns). Returns 0 or
 * QE_ERR_INTERNAL. */
int qe_secrets_token_key(const qe_secrets *s, size_t which, qe_token_kind kind, uint64_t wall,
                         unsigned ago, uint8_t key[QE_SECRET_LEN]);

#endif
