#include <arpa/inet.h>
#include <netinet/in.h>

#include "check.h"
#include "ratelimit.h"

static struct sockaddr_storage address(const char *text, uint16_t port) {
  struct sockaddr_storage ss;
  struct sockaddr_in *in = (struct sockaddr_in *)&ss;
  struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;

  memset(&ss, 0, sizeof(ss));
  if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
    ss.ss_family = AF_INET;
    in->sin_port = htons(port);
  } else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
    ss.ss_family = AF_INET6;
    in6->sin6_port = htons(port);
  }
  return ss;
}

static int take(qe_addrlimit *l, const char *text, uint16_t port, qe_tstamp now) {
  struct sockaddr_storage ss = address(text, port);
  return qe_addrlimit_take(l, (struct sockaddr *)&ss, now);
}

static void test_bucket_allows_the_burst_then_the_rate(void) {
  qe_bucket b;
  qe_tstamp now = 5 * QE_SECOND;

  qe_bucket_init(&b, 10, 3);
  for (int i = 0; i < 3; i++) {
    CHECK_EQ(qe_bucket_take(&b, now), 1);
  }
  CHECK_EQ(qe_bucket_take(&b, now), 0);
  CHECK_EQ(qe_bucket_take(&b, now + 99 * QE_MILLISECOND), 0);
  CHECK_EQ(qe_bucket_take(&b, now + 101 * QE_MILLISECOND), 1);
  CHECK_EQ(qe_bucket_take(&b, now + 101 * QE_MILLISECOND), 0);
  now += 3600 * QE_SECOND; /* idle: saved up to the burst, not more */
  for (int i = 0; i < 3; i++) {
    CHECK_EQ(qe_bucket_take(&b, now), 1);
  }
  CHECK_EQ(qe_bucket_take(&b, now), 0);
}

static void test_bucket_gives_the_rate_over_time(void) {
  qe_bucket b;
  int allowed = 0;

  qe_bucket_init(&b, 100, 1);
  for (int i = 0; i < 10000; i++) { /* ten seconds in steps of a millisecond */
    allowed += qe_bucket_take(&b, QE_SECOND + (uint64_t)i * QE_MILLISECOND);
  }
  CHECK(allowed >= 990 && allowed <= 1001);
}

static void test_bucket_ignores_time_going_back(void) {
  qe_bucket b;
  qe_bucket_init(&b, 1, 1);
  CHECK_EQ(qe_bucket_take(&b, 10 * QE_SECOND), 1);
  CHECK_EQ(qe_bucket_take(&b, 1 * QE_SECOND), 0);
  CHECK_EQ(qe_bucket_take(&b, 11 * QE_SECOND), 1);
}

static void test_addresses_have_their_own_buckets(void) {
  qe_addrlimit *l;
  REQUIRE(qe_addrlimit_new(&l, 1, 2) == 0);
  CHECK_EQ(take(l, "192.0.2.1", 1, QE_SECOND), 1);
  CHECK_EQ(take(l, "192.0.2.1", 2, QE_SECOND), 1); /* the port does not matter */
  CHECK_EQ(take(l, "192.0.2.1", 3, QE_SECOND), 0);
  CHECK_EQ(take(l, "192.0.2.2", 1, QE_SECOND), 1);
  CHECK_EQ(take(l, "192.0.2.1", 1, 3 * QE_SECOND), 1);
  qe_addrlimit_free(l);
}

static void test_mapped_address_counts_as_ipv4(void) {
  qe_addrlimit *l;
  REQUIRE(qe_addrlimit_new(&l, 1, 1) == 0);
  CHECK_EQ(take(l, "192.0.2.1", 1, QE_SECOND), 1);
  CHECK_EQ(take(l, "::ffff:192.0.2.1", 1, QE_SECOND), 0);
  CHECK_EQ(take(l, "::ffff:192.0.2.2", 1, QE_SECOND), 1);
  qe_addrlimit_free(l);
}

static void test_ipv6_counts_by_64_bits(void) {
  qe_addrlimit *l;
  REQUIRE(qe_addrlimit_new(&l, 1, 1) == 0);
  CHECK_EQ(take(l, "2001:db8:0:12::1", 1, QE_SECOND), 1);
  CHECK_EQ(take(l, "2001:db8:0:12:ffff::9", 1, QE_SECOND), 0);
  CHECK_EQ(take(l, "2001:db8:0:13::1", 1, QE_SECOND), 1);
  qe_addrlimit_free(l);
}

/* Far more addresses than entries: all are served, and one that stays active
 * all the time is never forgotten. */
static void test_flood_of_addresses_does_not_reset_an_active_one(void) {
  qe_addrlimit *l;
  int allowed = 0, refused = 0;
  REQUIRE(qe_addrlimit_new(&l, 0.001, 1) == 0);
  for (uint32_t i = 0; i < 100000; i++) {
    struct sockaddr_in in = {.sin_family = AF_INET};
    in.sin_addr.s_addr = htonl(0x0a000000u + i);
    allowed += qe_addrlimit_take(l, (struct sockaddr *)&in, QE_SECOND + i);
    if (i % 16 == 0) {
      refused += !take(l, "198.51.100.7", 1, QE_SECOND + i);
    }
  }
  CHECK_EQ(allowed, 100000);
  CHECK_EQ(refused, 100000 / 16 - 1);
  qe_addrlimit_free(l);
}

int main(void) {
  RUN(test_bucket_allows_the_burst_then_the_rate);
  RUN(test_bucket_gives_the_rate_over_time);
  RUN(test_bucket_ignores_time_going_back);
  RUN(test_addresses_have_their_own_buckets);
  RUN(test_mapped_address_counts_as_ipv4);
  RUN(test_ipv6_counts_by_64_bits);
  RUN(test_flood_of_addresses_does_not_reset_an_active_one);
  return check_report();
}
