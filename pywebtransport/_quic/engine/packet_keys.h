/*
 * packet_keys.h - derives the keys of packets from TLS secrets (RFC 9001 sections 5.1 and
 * 6.1, RFC 9369 section 3.3.2).
 */
#ifndef QE_PACKET_KEYS_H
#define QE_PACKET_KEYS_H

#include <ngtcp2/ngtcp2.h>

#include "cipher.h"

#define QE_PACKET_SECRET_MAX 64 /* enough for any hash */
#define QE_PACKET_IV_MAX 16

typedef struct qe_packet_keys {
  uint8_t key[QE_CIPHER_KEY_MAX], mask[QE_CIPHER_KEY_MAX]; /* mask: for header protection */
  uint8_t iv[QE_PACKET_IV_MAX];
  size_t key_len, iv_len;
} qe_packet_keys;

/* with_mask = 0 leaves mask unchanged, as in a key update. Returns 0 or -1. */
int qe_packet_keys_derive(qe_packet_keys *k, uint32_t version, const ngtcp2_crypto_ctx *ctx,
                          const uint8_t *secret, size_t secret_len, int with_mask);
void qe_packet_keys_wipe(qe_packet_keys *k);
/* Derives the secret after a key update; it is as long as the current one. Returns 0 or -1. */
int qe_packet_keys_next_secret(uint8_t *out, uint32_t version, const ngtcp2_crypto_ctx *ctx,
                               const uint8_t *secret, size_t secret_len);

#endif
