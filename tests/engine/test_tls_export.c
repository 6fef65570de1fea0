/* test_tls_export.c - keys exported from the secret alone, against GnuTLS's. */
#include <gnutls/gnutls.h>

#include "check.h"
#include "tls_export.h"
#include "tlscert.h"
#include "tlspair.h"

static tlspair pair;
static qe_exporter exporter; /* of the client */

static void compare(const char *label, size_t label_len, const char *context, size_t context_len,
                    size_t len) {
  static uint8_t ours[255 * 32], theirs[255 * 32];
  CHECK_EQ(qe_export(&exporter, label, label_len, (const uint8_t *)context, context_len, ours, len),
           0);
  CHECK_EQ(gnutls_prf_rfc5705(pair.client.session, label_len, label, context_len, context, len,
                              (char *)theirs),
           0);
  CHECK_EQ(memcmp(ours, theirs, len), 0);
}

static void test_same_keys_as_gnutls(void) {
  char long_label[QE_EXPORT_LABEL_MAX];
  memset(long_label, 'l', sizeof(long_label));
  qe_exporter server;
  CHECK_EQ(qe_tls_session_exporter(pair.server.session, &server), 0);
  REQUIRE(server.len > 0 && server.len == exporter.len);
  CHECK_EQ(memcmp(server.secret, exporter.secret, server.len), 0);
  compare("EXPORTER-WebTransport", 21, NULL, 0, 32);
  compare("EXPORTER-WebTransport", 21, "", 0, 1);
  compare("EXPORTER-WebTransport", 21, "context", 7, 48);
  compare("x", 1, "", 0, (size_t)255 * 32);
  compare(long_label, 32, "context", 7, 32);
}

static void test_bounds(void) {
  static char label[QE_EXPORT_LABEL_MAX + 1];
  static uint8_t out[255 * 32 + 1];
  const qe_exporter *x = &exporter;
  CHECK_EQ(qe_export(x, label, QE_EXPORT_LABEL_MAX, NULL, 0, out, 32), 0);
  CHECK_EQ(qe_export(x, label, QE_EXPORT_LABEL_MAX + 1, NULL, 0, out, 32), QE_ERR_INVALID);
  CHECK_EQ(qe_export(x, label, 0, NULL, 0, out, 32), QE_ERR_INVALID);
  CHECK_EQ(qe_export(x, label, 1, NULL, 1, out, 32), QE_ERR_INVALID);
  CHECK_EQ(qe_export(x, label, 1, NULL, 0, out, 0), QE_ERR_INVALID);
  CHECK_EQ(qe_export(x, label, 1, NULL, 0, out, sizeof(out)), QE_ERR_INVALID);
}

static void test_secret_must_fit_the_hash(void) {
  qe_exporter x = {0};
  uint8_t secret[64] = {1};
  uint8_t out[16];
  CHECK_EQ(qe_exporter_set(&x, pair.client.session, secret, 0), 0);
  CHECK_EQ(qe_exporter_set(&x, pair.client.session, secret, 31), 0);
  CHECK_EQ(qe_exporter_set(&x, pair.client.session, secret, 64), 0);
  CHECK_EQ(qe_export(&x, "x", 1, NULL, 0, out, sizeof(out)), QE_ERR_TLS);
  CHECK_EQ(qe_exporter_set(&x, pair.client.session, secret, 32), 1);
  CHECK_EQ(qe_export(&x, "x", 1, NULL, 0, out, sizeof(out)), 0);
  qe_exporter_wipe(&x);
  CHECK_EQ(qe_export(&x, "x", 1, NULL, 0, out, sizeof(out)), QE_ERR_TLS);
}

static int run_handshake(void) {
  static const char *h3[] = {"h3"};
  tlscert_spec spec = {.cn = "x", .from = -3600, .until = 3600};
  tlscert leaf;
  qe_tls *client = NULL, *server = NULL;
  qe_tls_options c = {.alpn = h3, .alpn_count = 1};
  qe_tls_options s = {.is_server = 1, .alpn = h3, .alpn_count = 1};

  if (tlscert_dir_open() != 0 || tlscert_make(&leaf, &spec, NULL) != 0) {
    return -1;
  }
  s.cert_file = tlscert_path("x.crt");
  s.key_file = tlscert_path("x.key");
  int rv = tlscert_write(&leaf, NULL, s.cert_file, s.key_file);
  tlscert_free(&leaf);
  if (rv == 0 && (rv = qe_tls_new(&client, &c)) == 0 && (rv = qe_tls_new(&server, &s)) == 0) {
    rv = tlspair_run(&pair, client, server, "x.example", NULL, 0);
  }
  qe_tls_unref(client);
  qe_tls_unref(server);
  return rv != 0 ? rv : qe_tls_session_exporter(pair.client.session, &exporter);
}

int main(void) {
  if (run_handshake() != 0) {
    printf("no handshake\n");
    return 1;
  }
  RUN(test_same_keys_as_gnutls);
  RUN(test_bounds);
  RUN(test_secret_must_fit_the_hash);
  tlspair_free(&pair);
  tlscert_dir_close();
  return check_report();
}
