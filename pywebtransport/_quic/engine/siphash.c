#include "siphash.h"

#include <endian.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

#include "log.h"
#include "quicengine.h"

static inline uint64_t load_le64(const uint8_t *p) {
  uint64_t v;
  memcpy(&v, p, sizeof(v));
  return le64toh(v);
}

static inline uint64_t rotl(uint64_t v, unsigned n) {
  return (v << n) | (v >> (64 - n));
}

/* Every packet needs a dozen: a call would cost as much again. */
__attribute__((always_inline)) static inline void sip_round(uint64_t v[4]) {
  v[0] += v[1];
  v[2] += v[3];
  v[1] = rotl(v[1], 13) ^ v[0];
  v[3] = rotl(v[3], 16) ^ v[2];
  v[0] = rotl(v[0], 32);
  v[2] += v[1];
  v[0] += v[3];
  v[1] = rotl(v[1], 17) ^ v[2];
  v[3] = rotl(v[3], 21) ^ v[0];
  v[2] = rotl(v[2], 32);
}

int qe_sipkey_init(qe_sipkey *key) {
  uint8_t bytes[16];
  int rv = gnutls_rnd(GNUTLS_RND_RANDOM, bytes, sizeof(bytes));
  if (rv != 0) {
    return qe_set_error(QE_ERR_INTERNAL, "no random bytes: %s", gnutls_strerror(rv));
  }
  qe_sipkey_from_bytes(key, bytes);
  return 0;
}

void qe_sipkey_from_bytes(qe_sipkey *key, const uint8_t bytes[16]) {
  key->k0 = load_le64(bytes);
  key->k1 = load_le64(bytes + 8);
}

uint64_t qe_siphash(const qe_sipkey *key, const uint8_t *data, size_t len) {
  uint64_t v[4] = {
      key->k0 ^ 0x736f6d6570736575u,
      key->k1 ^ 0x646f72616e646f6du,
      key->k0 ^ 0x6c7967656e657261u,
      key->k1 ^ 0x7465646279746573u,
  };
  size_t whole = len & ~(size_t)7;
  uint64_t last = (uint64_t)len << 56;

  for (size_t i = 0; i < whole; i += 8) {
    uint64_t m = load_le64(data + i);
    v[3] ^= m;
    sip_round(v);
    sip_round(v);
    v[0] ^= m;
  }
  for (size_t i = whole; i < len; i++) {
    last |= (uint64_t)data[i] << (8 * (i - whole));
  }
  v[3] ^= last;
  sip_round(v);
  sip_round(v);
  v[0] ^= last;
  v[2] ^= 0xff;
  for (int i = 0; i < 4; i++) {
    sip_round(v);
  }
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}
