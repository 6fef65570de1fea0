/* test_addrcount.c - what counts as one address, and the lifetime of its counts. */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "addrcount.h"
#include "check.h"
#include "quicengine.h"

static struct sockaddr_storage address(const char *text) {
  struct sockaddr_storage ss;

  memset(&ss, 0, sizeof(ss));
  if (inet_pton(AF_INET, text, &((struct sockaddr_in *)&ss)->sin_addr) == 1) {
    ss.ss_family = AF_INET;
  } else if (inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)&ss)->sin6_addr) == 1) {
    ss.ss_family = AF_INET6;
  }
  return ss;
}

static qe_addrcount *enter(qe_cidmap *m, const char *text) {
  struct sockaddr_storage ss = address(text);
  qe_addrcount *a = NULL;

  CHECK_EQ(qe_addrcount_enter(m, (struct sockaddr *)&ss, &a), 0);
  return a;
}

static qe_addrcount *find(const qe_cidmap *m, const char *text) {
  struct sockaddr_storage ss = address(text);
  return qe_addrcount_find(m, (struct sockaddr *)&ss);
}

static void test_what_one_customer_has_is_one_address(void) {
  const char *alike[][2] = {{"192.0.2.1", "::ffff:192.0.2.1"},
                            {"2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff"}};
  const char *others[][2] = {{"192.0.2.1", "192.0.2.2"},
                             {"192.0.2.1", "::192.0.2.1"},
                             {"2001:db8:0:1::1", "2001:db8:0:2::1"}};
  qe_cidmap m;

  REQUIRE(qe_cidmap_init(&m) == 0);
  for (size_t i = 0; i < 2; i++) {
    qe_addrcount *a = enter(&m, alike[i][0]);
    CHECK(find(&m, alike[i][1]) == a);
    qe_addrcount_leave(&m, a, 0);
  }
  for (size_t i = 0; i < 3; i++) {
    qe_addrcount *a = enter(&m, others[i][0]);
    CHECK(find(&m, others[i][1]) == NULL);
    qe_addrcount_leave(&m, a, 0);
  }
  CHECK_EQ(qe_cidmap_size(&m), 0);
  qe_cidmap_free(&m);
}

static void test_figures_live_as_long_as_a_connection(void) {
  qe_cidmap m;

  REQUIRE(qe_cidmap_init(&m) == 0);
  qe_addrcount *a = enter(&m, "192.0.2.1");
  REQUIRE(a != NULL && enter(&m, "192.0.2.1") == a);
  CHECK_EQ(a->half_open, 2);
  qe_addrcount_complete(a);
  CHECK_EQ(a->half_open, 1);
  CHECK_EQ(a->connections, 1);
  qe_addrcount_leave(&m, a, 0);
  CHECK(find(&m, "192.0.2.1") == a);
  qe_addrcount_leave(&m, a, 1);
  CHECK(find(&m, "192.0.2.1") == NULL);
  CHECK_EQ(qe_cidmap_size(&m), 0);
  qe_cidmap_free(&m);
}

int main(void) {
  RUN(test_what_one_customer_has_is_one_address);
  RUN(test_figures_live_as_long_as_a_connection);
  return check_report();
}
