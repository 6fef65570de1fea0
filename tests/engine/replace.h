/*
 * replace.h - a peer with correct keys that sends payloads other than those of its engine.
 *
 * To use it, a program includes it once, defines payload_for(), and is linked with
 * --wrap=qe_cipher_encrypt_cb and --wrap=qe_engine_process.
 */
#ifndef REPLACE_H
#define REPLACE_H

#include <string.h>

#include "cipher.h"
#include "engine.h"

enum { LEVEL_ONE_RTT, LEVEL_HANDSHAKE, LEVEL_OTHER };

/* Returns the payload that replaces the len bytes of a packet: *n bytes, at most len, followed
 * by PADDING. NULL leaves the packet unchanged. */
static const uint8_t *payload_for(int by_server, int level, size_t len, size_t *n);

static int server_runs;        /* whether the server's engine is on the stack */
static int64_t sent_number[2]; /* the latest 1-RTT packet of client and server */
/* If set, changes the header of a packet before it is protected. */
static void (*header_for)(int by_server, int level, uint8_t *header, size_t len);

#define SIGNATURE                                                                                  \
  uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx,                \
      const uint8_t *plain, size_t len, const uint8_t *nonce, size_t nonce_len,                    \
      const uint8_t *aad, size_t aad_len

/* The linker calls these instead of the engine's own functions (--wrap). */
int __real_qe_cipher_encrypt_cb(SIGNATURE);
int __wrap_qe_cipher_encrypt_cb(SIGNATURE);
int __real_qe_engine_process(qe_engine *e, qe_tstamp at);
int __wrap_qe_engine_process(qe_engine *e, qe_tstamp at);

int __wrap_qe_cipher_encrypt_cb(SIGNATURE) {
  static uint8_t other[65536];
  /* Version 1: the type is in two bits of a long header. */
  int level = !(aad[0] & 0x80)          ? LEVEL_ONE_RTT
              : (aad[0] & 0x30) == 0x20 ? LEVEL_HANDSHAKE
                                        : LEVEL_OTHER;
  size_t n = 0;
  const uint8_t *bytes = NULL;

  if (level == LEVEL_ONE_RTT) {
    sent_number[server_runs] = qe_cipher_packet_number(ctx->native_handle, nonce, nonce_len);
  }
  if (header_for != NULL) {
    header_for(server_runs, level, (uint8_t *)(uintptr_t)aad, aad_len);
  }
  if (len <= sizeof(other)) {
    bytes = payload_for(server_runs, level, len, &n);
  }
  if (bytes != NULL) {
    memset(other, 0, len); /* PADDING */
    memcpy(other, bytes, n);
    plain = other;
  }
  return __real_qe_cipher_encrypt_cb(dest, aead, ctx, plain, len, nonce, nonce_len, aad, aad_len);
}

int __wrap_qe_engine_process(qe_engine *e, qe_tstamp at) {
  int before = server_runs;
  server_runs = e->set.is_server != 0;
  int rv = __real_qe_engine_process(e, at);
  server_runs = before;
  return rv;
}

#endif
