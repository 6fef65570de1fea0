/*
 * siphash.h - SipHash-2-4: a keyed hash, so that a peer cannot choose keys that collide. Every
 * table whose keys come from the network uses it.
 */
#ifndef QE_SIPHASH_H
#define QE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct qe_sipkey {
  uint64_t k0, k1;
} qe_sipkey;

/* Makes a new random key. Returns 0, or QE_ERR_INTERNAL if no random bytes are available. */
int qe_sipkey_init(qe_sipkey *key);
/* The 16 key bytes are little-endian, as in the SipHash paper. */
void qe_sipkey_from_bytes(qe_sipkey *key, const uint8_t bytes[16]);
uint64_t qe_siphash(const qe_sipkey *key, const uint8_t *data, size_t len);

#endif
