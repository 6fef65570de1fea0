#include "packet_keys.h"

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <stdio.h>

/* HKDF-Expand-Label of RFC 8446 section 7.1 without a context. */
static int expand(uint8_t *out, size_t out_len, uint32_t version, const ngtcp2_crypto_ctx *ctx,
                  const uint8_t *secret, size_t secret_len, const char *name) {
  const char *prefix = version == NGTCP2_PROTO_VER_V2 ? "tls13 quicv2 " : "tls13 quic ";
  uint8_t info[3 + 32 + 1];
  int len = snprintf((char *)info + 3, sizeof(info) - 4, "%s%s", prefix, name);

  if (len < 0 || (size_t)len >= sizeof(info) - 4 || out_len > UINT8_MAX) {
    return -1;
  }
  info[0] = 0;
  info[1] = (uint8_t)out_len;
  info[2] = (uint8_t)len;
  info[3 + len] = 0;
  return ngtcp2_crypto_hkdf_expand(out, out_len, &ctx->md, secret, secret_len, info,
                                   (size_t)len + 4);
}

int qe_packet_keys_derive(qe_packet_keys *k, uint32_t version, const ngtcp2_crypto_ctx *ctx,
                          const uint8_t *secret, size_t secret_len, int with_mask) {
  k->key_len = ngtcp2_crypto_aead_keylen(&ctx->aead);
  k->iv_len = ngtcp2_crypto_packet_protection_ivlen(&ctx->aead);
  if (k->key_len > sizeof(k->key) || k->iv_len > sizeof(k->iv) ||
      expand(k->key, k->key_len, version, ctx, secret, secret_len, "key") != 0 ||
      expand(k->iv, k->iv_len, version, ctx, secret, secret_len, "iv") != 0) {
    return -1;
  }
  return with_mask ? expand(k->mask, k->key_len, version, ctx, secret, secret_len, "hp") : 0;
}

void qe_packet_keys_wipe(qe_packet_keys *k) {
  gnutls_memset(k, 0, sizeof(*k));
}

int qe_packet_keys_next_secret(uint8_t *out, uint32_t version, const ngtcp2_crypto_ctx *ctx,
                               const uint8_t *secret, size_t secret_len) {
  return expand(out, secret_len, version, ctx, secret, secret_len, "ku");
}
