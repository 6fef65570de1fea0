#include "secrets.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

#include "internal.h"

static int expand(const uint8_t master[QE_SECRET_LEN], const char *label, uint64_t number,
                  uint8_t out[QE_SECRET_LEN]) {
  uint8_t info[64];
  size_t n = strlen(label);
  gnutls_datum_t key = {(uint8_t *)(uintptr_t)master, QE_SECRET_LEN};
  gnutls_datum_t context = {info, (unsigned)n + 8};

  memcpy(info, label, n);
  for (int shift = 56; shift >= 0; shift -= 8) {
    info[n++] = (uint8_t)(number >> shift);
  }
  return gnutls_hkdf_expand(GNUTLS_MAC_SHA256, &key, &context, out, QE_SECRET_LEN) == 0
             ? 0
             : QE_ERR_INTERNAL;
}

int qe_secrets_init(qe_secrets *s, const uint8_t (*masters)[QE_SECRET_LEN], size_t n) {
  int rv = 0;

  if (n > QE_MAX_SECRETS) {
    return QE_ERR_INVALID;
  }
  memset(s, 0, sizeof(*s));
  s->n = n > 0 ? n : 1;
  for (size_t i = 0; i < s->n && rv == 0; i++) {
    if (n > 0) {
      memcpy(s->list[i].master, masters[i], QE_SECRET_LEN);
    } else {
      rv = qe_random(s->list[i].master, QE_SECRET_LEN);
    }
    if (rv == 0) {
      rv = expand(s->list[i].master, "pywebtransport reset", 0, s->list[i].reset);
    }
  }
  return rv;
}

int qe_secrets_reset_token(const qe_secrets *s, size_t which, const ngtcp2_cid *cid,
                           uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN]) {
  uint8_t mac[32];
  int rv = gnutls_hmac_fast(GNUTLS_MAC_SHA256, s->list[which].reset, QE_SECRET_LEN, cid->data,
                            cid->datalen, mac);
  if (rv != 0) {
    return QE_ERR_INTERNAL;
  }
  memcpy(token, mac, NGTCP2_STATELESS_RESET_TOKENLEN);
  return 0;
}

uint64_t qe_secrets_period(qe_token_kind kind) {
  return kind == QE_TOKEN_RETRY ? 3600 : 24 * 3600;
}

int qe_secrets_token_key(const qe_secrets *s, size_t which, qe_token_kind kind, uint64_t wall,
                         unsigned ago, uint8_t key[QE_SECRET_LEN]) {
  uint64_t period = wall / QE_SECOND / qe_secrets_period(kind);

  return expand(s->list[which].master,
                kind == QE_TOKEN_RETRY ? "pywebtransport retry" : "pywebtransport token",
                period - ago, key);
}
