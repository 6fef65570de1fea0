#include "check.h"
#include "packet_keys.h"

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2_crypto.h>

static size_t from_hex(uint8_t *out, const char *hex) {
  size_t n = strlen(hex) / 2;
  for (size_t i = 0; i < n; i++) {
    unsigned byte = 0;
    CHECK_EQ(sscanf(hex + 2 * i, "%2x", &byte), 1);
    out[i] = (uint8_t)byte;
  }
  return n;
}

static ngtcp2_crypto_ctx with_sha256(gnutls_cipher_algorithm_t cipher) {
  ngtcp2_crypto_ctx ctx = {0};
  ctx.aead.native_handle = (void *)(intptr_t)cipher;
  ctx.md.native_handle = (void *)(intptr_t)GNUTLS_DIG_SHA256;
  return ctx;
}

static void check_bytes(const uint8_t *bytes, size_t len, const char *hex) {
  uint8_t wanted[64];
  CHECK_EQ(len, from_hex(wanted, hex));
  CHECK(memcmp(bytes, wanted, len) == 0);
}

/* RFC 9001 appendix A.1 (client) and RFC 9369 appendix A.1 (client). */
static void test_aes_in_both_versions(void) {
  static const struct {
    uint32_t version;
    const char *secret, *key, *iv, *mask;
  } cases[] = {
      {NGTCP2_PROTO_VER_V1, "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea",
       "1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c",
       "9f50449e04a0e810283a1e9933adedd2"},
      {NGTCP2_PROTO_VER_V2, "14ec9d6eb9fd7af83bf5a668bc17a7e283766aade7ecd0891f70f9ff7f4bf47b",
       "8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f",
       "45b95e15235d6f45a6b19cbcb0294ba9"},
  };
  ngtcp2_crypto_ctx ctx = with_sha256(GNUTLS_CIPHER_AES_128_GCM);
  uint8_t secret[32];

  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    qe_packet_keys k;
    size_t len = from_hex(secret, cases[i].secret);
    CHECK_EQ(qe_packet_keys_derive(&k, cases[i].version, &ctx, secret, len, 1), 0);
    check_bytes(k.key, k.key_len, cases[i].key);
    check_bytes(k.iv, k.iv_len, cases[i].iv);
    check_bytes(k.mask, k.key_len, cases[i].mask);
  }
}

/* RFC 9001 appendix A.5. */
static void test_chacha20_and_the_next_secret(void) {
  ngtcp2_crypto_ctx ctx = with_sha256(GNUTLS_CIPHER_CHACHA20_POLY1305);
  uint8_t secret[32], next[32];
  qe_packet_keys k;

  size_t len = from_hex(secret, "9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b");
  CHECK_EQ(qe_packet_keys_derive(&k, NGTCP2_PROTO_VER_V1, &ctx, secret, len, 1), 0);
  check_bytes(k.key, k.key_len, "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8");
  check_bytes(k.iv, k.iv_len, "e0459b3474bdd0e44a41c144");
  check_bytes(k.mask, k.key_len,
              "25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4");
  CHECK_EQ(qe_packet_keys_next_secret(next, NGTCP2_PROTO_VER_V1, &ctx, secret, len), 0);
  check_bytes(next, len, "1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9");
}

static void test_update_leaves_the_mask(void) {
  ngtcp2_crypto_ctx ctx = with_sha256(GNUTLS_CIPHER_AES_128_GCM);
  uint8_t secret[32] = {1}, zeros[QE_CIPHER_KEY_MAX] = {0};
  qe_packet_keys k = {0};

  CHECK_EQ(qe_packet_keys_derive(&k, NGTCP2_PROTO_VER_V1, &ctx, secret, sizeof(secret), 0), 0);
  CHECK(memcmp(k.mask, zeros, sizeof(zeros)) == 0);
  CHECK(memcmp(k.key, zeros, sizeof(zeros)) != 0);
  qe_packet_keys_wipe(&k);
  CHECK(memcmp(k.key, zeros, sizeof(zeros)) == 0);
}

int main(void) {
  RUN(test_aes_in_both_versions);
  RUN(test_chacha20_and_the_next_secret);
  RUN(test_update_leaves_the_mask);
  return check_report();
}
