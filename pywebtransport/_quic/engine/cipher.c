#include "cipher.h"

#include <endian.h>
#include <gnutls/crypto.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <stdlib.h>
#include <string.h>

struct qe_cipher {
  qe_cipher_pool *pool;
  void *algorithm;
  void *context; /* NULL: no context now */
  uint16_t slot; /* in the pool, if there is a context */
  uint8_t kind;
  uint8_t used; /* since the hand last passed */
  uint8_t key_len;
  uint8_t phase;
  uint8_t has_iv;
  uint64_t iv_end; /* last eight bytes of the IV, which the packet number is XORed into */
  uint8_t key[];
};

/* The library's own contexts use the same callbacks. Both kinds come from malloc, so the lowest
 * bit is free to tell them apart. */
#define MARK ((uintptr_t)1)

static void *to_handle(qe_cipher *x) {
  return (void *)((uintptr_t)x | MARK);
}

/* NULL for one of the library's own contexts. */
static qe_cipher *from_handle(const void *handle) {
  uintptr_t bits = (uintptr_t)handle;
  return bits & MARK ? (qe_cipher *)(bits - MARK) : NULL;
}

void *qe_cipher_new(qe_cipher_pool *pool, qe_cipher_kind kind, void *algorithm, const uint8_t *key,
                    size_t key_len) {
  if (key_len > QE_CIPHER_KEY_MAX) {
    return NULL;
  }
  qe_cipher *x = malloc(sizeof(*x) + key_len);
  if (x == NULL) {
    return NULL;
  }
  memset(x, 0, sizeof(*x));
  x->pool = pool;
  x->kind = (uint8_t)kind;
  x->algorithm = algorithm;
  x->key_len = (uint8_t)key_len;
  memcpy(x->key, key, key_len);
  return to_handle(x);
}

static void release(qe_cipher *x) {
  if (x->context == NULL) {
    return;
  }
  if (x->kind == QE_CIPHER_MASK) {
    gnutls_cipher_deinit(x->context);
  } else {
    ngtcp2_crypto_aead_ctx ctx = {x->context};
    ngtcp2_crypto_aead_ctx_free(&ctx);
  }
  x->context = NULL;
  x->pool->slots[x->slot] = NULL;
}

void qe_cipher_free(void *native_handle) {
  qe_cipher *x = from_handle(native_handle);
  if (x == NULL) {
    return;
  }
  release(x);
  gnutls_memset(x->key, 0, x->key_len);
  free(x);
}

void qe_cipher_set_iv(void *native_handle, const uint8_t *iv, size_t len, unsigned phase) {
  qe_cipher *x = from_handle(native_handle);
  if (x != NULL && len >= sizeof(x->iv_end)) {
    memcpy(&x->iv_end, iv + len - sizeof(x->iv_end), sizeof(x->iv_end));
    x->has_iv = 1;
    x->phase = (uint8_t)(phase & 1);
  }
}

int64_t qe_cipher_packet_number(const void *native_handle, const uint8_t *nonce, size_t len) {
  const qe_cipher *x = from_handle(native_handle);
  uint64_t end;

  if (x == NULL || !x->has_iv || len < sizeof(x->iv_end)) {
    return -1;
  }
  memcpy(&end, nonce + len - sizeof(end), sizeof(end));
  return (int64_t)be64toh(end ^ x->iv_end);
}

int qe_cipher_fits_phase(const void *native_handle, uint8_t first) {
  const qe_cipher *x = from_handle(native_handle);
  return x == NULL || !x->has_iv || x->phase == (first >> 2 & 1);
}

int qe_cipher_is_ready(const void *native_handle) {
  const qe_cipher *x = from_handle(native_handle);
  return x != NULL && x->context != NULL;
}

/* Finds a slot by the clock algorithm, releasing a context that was not used recently if the
 * slot has one. This takes at most two rounds, because the first clears the marks of use. */
static size_t take_slot(qe_cipher_pool *pool) {
  for (;;) {
    size_t at = pool->hand;
    qe_cipher *x = pool->slots[at];
    pool->hand = (at + 1) % QE_CIPHERS_READY;
    if (x != NULL && x->used) {
      x->used = 0;
      continue;
    }
    if (x != NULL) {
      release(x);
    }
    return at;
  }
}

static int make(qe_cipher *x, size_t nonce_len) {
  int rv;

  if (x->kind == QE_CIPHER_MASK) {
    /* The library has no function for this; its handles are GnuTLS handles. */
    gnutls_datum_t key = {x->key, x->key_len};
    gnutls_cipher_hd_t context = NULL;
    rv =
        gnutls_cipher_init(&context, (gnutls_cipher_algorithm_t)(intptr_t)x->algorithm, &key, NULL);
    x->context = context;
  } else {
    ngtcp2_crypto_aead aead = {x->algorithm, 0};
    ngtcp2_crypto_aead_ctx ctx = {NULL};
    rv = x->kind == QE_CIPHER_ENCRYPT
             ? ngtcp2_crypto_aead_ctx_encrypt_init(&ctx, &aead, x->key, nonce_len)
             : ngtcp2_crypto_aead_ctx_decrypt_init(&ctx, &aead, x->key, nonce_len);
    x->context = ctx.native_handle;
  }
  if (rv != 0 || x->context == NULL) {
    x->context = NULL;
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  x->slot = (uint16_t)take_slot(x->pool);
  x->pool->slots[x->slot] = x;
  x->pool->made++;
  return 0;
}

/* Puts the context for this call into *context. */
static inline int get_context(void *handle, size_t nonce_len, void **context) {
  qe_cipher *x = from_handle(handle);

  if (x == NULL) {
    *context = handle;
    return 0;
  }
  if (x->context == NULL && make(x, nonce_len) != 0) {
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  x->used = 1;
  *context = x->context;
  return 0;
}

int qe_cipher_encrypt_cb(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                         const ngtcp2_crypto_aead_ctx *aead_ctx, const uint8_t *plaintext,
                         size_t plaintext_len, const uint8_t *nonce, size_t nonce_len,
                         const uint8_t *aad, size_t aad_len) {
  ngtcp2_crypto_aead_ctx ctx;
  if (get_context(aead_ctx->native_handle, nonce_len, &ctx.native_handle) != 0 ||
      ngtcp2_crypto_encrypt(dest, aead, &ctx, plaintext, plaintext_len, nonce, nonce_len, aad,
                            aad_len) != 0) {
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  return 0;
}

int qe_cipher_decrypt_cb(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                         const ngtcp2_crypto_aead_ctx *aead_ctx, const uint8_t *ciphertext,
                         size_t ciphertext_len, const uint8_t *nonce, size_t nonce_len,
                         const uint8_t *aad, size_t aad_len) {
  ngtcp2_crypto_aead_ctx ctx;
  if (get_context(aead_ctx->native_handle, nonce_len, &ctx.native_handle) != 0) {
    return NGTCP2_ERR_CALLBACK_FAILURE; /* out of memory, which does not make the packet invalid */
  }
  return ngtcp2_crypto_decrypt(dest, aead, &ctx, ciphertext, ciphertext_len, nonce, nonce_len, aad,
                               aad_len) == 0
             ? 0
             : NGTCP2_ERR_DECRYPT;
}

int qe_cipher_mask_cb(uint8_t *dest, const ngtcp2_crypto_cipher *hp,
                      const ngtcp2_crypto_cipher_ctx *hp_ctx, const uint8_t *sample) {
  ngtcp2_crypto_cipher_ctx ctx;
  if (get_context(hp_ctx->native_handle, 0, &ctx.native_handle) != 0 ||
      ngtcp2_crypto_hp_mask(dest, hp, &ctx, sample) != 0) {
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  return 0;
}

void qe_cipher_delete_aead_cb(ngtcp2_conn *ng, ngtcp2_crypto_aead_ctx *aead_ctx, void *user_data) {
  if (from_handle(aead_ctx->native_handle) == NULL) {
    ngtcp2_crypto_delete_crypto_aead_ctx_cb(ng, aead_ctx, user_data);
  } else {
    qe_cipher_free(aead_ctx->native_handle);
  }
}

void qe_cipher_delete_mask_cb(ngtcp2_conn *ng, ngtcp2_crypto_cipher_ctx *hp_ctx, void *user_data) {
  if (from_handle(hp_ctx->native_handle) == NULL) {
    ngtcp2_crypto_delete_crypto_cipher_ctx_cb(ng, hp_ctx, user_data);
  } else {
    qe_cipher_free(hp_ctx->native_handle);
  }
}
