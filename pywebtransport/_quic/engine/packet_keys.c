#include "packet_keys.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <stdio.h>
#include <string.h>

/* A secret, prepared for any number of derivations: for each, gnutls_hkdf_expand would prepare it
 * again, which takes longer than what follows. */
typedef struct source {
  gnutls_hmac_hd_t mac;
  size_t mac_len;
  uint32_t version;
} source;

static int open_source(source *s, uint32_t version, const ngtcp2_crypto_ctx *ctx,
                       const uint8_t *secret, size_t secret_len) {
  gnutls_mac_algorithm_t hash = (gnutls_mac_algorithm_t)(intptr_t)ctx->md.native_handle;

  s->version = version;
  s->mac_len = gnutls_hmac_get_len(hash);
  return s->mac_len == 0 || s->mac_len > QE_PACKET_SECRET_MAX ||
                 gnutls_hmac_init(&s->mac, hash, secret, secret_len) != 0
             ? -1
             : 0;
}

static void close_source(source *s) {
  gnutls_hmac_deinit(s->mac, NULL);
}

/* HKDF-Expand-Label of RFC 8446 section 7.1 without a context, of one block at most. */
static int expand(const source *s, uint8_t *out, size_t out_len, const char *name) {
  const char *prefix = s->version == NGTCP2_PROTO_VER_V2 ? "tls13 quicv2 " : "tls13 quic ";
  uint8_t block[QE_PACKET_SECRET_MAX];
  uint8_t info[3 + 32 + 2];
  int len = snprintf((char *)info + 3, sizeof(info) - 5, "%s%s", prefix, name);

  if (len < 0 || (size_t)len >= sizeof(info) - 5 || out_len > s->mac_len) {
    return -1;
  }
  info[0] = 0;
  info[1] = (uint8_t)out_len;
  info[2] = (uint8_t)len;
  info[3 + len] = 0;
  info[4 + len] = 1; /* the number of the block */
  if (gnutls_hmac(s->mac, info, (size_t)len + 5) != 0) {
    return -1;
  }
  gnutls_hmac_output(s->mac, block); /* and begins anew */
  memcpy(out, block, out_len);
  gnutls_memset(block, 0, s->mac_len);
  return 0;
}

static int derive(const source *s, qe_packet_keys *k, int with_mask) {
  if (expand(s, k->key, k->key_len, "key") != 0 || expand(s, k->iv, k->iv_len, "iv") != 0) {
    return -1;
  }
  return with_mask ? expand(s, k->mask, k->key_len, "hp") : 0;
}

int qe_packet_keys_derive(qe_packet_keys *k, uint32_t version, const ngtcp2_crypto_ctx *ctx,
                          const uint8_t *secret, size_t secret_len, int with_mask) {
  source s;

  k->key_len = ngtcp2_crypto_aead_keylen(&ctx->aead);
  k->iv_len = ngtcp2_crypto_packet_protection_ivlen(&ctx->aead);
  if (k->key_len > sizeof(k->key) || k->iv_len > sizeof(k->iv) ||
      open_source(&s, version, ctx, secret, secret_len) != 0) {
    return -1;
  }
  int rv = derive(&s, k, with_mask);
  close_source(&s);
  return rv;
}

void qe_packet_keys_wipe(qe_packet_keys *k) {
  gnutls_memset(k, 0, sizeof(*k));
}

int qe_packet_keys_next_secret(uint8_t *out, uint32_t version, const ngtcp2_crypto_ctx *ctx,
                               const uint8_t *secret, size_t secret_len) {
  source s;

  if (open_source(&s, version, ctx, secret, secret_len) != 0) {
    return -1;
  }
  int rv = expand(&s, out, secret_len, "ku");
  close_source(&s);
  return rv;
}
