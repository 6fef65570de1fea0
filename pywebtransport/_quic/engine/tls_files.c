#include "tls_files.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "quicengine.h"

/* Larger than any real chain or bundle of roots. */
#define FILE_MAX ((size_t)16 << 20)

static const char *errno_text(int err) {
  switch (err) {
  case ENOENT:
  case ENOTDIR:
    return "not found";
  case EACCES:
  case EPERM:
    return "permission denied";
  case EISDIR:
    return "is a directory";
  default:
    return "cannot be read";
  }
}

void qe_tls_wipe_file(gnutls_datum_t *file) {
  if (file->data != NULL) {
    gnutls_memset(file->data, 0, file->size);
    free(file->data);
  }
  file->data = NULL;
  file->size = 0;
}

static int read_all(FILE *f, const char *what, const char *path, gnutls_datum_t *out) {
  size_t cap = 8192, len = 0;
  unsigned char *data = malloc(cap);
  int rv = 0;

  if (data == NULL) {
    return QE_ERR_NOMEM;
  }
  for (;;) {
    size_t n = fread(data + len, 1, cap - len, f);
    len += n;
    if (ferror(f)) {
      rv = qe_set_error(QE_ERR_CERTIFICATE, "%s %s: %s", what, path, errno_text(errno));
      break;
    }
    if (len < cap) {
      break;
    }
    if (cap >= FILE_MAX) {
      rv = qe_set_error(QE_ERR_CERTIFICATE, "%s %s: larger than 16 MiB", what, path);
      break;
    }
    /* Not realloc: it could leave a copy of a key in freed memory. */
    unsigned char *bigger = malloc(cap * 2);
    if (bigger == NULL) {
      rv = QE_ERR_NOMEM;
      break;
    }
    memcpy(bigger, data, len);
    gnutls_memset(data, 0, len);
    free(data);
    data = bigger;
    cap *= 2;
  }
  out->data = data;
  out->size = (unsigned)len;
  if (rv != 0) {
    qe_tls_wipe_file(out);
  }
  return rv;
}

int qe_tls_read_file(const char *what, const char *path, gnutls_datum_t *out) {
  out->data = NULL;
  out->size = 0;
  FILE *f = fopen(path, "rbe");
  if (f == NULL) {
    return qe_set_error(QE_ERR_CERTIFICATE, "%s %s: %s", what, path, errno_text(errno));
  }
  /* Unbuffered, so that stdio keeps no copy of a key. */
  (void)setvbuf(f, NULL, _IONBF, 0);
  int rv = read_all(f, what, path, out);
  (void)fclose(f);
  return rv;
}

static int import_chain(const char *path, const gnutls_datum_t *pem, gnutls_x509_crt_t **chain,
                        unsigned *count) {
  int rv = gnutls_x509_crt_list_import2(chain, count, pem, GNUTLS_X509_FMT_PEM,
                                        GNUTLS_X509_CRT_LIST_SORT);
  switch (rv) {
  case GNUTLS_E_SUCCESS:
    return 0;
  case GNUTLS_E_MEMORY_ERROR:
    return QE_ERR_NOMEM;
  case GNUTLS_E_NO_CERTIFICATE_FOUND:
  case GNUTLS_E_BASE64_UNEXPECTED_HEADER_ERROR:
    return qe_set_error(QE_ERR_CERTIFICATE,
                        "certificate file %s: no certificate in PEM format found", path);
  default:
    return qe_set_error(QE_ERR_CERTIFICATE, "certificate file %s: not a valid certificate: %s",
                        path, gnutls_strerror(rv));
  }
}

static int import_key(const char *path, const gnutls_datum_t *pem, gnutls_x509_privkey_t key) {
  int rv = gnutls_x509_privkey_import2(key, pem, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN);
  switch (rv) {
  case GNUTLS_E_SUCCESS:
    return 0;
  case GNUTLS_E_MEMORY_ERROR:
    return QE_ERR_NOMEM;
  case GNUTLS_E_DECRYPTION_FAILED:
    return qe_set_error(QE_ERR_CERTIFICATE,
                        "private key file %s: encrypted; store the key without a password", path);
  case GNUTLS_E_BASE64_UNEXPECTED_HEADER_ERROR:
  case GNUTLS_E_BASE64_DECODING_ERROR:
  case GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE:
    return qe_set_error(QE_ERR_CERTIFICATE, "private key file %s: no key in PEM format found",
                        path);
  default:
    return qe_set_error(QE_ERR_CERTIFICATE, "private key file %s: not a valid key: %s", path,
                        gnutls_strerror(rv));
  }
}

static int join_pair(gnutls_certificate_credentials_t cred, const char *cert_file,
                     const char *key_file, const gnutls_datum_t *cert_pem,
                     const gnutls_datum_t *key_pem) {
  gnutls_x509_crt_t *chain = NULL;
  gnutls_x509_privkey_t key = NULL;
  unsigned count = 0;
  int rv = import_chain(cert_file, cert_pem, &chain, &count);

  if (rv != 0) {
    return rv;
  }
  if (gnutls_x509_privkey_init(&key) != 0) {
    rv = QE_ERR_NOMEM;
  } else {
    rv = import_key(key_file, key_pem, key);
  }
  if (rv == 0) {
    int err = gnutls_certificate_set_x509_key(cred, chain, (int)count, key);
    if (err == GNUTLS_E_CERTIFICATE_KEY_MISMATCH) {
      rv = qe_set_error(QE_ERR_CERTIFICATE,
                        "private key file %s: does not match the certificate in %s", key_file,
                        cert_file);
    } else if (err == GNUTLS_E_MEMORY_ERROR) {
      rv = QE_ERR_NOMEM;
    } else if (err < 0) {
      rv = qe_set_error(QE_ERR_CERTIFICATE, "certificate file %s: cannot be used: %s", cert_file,
                        gnutls_strerror(err));
    }
  }
  if (key != NULL) {
    gnutls_x509_privkey_deinit(key);
  }
  for (unsigned i = 0; i < count; i++) {
    gnutls_x509_crt_deinit(chain[i]);
  }
  gnutls_free(chain);
  return rv;
}

int qe_tls_load_pair(gnutls_certificate_credentials_t cred, const char *cert_file,
                     const char *key_file) {
  gnutls_datum_t cert_pem, key_pem;

  if (key_file == NULL) {
    key_file = cert_file;
  }
  int rv = qe_tls_read_file("certificate file", cert_file, &cert_pem);
  if (rv != 0) {
    return rv;
  }
  rv = qe_tls_read_file("private key file", key_file, &key_pem);
  if (rv == 0) {
    rv = join_pair(cred, cert_file, key_file, &cert_pem, &key_pem);
    qe_tls_wipe_file(&key_pem);
  }
  qe_tls_wipe_file(&cert_pem);
  return rv;
}

int qe_tls_load_roots(gnutls_certificate_credentials_t cred, const char *path,
                      const gnutls_datum_t *pem) {
  int rv = gnutls_certificate_set_x509_trust_mem(cred, pem, GNUTLS_X509_FMT_PEM);
  if (rv > 0) {
    return 0;
  }
  if (rv == GNUTLS_E_MEMORY_ERROR) {
    return QE_ERR_NOMEM;
  }
  if (rv == 0 || rv == GNUTLS_E_NO_CERTIFICATE_FOUND ||
      rv == GNUTLS_E_BASE64_UNEXPECTED_HEADER_ERROR) {
    return qe_set_error(QE_ERR_CERTIFICATE, "CA file %s: no certificate in PEM format found", path);
  }
  return qe_set_error(QE_ERR_CERTIFICATE, "CA file %s: not a valid certificate: %s", path,
                      gnutls_strerror(rv));
}
