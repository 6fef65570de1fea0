#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "tlscert.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char dir[64];

static int set_names(gnutls_x509_crt_t crt, const tlscert_spec *spec) {
  int rv = gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, spec->cn,
                                         (unsigned)strlen(spec->cn));
  for (const char *const *p = spec->dns; rv == 0 && p != NULL && *p != NULL; p++) {
    rv = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, *p, (unsigned)strlen(*p),
                                              GNUTLS_FSAN_APPEND);
  }
  for (const char *const *p = spec->ip; rv == 0 && p != NULL && *p != NULL; p++) {
    uint8_t ip[16];
    unsigned len = inet_pton(AF_INET, *p, ip) == 1 ? 4 : 16;
    if (len == 16 && inet_pton(AF_INET6, *p, ip) != 1) {
      return GNUTLS_E_INVALID_REQUEST;
    }
    rv = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, ip, len,
                                              GNUTLS_FSAN_APPEND);
  }
  return rv;
}

static int set_fields(gnutls_x509_crt_t crt, const tlscert_spec *spec) {
  static uint8_t serial[4] = {0, 0, 0, 1};
  time_t now = time(NULL);
  int version = spec->version == 0 ? 3 : spec->version;
  int rv;

  serial[3]++;
  if ((rv = gnutls_x509_crt_set_version(crt, (unsigned)version)) != 0 ||
      (rv = gnutls_x509_crt_set_serial(crt, serial, sizeof(serial))) != 0 ||
      (rv = gnutls_x509_crt_set_activation_time(crt, now + spec->from)) != 0 ||
      (rv = gnutls_x509_crt_set_expiration_time(crt, now + spec->until)) != 0) {
    return rv;
  }
  if (version < 3) {
    return gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, spec->cn,
                                         (unsigned)strlen(spec->cn));
  }
  if ((rv = set_names(crt, spec)) != 0 ||
      (rv = gnutls_x509_crt_set_basic_constraints(crt, spec->ca ? 1 : 0, -1)) != 0) {
    return rv;
  }
  return spec->purpose == NULL ? 0 : gnutls_x509_crt_set_key_purpose_oid(crt, spec->purpose, 0);
}

int tlscert_make(tlscert *out, const tlscert_spec *spec, const tlscert *issuer) {
  int rv;

  memset(out, 0, sizeof(*out));
  if ((rv = gnutls_x509_crt_init(&out->crt)) != 0 ||
      (rv = gnutls_x509_privkey_init(&out->key)) != 0) {
    return rv;
  }
  rv = spec->key == TLSCERT_RSA
           ? gnutls_x509_privkey_generate(out->key, GNUTLS_PK_RSA, 2048, 0)
           : gnutls_x509_privkey_generate(out->key, GNUTLS_PK_ECDSA,
                                          GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
  if (rv != 0 || (rv = gnutls_x509_crt_set_key(out->crt, out->key)) != 0 ||
      (rv = set_fields(out->crt, spec)) != 0) {
    return rv;
  }
  rv = issuer == NULL
           ? gnutls_x509_crt_sign2(out->crt, out->crt, out->key, GNUTLS_DIG_SHA256, 0)
           : gnutls_x509_crt_sign2(out->crt, issuer->crt, issuer->key, GNUTLS_DIG_SHA256, 0);
  if (rv != 0) {
    return rv;
  }
  size_t size = sizeof(out->hash);
  return gnutls_x509_crt_get_fingerprint(out->crt, GNUTLS_DIG_SHA256, out->hash, &size);
}

void tlscert_free(tlscert *c) {
  gnutls_x509_crt_deinit(c->crt);
  gnutls_x509_privkey_deinit(c->key);
}

static int append_crt(FILE *f, gnutls_x509_crt_t crt) {
  gnutls_datum_t pem;
  int rv = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem);
  if (rv == 0) {
    rv = fwrite(pem.data, 1, pem.size, f) == pem.size ? 0 : GNUTLS_E_FILE_ERROR;
    gnutls_free(pem.data);
  }
  return rv;
}

static int write_key(gnutls_x509_privkey_t key, const char *path) {
  gnutls_datum_t pem;
  FILE *f = fopen(path, "w");
  if (f == NULL) {
    return GNUTLS_E_FILE_ERROR;
  }
  int rv = gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem);
  if (rv == 0) {
    rv = fwrite(pem.data, 1, pem.size, f) == pem.size ? 0 : GNUTLS_E_FILE_ERROR;
    gnutls_free(pem.data);
  }
  return fclose(f) == 0 ? rv : GNUTLS_E_FILE_ERROR;
}

int tlscert_write(const tlscert *c, const tlscert *chain, const char *cert_path,
                  const char *key_path) {
  FILE *f = fopen(cert_path, "w");
  if (f == NULL) {
    return GNUTLS_E_FILE_ERROR;
  }
  int rv = append_crt(f, c->crt);
  if (rv == 0 && chain != NULL) {
    rv = append_crt(f, chain->crt);
  }
  if (fclose(f) != 0) {
    rv = GNUTLS_E_FILE_ERROR;
  }
  return rv != 0 || key_path == NULL ? rv : write_key(c->key, key_path);
}

int tlscert_write_text(const char *path, const char *text) {
  FILE *f = fopen(path, "w");
  if (f == NULL) {
    return -1;
  }
  int rv = fputs(text, f) < 0 ? -1 : 0;
  return fclose(f) == 0 ? rv : -1;
}

int tlscert_dir_open(void) {
  /* mkdtemp wants six of them at the end. */
  (void)snprintf(dir, sizeof(dir), "/tmp/qe_tls_test.");
  size_t len = strlen(dir);
  memset(dir + len, 'X', 6);
  dir[len + 6] = '\0';
  return mkdtemp(dir) == NULL ? -1 : 0;
}

const char *tlscert_path(const char *name) {
  static char paths[64][400];
  static unsigned next;
  char *out = paths[next++ % 64];
  (void)snprintf(out, sizeof(paths[0]), "%s/%s", dir, name);
  return out;
}

void tlscert_dir_close(void) {
  DIR *d = opendir(dir);
  if (d == NULL) {
    return;
  }
  for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
    if (e->d_name[0] != '.') {
      (void)unlink(tlscert_path(e->d_name));
    }
  }
  (void)closedir(d);
  (void)rmdir(dir);
}
