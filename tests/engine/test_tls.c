#include "tls.h"

#include <gnutls/x509.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "tls_ticket.h"
#include "tls_verify.h"
#include "tlscert.h"
#include "tlspair.h"

enum { DAY = 24 * 3600 };

static tlscert ca, other_ca;
static const char *h3[] = {"h3"};
static const char *const example_names[] = {"example.org", "*.example.org", NULL};
static const char *const example_ips[] = {"192.0.2.1", "2001:db8::1", NULL};

/* The certificate of the fixtures: for example.org, 13 days, signed by ca. */
static tlscert_spec spec(void) {
  tlscert_spec s = {.cn = "leaf",
                    .dns = example_names,
                    .ip = example_ips,
                    .from = -3600,
                    .until = 13 * DAY - 3600,
                    .purpose = GNUTLS_KP_TLS_WWW_SERVER};
  return s;
}

/* Writes <name>.crt (and the key, <name>.key). */
static int make(const char *name, const tlscert_spec *s, const tlscert *issuer, uint8_t *hash) {
  char crt[64], key[64];
  tlscert c;

  (void)snprintf(crt, sizeof(crt), "%s.crt", name);
  (void)snprintf(key, sizeof(key), "%s.key", name);
  int rv = tlscert_make(&c, s, issuer);
  if (rv == 0) {
    rv = tlscert_write(&c, NULL, tlscert_path(crt), tlscert_path(key));
    if (hash != NULL) {
      memcpy(hash, c.hash, 32);
    }
  }
  tlscert_free(&c);
  CHECK_EQ(rv, 0);
  return rv;
}

static qe_tls_options server_options(void) {
  qe_tls_options o = {.is_server = 1,
                      .alpn = h3,
                      .alpn_count = 1,
                      .cert_file = tlscert_path("leaf.crt"),
                      .key_file = tlscert_path("leaf.key"),
                      .tickets = 1};
  return o;
}

static qe_tls_options client_options(void) {
  qe_tls_options o = {.alpn = h3,
                      .alpn_count = 1,
                      .ca_file = tlscert_path("ca.crt"),
                      .verify = QE_VERIFY_REQUIRED,
                      .tickets = 1};
  return o;
}

static qe_tls *new_tls(const qe_tls_options *o) {
  qe_tls *tls = NULL;
  int rv = qe_tls_new(&tls, o);
  if (rv != 0) {
    printf("  %s\n", qe_last_error());
  }
  CHECK_EQ(rv, 0);
  return tls;
}

/* One handshake; the caller frees p. */
static void run_options(tlspair *p, const qe_tls_options *c, const qe_tls_options *s,
                        const char *name) {
  qe_tls *client = new_tls(c), *server = new_tls(s);
  CHECK_EQ(tlspair_run(p, client, server, name, NULL, 0), 0);
  qe_tls_unref(client); /* the sessions keep what they need */
  qe_tls_unref(server);
}

static void check_success(const tlspair *p) {
  CHECK(p->client.done && p->server.done);
  CHECK_EQ(p->client.error, 0);
  CHECK_EQ(p->server.error, 0);
  CHECK_STR(qe_tls_session_error(p->client.session), "");
  CHECK_STR(qe_tls_session_error(p->server.session), "");
}

static void check_refused(const tlspair *p, const char *text) {
  CHECK(!p->client.done);
  CHECK_EQ(p->client.error, NGTCP2_ERR_CRYPTO);
  CHECK_EQ(p->client.alert, GNUTLS_A_BAD_CERTIFICATE);
  CHECK_HAS(qe_tls_session_error(p->client.session), text);
}

static void test_handshake_with_verified_name(void) {
  static const char *const names[] = {"example.org", "EXAMPLE.org.", "www.example.org",
                                      "192.0.2.1",   "2001:db8::1",  "[2001:db8::1]"};
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    tlspair p;
    qe_tls_options c = client_options(), s = server_options();
    run_options(&p, &c, &s, names[i]);
    check_success(&p);
    gnutls_datum_t alpn;
    CHECK_EQ(gnutls_alpn_get_selected_protocol(p.server.session, &alpn), 0);
    CHECK(alpn.size == 2 && memcmp(alpn.data, "h3", 2) == 0);
    CHECK_EQ(gnutls_protocol_get_version(p.client.session), GNUTLS_TLS1_3);
    CHECK_EQ(gnutls_cipher_get(p.client.session), GNUTLS_CIPHER_AES_128_GCM);
    CHECK_EQ(gnutls_group_get(p.client.session), GNUTLS_GROUP_X25519);
    /* Literals are verified but never sent as a name (RFC 6066 section 3). */
    char sni[64] = "";
    size_t len = sizeof(sni);
    unsigned type;
    int rv = gnutls_server_name_get(p.server.session, sni, &len, &type, 0);
    CHECK_EQ(rv, i < 3 ? 0 : GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE);
    tlspair_free(&p);
  }
}

static void test_wrong_name_is_refused(void) {
  static const char *const names[] = {"example.net", "a.b.example.org", "192.0.2.2", "::1"};
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    tlspair p;
    qe_tls_options c = client_options(), s = server_options();
    run_options(&p, &c, &s, names[i]);
    check_refused(&p, "its names are: example.org, *.example.org, 192.0.2.1, 2001:db8::1");
    char want[64];
    (void)snprintf(want, sizeof(want), "certificate is not for \"%s\"", names[i]);
    CHECK_HAS(qe_tls_session_error(p.client.session), want);
    /* The hash is complete, even if the rest of the message is cut. */
    const char *hash = strstr(qe_tls_session_error(p.client.session), "SHA-256 is ");
    CHECK(hash != NULL && strspn(hash + strlen("SHA-256 is "), "0123456789abcdef") == 64);
    tlspair_free(&p);
  }
}

static void test_untrusted_issuer_is_refused(void) {
  tlspair p;
  qe_tls_options c = client_options(), s = server_options();
  c.ca_file = tlscert_path("other_ca.crt");
  run_options(&p, &c, &s, "example.org");
  check_refused(&p, "issuer \"CN=Test CA\" of the certificate is not trusted");
  tlspair_free(&p);
}

static void test_self_signed_is_named_so(void) {
  tlspair p;
  tlscert_spec leaf = spec();
  REQUIRE(make("self", &leaf, NULL, NULL) == 0);
  qe_tls_options c = client_options(), s = server_options();
  s.cert_file = tlscert_path("self.crt");
  s.key_file = tlscert_path("self.key");
  run_options(&p, &c, &s, "example.org");
  check_refused(&p, "certificate \"CN=leaf\" is self-signed and not trusted");
  tlspair_free(&p);
  /* It is accepted if this certificate itself is trusted. */
  c.ca_file = tlscert_path("self.crt");
  run_options(&p, &c, &s, "example.org");
  check_success(&p);
  tlspair_free(&p);
}

static void test_system_roots_do_not_trust_a_private_ca(void) {
  tlspair p;
  qe_tls_options c = client_options(), s = server_options();
  c.ca_file = NULL;
  run_options(&p, &c, &s, "example.org");
  check_refused(&p, "issuer \"CN=Test CA\" of the certificate is not trusted");
  tlspair_free(&p);
}

static void check_leaf(const tlscert_spec *leaf, const char *text) {
  tlspair p;
  if (make("odd", leaf, &ca, NULL) != 0) {
    return;
  }
  qe_tls_options c = client_options(), s = server_options();
  s.cert_file = tlscert_path("odd.crt");
  s.key_file = tlscert_path("odd.key");
  run_options(&p, &c, &s, "example.org");
  if (text == NULL) {
    check_success(&p);
  } else {
    check_refused(&p, text);
  }
  tlspair_free(&p);
}

static void test_dates_and_purpose(void) {
  tlscert_spec leaf = spec();
  leaf.until = -60;
  leaf.from = -DAY;
  check_leaf(&leaf, "certificate expired on 2"); /* an expired one loads, but is refused */
  leaf = spec();
  leaf.from = DAY;
  check_leaf(&leaf, "certificate is not valid before 2");
  leaf = spec();
  leaf.purpose = GNUTLS_KP_TLS_WWW_CLIENT;
  check_leaf(&leaf, "certificate is not meant for TLS servers");
  leaf = spec();
  leaf.key = TLSCERT_RSA;
  check_leaf(&leaf, NULL);
  leaf.cn = "example.org"; /* a common name does not count: RFC 9525 section 6.3 */
  leaf.dns = leaf.ip = NULL;
  check_leaf(&leaf, "certificate has no subjectAltName that is a DNS name");
}

static void test_no_verification_accepts_anything(void) {
  tlspair p;
  qe_tls_options c = client_options(), s = server_options();
  c.ca_file = NULL;
  c.verify = QE_VERIFY_NONE;
  run_options(&p, &c, &s, NULL);
  check_success(&p);
  tlspair_free(&p);
}

static void test_verifying_without_a_name_is_an_error(void) {
  tlspair p;
  qe_tls_options c = client_options(), s = server_options();
  qe_tls *client = new_tls(&c), *server = new_tls(&s);
  CHECK_EQ(tlspair_run(&p, client, server, NULL, NULL, 0), QE_ERR_TLS);
  CHECK_HAS(qe_last_error(), "no server name");
  tlspair_free(&p);
  CHECK_EQ(tlspair_run(&p, client, server, "*.example.org", NULL, 0), QE_ERR_TLS);
  CHECK_HAS(qe_last_error(), "\"*.example.org\" is not a valid server name");
  tlspair_free(&p);
  CHECK_EQ(tlspair_run(&p, server, client, "example.org", NULL, 0), QE_ERR_INVALID);
  tlspair_free(&p);
  qe_tls_unref(client);
  qe_tls_unref(server);
}

/* ------------------------------------------------------------------ pinning */

static void pin(const tlscert_spec *leaf, int right_hash, const char *text) {
  uint8_t hashes[2][32] = {{0}};
  tlspair p;
  if (make("pin", leaf, NULL, hashes[1]) != 0) {
    return;
  }
  if (!right_hash) {
    hashes[1][31] ^= 1;
  }
  qe_tls_options c = client_options(), s = server_options();
  c.ca_file = NULL;
  c.verify = QE_VERIFY_NONE;
  c.cert_hashes = (const uint8_t (*)[32])hashes;
  c.cert_hash_count = 2;
  s.cert_file = tlscert_path("pin.crt");
  s.key_file = tlscert_path("pin.key");
  run_options(&p, &c, &s, "not.in.the.certificate");
  if (text == NULL) {
    check_success(&p);
  } else {
    check_refused(&p, text);
    if (!right_hash) {
      char hex[65] = "";
      hashes[1][31] ^= 1;
      for (int i = 0; i < 32; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", hashes[1][i]);
      }
      CHECK_HAS(qe_tls_session_error(p.client.session), hex);
    }
  }
  tlspair_free(&p);
}

static void test_pinned_hash(void) {
  tlscert_spec leaf = spec();
  pin(&leaf, 1, NULL);
  pin(&leaf, 0, "matches none of the given hashes (number given: 2)");
}

static void test_pinned_rules(void) {
  tlscert_spec leaf = spec();
  leaf.key = TLSCERT_RSA;
  pin(&leaf, 1, "certificate has an RSA key");
  leaf = spec();
  leaf.until = 14 * DAY;
  leaf.from = -60;
  pin(&leaf, 1, "certificate is valid for 14.0 days");
  leaf = spec();
  leaf.from = -60;
  leaf.until = 14 * DAY - 60;
  pin(&leaf, 1, NULL); /* 14 days exactly */
  leaf = spec();
  leaf.from = -DAY;
  leaf.until = -60;
  pin(&leaf, 1, "certificate expired on 2");
  leaf = spec();
  leaf.from = 60;
  pin(&leaf, 1, "certificate is not valid before 2");
  leaf = spec();
  leaf.version = 1;
  pin(&leaf, 1, "certificate is X.509 version 1");
}

/* --------------------------------------------------------- client certificates */

static void mutual(enum qe_verify verify, const char *client_cert, const char *text,
                   uint8_t alert) {
  tlspair p;
  char crt[64], key[64];
  qe_tls_options c = client_options(), s = server_options();

  if (client_cert != NULL) {
    (void)snprintf(crt, sizeof(crt), "%s.crt", client_cert);
    (void)snprintf(key, sizeof(key), "%s.key", client_cert);
    c.cert_file = tlscert_path(crt);
    c.key_file = tlscert_path(key);
  }
  s.verify = verify;
  s.ca_file = tlscert_path("ca.crt");
  run_options(&p, &c, &s, "example.org");
  if (text == NULL) {
    check_success(&p);
    unsigned count = 0;
    CHECK_EQ(gnutls_certificate_get_peers(p.server.session, &count) != NULL, client_cert != NULL);
  } else {
    CHECK(!p.server.done);
    CHECK_EQ(p.server.error, NGTCP2_ERR_CRYPTO);
    CHECK_EQ(p.server.alert, alert);
    CHECK_HAS(qe_tls_session_error(p.server.session), text);
  }
  tlspair_free(&p);
}

static void test_client_certificates(void) {
  tlscert_spec leaf = spec();
  leaf.purpose = GNUTLS_KP_TLS_WWW_CLIENT;
  REQUIRE(make("client", &leaf, &ca, NULL) == 0);
  REQUIRE(make("stranger", &leaf, &other_ca, NULL) == 0);
  leaf.until = -60;
  REQUIRE(make("late", &leaf, &ca, NULL) == 0);

  mutual(QE_VERIFY_REQUIRED, "client", NULL, 0);
  mutual(QE_VERIFY_OPTIONAL, "client", NULL, 0);
  mutual(QE_VERIFY_OPTIONAL, NULL, NULL, 0);
  mutual(QE_VERIFY_REQUIRED, NULL, "the peer sent no certificate", GNUTLS_A_CERTIFICATE_REQUIRED);
  mutual(QE_VERIFY_REQUIRED, "stranger",
         "issuer \"CN=Other CA\" of the client certificate is not trusted",
         GNUTLS_A_BAD_CERTIFICATE);
  mutual(QE_VERIFY_OPTIONAL, "stranger", "is not trusted", GNUTLS_A_BAD_CERTIFICATE);
  mutual(QE_VERIFY_REQUIRED, "late", "client certificate expired on", GNUTLS_A_BAD_CERTIFICATE);
  mutual(QE_VERIFY_REQUIRED, "leaf", "client certificate is not meant for TLS clients",
         GNUTLS_A_BAD_CERTIFICATE);
}

/* ---------------------------------------------------------------------- SNI */

static void leaf_name(gnutls_session_t s, char out[64]) {
  unsigned count = 0;
  const gnutls_datum_t *chain = gnutls_certificate_get_peers(s, &count);
  gnutls_x509_crt_t crt;
  size_t size = 64;

  strcpy(out, "");
  if (chain != NULL && gnutls_x509_crt_init(&crt) == 0) {
    CHECK_EQ(gnutls_x509_crt_import(crt, &chain[0], GNUTLS_X509_FMT_DER), 0);
    CHECK_EQ(gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, out, &size), 0);
    gnutls_x509_crt_deinit(crt);
  }
}

static void test_certificate_by_server_name(void) {
  static const struct {
    const char *name, *cn;
  } cases[] = {
      {"a.test", "a"},        {"A.Test", "a"},        {"x.b.test", "wild"},
      {"b.test", "leaf"},     {"y.x.b.test", "leaf"}, {"c.b.test", "c"},
      {"other.test", "leaf"}, {"192.0.2.1", "leaf"},  {"xn--bcher-kva.test", "idn"},
  };
  tlscert_spec leaf = spec();
  qe_tls_options c = client_options(), s = server_options();

  leaf.cn = "a";
  REQUIRE(make("sni_a", &leaf, &ca, NULL) == 0);
  leaf.cn = "wild";
  REQUIRE(make("sni_wild", &leaf, &ca, NULL) == 0);
  leaf.cn = "c";
  REQUIRE(make("sni_c", &leaf, &ca, NULL) == 0);
  leaf.cn = "idn";
  REQUIRE(make("sni_idn", &leaf, &ca, NULL) == 0);
  c.verify = QE_VERIFY_NONE;
  c.ca_file = NULL;
  qe_tls *client = new_tls(&c), *server = new_tls(&s);
  REQUIRE(client != NULL && server != NULL);
  /* The first for c.b.test is replaced by the second. */
  CHECK_EQ(qe_tls_add_sni(server, "a.test", tlscert_path("sni_a.crt"), tlscert_path("sni_a.key")),
           0);
  CHECK_EQ(qe_tls_add_sni(server, "c.b.test", tlscert_path("sni_a.crt"), tlscert_path("sni_a.key")),
           0);
  CHECK_EQ(
      qe_tls_add_sni(server, "c.b.test.", tlscert_path("sni_c.crt"), tlscert_path("sni_c.key")), 0);
  CHECK_EQ(qe_tls_add_sni(server, "*.b.test", tlscert_path("sni_wild.crt"),
                          tlscert_path("sni_wild.key")),
           0);
  CHECK_EQ(qe_tls_add_sni(server,
                          "b\xc3\xbc"
                          "cher.test",
                          tlscert_path("sni_idn.crt"), tlscert_path("sni_idn.key")),
           0);
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    tlspair p;
    char cn[64];
    CHECK_EQ(tlspair_run(&p, client, server, cases[i].name, NULL, 0), 0);
    check_success(&p);
    leaf_name(p.client.session, cn);
    CHECK_STR(cn, cases[i].cn);
    tlspair_free(&p);
  }
  CHECK_EQ(qe_tls_add_sni(server, "", tlscert_path("sni_a.crt"), tlscert_path("sni_a.key")),
           QE_ERR_INVALID);
  CHECK_EQ(qe_tls_add_sni(server, "a.*.test", tlscert_path("sni_a.crt"), NULL), QE_ERR_INVALID);
  CHECK_HAS(qe_last_error(), "\"a.*.test\" is not a server name");
  CHECK_EQ(qe_tls_add_sni(server, "d.test", tlscert_path("none.crt"), NULL), QE_ERR_CERTIFICATE);
  CHECK_EQ(qe_tls_add_sni(client, "d.test", tlscert_path("sni_a.crt"), NULL), QE_ERR_INVALID);
  qe_tls_unref(client);
  qe_tls_unref(server);
}

/* --------------------------------------------------------------------- ALPN */

static void test_alpn_is_mandatory(void) {
  const char *other[] = {"other"};
  const char *both[] = {"other", "h3"};
  tlspair p;
  qe_tls_options c = client_options(), s = server_options();

  c.alpn = other;
  run_options(&p, &c, &s, "example.org");
  CHECK(!p.server.done && !p.client.done);
  CHECK_EQ(p.server.error, NGTCP2_ERR_CRYPTO);
  CHECK_EQ(p.server.alert, GNUTLS_A_NO_APPLICATION_PROTOCOL);
  tlspair_free(&p);
  c.alpn = both;
  c.alpn_count = 2;
  run_options(&p, &c, &s, "example.org");
  check_success(&p);
  tlspair_free(&p);
}

/* A different implementation as peer, without the ALPN extension. */
static gnutls_certificate_credentials_t odd_credentials;
static int odd_side;

static gnutls_session_t session_without_alpn(int is_server) {
  gnutls_session_t s = NULL;
  if (is_server != odd_side) {
    return NULL;
  }
  CHECK_EQ(gnutls_init(&s, is_server ? GNUTLS_SERVER : GNUTLS_CLIENT), 0);
  CHECK_EQ(gnutls_priority_set_direct(s, "NORMAL:-VERS-ALL:+VERS-TLS1.3:%DISABLE_TLS13_COMPAT_MODE",
                                      NULL),
           0);
  CHECK_EQ(gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, odd_credentials), 0);
  CHECK_EQ(is_server ? ngtcp2_crypto_gnutls_configure_server_session(s)
                     : ngtcp2_crypto_gnutls_configure_client_session(s),
           0);
  return s;
}

static void test_peer_without_alpn_is_refused(void) {
  tlspair p;
  qe_tls_options c = client_options(), s = server_options();

  REQUIRE(gnutls_certificate_allocate_credentials(&odd_credentials) == 0);
  CHECK(gnutls_certificate_set_x509_key_file(odd_credentials, tlscert_path("leaf.crt"),
                                             tlscert_path("leaf.key"), GNUTLS_X509_FMT_PEM) >= 0);
  tlspair_odd_peer = session_without_alpn;
  odd_side = 0;
  run_options(&p, &c, &s, "example.org");
  CHECK(!p.server.done);
  CHECK_EQ(p.server.error, NGTCP2_ERR_CRYPTO);
  CHECK_EQ(p.server.alert, GNUTLS_A_NO_APPLICATION_PROTOCOL);
  tlspair_free(&p);
  odd_side = 1;
  run_options(&p, &c, &s, "example.org");
  CHECK(!p.client.done);
  CHECK_EQ(p.client.error, NGTCP2_ERR_CRYPTO);
  CHECK_EQ(p.client.alert, GNUTLS_A_NO_APPLICATION_PROTOCOL);
  tlspair_free(&p);
  tlspair_odd_peer = NULL;
  gnutls_certificate_free_credentials(odd_credentials);
}

static void test_alpn_limits_are_told(void) {
  const char *long_name[] = {"0123456789012345678901234567890123"};
  const char *nine[] = {"1", "2", "3", "4", "5", "6", "7", "8", "9"};
  qe_tls *tls = NULL;
  qe_tls_options c = client_options();

  c.alpn_count = 0;
  CHECK_EQ(qe_tls_new(&tls, &c), QE_ERR_INVALID);
  CHECK_STR(qe_last_error(), "0 application protocols given; 1 to 8 are possible");
  c.alpn = nine;
  c.alpn_count = 9;
  CHECK_EQ(qe_tls_new(&tls, &c), QE_ERR_INVALID);
  c.alpn = long_name;
  c.alpn_count = 1;
  CHECK_EQ(qe_tls_new(&tls, &c), QE_ERR_INVALID);
  CHECK_HAS(qe_last_error(), "has 34 bytes; 1 to 31 are possible");
}

/* --------------------------------------------------------- tickets and keylog */

static void test_ticket_resumes_the_session(void) {
  tlspair p, q;
  qe_tls_options c = client_options(), s = server_options();
  qe_tls *client = new_tls(&c), *server = new_tls(&s);

  REQUIRE(tlspair_run(&p, client, server, "example.org", NULL, 0) == 0);
  check_success(&p);
  CHECK(p.client.tickets >= 1 && p.client.ticket_len > 0);
  CHECK_EQ(p.client.tickets, 2); /* for connections at the same time */
  CHECK_EQ(p.server.tickets, 0);
  CHECK_EQ(gnutls_session_is_resumed(p.client.session), 0);
  REQUIRE(tlspair_run(&q, client, server, "example.org", p.client.ticket, p.client.ticket_len) ==
          0);
  check_success(&q);
  CHECK(gnutls_session_is_resumed(q.client.session) != 0);
  CHECK(gnutls_session_is_resumed(q.server.session) != 0);
  /* No early data was offered or accepted. */
  CHECK_EQ(gnutls_session_get_flags(q.server.session) & GNUTLS_SFLAGS_EARLY_DATA, 0);
  tlspair_free(&q);

  /* Another server key (a restart): a full handshake, no failure. */
  qe_tls *restarted = new_tls(&s);
  REQUIRE(tlspair_run(&q, client, restarted, "example.org", p.client.ticket, p.client.ticket_len) ==
          0);
  check_success(&q);
  CHECK_EQ(gnutls_session_is_resumed(q.client.session), 0);
  tlspair_free(&q);

  /* Garbage: the same. */
  REQUIRE(tlspair_run(&q, client, server, "example.org", (const uint8_t *)"garbage", 7) == 0);
  check_success(&q);
  tlspair_free(&q);
  tlspair_free(&p);
  qe_tls_unref(restarted);
  qe_tls_unref(client);
  qe_tls_unref(server);
}

static void resume(qe_tls *client, qe_tls *server, const char *name, const tlspair *from,
                   int expect_resumed) {
  tlspair p;
  CHECK_EQ(tlspair_run(&p, client, server, name, from->client.ticket, from->client.ticket_len), 0);
  check_success(&p);
  CHECK_EQ(gnutls_session_is_resumed(p.client.session) != 0, expect_resumed);
  tlspair_free(&p);
}

/* A ticket from a connection without verification must not be used with verification, nor a
 * ticket for another name, other roots or other hashes. */
static void test_ticket_is_bound_to_name_and_rules(void) {
  tlspair p, q;
  uint8_t hashes[2][32];
  tlscert_spec leaf = spec();
  REQUIRE(make("both", &leaf, &ca, hashes[0]) == 0);
  memset(hashes[1], 0, 32);
  qe_tls_options c = client_options(), s = server_options();
  s.cert_file = tlscert_path("both.crt");
  s.key_file = tlscert_path("both.key");
  qe_tls *server = new_tls(&s), *strict = new_tls(&c), *same = new_tls(&c);
  c.ca_file = NULL;
  c.verify = QE_VERIFY_NONE;
  qe_tls *careless = new_tls(&c);
  c.cert_hashes = (const uint8_t (*)[32])hashes;
  c.cert_hash_count = 1;
  qe_tls *pinned = new_tls(&c);
  c.cert_hash_count = 2;
  qe_tls *pinned_more = new_tls(&c);

  REQUIRE(tlspair_run(&p, careless, server, "example.net", NULL, 0) == 0);
  check_success(&p);
  resume(careless, server, "example.net", &p, 1);
  resume(careless, server, "example.org", &p, 0);
  REQUIRE(tlspair_run(&q, strict, server, "example.net", p.client.ticket, p.client.ticket_len) ==
          0);
  check_refused(&q, "certificate is not for \"example.net\"");
  tlspair_free(&q);
  tlspair_free(&p);

  REQUIRE(tlspair_run(&p, strict, server, "example.org", NULL, 0) == 0);
  resume(strict, server, "example.org", &p, 1);
  resume(same, server, "Example.ORG.", &p, 1); /* equal rules, equal name */
  resume(strict, server, "www.example.org", &p, 0);
  resume(careless, server, "example.org", &p, 0);
  resume(pinned, server, "example.org", &p, 0);
  tlspair_free(&p);

  REQUIRE(tlspair_run(&p, pinned, server, "example.org", NULL, 0) == 0);
  resume(pinned, server, "example.org", &p, 1);
  resume(pinned_more, server, "example.org", &p, 0);
  tlspair_free(&p);

  qe_tls_unref(server);
  qe_tls_unref(strict);
  qe_tls_unref(same);
  qe_tls_unref(careless);
  qe_tls_unref(pinned);
  qe_tls_unref(pinned_more);
}

/* A resumed session's own ticket works as well, and still ends with the
 * certificate. */
static void test_ticket_of_a_resumed_session(void) {
  tlspair p, q;
  qe_tls_options c = client_options(), s = server_options();
  qe_tls *client = new_tls(&c), *server = new_tls(&s);

  REQUIRE(tlspair_run(&p, client, server, "example.org", NULL, 0) == 0);
  REQUIRE(tlspair_run(&q, client, server, "example.org", p.client.ticket, p.client.ticket_len) ==
          0);
  CHECK_EQ(q.client.tickets, 1); /* for the one it used */
  CHECK(q.client.ticket_len > QE_TICKET_HEADER_LEN);
  /* The same end of validity as in the first ticket. */
  size_t at = QE_TICKET_HEADER_LEN - 8;
  CHECK(memcmp(p.client.ticket + at, q.client.ticket + at, 8) == 0);
  resume(client, server, "example.org", &q, 1);
  tlspair_free(&p);
  tlspair_free(&q);
  qe_tls_unref(client);
  qe_tls_unref(server);
}

static void test_client_certificate_survives_resumption(void) {
  tlspair p, q;
  tlscert_spec leaf = spec();
  leaf.purpose = GNUTLS_KP_TLS_WWW_CLIENT;
  REQUIRE(make("client", &leaf, &ca, NULL) == 0);
  qe_tls_options c = client_options(), s = server_options();
  c.cert_file = tlscert_path("client.crt");
  c.key_file = tlscert_path("client.key");
  s.verify = QE_VERIFY_REQUIRED;
  s.ca_file = tlscert_path("ca.crt");
  qe_tls *client = new_tls(&c), *server = new_tls(&s);

  REQUIRE(tlspair_run(&p, client, server, "example.org", NULL, 0) == 0);
  check_success(&p);
  CHECK(p.client.tickets >= 1);
  REQUIRE(tlspair_run(&q, client, server, "example.org", p.client.ticket, p.client.ticket_len) ==
          0);
  check_success(&q);
  unsigned count = 0;
  CHECK(gnutls_session_is_resumed(q.server.session) != 0);
  CHECK(gnutls_certificate_get_peers(q.server.session, &count) != NULL);
  tlspair_free(&q);
  tlspair_free(&p);
  qe_tls_unref(client);
  qe_tls_unref(server);
}

static void test_tickets_can_be_off(void) {
  for (int side = 0; side < 2; side++) {
    tlspair p;
    qe_tls_options c = client_options(), s = server_options();
    *(side == 0 ? &c.tickets : &s.tickets) = 0;
    run_options(&p, &c, &s, "example.org");
    check_success(&p);
    CHECK_EQ(p.client.tickets, 0);
    tlspair_free(&p);
  }
}

static void test_keylog_lines(void) {
  static const char *const labels[] = {"CLIENT_HANDSHAKE_TRAFFIC_SECRET ",
                                       "SERVER_HANDSHAKE_TRAFFIC_SECRET ",
                                       "CLIENT_TRAFFIC_SECRET_0 ", "SERVER_TRAFFIC_SECRET_0 "};
  tlspair p;
  qe_tls_options c = client_options(), s = server_options();

  c.keylog = 1;
  run_options(&p, &c, &s, "example.org");
  check_success(&p);
  CHECK_STR(p.server.keylog, "");
  for (size_t i = 0; i < 4; i++) {
    const char *line = strstr(p.client.keylog, labels[i]);
    REQUIRE(line != NULL);
    const char *end = strchr(line, '\n');
    REQUIRE(end != NULL);
    /* label, 32 bytes client random, 32 or 48 bytes secret, in hex */
    size_t hex = (size_t)(end - line) - strlen(labels[i]);
    CHECK(hex == 64 + 1 + 64 || hex == 64 + 1 + 96);
    CHECK_EQ(strspn(line + strlen(labels[i]), "0123456789abcdef"), 64);
  }
  tlspair_free(&p);
}

/* -------------------------------------------------------------------- files */

static void load(const qe_tls_options *o, const char *text) {
  qe_tls *tls = NULL;
  CHECK_EQ(qe_tls_new(&tls, o), QE_ERR_CERTIFICATE);
  CHECK_HAS(qe_last_error(), text);
}

static void test_file_errors_name_the_file_and_the_fault(void) {
  qe_tls_options s = server_options(), c = client_options();

  s.cert_file = tlscert_path("none.crt");
  load(&s, "/none.crt: not found");
  s = server_options();
  s.key_file = tlscert_path("none.key");
  load(&s, "private key file ");
  load(&s, "/none.key: not found");
  s = server_options();
  s.cert_file = tlscert_path("");
  load(&s, "is a directory");
  CHECK_EQ(tlscert_write_text(tlscert_path("text"), "just text\n"), 0);
  CHECK_EQ(tlscert_write_text(tlscert_path("empty"), ""), 0);
  s = server_options();
  s.cert_file = tlscert_path("text");
  load(&s, "/text: no certificate in PEM format found");
  s.cert_file = tlscert_path("empty");
  load(&s, "/empty: no certificate in PEM format found");
  s.cert_file = tlscert_path("leaf.key");
  load(&s, "/leaf.key: no certificate in PEM format found");
  s = server_options();
  s.key_file = tlscert_path("text");
  load(&s, "/text: no key in PEM format found");
  s.key_file = tlscert_path("empty");
  load(&s, "/empty: no key in PEM format found");
  s.key_file = tlscert_path("leaf.crt");
  load(&s, "/leaf.crt: no key in PEM format found");
  s.key_file = tlscert_path("ca.key");
  load(&s, "/ca.key: does not match the certificate in ");
  s = server_options();
  s.cert_file = NULL;
  load(&s, "no certificate file given");
  s.key_file = NULL;
  load(&s, "a server needs a certificate file");
  c.ca_file = tlscert_path("none.crt");
  load(&c, "CA file ");
  load(&c, "/none.crt: not found");
  c.ca_file = tlscert_path("text");
  load(&c, "/text: no certificate in PEM format found");
  s = server_options();
  s.verify = QE_VERIFY_REQUIRED;
  load(&s, "a CA file is needed to verify the certificates of clients");
}

static void test_encrypted_key_is_named_so(void) {
  tlscert_spec leaf = spec();
  tlscert c;
  char pem[4096];
  size_t size = sizeof(pem) - 1;

  REQUIRE(tlscert_make(&c, &leaf, &ca) == 0);
  CHECK_EQ(tlscert_write(&c, NULL, tlscert_path("enc.crt"), NULL), 0);
  CHECK_EQ(gnutls_x509_privkey_export_pkcs8(c.key, GNUTLS_X509_FMT_PEM, "password",
                                            GNUTLS_PKCS_PBES2_AES_256, pem, &size),
           0);
  pem[size] = '\0';
  CHECK_EQ(tlscert_write_text(tlscert_path("enc.key"), pem), 0);
  tlscert_free(&c);
  qe_tls_options s = server_options();
  s.cert_file = tlscert_path("enc.crt");
  s.key_file = tlscert_path("enc.key");
  load(&s, "/enc.key: encrypted; store the key without a password");
}

static void test_unreadable_file_is_named_so(void) {
  uid_t user = geteuid();
  qe_tls_options s = server_options();

  CHECK_EQ(tlscert_write_text(tlscert_path("secret"), "x"), 0);
  CHECK_EQ(chmod(tlscert_path("secret"), 0), 0);
  s.cert_file = tlscert_path("secret");
  /* Root reads everything: become nobody for a moment. */
  REQUIRE(user != 0 || seteuid(65534) == 0);
  load(&s, "/secret: permission denied");
  CHECK_EQ(seteuid(user), 0);
}

static void test_chain_file_and_combined_file(void) {
  tlscert_spec middle_spec = {.cn = "Middle CA", .from = -DAY, .until = 100 * DAY, .ca = 1};
  tlscert_spec leaf_spec = spec();
  tlscert middle, leaf;
  tlspair p;

  REQUIRE(tlscert_make(&middle, &middle_spec, &ca) == 0);
  REQUIRE(tlscert_make(&leaf, &leaf_spec, &middle) == 0);
  CHECK_EQ(tlscert_write(&leaf, &middle, tlscert_path("chain.crt"), tlscert_path("chain.key")), 0);
  qe_tls_options c = client_options(), s = server_options();
  s.cert_file = tlscert_path("chain.crt");
  s.key_file = tlscert_path("chain.key");
  run_options(&p, &c, &s, "example.org");
  check_success(&p);
  tlspair_free(&p);

  /* Certificate and key in one file. */
  char text[8192];
  size_t len = 0;
  static const char *const parts[] = {"chain.key", "chain.crt"};
  for (int i = 0; i < 2; i++) {
    FILE *f = fopen(tlscert_path(parts[i]), "r");
    REQUIRE(f != NULL);
    len += fread(text + len, 1, sizeof(text) - 1 - len, f);
    (void)fclose(f);
  }
  text[len] = '\0';
  CHECK_EQ(tlscert_write_text(tlscert_path("both.pem"), text), 0);
  s.cert_file = tlscert_path("both.pem");
  s.key_file = NULL;
  run_options(&p, &c, &s, "example.org");
  check_success(&p);
  tlspair_free(&p);
  tlscert_free(&middle);
  tlscert_free(&leaf);
}

static void test_bad_options_are_refused(void) {
  uint8_t hash[1][32] = {{0}};
  qe_tls *tls = NULL;
  qe_tls_options c = client_options(), s = server_options();

  c.verify = QE_VERIFY_OPTIONAL;
  CHECK_EQ(qe_tls_new(&tls, &c), QE_ERR_INVALID);
  c.verify = (enum qe_verify)7;
  CHECK_EQ(qe_tls_new(&tls, &c), QE_ERR_INVALID);
  CHECK_HAS(qe_last_error(), "verify is 7");
  s.cert_hashes = (const uint8_t (*)[32])hash;
  s.cert_hash_count = 1;
  CHECK_EQ(qe_tls_new(&tls, &s), QE_ERR_INVALID);
}

static void test_ip_literals(void) {
  uint8_t ip[16];
  CHECK_EQ(qe_parse_ip_literal("127.0.0.1", ip), 4);
  CHECK_EQ(qe_parse_ip_literal("::1", ip), 16);
  CHECK_EQ(qe_parse_ip_literal("[::1]", ip), 16);
  CHECK_EQ(qe_parse_ip_literal("fe80::1%eth0", ip), 16);
  CHECK_EQ(qe_parse_ip_literal("", ip), 0);
  CHECK_EQ(qe_parse_ip_literal("[]", ip), 0);
  CHECK_EQ(qe_parse_ip_literal("localhost", ip), 0);
  CHECK_EQ(qe_parse_ip_literal("1.2.3", ip), 0);
  CHECK_EQ(qe_parse_ip_literal("1.2.3.4.example.org", ip), 0);
}

static int set_up(void) {
  tlscert_spec root = {.cn = "Test CA", .from = -DAY, .until = 365 * DAY, .ca = 1};
  tlscert_spec leaf = spec();
  int rv = tlscert_dir_open();

  rv = rv == 0 ? tlscert_make(&ca, &root, NULL) : rv;
  root.cn = "Other CA";
  rv = rv == 0 ? tlscert_make(&other_ca, &root, NULL) : rv;
  rv = rv == 0 ? tlscert_write(&ca, NULL, tlscert_path("ca.crt"), tlscert_path("ca.key")) : rv;
  rv = rv == 0 ? tlscert_write(&other_ca, NULL, tlscert_path("other_ca.crt"), NULL) : rv;
  return rv == 0 ? make("leaf", &leaf, &ca, NULL) : rv;
}

int main(void) {
  if (set_up() != 0) {
    return 1; /* no certificates */
  }
  RUN(test_handshake_with_verified_name);
  RUN(test_wrong_name_is_refused);
  RUN(test_untrusted_issuer_is_refused);
  RUN(test_self_signed_is_named_so);
  RUN(test_system_roots_do_not_trust_a_private_ca);
  RUN(test_dates_and_purpose);
  RUN(test_no_verification_accepts_anything);
  RUN(test_verifying_without_a_name_is_an_error);
  RUN(test_pinned_hash);
  RUN(test_pinned_rules);
  RUN(test_client_certificates);
  RUN(test_certificate_by_server_name);
  RUN(test_alpn_is_mandatory);
  RUN(test_peer_without_alpn_is_refused);
  RUN(test_alpn_limits_are_told);
  RUN(test_ticket_resumes_the_session);
  RUN(test_ticket_is_bound_to_name_and_rules);
  RUN(test_ticket_of_a_resumed_session);
  RUN(test_client_certificate_survives_resumption);
  RUN(test_tickets_can_be_off);
  RUN(test_keylog_lines);
  RUN(test_file_errors_name_the_file_and_the_fault);
  RUN(test_encrypted_key_is_named_so);
  RUN(test_unreadable_file_is_named_so);
  RUN(test_chain_file_and_combined_file);
  RUN(test_bad_options_are_refused);
  RUN(test_ip_literals);
  tlscert_dir_close();
  tlscert_free(&ca);
  tlscert_free(&other_ca);
  return check_report();
}
