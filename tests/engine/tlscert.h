/*
 * tlscert.h - creates certificates of all kinds for the TLS tests.
 */
#ifndef QE_TLSCERT_H
#define QE_TLSCERT_H

#include <gnutls/x509.h>
#include <stddef.h>
#include <stdint.h>

enum { TLSCERT_EC, TLSCERT_RSA };

typedef struct tlscert_spec {
  const char *cn;         /* common name */
  const char *const *dns; /* NULL-terminated; may be NULL */
  const char *const *ip;  /* the same, textual */
  int key;                /* TLSCERT_* */
  int64_t from, until;    /* seconds relative to now */
  int ca;                 /* may sign others */
  int version;            /* 0 = 3 */
  const char *purpose;    /* extended key usage OID; NULL = none */
} tlscert_spec;

typedef struct tlscert {
  gnutls_x509_crt_t crt;
  gnutls_x509_privkey_t key;
  uint8_t hash[32]; /* SHA-256 of the DER */
} tlscert;

/* issuer == NULL: self-signed.  0 or a GnuTLS error. */
int tlscert_make(tlscert *out, const tlscert_spec *spec, const tlscert *issuer);
void tlscert_free(tlscert *c);
/* PEM files; chain may be NULL, else it is appended to the certificate. */
int tlscert_write(const tlscert *c, const tlscert *chain, const char *cert_path,
                  const char *key_path);

/* A directory for the test's files, removed with its content at the end. */
int tlscert_dir_open(void);
const char *tlscert_path(const char *name); /* valid for 64 further calls */
int tlscert_write_text(const char *path, const char *text);
void tlscert_dir_close(void);

#endif
