#include "tls_verify.h"

#include <arpa/inet.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* W3C WebTransport, serverCertificateHashes: at most two weeks. */
#define PIN_MAX_VALIDITY ((time_t)14 * 24 * 3600)

/* Room for "; its SHA-256 is " and 64 digits, which are never cut, even if the rest of the
 * message is. */
#define HASH_TEXT_MAX 96

/* A message of parts joined by "; ", cut to fit. */
typedef struct report {
  char *text;
  size_t len;
  size_t size;
} report;

static void add(report *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(report *r, const char *format, ...) {
  va_list args;
  size_t room = r->size - r->len;
  int n = 0;

  if (r->len > 0) {
    n = snprintf(r->text + r->len, room, "; ");
    if (n < 0 || (size_t)n >= room) {
      return;
    }
    r->len += (size_t)n;
    room -= (size_t)n;
  }
  va_start(args, format);
  n = vsnprintf(r->text + r->len, room, format, args);
  va_end(args);
  if (n > 0) {
    r->len += (size_t)n < room ? (size_t)n : room - 1;
  }
}

size_t qe_parse_ip_literal(const char *name, uint8_t out[16]) {
  char text[64];
  size_t len = strlen(name);

  if (len >= 2 && name[0] == '[' && name[len - 1] == ']') {
    name++;
    len -= 2;
  }
  if (len == 0 || len >= sizeof(text)) {
    return 0;
  }
  memcpy(text, name, len);
  text[len] = '\0';
  if (inet_pton(AF_INET, text, out) == 1) {
    return 4;
  }
  char *zone = strchr(text, '%');
  if (zone != NULL) {
    *zone = '\0';
  }
  return inet_pton(AF_INET6, text, out) == 1 ? 16 : 0;
}

static const char *date_text(time_t t, char buf[32]) {
  struct tm tm;
  if (t == (time_t)-1 || gmtime_r(&t, &tm) == NULL ||
      strftime(buf, 32, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0) {
    return "an unreadable date";
  }
  return buf;
}

/* "a.example, b.example, 192.0.2.1", for the message about a wrong name. */
static void names_text(gnutls_x509_crt_t crt, char *out, size_t size) {
  size_t len = 0;
  out[0] = '\0';
  for (unsigned i = 0; i < 64; i++) {
    unsigned char san[256];
    size_t san_len = sizeof(san);
    char ip[INET6_ADDRSTRLEN];
    const char *name = (const char *)san;
    int type = gnutls_x509_crt_get_subject_alt_name(crt, i, san, &san_len, NULL);

    if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE) {
      break;
    }
    if (type == GNUTLS_SAN_IPADDRESS && (san_len == 4 || san_len == 16)) {
      name = inet_ntop(san_len == 4 ? AF_INET : AF_INET6, san, ip, sizeof(ip));
      if (name == NULL) {
        continue;
      }
    } else if (type != GNUTLS_SAN_DNSNAME || san_len >= sizeof(san)) {
      continue;
    } else {
      san[san_len] = '\0';
    }
    int n = snprintf(out + len, size - len, "%s%s", len > 0 ? ", " : "", name);
    if (n < 0 || (size_t)n >= size - len) {
      out[len] = '\0';
      return;
    }
    len += (size_t)n;
  }
}

static void dn_text(gnutls_x509_crt_t crt, bool issuer, char *out, size_t size) {
  gnutls_datum_t dn = {NULL, 0};
  int rv =
      issuer ? gnutls_x509_crt_get_issuer_dn3(crt, &dn, 0) : gnutls_x509_crt_get_dn3(crt, &dn, 0);
  (void)snprintf(out, size, "%s", rv == 0 && dn.data != NULL ? (const char *)dn.data : "?");
  if (rv == 0) {
    gnutls_free(dn.data);
  }
}

static int import_leaf(gnutls_session_t s, gnutls_x509_crt_t *out) {
  unsigned count = 0;
  const gnutls_datum_t *chain = gnutls_certificate_get_peers(s, &count);

  if (chain == NULL || count == 0) {
    return GNUTLS_E_NO_CERTIFICATE_FOUND;
  }
  int rv = gnutls_x509_crt_init(out);
  if (rv != 0) {
    return rv;
  }
  rv = gnutls_x509_crt_import(*out, &chain[0], GNUTLS_X509_FMT_DER);
  if (rv != 0) {
    gnutls_x509_crt_deinit(*out);
  }
  return rv;
}

static void report_dates(report *r, const char *who, gnutls_x509_crt_t crt, unsigned status) {
  char date[32];
  time_t now = time(NULL);
  time_t from = gnutls_x509_crt_get_activation_time(crt);
  time_t until = gnutls_x509_crt_get_expiration_time(crt);

  if (status & GNUTLS_CERT_EXPIRED) {
    if (until < now) {
      add(r, "%s expired on %s", who, date_text(until, date));
    } else {
      add(r, "%s: a certificate of its issuers has expired", who);
    }
  }
  if (status & GNUTLS_CERT_NOT_ACTIVATED) {
    if (from > now) {
      add(r, "%s is not valid before %s", who, date_text(from, date));
    } else {
      add(r, "%s: a certificate of its issuers is not valid yet", who);
    }
  }
}

static void report_signer(report *r, const char *who, gnutls_x509_crt_t crt,
                          const qe_verify_policy *policy) {
  char subject[128], issuer[128];
  const char *hint = policy->no_roots ? " (no trusted roots are installed)" : "";

  dn_text(crt, false, subject, sizeof(subject));
  dn_text(crt, true, issuer, sizeof(issuer));
  if (gnutls_x509_crt_check_issuer(crt, crt)) {
    add(r, "%s \"%s\" is self-signed and not trusted%s", who, subject, hint);
  } else {
    add(r, "issuer \"%s\" of the %s is not trusted%s", issuer, who, hint);
  }
}

static void report_status(report *r, const char *who, gnutls_x509_crt_t crt, unsigned status,
                          const qe_verify_policy *policy, const char *name) {
  report_dates(r, who, crt, status);
  if (status & GNUTLS_CERT_UNEXPECTED_OWNER) {
    char names[200];
    names_text(crt, names, sizeof(names));
    add(r, "%s is not for \"%s\"; its names are: %s", who, name == NULL ? "" : name,
        names[0] == '\0' ? "none" : names);
  }
  if (status & GNUTLS_CERT_SIGNER_NOT_FOUND) {
    report_signer(r, who, crt, policy);
  }
  if (status & GNUTLS_CERT_SIGNER_NOT_CA) {
    char issuer[128];
    dn_text(crt, true, issuer, sizeof(issuer));
    add(r, "issuer \"%s\" of the %s is not a certificate authority", issuer, who);
  }
  if (status & GNUTLS_CERT_REVOKED) {
    add(r, "%s is revoked", who);
  }
  if (status & GNUTLS_CERT_INSECURE_ALGORITHM) {
    const char *alg = gnutls_sign_get_name(gnutls_x509_crt_get_signature_algorithm(crt));
    add(r, "%s or one of its issuers uses an insecure algorithm (%s)", who,
        alg == NULL ? "unknown" : alg);
  }
  if (status & GNUTLS_CERT_PURPOSE_MISMATCH) {
    add(r, "%s is not meant for TLS %s", who, policy->is_server ? "clients" : "servers");
  }
  if (status & GNUTLS_CERT_SIGNATURE_FAILURE) {
    add(r, "%s has a wrong signature", who);
  }
  if (r->len == 0) {
    gnutls_datum_t text = {NULL, 0};
    int rv = gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0);
    add(r, "%s: %s", who, rv == 0 ? (const char *)text.data : "verification failed");
    if (rv == 0) {
      gnutls_free(text.data);
    }
  }
}

/* Whether the certificate has a subjectAltName of this kind. If it has none, GnuTLS uses the
 * common name of the subject, which RFC 9525 section 6.3 forbids and browsers refuse. */
static bool has_alt_name(gnutls_x509_crt_t crt, bool ip) {
  for (unsigned i = 0; i < 1024; i++) {
    unsigned char name[512]; /* longer names are neither host names nor addresses */
    size_t len = sizeof(name);
    int type = gnutls_x509_crt_get_subject_alt_name(crt, i, name, &len, NULL);
    if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE) {
      break;
    }
    if (type == (ip ? GNUTLS_SAN_IPADDRESS : GNUTLS_SAN_DNSNAME)) {
      return true;
    }
  }
  return false;
}

static int verify_chain(gnutls_session_t s, const qe_verify_policy *policy, const char *who,
                        gnutls_x509_crt_t leaf, const char *name, report *r) {
  gnutls_typed_vdata_st data[2];
  unsigned n = 0, status = 0;
  uint8_t ip[16];
  const char *purpose = policy->is_server ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER;

  memset(data, 0, sizeof(data));
  data[n].type = GNUTLS_DT_KEY_PURPOSE_OID;
  data[n++].data = (unsigned char *)purpose;
  if (!policy->is_server) {
    size_t ip_len = qe_parse_ip_literal(name, ip);
    if (ip_len > 0) {
      data[n].type = GNUTLS_DT_IP_ADDRESS;
      data[n].data = ip;
      data[n++].size = (unsigned)ip_len;
    } else {
      data[n].type = GNUTLS_DT_DNS_HOSTNAME;
      data[n++].data = (unsigned char *)name;
    }
  }
  int rv = gnutls_certificate_verify_peers(s, data, n, &status);
  if (rv < 0) {
    add(r, "%s cannot be verified: %s", who, gnutls_strerror(rv));
    return GNUTLS_E_CERTIFICATE_ERROR;
  }
  if (status != 0) {
    report_status(r, who, leaf, status, policy, name);
    return GNUTLS_E_CERTIFICATE_ERROR;
  }
  if (!policy->is_server && !has_alt_name(leaf, qe_parse_ip_literal(name, ip) > 0)) {
    add(r, "certificate has no subjectAltName that is %s; a common name does not count",
        qe_parse_ip_literal(name, ip) > 0 ? "an IP address" : "a DNS name");
    return GNUTLS_E_CERTIFICATE_ERROR;
  }
  return 0;
}

static void hash_text(const uint8_t hash[32], char hex[65]) {
  for (size_t i = 0; i < 32; i++) {
    (void)snprintf(hex + 2 * i, 3, "%02x", hash[i]);
  }
}

/* Adds the hash, so that users who know that the certificate is right can pin it. */
static void report_hash(report *r, const gnutls_datum_t *der) {
  uint8_t hash[32];
  char hex[65];

  if (gnutls_hash_fast(GNUTLS_DIG_SHA256, der->data, der->size, hash) == 0) {
    hash_text(hash, hex);
    r->size = QE_VERIFY_TEXT_MAX;
    add(r, "its SHA-256 is %s", hex);
  }
}

static bool pin_matches(const gnutls_datum_t *der, const qe_verify_policy *policy, report *r) {
  uint8_t hash[32];
  char hex[65];

  int rv = gnutls_hash_fast(GNUTLS_DIG_SHA256, der->data, der->size, hash);
  if (rv != 0) {
    add(r, "certificate cannot be hashed: %s", gnutls_strerror(rv));
    return false;
  }
  for (size_t i = 0; i < policy->hash_count; i++) {
    if (memcmp(policy->hashes[i], hash, sizeof(hash)) == 0) {
      return true;
    }
  }
  hash_text(hash, hex);
  add(r, "certificate SHA-256 %s matches none of the given hashes (number given: %zu)", hex,
      policy->hash_count);
  return false;
}

/* Checks the other rules for pinned certificates, which the protocol requires. */
static bool pin_rules_hold(gnutls_x509_crt_t leaf, report *r) {
  char a[32], b[32];
  time_t now = time(NULL);
  time_t from = gnutls_x509_crt_get_activation_time(leaf);
  time_t until = gnutls_x509_crt_get_expiration_time(leaf);
  int version = gnutls_x509_crt_get_version(leaf);
  int key = gnutls_x509_crt_get_pk_algorithm(leaf, NULL);

  if (version != 3) {
    add(r, "certificate is X.509 version %d; a pinned one must be version 3", version);
  }
  if (key == GNUTLS_PK_RSA || key == GNUTLS_PK_RSA_PSS) {
    add(r, "certificate has an RSA key; a pinned one must use ECDSA, such as P-256");
  }
  if (from == (time_t)-1 || until == (time_t)-1) {
    add(r, "certificate has unreadable validity dates");
    return false;
  }
  if (now > until) {
    add(r, "certificate expired on %s", date_text(until, a));
  }
  if (now < from) {
    add(r, "certificate is not valid before %s", date_text(from, a));
  }
  if (until - from > PIN_MAX_VALIDITY) {
    add(r, "certificate is valid for %.1f days (%s to %s); a pinned one may be for 14 at most",
        (double)(until - from) / 86400.0, date_text(from, a), date_text(until, b));
  }
  return r->len == 0;
}

static int verify_pin(gnutls_session_t s, const qe_verify_policy *policy, gnutls_x509_crt_t leaf,
                      report *r) {
  unsigned count = 0;
  const gnutls_datum_t *chain = gnutls_certificate_get_peers(s, &count);

  if (!pin_matches(&chain[0], policy, r) || !pin_rules_hold(leaf, r)) {
    return GNUTLS_E_CERTIFICATE_ERROR;
  }
  return 0;
}

/* When the first certificate of the peer's chain expires; 0 when that cannot be told.  The leaf is
 * parsed already. */
static uint64_t chain_expires(gnutls_session_t s, gnutls_x509_crt_t leaf) {
  unsigned count = 0;
  const gnutls_datum_t *chain = gnutls_certificate_get_peers(s, &count);
  time_t first = gnutls_x509_crt_get_expiration_time(leaf);

  for (unsigned i = 1; i < count && first >= 0; i++) {
    gnutls_x509_crt_t crt;
    time_t until = (time_t)-1;
    if (gnutls_x509_crt_init(&crt) != 0) {
      return 0;
    }
    if (gnutls_x509_crt_import(crt, &chain[i], GNUTLS_X509_FMT_DER) == 0) {
      until = gnutls_x509_crt_get_expiration_time(crt);
    }
    gnutls_x509_crt_deinit(crt);
    first = until < first ? until : first;
  }
  return first < 0 ? 0 : (uint64_t)first;
}

int qe_verify_peer(gnutls_session_t s, const qe_verify_policy *policy, const char *name,
                   char text[QE_VERIFY_TEXT_MAX], uint64_t *expires) {
  const char *who = policy->is_server ? "client certificate" : "certificate";
  report r = {text, 0, QE_VERIFY_TEXT_MAX - HASH_TEXT_MAX};
  gnutls_x509_crt_t leaf;

  text[0] = '\0';
  *expires = 0;
  if (policy->mode == QE_VERIFY_NONE && policy->hash_count == 0) {
    return 0;
  }
  int rv = import_leaf(s, &leaf);
  if (rv == GNUTLS_E_NO_CERTIFICATE_FOUND) {
    if (policy->is_server && policy->mode == QE_VERIFY_OPTIONAL) {
      return 0;
    }
    add(&r, "the peer sent no certificate");
    return policy->is_server ? GNUTLS_E_CERTIFICATE_REQUIRED : GNUTLS_E_CERTIFICATE_ERROR;
  }
  if (rv != 0) {
    add(&r, "%s cannot be parsed: %s", who, gnutls_strerror(rv));
    return GNUTLS_E_CERTIFICATE_ERROR;
  }
  rv = policy->hash_count > 0 ? verify_pin(s, policy, leaf, &r)
                              : verify_chain(s, policy, who, leaf, name, &r);
  if (rv != 0 && policy->hash_count == 0 && !policy->is_server) {
    report_hash(&r, &gnutls_certificate_get_peers(s, NULL)[0]);
  }
  if (rv == 0 && !policy->is_server) {
    *expires = chain_expires(s, leaf);
  }
  gnutls_x509_crt_deinit(leaf);
  return rv;
}
