/*
 * tls_export.h - the TLS exporter (RFC 8446 section 7.5). It needs only its secret, so that keys
 * can be exported after the TLS session is freed.
 */
#ifndef QE_TLS_EXPORT_H
#define QE_TLS_EXPORT_H

#include <gnutls/gnutls.h>
#include <stddef.h>
#include <stdint.h>

#define QE_EXPORT_SECRET_MAX 48 /* SHA-384, the longest hash of TLS 1.3 */
#define QE_EXPORT_LABEL_MAX 249 /* 255 minus the prefix "tls13 " */

typedef struct qe_exporter {
  uint8_t secret[QE_EXPORT_SECRET_MAX]; /* exporter_master_secret */
  uint8_t len;                          /* 0: unknown */
  uint8_t hash;                         /* gnutls_digest_algorithm_t */
} qe_exporter;

/* Sets the exporter of a session whose handshake is complete. Returns false if the hash of the
 * session does not match the secret. */
int qe_exporter_set(qe_exporter *x, gnutls_session_t s, const uint8_t *secret, size_t len);
/* 0, QE_ERR_INVALID, QE_ERR_NOMEM or QE_ERR_TLS. */
int qe_export(const qe_exporter *x, const char *label, size_t label_len, const uint8_t *context,
              size_t context_len, uint8_t *out, size_t out_len);
void qe_exporter_wipe(qe_exporter *x);

#endif
