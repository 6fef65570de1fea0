#include "tls.h"

#include <ctype.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "tls_files.h"
#include "tls_ticket.h"
#include "tls_verify.h"

/* What GnuTLS itself accepts (3.7.9: names shorter than 32 bytes, 8 of them). */
#define ALPN_MAX_COUNT 8
#define ALPN_MAX_LEN 31

/* For connections that a client opens at the same time. One that resumed gets one, for the one it
 * used up. */
#define TICKETS_OF_FULL_HANDSHAKE 2

/* TLS 1.3 only.  AES-GCM first: GnuTLS's ChaCha20 is ten times slower. */
#define PRIORITY                                                                                   \
  "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM"                            \
  ":+CHACHA20-POLY1305:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1"                 \
  ":%DISABLE_TLS13_COMPAT_MODE"

/* A certificate for one SNI name. Replaced entries are kept because sessions may use them. */
typedef struct sni_entry {
  struct sni_entry *next;
  gnutls_certificate_credentials_t cred;
  char name[]; /* lower case; "*.example.org" for a wildcard */
} sni_entry;

struct qe_tls {
  size_t refs;
  int is_server;
  int keylog;
  int tickets;
  qe_verify_policy policy;
  gnutls_priority_t priority;
  gnutls_certificate_credentials_t cred;
  sni_entry *sni;       /* newest first */
  gnutls_datum_t roots; /* PEM of ca_file, for the credentials of SNI names */
  char *roots_path;
  gnutls_datum_t *alpn;
  size_t alpn_count;
  gnutls_datum_t ticket_key;
  uint8_t rules[QE_TICKET_BINDING_LEN]; /* digest of how peers are verified */
};

/* Stored with gnutls_db_set_ptr: the session pointer belongs to ngtcp2's helper, and the pointer
 * for the session database is otherwise unused. */
typedef struct session_data {
  qe_tls *tls;
  void *owner;
  char *name;  /* client: the name to verify */
  char *error; /* why the peer's certificate was refused */
  bool verified;
  bool got_ticket;
  uint64_t expires; /* until then the peer's certificates are valid */
  uint8_t exporter_len;
  uint8_t exporter[QE_EXPORT_SECRET_MAX]; /* the secret that exported keys are derived from */
  gnutls_keylog_func keylog;              /* GnuTLS's own function, which handles SSLKEYLOGFILE */
} session_data;

/* ----------------------------------------------------------- configuration */

static int set_alpn(qe_tls *tls, const qe_tls_options *opt) {
  if (opt->alpn_count < 1 || opt->alpn_count > ALPN_MAX_COUNT) {
    return qe_set_error(QE_ERR_INVALID, "%zu application protocols given; 1 to %d are possible",
                        opt->alpn_count, ALPN_MAX_COUNT);
  }
  tls->alpn = calloc(opt->alpn_count, sizeof(*tls->alpn));
  if (tls->alpn == NULL) {
    return QE_ERR_NOMEM;
  }
  tls->alpn_count = opt->alpn_count;
  for (size_t i = 0; i < opt->alpn_count; i++) {
    size_t len = opt->alpn[i] == NULL ? 0 : strlen(opt->alpn[i]);
    if (len < 1 || len > ALPN_MAX_LEN) {
      return qe_set_error(QE_ERR_INVALID,
                          "application protocol \"%s\" has %zu bytes; 1 to %d are possible",
                          len == 0 ? "" : opt->alpn[i], len, ALPN_MAX_LEN);
    }
    tls->alpn[i].data = malloc(len);
    if (tls->alpn[i].data == NULL) {
      return QE_ERR_NOMEM;
    }
    memcpy(tls->alpn[i].data, opt->alpn[i], len);
    tls->alpn[i].size = (unsigned)len;
  }
  return 0;
}

static int set_hashes(qe_tls *tls, const qe_tls_options *opt) {
  if (opt->cert_hash_count == 0) {
    return 0;
  }
  if (opt->is_server) {
    return qe_set_error(QE_ERR_INVALID, "certificate hashes are for clients only");
  }
  tls->policy.hashes = calloc(opt->cert_hash_count, sizeof(*tls->policy.hashes));
  if (tls->policy.hashes == NULL) {
    return QE_ERR_NOMEM;
  }
  memcpy(tls->policy.hashes, opt->cert_hashes, opt->cert_hash_count * sizeof(*opt->cert_hashes));
  tls->policy.hash_count = opt->cert_hash_count;
  return 0;
}

static int copy_roots(qe_tls *tls, const void *data, size_t len) {
  tls->roots.data = malloc(len);
  if (tls->roots.data == NULL) {
    return QE_ERR_NOMEM;
  }
  memcpy(tls->roots.data, data, len);
  tls->roots.size = (unsigned)len;
  return 0;
}

static int set_roots(qe_tls *tls, const qe_tls_options *opt) {
  if (opt->ca_file != NULL) {
    tls->roots_path = strdup(opt->ca_file);
    if (tls->roots_path == NULL) {
      return QE_ERR_NOMEM;
    }
    int rv = opt->ca_data != NULL ? copy_roots(tls, opt->ca_data, opt->ca_data_len)
                                  : qe_tls_read_file("CA file", opt->ca_file, &tls->roots);
    if (rv != 0) {
      return rv;
    }
    return qe_tls_load_roots(tls->cred, tls->roots_path, &tls->roots);
  }
  if (opt->verify == QE_VERIFY_NONE || tls->policy.hash_count > 0) {
    return 0;
  }
  if (opt->is_server) {
    return qe_set_error(QE_ERR_CERTIFICATE,
                        "a CA file is needed to verify the certificates of clients");
  }
  /* An empty store is not an error yet; the message of a failed handshake mentions it. */
  tls->policy.no_roots = gnutls_certificate_set_x509_system_trust(tls->cred) <= 0;
  return 0;
}

static int set_certificate(qe_tls *tls, const qe_tls_options *opt) {
  if (opt->cert_file != NULL) {
    return qe_tls_load_pair(tls->cred, opt->cert_file, opt->key_file);
  }
  if (opt->key_file != NULL) {
    return qe_set_error(QE_ERR_CERTIFICATE, "private key file %s: no certificate file given",
                        opt->key_file);
  }
  if (opt->is_server) {
    return qe_set_error(QE_ERR_CERTIFICATE, "a server needs a certificate file and its key");
  }
  return 0;
}

static int finish_digest(gnutls_hash_hd_t hash, int rv, uint8_t out[QE_TICKET_BINDING_LEN]) {
  gnutls_hash_deinit(hash, out);
  return rv == 0 ? 0 : qe_set_error(QE_ERR_TLS, "SHA-256: %s", gnutls_strerror(rv));
}

/* Computes a digest of the verification rules: configurations with equal digests accept the same
 * certificates. */
static int digest_rules(qe_tls *tls) {
  gnutls_hash_hd_t hash;
  const qe_verify_policy *policy = &tls->policy;
  uint8_t head[2] = {(uint8_t)policy->mode, tls->roots_path != NULL};

  int rv = gnutls_hash_init(&hash, GNUTLS_DIG_SHA256);
  if (rv != 0) {
    return qe_set_error(QE_ERR_TLS, "SHA-256: %s", gnutls_strerror(rv));
  }
  rv = gnutls_hash(hash, head, sizeof(head));
  if (rv == 0 && policy->hash_count > 0) {
    rv = gnutls_hash(hash, policy->hashes, policy->hash_count * sizeof(*policy->hashes));
  } else if (rv == 0 && tls->roots.size > 0) {
    rv = gnutls_hash(hash, tls->roots.data, tls->roots.size);
  }
  return finish_digest(hash, rv, tls->rules);
}

static int set_ticket_key(qe_tls *tls, const qe_tls_options *opt) {
  int rv = gnutls_session_ticket_key_generate(&tls->ticket_key);
  if (rv != 0) {
    return qe_set_error(QE_ERR_TLS, "no session ticket key: %s", gnutls_strerror(rv));
  }
  if (opt->ticket_key != NULL) {
    if (tls->ticket_key.size != QE_TICKET_KEY_LEN) {
      return qe_set_error(QE_ERR_UNSUPPORTED, "session ticket keys of %u bytes cannot be shared",
                          tls->ticket_key.size);
    }
    memcpy(tls->ticket_key.data, *opt->ticket_key, QE_TICKET_KEY_LEN);
  }
  return 0;
}

static int set_up(qe_tls *tls, const qe_tls_options *opt) {
  const char *where = NULL;
  int rv = gnutls_priority_init2(
      &tls->priority, opt->is_server ? PRIORITY ":%SERVER_PRECEDENCE" : PRIORITY, &where, 0);
  if (rv != 0) {
    tls->priority = NULL;
    return qe_set_error(QE_ERR_TLS, "GnuTLS refuses the algorithms at \"%s\": %s",
                        where == NULL ? "" : where, gnutls_strerror(rv));
  }
  if (gnutls_certificate_allocate_credentials(&tls->cred) != 0) {
    tls->cred = NULL;
    return QE_ERR_NOMEM;
  }
  if (tls->is_server && tls->tickets) {
    rv = set_ticket_key(tls, opt);
    if (rv != 0) {
      return rv;
    }
  }
  if ((rv = set_alpn(tls, opt)) != 0 || (rv = set_hashes(tls, opt)) != 0 ||
      (rv = set_certificate(tls, opt)) != 0 || (rv = set_roots(tls, opt)) != 0) {
    return rv;
  }
  return digest_rules(tls);
}

static void tls_free(qe_tls *tls) {
  while (tls->sni != NULL) {
    sni_entry *next = tls->sni->next;
    gnutls_certificate_free_credentials(tls->sni->cred);
    free(tls->sni);
    tls->sni = next;
  }
  if (tls->cred != NULL) {
    gnutls_certificate_free_credentials(tls->cred);
  }
  if (tls->priority != NULL) {
    gnutls_priority_deinit(tls->priority);
  }
  if (tls->ticket_key.data != NULL) {
    gnutls_memset(tls->ticket_key.data, 0, tls->ticket_key.size);
    gnutls_free(tls->ticket_key.data);
  }
  for (size_t i = 0; i < tls->alpn_count; i++) {
    free(tls->alpn[i].data);
  }
  free(tls->alpn);
  free(tls->policy.hashes);
  free(tls->roots_path);
  qe_tls_wipe_file(&tls->roots);
  free(tls);
}

int qe_tls_new(qe_tls **out, const qe_tls_options *opt) {
  if ((int)opt->verify < QE_VERIFY_NONE || opt->verify > QE_VERIFY_REQUIRED ||
      (!opt->is_server && opt->verify == QE_VERIFY_OPTIONAL)) {
    return qe_set_error(QE_ERR_INVALID, "verify is %d; a %s may use %s", (int)opt->verify,
                        opt->is_server ? "server" : "client",
                        opt->is_server ? "0, 1 or 2" : "0 or 2");
  }
  qe_tls *tls = calloc(1, sizeof(*tls));
  if (tls == NULL) {
    return QE_ERR_NOMEM;
  }
  tls->refs = 1;
  tls->is_server = opt->is_server;
  tls->keylog = opt->keylog;
  tls->tickets = opt->tickets;
  tls->policy.is_server = opt->is_server;
  tls->policy.mode = opt->verify;
  int rv = set_up(tls, opt);
  if (rv != 0) {
    tls_free(tls);
    return rv;
  }
  *out = tls;
  return 0;
}

int qe_tls_has_roots(const qe_tls *tls) {
  return !tls->policy.no_roots;
}

void qe_tls_ref(qe_tls *tls) {
  tls->refs++;
}

void qe_tls_unref(qe_tls *tls) {
  if (tls != NULL && --tls->refs == 0) {
    tls_free(tls);
  }
}

/* --------------------------------------------------------------------- SNI */

/* The name as it appears in a ClientHello: ASCII form, lower case, no final
 * dot.  Free with free(). */
static char *canonical_name(const char *name) {
  const char *wildcard = strncmp(name, "*.", 2) == 0 ? "*." : "";
  gnutls_datum_t ace = {NULL, 0};
  const char *rest = name + strlen(wildcard);

  if (gnutls_idna_map(rest, (unsigned)strlen(rest), &ace, 0) != 0) {
    return NULL;
  }
  size_t len = ace.size;
  if (len > 0 && ace.data[len - 1] == '.') {
    len--;
  }
  char *out = NULL;
  if (len > 0 && len <= 253 && memchr(ace.data, '*', len) == NULL) {
    size_t prefix = strlen(wildcard);
    out = malloc(prefix + len + 1);
    if (out != NULL) {
      memcpy(out, wildcard, prefix);
      for (size_t i = 0; i < len; i++) {
        out[prefix + i] = (char)tolower(ace.data[i]);
      }
      out[prefix + len] = '\0';
    }
  }
  gnutls_free(ace.data);
  return out;
}

int qe_tls_add_sni(qe_tls *tls, const char *name, const char *cert_file, const char *key_file) {
  if (!tls->is_server) {
    return qe_set_error(QE_ERR_INVALID, "certificates by server name are for servers only");
  }
  char *canonical = canonical_name(name);
  if (canonical == NULL) {
    return qe_set_error(QE_ERR_INVALID,
                        "\"%s\" is not a server name such as example.org or *.example.org", name);
  }
  size_t size = strlen(canonical) + 1;
  sni_entry *entry = calloc(1, sizeof(*entry) + size);
  if (entry == NULL) {
    free(canonical);
    return QE_ERR_NOMEM;
  }
  memcpy(entry->name, canonical, size);
  free(canonical);
  if (gnutls_certificate_allocate_credentials(&entry->cred) != 0) {
    free(entry);
    return QE_ERR_NOMEM;
  }
  int rv = qe_tls_load_pair(entry->cred, cert_file, key_file);
  if (rv == 0 && tls->roots.data != NULL) {
    rv = qe_tls_load_roots(entry->cred, tls->roots_path, &tls->roots);
  }
  if (rv != 0) {
    gnutls_certificate_free_credentials(entry->cred);
    free(entry);
    return rv;
  }
  entry->next = tls->sni;
  tls->sni = entry;
  return 0;
}

/* An exact name wins over a wildcard, which stands for one label. */
static gnutls_certificate_credentials_t find_sni(const qe_tls *tls, const char *name) {
  const char *dot = strchr(name, '.');
  gnutls_certificate_credentials_t wild = NULL;

  for (const sni_entry *e = tls->sni; e != NULL; e = e->next) {
    if (strcmp(e->name, name) == 0) {
      return e->cred;
    }
    if (wild == NULL && dot != NULL && dot != name && e->name[0] == '*' &&
        strcmp(e->name + 1, dot) == 0) {
      wild = e->cred;
    }
  }
  return wild;
}

static int on_client_hello(gnutls_session_t s) {
  session_data *data = gnutls_db_get_ptr(s);
  char name[256];
  size_t len = sizeof(name) - 1;
  unsigned type = 0;

  if (data->tls->sni == NULL) {
    return 0;
  }
  /* No name, or one that is too long to be valid: use the default certificate. */
  if (gnutls_server_name_get(s, name, &len, &type, 0) != 0 || type != GNUTLS_NAME_DNS || len == 0 ||
      len >= sizeof(name)) {
    return 0;
  }
  name[len] = '\0';
  for (size_t i = 0; i < len; i++) {
    name[i] = (char)tolower((unsigned char)name[i]);
  }
  gnutls_certificate_credentials_t cred = find_sni(data->tls, name);
  if (cred == NULL) {
    return 0;
  }
  return gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, cred);
}

/* ---------------------------------------------------------- session events */

static bool is_verifying(const qe_tls *tls) {
  return tls->policy.mode != QE_VERIFY_NONE || tls->policy.hash_count > 0;
}

static int verify(gnutls_session_t s) {
  session_data *data = gnutls_db_get_ptr(s);
  char text[QE_VERIFY_TEXT_MAX];

  int rv = qe_verify_peer(s, &data->tls->policy, data->name, text, &data->expires);
  if (rv != 0) {
    free(data->error);
    data->error = strdup(text);
  }
  data->verified = rv == 0;
  return rv;
}

static void report_key(gnutls_session_t s, const session_data *data, const char *label,
                       const gnutls_datum_t *secret) {
  gnutls_datum_t client_random, server_random;
  char line[256];
  size_t len = 0;
  const gnutls_datum_t *parts[2] = {&client_random, secret};

  gnutls_session_get_random(s, &client_random, &server_random);
  int n = snprintf(line, sizeof(line), "%s", label);
  if (n < 0 || (size_t)n + 2 * ((size_t)client_random.size + secret->size) + 3 > sizeof(line)) {
    return;
  }
  len = (size_t)n;
  for (int p = 0; p < 2; p++) {
    line[len++] = ' ';
    for (unsigned i = 0; i < parts[p]->size; i++, len += 2) {
      (void)snprintf(line + len, 3, "%02x", parts[p]->data[i]);
    }
  }
  qe_conn_on_keylog(data->owner, line);
  gnutls_memset(line, 0, sizeof(line));
}

/* This callback is the only way to get the exporter's secret. */
static int on_keylog(gnutls_session_t s, const char *label, const gnutls_datum_t *secret) {
  session_data *data = gnutls_db_get_ptr(s);

  if (strcmp(label, "EXPORTER_SECRET") == 0 && secret->size <= sizeof(data->exporter)) {
    memcpy(data->exporter, secret->data, secret->size);
    data->exporter_len = (uint8_t)secret->size;
  }
  if (data->tls->keylog) {
    report_key(s, data, label, secret);
  }
  return data->keylog != NULL ? data->keylog(s, label, secret) : 0;
}

/* Computes what a ticket is bound to: the verification rules and the name. */
static int ticket_binding(const session_data *data, uint8_t out[QE_TICKET_BINDING_LEN]) {
  gnutls_hash_hd_t hash;
  int rv = gnutls_hash_init(&hash, GNUTLS_DIG_SHA256);
  if (rv != 0) {
    return qe_set_error(QE_ERR_TLS, "SHA-256: %s", gnutls_strerror(rv));
  }
  rv = gnutls_hash(hash, data->tls->rules, sizeof(data->tls->rules));
  if (rv == 0 && data->name != NULL) {
    rv = gnutls_hash(hash, data->name, strlen(data->name));
  }
  return finish_digest(hash, rv, out);
}

static void report_ticket(gnutls_session_t s, session_data *data) {
  uint8_t binding[QE_TICKET_BINDING_LEN];
  gnutls_datum_t inner = {NULL, 0};

  if (ticket_binding(data, binding) != 0 || gnutls_session_get_data2(s, &inner) != 0) {
    return;
  }
  /* A resumed handshake shows no certificate: what held for the ticket in use holds on. */
  uint64_t expires = is_verifying(data->tls) ? data->expires : UINT64_MAX;
  uint8_t *ticket = qe_ticket_wrap(binding, expires, inner.data, inner.size);
  if (ticket != NULL) {
    qe_conn_on_ticket(data->owner, ticket, QE_TICKET_HEADER_LEN + inner.size);
    gnutls_memset(ticket, 0, QE_TICKET_HEADER_LEN + inner.size);
    free(ticket);
  }
  gnutls_memset(inner.data, 0, inner.size);
  gnutls_free(inner.data);
}

/* A ticket that cannot be used is ignored, and the handshake is full. */
static void use_ticket(gnutls_session_t s, session_data *data, const uint8_t *ticket, size_t len) {
  uint8_t binding[QE_TICKET_BINDING_LEN];
  size_t inner_len = 0;

  if (ticket_binding(data, binding) != 0) {
    return;
  }
  const uint8_t *inner =
      qe_ticket_unwrap(ticket, len, binding, (uint64_t)time(NULL), &inner_len, &data->expires);
  if (inner != NULL) {
    (void)gnutls_session_set_data(s, inner, inner_len);
  }
}

static bool has_alpn(gnutls_session_t s) {
  gnutls_datum_t protocol;
  return gnutls_alpn_get_selected_protocol(s, &protocol) == 0;
}

/* Runs on the peer's Finished, the last chance to refuse. If the peer sent no certificate,
 * GnuTLS has not called verify(). A resumed handshake needs no check: its ticket is bound to
 * what was verified in the first handshake. */
static int on_finished(gnutls_session_t s, const session_data *data) {
  if (!data->tls->is_server && !has_alpn(s)) {
    return GNUTLS_E_NO_APPLICATION_PROTOCOL; /* RFC 9001 section 8.1 */
  }
  if (is_verifying(data->tls) && !data->verified && !gnutls_session_is_resumed(s)) {
    return verify(s);
  }
  return 0;
}

/* Runs before and after every handshake message. */
static int on_message(gnutls_session_t s, unsigned type, unsigned when, unsigned incoming,
                      const gnutls_datum_t *message) {
  session_data *data = gnutls_db_get_ptr(s);
  (void)message;

  if (type == GNUTLS_HANDSHAKE_SERVER_HELLO && !incoming) {
    /* GNUTLS_ALPN_MANDATORY accepts a client that does not send the extension. */
    return has_alpn(s) ? 0 : GNUTLS_E_NO_APPLICATION_PROTOCOL;
  }
  if (when != GNUTLS_HOOK_POST || !incoming) {
    return 0;
  }
  if (type == GNUTLS_HANDSHAKE_FINISHED) {
    return on_finished(s, data);
  }
  if (type == GNUTLS_HANDSHAKE_NEW_SESSION_TICKET && !data->tls->is_server && data->tls->tickets) {
    data->got_ticket = true;
    report_ticket(s, data);
  }
  return 0;
}

/* ---------------------------------------------------------------- sessions */

static int set_server_name(gnutls_session_t s, session_data *data, const char *name) {
  uint8_t ip[16];

  if (name == NULL || name[0] == '\0') {
    if (data->tls->policy.mode != QE_VERIFY_NONE && data->tls->policy.hash_count == 0) {
      return qe_set_error(QE_ERR_TLS, "no server name was given to verify the certificate against");
    }
    return 0;
  }
  if (qe_parse_ip_literal(name, ip) > 0) {
    data->name = strdup(name);
    return data->name == NULL ? QE_ERR_NOMEM : 0;
  }
  data->name = canonical_name(name);
  if (data->name == NULL || strchr(data->name, '*') != NULL) {
    return qe_set_error(QE_ERR_TLS, "\"%s\" is not a valid server name", name);
  }
  int rv = gnutls_server_name_set(s, GNUTLS_NAME_DNS, data->name, strlen(data->name));
  if (rv != 0) {
    return qe_set_error(QE_ERR_TLS, "\"%s\" is not a valid server name: %s", name,
                        gnutls_strerror(rv));
  }
  return 0;
}

static int set_up_client(gnutls_session_t s, session_data *data, const qe_tls_session_params *p) {
  int rv = set_server_name(s, data, p->server_name);
  if (rv != 0) {
    return rv;
  }
  if (p->ticket != NULL && p->ticket_len > 0) {
    use_ticket(s, data, p->ticket, p->ticket_len);
  }
  if (ngtcp2_crypto_gnutls_configure_client_session(s) != 0) {
    return QE_ERR_NOMEM;
  }
  return 0;
}

static int set_up_server(gnutls_session_t s, const qe_tls *tls) {
  if (tls->tickets) {
    int rv = gnutls_session_ticket_enable_server(s, &tls->ticket_key);
    if (rv != 0) {
      return qe_set_error(QE_ERR_TLS, "session tickets: %s", gnutls_strerror(rv));
    }
  }
  if (tls->policy.mode != QE_VERIFY_NONE) {
    /* Not GNUTLS_CERT_REQUIRE: on_finished refuses a client without a certificate, with a clear
     * message. */
    gnutls_certificate_server_set_request(s, GNUTLS_CERT_REQUEST);
  }
  gnutls_handshake_set_post_client_hello_function(s, on_client_hello);
  if (ngtcp2_crypto_gnutls_configure_server_session(s) != 0) {
    return QE_ERR_NOMEM;
  }
  return 0;
}

static int set_up_session(gnutls_session_t s, session_data *data, const qe_tls_session_params *p) {
  qe_tls *tls = data->tls;
  int rv;

  if ((rv = gnutls_priority_set(s, tls->priority)) != 0 ||
      (rv = gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, tls->cred)) != 0 ||
      (rv = gnutls_alpn_set_protocols(s, tls->alpn, (unsigned)tls->alpn_count,
                                      GNUTLS_ALPN_MANDATORY)) != 0) {
    return qe_set_error(QE_ERR_TLS, "TLS session: %s", gnutls_strerror(rv));
  }
  if (is_verifying(tls)) {
    gnutls_session_set_verify_function(s, verify);
  }
  data->keylog = gnutls_session_get_keylog_function(s);
  gnutls_session_set_keylog_function(s, on_keylog);
  gnutls_handshake_set_hook_function(s, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_BOTH, on_message);
  return tls->is_server ? set_up_server(s, tls) : set_up_client(s, data, p);
}

int qe_tls_session_new(gnutls_session_t *out, const qe_tls_session_params *p) {
  gnutls_session_t s = NULL;

  if (p->tls == NULL || !p->tls->is_server != !p->is_server) {
    return qe_set_error(QE_ERR_INVALID, "the TLS configuration is not for a %s",
                        p->is_server ? "server" : "client");
  }
  session_data *data = calloc(1, sizeof(*data));
  if (data == NULL) {
    return QE_ERR_NOMEM;
  }
  unsigned flags = p->is_server ? GNUTLS_SERVER : GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT;
  flags |= GNUTLS_NO_END_OF_EARLY_DATA; /* RFC 9001 section 8.3 */
  if (!p->tls->tickets) {
    flags |= GNUTLS_NO_TICKETS;
  } else if (p->is_server) {
    flags |= GNUTLS_NO_AUTO_SEND_TICKET; /* see qe_tls_session_send_tickets */
  }
  if (!p->is_server) {
    /* Send a key share for X25519 only: every WebTransport server supports it, and each further
     * share costs a key generation and 65 bytes of the first packet. */
    flags |= GNUTLS_KEY_SHARE_TOP;
  }
  int rv = gnutls_init(&s, flags);
  if (rv != 0) {
    free(data);
    return rv == GNUTLS_E_MEMORY_ERROR
               ? QE_ERR_NOMEM
               : qe_set_error(QE_ERR_TLS, "TLS session: %s", gnutls_strerror(rv));
  }
  qe_tls_ref(p->tls);
  data->tls = p->tls;
  data->owner = p->owner;
  gnutls_db_set_ptr(s, data);
  gnutls_session_set_ptr(s, p->conn_ref);
  rv = set_up_session(s, data, p);
  if (rv != 0) {
    qe_tls_session_free(s);
    return rv;
  }
  *out = s;
  return 0;
}

const char *qe_tls_session_error(gnutls_session_t s) {
  const session_data *data = s == NULL ? NULL : gnutls_db_get_ptr(s);
  return data == NULL || data->error == NULL ? "" : data->error;
}

int qe_tls_session_exporter(gnutls_session_t s, qe_exporter *out) {
  const session_data *data = gnutls_db_get_ptr(s);
  return qe_exporter_set(out, s, data->exporter, data->exporter_len) ? 0 : QE_ERR_TLS;
}

int qe_tls_session_send_tickets(gnutls_session_t s) {
  const session_data *data = gnutls_db_get_ptr(s);
  unsigned count = gnutls_session_is_resumed(s) ? 1 : TICKETS_OF_FULL_HANDSHAKE;

  return !data->tls->tickets || gnutls_session_ticket_send(s, count, 0) >= 0 ? 0 : QE_ERR_TLS;
}

int qe_tls_session_awaits_ticket(gnutls_session_t s) {
  const session_data *data = gnutls_db_get_ptr(s);
  return !data->tls->is_server && data->tls->tickets && !data->got_ticket;
}

void qe_tls_session_free(gnutls_session_t s) {
  if (s == NULL) {
    return;
  }
  session_data *data = gnutls_db_get_ptr(s);
  gnutls_deinit(s);
  if (data != NULL) {
    free(data->name);
    free(data->error);
    qe_tls_unref(data->tls);
    gnutls_memset(data->exporter, 0, sizeof(data->exporter));
    free(data);
  }
}
