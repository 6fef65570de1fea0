#include <stdlib.h>

#include "check.h"
#include "tls_ticket.h"
#include "tlscert.h"
#include "tlspair.h"

enum { DAY = 24 * 3600 };

static const uint8_t binding[QE_TICKET_BINDING_LEN] = {1, 2, 3};
static const uint8_t data[4] = {9, 8, 7, 6};

static void test_wrapped_data_comes_back(void) {
  size_t len = 0;
  uint64_t until = 0;
  uint8_t *t = qe_ticket_wrap(binding, 1000, data, sizeof(data));
  REQUIRE(t != NULL);
  const uint8_t *inner =
      qe_ticket_unwrap(t, QE_TICKET_HEADER_LEN + sizeof(data), binding, 1000, &len, &until);
  CHECK_EQ(len, sizeof(data));
  CHECK_EQ(until, 1000);
  CHECK(inner != NULL && memcmp(inner, data, sizeof(data)) == 0);
  free(t);
}

static void test_expired_ticket_is_not_used(void) {
  size_t len = 0, size = QE_TICKET_HEADER_LEN + sizeof(data);
  uint64_t until = 0;
  uint64_t late = (uint64_t)1 << 40;
  uint8_t *t = qe_ticket_wrap(binding, late, data, sizeof(data));
  REQUIRE(t != NULL);
  CHECK(qe_ticket_unwrap(t, size, binding, late, &len, &until) != NULL);
  CHECK(qe_ticket_unwrap(t, size, binding, late + 1, &len, &until) == NULL);
  free(t);
}

static void test_other_binding_is_not_used(void) {
  size_t len = 0, size = QE_TICKET_HEADER_LEN + sizeof(data);
  uint64_t until = 0;
  uint8_t other[QE_TICKET_BINDING_LEN] = {1, 2, 4};
  uint8_t *t = qe_ticket_wrap(binding, UINT64_MAX, data, sizeof(data));
  REQUIRE(t != NULL);
  CHECK(qe_ticket_unwrap(t, size, other, 0, &len, &until) == NULL);
  free(t);
}

static void test_damaged_ticket_is_not_used(void) {
  size_t len = 0, size = QE_TICKET_HEADER_LEN + sizeof(data);
  uint64_t until = 0;
  uint8_t *t = qe_ticket_wrap(binding, UINT64_MAX, data, sizeof(data));
  REQUIRE(t != NULL);
  for (size_t cut = 0; cut <= QE_TICKET_HEADER_LEN; cut++) {
    CHECK(qe_ticket_unwrap(t, cut, binding, 0, &len, &until) == NULL);
  }
  for (size_t i = 0; i < QE_TICKET_HEADER_LEN - 8; i++) {
    t[i] ^= 1;
    CHECK(qe_ticket_unwrap(t, size, binding, 0, &len, &until) == NULL);
    t[i] ^= 1;
  }
  free(t);
}

static uint64_t expires_of(const uint8_t *ticket) {
  uint64_t until = 0;

  for (size_t i = QE_TICKET_HEADER_LEN - 8; i < QE_TICKET_HEADER_LEN; i++) {
    until = until << 8 | ticket[i];
  }
  return until;
}

/* A server whose certificate and whose issuer's end in so many days, and a client. */
static int make_tls(int leaf_days, int issuer_days, qe_tls **server, qe_tls **client,
                    uint64_t *first) {
  static const char *h3[] = {"h3"};
  static const char *const names[] = {"example.org", NULL};
  tlscert_spec root = {.cn = "Root", .from = -DAY, .until = 30 * DAY, .ca = 1};
  tlscert_spec middle = {.cn = "Middle", .from = -DAY, .until = issuer_days * DAY, .ca = 1};
  tlscert_spec leaf = {.cn = "leaf", .dns = names, .from = -DAY, .until = leaf_days * DAY};
  qe_tls_options c = {.alpn = h3,
                      .alpn_count = 1,
                      .ca_file = tlscert_path("root.crt"),
                      .verify = QE_VERIFY_REQUIRED,
                      .tickets = 1};
  qe_tls_options s = {.is_server = 1,
                      .alpn = h3,
                      .alpn_count = 1,
                      .cert_file = tlscert_path("two.crt"),
                      .key_file = tlscert_path("two.key"),
                      .tickets = 1};
  tlscert r, m, l;
  int rv = tlscert_make(&r, &root, NULL);

  rv = rv == 0 ? tlscert_make(&m, &middle, &r) : rv;
  rv = rv == 0 ? tlscert_make(&l, &leaf, &m) : rv;
  rv = rv == 0 ? tlscert_write(&r, NULL, c.ca_file, tlscert_path("root.key")) : rv;
  rv = rv == 0 ? tlscert_write(&l, &m, s.cert_file, s.key_file) : rv;
  rv = rv == 0 ? qe_tls_new(client, &c) : rv;
  rv = rv == 0 ? qe_tls_new(server, &s) : rv;
  if (rv == 0) {
    *first = (uint64_t)gnutls_x509_crt_get_expiration_time(leaf_days < issuer_days ? l.crt : m.crt);
    tlscert_free(&r);
    tlscert_free(&m);
    tlscert_free(&l);
  }
  return rv;
}

/* A chain is valid as long as each of its certificates. */
static void test_ticket_ends_with_the_first_certificate_of_the_chain(void) {
  static const int days[][2] = {{13, 5}, {5, 13}};

  REQUIRE(tlscert_dir_open() == 0);
  for (size_t i = 0; i < 2; i++) {
    qe_tls *server = NULL, *client = NULL;
    uint64_t first = 0;
    tlspair p, q;
    REQUIRE(make_tls(days[i][0], days[i][1], &server, &client, &first) == 0);
    REQUIRE(tlspair_run(&p, client, server, "example.org", NULL, 0) == 0);
    CHECK(p.client.done);
    CHECK_EQ(p.client.tickets, 2);
    CHECK_EQ(expires_of(p.client.ticket), first);
    REQUIRE(tlspair_run(&q, client, server, "example.org", p.client.ticket, p.client.ticket_len) ==
            0);
    CHECK(gnutls_session_is_resumed(q.client.session) != 0);
    CHECK_EQ(expires_of(q.client.ticket), first);
    tlspair_free(&p);
    tlspair_free(&q);
    qe_tls_unref(client);
    qe_tls_unref(server);
  }
  tlscert_dir_close();
}

int main(void) {
  RUN(test_wrapped_data_comes_back);
  RUN(test_expired_ticket_is_not_used);
  RUN(test_other_binding_is_not_used);
  RUN(test_damaged_ticket_is_not_used);
  RUN(test_ticket_ends_with_the_first_certificate_of_the_chain);
  return check_report();
}
