/*
 * cipher.h - the keys of 1-RTT packets, kept as bytes until they are used.
 *
 * A cipher context is ten times larger than its key (640 bytes for AES-GCM in GnuTLS, 4 KiB without
 * processor support), and a connection has six. Creating one takes only a fifth of a microsecond.
 * So only recently used keys have a context; keys of idle connections, and keys prepared for the
 * next key update, have none.
 */
#ifndef QE_CIPHER_H
#define QE_CIPHER_H

#include <stddef.h>
#include <stdint.h>

#include <ngtcp2/ngtcp2.h>

#define QE_CIPHER_KEY_MAX 32
#define QE_CIPHERS_READY 256 /* contexts per engine: enough for 64 busy connections */

typedef enum qe_cipher_kind { QE_CIPHER_ENCRYPT, QE_CIPHER_DECRYPT, QE_CIPHER_MASK } qe_cipher_kind;

typedef struct qe_cipher qe_cipher;

/* Initialize with zeros. */
typedef struct qe_cipher_pool {
  qe_cipher *slots[QE_CIPHERS_READY];
  size_t hand; /* where the next search for an unused context starts */
  size_t made; /* contexts created so far */
} qe_cipher_pool;

/* Returns a native_handle for the library's aead_ctx or (QE_CIPHER_MASK) cipher_ctx, or NULL
 * when out of memory. algorithm is the native_handle of its aead or cipher. The pool must
 * outlive it. */
void *qe_cipher_new(qe_cipher_pool *pool, qe_cipher_kind kind, void *algorithm, const uint8_t *key,
                    size_t key_len);
/* Wipes and frees what qe_cipher_new returned. */
void qe_cipher_free(void *native_handle);
/* The IV and the key phase (0 or 1) that belong to a key of 1-RTT packets. */
void qe_cipher_set_iv(void *native_handle, const uint8_t *iv, size_t len, unsigned phase);
/* The number of the packet that has this nonce (RFC 9001 section 5.3); -1 if the key is one of
 * the library's own, or has no IV. */
int64_t qe_cipher_packet_number(const void *native_handle, const uint8_t *nonce, size_t len);
/* Whether the first byte of a short header has the phase of this key; 1 for the library's own
 * keys. */
int qe_cipher_fits_phase(const void *native_handle, uint8_t first);
/* Whether it has a context now. */
int qe_cipher_is_ready(const void *native_handle);

/* Callbacks for the library. They also accept the library's own contexts, which it creates for
 * Initial and Handshake packets. */
int qe_cipher_encrypt_cb(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                         const ngtcp2_crypto_aead_ctx *aead_ctx, const uint8_t *plaintext,
                         size_t plaintext_len, const uint8_t *nonce, size_t nonce_len,
                         const uint8_t *aad, size_t aad_len);
int qe_cipher_decrypt_cb(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                         const ngtcp2_crypto_aead_ctx *aead_ctx, const uint8_t *ciphertext,
                         size_t ciphertext_len, const uint8_t *nonce, size_t nonce_len,
                         const uint8_t *aad, size_t aad_len);
int qe_cipher_mask_cb(uint8_t *dest, const ngtcp2_crypto_cipher *hp,
                      const ngtcp2_crypto_cipher_ctx *hp_ctx, const uint8_t *sample);
void qe_cipher_delete_aead_cb(ngtcp2_conn *ng, ngtcp2_crypto_aead_ctx *aead_ctx, void *user_data);
void qe_cipher_delete_mask_cb(ngtcp2_conn *ng, ngtcp2_crypto_cipher_ctx *hp_ctx, void *user_data);

#endif
