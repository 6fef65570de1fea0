#include "conn_keys.h"

#include <gnutls/crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

#include "engine.h"
#include "packet_keys.h"

/* Sets the algorithms, with the first secrets of the Handshake level. */
static int set_algorithms(qe_conn *c) {
  ngtcp2_crypto_ctx ctx;

  if (ngtcp2_conn_get_crypto_ctx(c->ng)->aead.native_handle == NULL) {
    if (ngtcp2_crypto_ctx_tls(&ctx, c->tls) == NULL) {
      return -1;
    }
    ngtcp2_conn_set_crypto_ctx(c->ng, &ctx);
  }
  return 0;
}

/* For 1-RTT packets. */
static int new_ciphers(qe_cipher_pool *pool, const ngtcp2_crypto_ctx *ctx,
                       const qe_packet_keys *keys, qe_cipher_kind kind,
                       ngtcp2_crypto_aead_ctx *aead, ngtcp2_crypto_cipher_ctx *mask) {
  aead->native_handle =
      qe_cipher_new(pool, kind, ctx->aead.native_handle, keys->key, keys->key_len);
  mask->native_handle =
      qe_cipher_new(pool, QE_CIPHER_MASK, ctx->hp.native_handle, keys->mask, keys->key_len);
  qe_cipher_set_iv(aead->native_handle, keys->iv, keys->iv_len, 0);
  return aead->native_handle == NULL || mask->native_handle == NULL ? -1 : 0;
}

/* For Handshake packets: contexts of the library, which are soon freed. */
static int new_contexts(const ngtcp2_crypto_ctx *ctx, const qe_packet_keys *keys,
                        qe_cipher_kind kind, ngtcp2_crypto_aead_ctx *aead,
                        ngtcp2_crypto_cipher_ctx *mask) {
  gnutls_datum_t key = {(uint8_t *)(uintptr_t)keys->mask, (unsigned)keys->key_len};
  gnutls_cipher_hd_t context = NULL;
  int rv = (kind == QE_CIPHER_DECRYPT
                ? ngtcp2_crypto_aead_ctx_decrypt_init
                : ngtcp2_crypto_aead_ctx_encrypt_init)(aead, &ctx->aead, keys->key, keys->iv_len);

  if (rv == 0) {
    rv = gnutls_cipher_init(&context, (gnutls_cipher_algorithm_t)(intptr_t)ctx->hp.native_handle,
                            &key, NULL);
    mask->native_handle = context;
  }
  return rv == 0 ? 0 : -1;
}

/* Gives the library the keys of one direction. */
static int hand_over(qe_conn *c, ngtcp2_encryption_level level, qe_cipher_kind kind,
                     const uint8_t *secret, size_t len, const ngtcp2_crypto_aead_ctx *aead,
                     const qe_packet_keys *keys, const ngtcp2_crypto_cipher_ctx *mask) {
  int receive = kind == QE_CIPHER_DECRYPT;

  if (level == NGTCP2_ENCRYPTION_LEVEL_HANDSHAKE) {
    return (receive ? ngtcp2_conn_install_rx_handshake_key : ngtcp2_conn_install_tx_handshake_key)(
        c->ng, aead, keys->iv, keys->iv_len, mask);
  }
  return (receive ? ngtcp2_conn_install_rx_key : ngtcp2_conn_install_tx_key)(
      c->ng, secret, len, aead, keys->iv, keys->iv_len, mask);
}

/* Installs the keys of one direction. */
static int install(qe_conn *c, ngtcp2_encryption_level level, const uint8_t *secret, size_t len,
                   qe_cipher_kind kind) {
  const ngtcp2_crypto_ctx *ctx = ngtcp2_conn_get_crypto_ctx(c->ng);
  ngtcp2_crypto_aead_ctx aead = {NULL};
  ngtcp2_crypto_cipher_ctx mask = {NULL};
  qe_packet_keys keys;

  if (ctx->aead.native_handle == NULL) {
    return -1;
  }
  int rv =
      qe_packet_keys_derive(&keys, ngtcp2_conn_get_negotiated_version(c->ng), ctx, secret, len, 1);
  if (rv == 0) {
    rv = level == NGTCP2_ENCRYPTION_LEVEL_1RTT
             ? new_ciphers(&c->engine->ciphers, ctx, &keys, kind, &aead, &mask)
             : new_contexts(ctx, &keys, kind, &aead, &mask);
  }
  if (rv == 0) {
    rv = hand_over(c, level, kind, secret, len, &aead, &keys, &mask);
  }
  if (rv != 0) {
    qe_cipher_delete_aead_cb(c->ng, &aead, c);
    qe_cipher_delete_mask_cb(c->ng, &mask, c);
  }
  qe_packet_keys_wipe(&keys);
  return rv == 0 ? 0 : -1;
}

static int on_secrets(gnutls_session_t s, gnutls_record_encryption_level_t tls_level,
                      const void *rx, const void *tx, size_t len) {
  ngtcp2_crypto_conn_ref *ref = gnutls_session_get_ptr(s);
  qe_conn *c = ref->user_data;
  ngtcp2_encryption_level level =
      ngtcp2_crypto_gnutls_from_gnutls_record_encryption_level(tls_level);

  if (level != NGTCP2_ENCRYPTION_LEVEL_HANDSHAKE && level != NGTCP2_ENCRYPTION_LEVEL_1RTT) {
    return -1; /* there is no 0-RTT */
  }
  if (level == NGTCP2_ENCRYPTION_LEVEL_HANDSHAKE && set_algorithms(c) != 0) {
    return -1;
  }
  return (rx != NULL && install(c, level, rx, len, QE_CIPHER_DECRYPT) != 0) ||
                 (tx != NULL && install(c, level, tx, len, QE_CIPHER_ENCRYPT) != 0)
             ? -1
             : 0;
}

void qe_conn_hook_secrets(gnutls_session_t s) {
  gnutls_handshake_set_secret_function(s, on_secrets);
}

/* Prepares the next keys of one direction. */
static int prepare(qe_conn *c, uint8_t *next, ngtcp2_crypto_aead_ctx *aead, uint8_t *iv,
                   const uint8_t *current, size_t len, qe_cipher_kind kind) {
  const ngtcp2_crypto_ctx *ctx = ngtcp2_conn_get_crypto_ctx(c->ng);
  uint32_t version = ngtcp2_conn_get_negotiated_version(c->ng);
  qe_packet_keys keys;

  int rv = qe_packet_keys_next_secret(next, version, ctx, current, len);
  if (rv == 0) {
    rv = qe_packet_keys_derive(&keys, version, ctx, next, len, 0);
  }
  if (rv == 0) {
    memcpy(iv, keys.iv, keys.iv_len);
    aead->native_handle =
        qe_cipher_new(&c->engine->ciphers, kind, ctx->aead.native_handle, keys.key, keys.key_len);
    qe_cipher_set_iv(aead->native_handle, keys.iv, keys.iv_len, (unsigned)c->stats.key_updates);
    rv = aead->native_handle == NULL ? -1 : 0;
  }
  qe_packet_keys_wipe(&keys);
  return rv;
}

int qe_conn_update_key_cb(ngtcp2_conn *ng, uint8_t *rx_secret, uint8_t *tx_secret,
                          ngtcp2_crypto_aead_ctx *rx_aead_ctx, uint8_t *rx_iv,
                          ngtcp2_crypto_aead_ctx *tx_aead_ctx, uint8_t *tx_iv,
                          const uint8_t *current_rx_secret, const uint8_t *current_tx_secret,
                          size_t secret_len, void *user_data) {
  qe_conn *c = user_data;
  (void)ng;

  c->stats.key_updates++; /* the first call only prepares; see qe_conn_get_stats */
  if (prepare(c, rx_secret, rx_aead_ctx, rx_iv, current_rx_secret, secret_len, QE_CIPHER_DECRYPT) !=
      0) {
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  if (prepare(c, tx_secret, tx_aead_ctx, tx_iv, current_tx_secret, secret_len, QE_CIPHER_ENCRYPT) !=
      0) {
    qe_cipher_free(rx_aead_ctx->native_handle);
    rx_aead_ctx->native_handle = NULL;
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  return 0;
}
