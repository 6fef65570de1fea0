/*
 * conn_keys.h - gives the packet keys of a connection to the QUIC library.
 */
#ifndef QE_CONN_KEYS_H
#define QE_CONN_KEYS_H

#include "conn.h"

/* Replaces the library's hook for TLS secrets. */
void qe_conn_hook_secrets(gnutls_session_t s);
/* The library's callback that prepares the keys of the next key update. */
int qe_conn_update_key_cb(ngtcp2_conn *ng, uint8_t *rx_secret, uint8_t *tx_secret,
                          ngtcp2_crypto_aead_ctx *rx_aead_ctx, uint8_t *rx_iv,
                          ngtcp2_crypto_aead_ctx *tx_aead_ctx, uint8_t *tx_iv,
                          const uint8_t *current_rx_secret, const uint8_t *current_tx_secret,
                          size_t secret_len, void *user_data);

#endif
