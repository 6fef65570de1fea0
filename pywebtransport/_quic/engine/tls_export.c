#include "tls_export.h"

#include <gnutls/crypto.h>
#include <string.h>

#include "quicengine.h"

int qe_exporter_set(qe_exporter *x, gnutls_session_t s, const uint8_t *secret, size_t len) {
  gnutls_digest_algorithm_t hash = gnutls_prf_hash_get(s);

  if (len == 0 || len > sizeof(x->secret) || len != gnutls_hash_get_len(hash)) {
    return 0;
  }
  memcpy(x->secret, secret, len);
  x->len = (uint8_t)len;
  x->hash = (uint8_t)hash;
  return 1;
}

void qe_exporter_wipe(qe_exporter *x) {
  gnutls_memset(x, 0, sizeof(*x));
}

/* HKDF-Expand-Label of RFC 8446 section 7.1. */
static int expand_label(const qe_exporter *x, const uint8_t *secret, const char *label,
                        size_t label_len, const uint8_t *hash, uint8_t *out, size_t out_len) {
  static const char prefix[] = "tls13 ";
  uint8_t info[2 + 1 + 255 + 1 + QE_EXPORT_SECRET_MAX];
  size_t n = 0;

  info[n++] = (uint8_t)(out_len >> 8);
  info[n++] = (uint8_t)out_len;
  info[n++] = (uint8_t)(sizeof(prefix) - 1 + label_len);
  memcpy(info + n, prefix, sizeof(prefix) - 1);
  n += sizeof(prefix) - 1;
  memcpy(info + n, label, label_len);
  n += label_len;
  info[n++] = x->len;
  memcpy(info + n, hash, x->len);
  n += x->len;
  /* The library only reads what these point to. */
  gnutls_datum_t key = {(uint8_t *)(uintptr_t)secret, x->len};
  gnutls_datum_t text = {info, (unsigned)n};
  return gnutls_hkdf_expand((gnutls_mac_algorithm_t)x->hash, &key, &text, out, out_len);
}

int qe_export(const qe_exporter *x, const char *label, size_t label_len, const uint8_t *context,
              size_t context_len, uint8_t *out, size_t out_len) {
  uint8_t derived[QE_EXPORT_SECRET_MAX];
  uint8_t hash[QE_EXPORT_SECRET_MAX];
  gnutls_digest_algorithm_t algorithm = (gnutls_digest_algorithm_t)x->hash;

  if (label_len == 0 || label_len > QE_EXPORT_LABEL_MAX || out_len == 0 ||
      out_len > (size_t)255 * 32 || (context == NULL && context_len > 0)) {
    return QE_ERR_INVALID;
  }
  if (x->len == 0) {
    return QE_ERR_TLS;
  }
  int rv = gnutls_hash_fast(algorithm, "", 0, hash);
  if (rv == 0) {
    rv = expand_label(x, x->secret, label, label_len, hash, derived, x->len);
  }
  if (rv == 0) {
    rv = gnutls_hash_fast(algorithm, context == NULL ? "" : (const void *)context, context_len,
                          hash);
  }
  if (rv == 0) {
    rv = expand_label(x, derived, "exporter", 8, hash, out, out_len);
  }
  gnutls_memset(derived, 0, sizeof(derived));
  return rv == 0 ? 0 : rv == GNUTLS_E_MEMORY_ERROR ? QE_ERR_NOMEM : QE_ERR_TLS;
}
