#include "check.h"
#include "siphash.h"

/* SipHash-2-4, key 00..0f, message 00..(n-1): Aumasson and Bernstein, 2012,
 * appendix A (n = 15) and the reference vectors of the same key. */
static void test_reference_vectors(void) {
  static const struct {
    size_t len;
    uint64_t hash;
  } vectors[] = {
      {0, 0x726fdb47dd0e0e31u}, {1, 0x74f839c593dc67fdu},  {7, 0xab0200f58b01d137u},
      {8, 0x93f5f5799a932462u}, {15, 0xa129ca6149be45e5u},
  };
  uint8_t bytes[16], message[16];
  qe_sipkey key;

  for (uint8_t i = 0; i < 16; i++) {
    bytes[i] = i;
    message[i] = i;
  }
  qe_sipkey_from_bytes(&key, bytes);
  for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
    CHECK_EQ(qe_siphash(&key, message, vectors[i].len), vectors[i].hash);
  }
}

static void test_random_keys_differ(void) {
  qe_sipkey a, b;
  CHECK_EQ(qe_sipkey_init(&a), 0);
  CHECK_EQ(qe_sipkey_init(&b), 0);
  CHECK(a.k0 != b.k0 && a.k1 != b.k1);
}

int main(void) {
  RUN(test_reference_vectors);
  RUN(test_random_keys_differ);
  return check_report();
}
