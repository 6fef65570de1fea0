/* test_cipher.c - keys that have a context only while they are in use. */
#include "check.h"
#include "cipher.h"
#include "engine.h"
#include "sim.h"

#include <ngtcp2/ngtcp2_crypto.h>

#define MANY (QE_CIPHERS_READY + 40)

static const uint8_t nonce[12] = {7}, aad[3] = {0x40, 1, 2};
static const uint8_t text[32] = "thirty-one bytes of plain text.";

static ngtcp2_crypto_ctx aes(void) {
  ngtcp2_crypto_ctx ctx = {0};
  ctx.aead.native_handle = (void *)(intptr_t)GNUTLS_CIPHER_AES_128_GCM;
  ctx.hp.native_handle = (void *)(intptr_t)GNUTLS_CIPHER_AES_128_CBC;
  return ctx;
}

static void *new_cipher(qe_cipher_pool *pool, qe_cipher_kind kind, uint8_t seed) {
  ngtcp2_crypto_ctx ctx = aes();
  uint8_t key[16] = {seed};
  return qe_cipher_new(pool, kind,
                       kind == QE_CIPHER_MASK ? ctx.hp.native_handle : ctx.aead.native_handle, key,
                       sizeof(key));
}

static int encrypt(void *handle, uint8_t *out) {
  ngtcp2_crypto_ctx ctx = aes();
  ngtcp2_crypto_aead_ctx x = {handle};
  return qe_cipher_encrypt_cb(out, &ctx.aead, &x, text, sizeof(text), nonce, sizeof(nonce), aad,
                              sizeof(aad));
}

static size_t count_ready(const qe_cipher_pool *pool) {
  size_t n = 0;
  for (size_t i = 0; i < QE_CIPHERS_READY; i++) {
    n += pool->slots[i] != NULL;
  }
  return n;
}

/* ------------------------------------------------------------------- ciphers */

static void test_ready_from_first_use_to_end(void) {
  qe_cipher_pool pool = {0};
  ngtcp2_crypto_ctx ctx = aes();
  ngtcp2_crypto_aead_ctx native = {NULL};
  uint8_t key[16] = {5}, a[48], b[48], back[48];

  void *tx = new_cipher(&pool, QE_CIPHER_ENCRYPT, 5);
  void *rx = new_cipher(&pool, QE_CIPHER_DECRYPT, 5);
  REQUIRE(tx != NULL && rx != NULL);
  CHECK(!qe_cipher_is_ready(tx));
  CHECK_EQ(encrypt(tx, a), 0);
  CHECK(qe_cipher_is_ready(tx));
  CHECK(!qe_cipher_is_ready(rx));

  /* The result is the same as with a context of the library, which works too. */
  REQUIRE(ngtcp2_crypto_aead_ctx_encrypt_init(&native, &ctx.aead, key, sizeof(nonce)) == 0);
  CHECK(!qe_cipher_is_ready(native.native_handle));
  CHECK_EQ(encrypt(native.native_handle, b), 0);
  CHECK(memcmp(a, b, sizeof(a)) == 0);
  qe_cipher_delete_aead_cb(NULL, &native, NULL);

  ngtcp2_crypto_aead_ctx x = {rx};
  CHECK_EQ(qe_cipher_decrypt_cb(back, &ctx.aead, &x, a, sizeof(a), nonce, sizeof(nonce), aad,
                                sizeof(aad)),
           0);
  CHECK(memcmp(back, text, sizeof(text)) == 0);
  a[3] ^= 1;
  CHECK_EQ(qe_cipher_decrypt_cb(back, &ctx.aead, &x, a, sizeof(a), nonce, sizeof(nonce), aad,
                                sizeof(aad)),
           NGTCP2_ERR_DECRYPT);
  CHECK_EQ(pool.made, 2);
  CHECK_EQ(count_ready(&pool), 2);
  qe_cipher_delete_aead_cb(NULL, &x, NULL);
  qe_cipher_free(tx);
  CHECK_EQ(count_ready(&pool), 0);
}

static void test_mask(void) {
  /* RFC 9001 appendix A.2: the client's Initial packet. */
  static const uint8_t key[16] = {0x9f, 0x50, 0x44, 0x9e, 0x04, 0xa0, 0xe8, 0x10,
                                  0x28, 0x3a, 0x1e, 0x99, 0x33, 0xad, 0xed, 0xd2};
  static const uint8_t sample[16] = {0xd1, 0xb1, 0xc9, 0x8d, 0xd7, 0x68, 0x9f, 0xb8,
                                     0xec, 0x11, 0xd2, 0x42, 0xb1, 0x23, 0xdc, 0x9b};
  static const uint8_t wanted[5] = {0x43, 0x7b, 0x9a, 0xec, 0x36};
  qe_cipher_pool pool = {0};
  ngtcp2_crypto_ctx ctx = aes();
  uint8_t mask[NGTCP2_HP_MASKLEN];

  ngtcp2_crypto_cipher_ctx x = {
      qe_cipher_new(&pool, QE_CIPHER_MASK, ctx.hp.native_handle, key, sizeof(key))};
  REQUIRE(x.native_handle != NULL);
  for (int i = 0; i < 2; i++) {
    CHECK_EQ(qe_cipher_mask_cb(mask, &ctx.hp, &x, sample), 0);
    CHECK(memcmp(mask, wanted, sizeof(wanted)) == 0);
  }
  CHECK_EQ(pool.made, 1);
  qe_cipher_delete_mask_cb(NULL, &x, NULL);
  CHECK_EQ(count_ready(&pool), 0);
}

static void test_number_of_contexts_is_bounded(void) {
  static void *ciphers[MANY];
  static uint8_t first[MANY][48];
  qe_cipher_pool pool = {0};
  uint8_t out[48];

  for (int i = 0; i < MANY; i++) {
    ciphers[i] = new_cipher(&pool, QE_CIPHER_ENCRYPT, (uint8_t)i);
    REQUIRE(ciphers[i] != NULL);
    CHECK_EQ(encrypt(ciphers[i], first[i]), 0);
  }
  CHECK_EQ(count_ready(&pool), QE_CIPHERS_READY);
  for (int i = 0; i < MANY; i++) { /* also those that had lost their context */
    CHECK_EQ(encrypt(ciphers[i], out), 0);
    CHECK(memcmp(out, first[i], sizeof(out)) == 0);
  }
  CHECK_EQ(count_ready(&pool), QE_CIPHERS_READY);
  for (int i = 0; i < MANY; i++) {
    qe_cipher_free(ciphers[i]);
  }
  CHECK_EQ(count_ready(&pool), 0);
}

static void test_one_in_use_keeps_its_context(void) {
  static void *ciphers[MANY];
  qe_cipher_pool pool = {0};
  uint8_t out[48];

  void *busy = new_cipher(&pool, QE_CIPHER_ENCRYPT, 1);
  REQUIRE(busy != NULL);
  CHECK_EQ(encrypt(busy, out), 0);
  for (int i = 0; i < MANY; i++) {
    ciphers[i] = new_cipher(&pool, QE_CIPHER_ENCRYPT, 2);
    REQUIRE(ciphers[i] != NULL);
    CHECK_EQ(encrypt(ciphers[i], out), 0);
    CHECK_EQ(encrypt(busy, out), 0);
  }
  /* Once its mark was taken away, when all were marked; never its context
   * between two uses with fewer than a round of others. */
  CHECK(pool.made <= MANY + 2);
  CHECK(qe_cipher_is_ready(busy));
  qe_cipher_free(busy);
  for (int i = 0; i < MANY; i++) {
    qe_cipher_free(ciphers[i]);
  }
}

static void test_longer_keys_are_refused(void) {
  qe_cipher_pool pool = {0};
  uint8_t key[QE_CIPHER_KEY_MAX + 1] = {0};
  CHECK(qe_cipher_new(&pool, QE_CIPHER_MASK, NULL, key, sizeof(key)) == NULL);
  qe_cipher_free(NULL);
}

/* --------------------------------------------------------------- connections */

#define PAIRS (QE_CIPHERS_READY / 4 + 10)

/* One stream of each pair, all at the same time. */
static void exchange(sim *s, sim_conn **from, sim_conn **to) {
  sim_stream *st[PAIRS];

  for (int i = 0; i < PAIRS; i++) {
    REQUIRE((st[i] = sim_open(from[i], 0)) != NULL);
    CHECK_EQ(sim_write(st[i], 1000, 1000, 1), 0);
  }
  sim_run(s, QE_SECOND);
  for (int i = 0; i < PAIRS; i++) {
    sim_stream *far = sim_find(to[i], st[i]->id);
    REQUIRE(far != NULL);
    CHECK_EQ(far->received, 1000);
    CHECK_EQ(far->wrong, 0);
  }
}

/* With more connections than contexts, each still works, even after key updates. */
static void test_connections_take_turns(void) {
  static sim_conn *c[PAIRS], *srv[PAIRS];
  sim s;

  sim_init(&s, 77);
  REQUIRE(sim_start(&s) == 0);
  for (int i = 0; i < PAIRS; i++) {
    c[i] = sim_connect(&s);
    srv[i] = sim_handshake(&s, c[i]);
    REQUIRE(srv[i] != NULL);
  }
  sim_run(&s, QE_SECOND);
  CHECK_EQ(count_ready(&s.server.engine->ciphers), QE_CIPHERS_READY);
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < PAIRS; i++) {
      CHECK_EQ(qe_conn_initiate_key_update((round ? srv[i] : c[i])->c, s.now), 0);
    }
    exchange(&s, c, srv);
    exchange(&s, srv, c);
    exchange(&s, c, srv);
    for (int i = 0; i < PAIRS; i++) {
      qe_conn_stats st;
      qe_conn_get_stats(srv[i]->c, &st);
      CHECK_EQ(st.key_updates, round + 1);
    }
  }
  CHECK_EQ(count_ready(&s.server.engine->ciphers), QE_CIPHERS_READY);
  sim_free(&s);
}

int main(void) {
  if (sim_global_init() != 0) {
    return 1;
  }
  RUN(test_ready_from_first_use_to_end);
  RUN(test_mask);
  RUN(test_number_of_contexts_is_bounded);
  RUN(test_one_in_use_keeps_its_context);
  RUN(test_longer_keys_are_refused);
  RUN(test_connections_take_turns);
  sim_global_free();
  return check_report();
}
