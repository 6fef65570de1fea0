/*
 * siphash.h - SipHash-2-4: a keyed hash whose collisions a peer cannot choose.
 * Every table whose keys come from the network is built on it.
 */
#ifndef QE_SIPHASH_H
#define QE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct qe_sipkey {
  uint64_t k0, k1;
} qe_sipkey;

/* A fresh random key.  0 or QE_ERR_INTERNAL (no randomness). */
int qe_sipkey_init(qe_sipkey *key);
/* The 16 key bytes are little-endian, as in the SipHash paper. */
void qe_sipkey_from_bytes(qe_sipkey *key, const uint8_t bytes[16]);
uint64_t qe_siphash(const qe_sipkey *key, const uint8_t *data, size_t len);

#endif
