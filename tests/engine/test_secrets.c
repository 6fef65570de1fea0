/* test_secrets.c - keys of tokens, and servers that share or change their secrets. */
#include "check.h"
#include "secrets.h"
#include "sim.h"

static const uint8_t old_secret[1][32] = {{7, 7, 7}};
static const uint8_t changed[2][32] = {{8, 8, 8}, {7, 7, 7}};
static const uint8_t foreign[1][32] = {{9, 9, 9}};

#define HOUR (3600 * (uint64_t)QE_SECOND)

static void test_each_use_has_a_key_of_its_own(void) {
  qe_secrets s;
  uint8_t keys[8][32];
  ngtcp2_cid cid;

  REQUIRE(qe_secrets_init(&s, changed, 2) == 0);
  CHECK_EQ(s.n, 2);
  int n = 0;
  for (size_t which = 0; which < 2; which++) {
    CHECK_EQ(qe_secrets_token_key(&s, which, QE_TOKEN_RETRY, 100 * HOUR, 0, keys[n++]), 0);
    CHECK_EQ(qe_secrets_token_key(&s, which, QE_TOKEN_REGULAR, 100 * HOUR, 0, keys[n++]), 0);
    CHECK_EQ(qe_secrets_token_key(&s, which, QE_TOKEN_REGULAR, 100 * HOUR, 1, keys[n++]), 0);
    memcpy(keys[n++], s.list[which].reset, 32);
  }
  for (int i = 0; i < n; i++) {
    for (int j = 0; j < i; j++) {
      CHECK(memcmp(keys[i], keys[j], 32) != 0);
    }
    CHECK(memcmp(keys[i], changed[0], 32) != 0 && memcmp(keys[i], changed[1], 32) != 0);
  }
  uint8_t one[16], two[16];
  ngtcp2_cid_init(&cid, (const uint8_t *)"12345678", 8);
  CHECK_EQ(qe_secrets_reset_token(&s, 0, &cid, one), 0);
  CHECK_EQ(qe_secrets_reset_token(&s, 1, &cid, two), 0);
  CHECK(memcmp(one, two, 16) != 0);
}

/* Whoever knows the key finds the token of a connection ID, and nobody else. */
static void test_reset_tokens_are_hmacs_of_connection_ids(void) {
  static const uint8_t expected[16] = {0x18, 0x82, 0x39, 0x3d, 0x55, 0xf8, 0x9c, 0x6a,
                                       0x47, 0x37, 0x66, 0xb6, 0x1f, 0x7e, 0xb8, 0xd7};
  qe_secrets s;
  ngtcp2_cid cid;
  uint8_t token[16];

  REQUIRE(qe_secrets_init(&s, old_secret, 1) == 0);
  memset(s.list[0].reset, 0x0b, sizeof(s.list[0].reset));
  ngtcp2_cid_init(&cid, (const uint8_t *)"12345678", 8);
  CHECK_EQ(qe_secrets_reset_token(&s, 0, &cid, token), 0);
  CHECK(memcmp(token, expected, sizeof(token)) == 0);
  ngtcp2_cid_init(&cid, (const uint8_t *)"12345679", 8);
  CHECK_EQ(qe_secrets_reset_token(&s, 0, &cid, token), 0);
  CHECK(memcmp(token, expected, sizeof(token)) != 0);
}

static void test_the_key_of_tokens_changes_with_the_time(void) {
  qe_secrets s;
  uint8_t now[32], then[32];

  REQUIRE(qe_secrets_init(&s, old_secret, 1) == 0);
  for (int kind = QE_TOKEN_RETRY; kind <= QE_TOKEN_REGULAR; kind++) {
    uint64_t period = qe_secrets_period(kind) * QE_SECOND;
    CHECK_EQ(qe_secrets_token_key(&s, 0, kind, 1000 * period, 0, then), 0);
    CHECK_EQ(qe_secrets_token_key(&s, 0, kind, 1001 * period - 1, 0, now), 0);
    CHECK(memcmp(now, then, 32) == 0);
    CHECK_EQ(qe_secrets_token_key(&s, 0, kind, 1001 * period, 0, now), 0);
    CHECK(memcmp(now, then, 32) != 0);
    CHECK_EQ(qe_secrets_token_key(&s, 0, kind, 1001 * period, 1, now), 0);
    CHECK(memcmp(now, then, 32) == 0);
  }
}

static void test_without_one_it_is_random(void) {
  qe_secrets a, b;

  REQUIRE(qe_secrets_init(&a, NULL, 0) == 0 && qe_secrets_init(&b, NULL, 0) == 0);
  CHECK_EQ(a.n, 1);
  CHECK(memcmp(a.list[0].reset, b.list[0].reset, 32) != 0);
  CHECK_EQ(qe_secrets_init(&a, changed, QE_MAX_SECRETS + 1), QE_ERR_INVALID);
}

static int is_closed(void *ctx) {
  return ((sim_conn *)ctx)->closes > 0;
}

static void use(sim *s, const uint8_t (*secrets)[32], size_t n) {
  memcpy(s->server.set.secrets, secrets, n * 32);
  s->server.set.secret_count = n;
}

/* Restarts a server with these secrets, and checks whether the client learns of it with its next
 * packet, and whether its old token is accepted. */
static void restart(const uint8_t (*secrets)[32], size_t n, int known) {
  sim s;
  qe_engine_stats st;

  sim_init(&s, 1);
  use(&s, old_secret, 1);
  s.server.set.retry = QE_RETRY_ALWAYS;
  s.up.delay = s.down.delay = 10 * SIM_MS;
  REQUIRE(sim_start(&s) == 0);
  sim_conn *c = sim_connect(&s);
  REQUIRE(sim_handshake(&s, c) != NULL);
  sim_run(&s, QE_SECOND);
  REQUIRE(c->token_len > 0);

  use(&s, secrets, n);
  REQUIRE(sim_restart_server(&s) == 0);
  sim_stream *st1 = sim_open(c, 1);
  REQUIRE(st1 != NULL && sim_write(st1, 100, 100, 1) == 0);
  CHECK_EQ(sim_until(&s, 25 * SIM_MS, is_closed, c), known);
  if (known) {
    CHECK_EQ(c->close.kind, QE_CLOSE_STATELESS_RESET);
  }
  sim_conn *again = sim_connect_with(&s, NULL, 0, c->token, c->token_len);
  REQUIRE(sim_handshake(&s, again) != NULL);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.retries_sent, known ? 0 : 1);
  sim_free(&s);
}

static void test_a_restart_with_the_same_secret_is_noticed_at_once(void) {
  restart(old_secret, 1, 1);
}

static void test_a_restart_with_a_newer_secret_before_it_too(void) {
  restart(changed, 2, 1);
}

static void test_another_secret_makes_strangers(void) {
  restart(foreign, 1, 0);
}

static void test_secrets_can_be_changed_while_it_serves(void) {
  sim s;
  qe_engine_stats st;

  sim_init(&s, 1);
  use(&s, old_secret, 1);
  s.server.set.retry = QE_RETRY_ALWAYS;
  REQUIRE(sim_start(&s) == 0);
  sim_conn *c = sim_connect(&s);
  REQUIRE(sim_handshake(&s, c) != NULL);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(qe_engine_set_secrets(s.server.engine, changed, 0), QE_ERR_INVALID);
  CHECK_EQ(qe_engine_set_secrets(s.server.engine, changed, 2), 0);
  sim_conn *again = sim_connect_with(&s, NULL, 0, c->token, c->token_len);
  REQUIRE(sim_handshake(&s, again) != NULL);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.retries_sent, 1); /* the first one's */
  sim_run(&s, QE_SECOND);
  /* Tokens issued since then are made with the new secret only. */
  CHECK_EQ(qe_engine_set_secrets(s.server.engine, changed, 1), 0);
  sim_conn *third = sim_connect_with(&s, NULL, 0, again->token, again->token_len);
  REQUIRE(sim_handshake(&s, third) != NULL);
  qe_engine_get_stats(s.server.engine, &st);
  CHECK_EQ(st.retries_sent, 1);
  CHECK_EQ(c->closes, 0);
  sim_free(&s);
}

int main(void) {
  if (sim_global_init() != 0) {
    return 1;
  }
  RUN(test_each_use_has_a_key_of_its_own);
  RUN(test_reset_tokens_are_hmacs_of_connection_ids);
  RUN(test_the_key_of_tokens_changes_with_the_time);
  RUN(test_without_one_it_is_random);
  RUN(test_a_restart_with_the_same_secret_is_noticed_at_once);
  RUN(test_a_restart_with_a_newer_secret_before_it_too);
  RUN(test_another_secret_makes_strangers);
  RUN(test_secrets_can_be_changed_while_it_serves);
  sim_global_free();
  return check_report();
}
