/*
 * tls_files.h - loads certificates and keys from PEM files into GnuTLS credentials, with error
 * messages that name the file and the problem.
 */
#ifndef QE_TLS_FILES_H
#define QE_TLS_FILES_H

#include <gnutls/gnutls.h>

/* Each function returns 0, QE_ERR_NOMEM, or QE_ERR_CERTIFICATE and sets qe_last_error(). */

/* what: the role of the file in messages, for instance "CA file". Free the result with
 * qe_tls_wipe_file. */
int qe_tls_read_file(const char *what, const char *path, gnutls_datum_t *out);
/* Overwrites the contents, which may be a key, and frees them. */
void qe_tls_wipe_file(gnutls_datum_t *file);

/* key_file == NULL: the key is in cert_file too. */
int qe_tls_load_pair(gnutls_certificate_credentials_t cred, const char *cert_file,
                     const char *key_file);
/* path is used only in messages. */
int qe_tls_load_roots(gnutls_certificate_credentials_t cred, const char *path,
                      const gnutls_datum_t *pem);

#endif
