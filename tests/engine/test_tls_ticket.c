#include <stdlib.h>

#include "check.h"
#include "tls_ticket.h"

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

int main(void) {
  RUN(test_wrapped_data_comes_back);
  RUN(test_expired_ticket_is_not_used);
  RUN(test_other_binding_is_not_used);
  RUN(test_damaged_ticket_is_not_used);
  return check_report();
}
