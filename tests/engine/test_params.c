/*
 * test_params.c - transport parameters that a peer can send but should not.
 *
 * None of them may abort the process: the connection is established or fails.
 */
#define _GNU_SOURCE 1
#include <dlfcn.h>
#include <ngtcp2/ngtcp2.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "conn.h"
#include "sim.h"

enum { CHANGE_NONE, CHANGE_SET, CHANGE_REMOVE };

static struct {
  int what, by_server;
  uint64_t id;
  uint8_t value[64];
  size_t len;
  int taken;
} change;

static uint64_t get(const uint8_t **p) {
  size_t n = (size_t)1 << (**p >> 6);
  uint64_t v = **p & 0x3f;
  for (size_t i = 1; i < n; i++) {
    v = v << 8 | (*p)[i];
  }
  *p += n;
  return v;
}

static size_t put(uint8_t *out, uint64_t v) { /* always eight bytes */
  for (int i = 0; i < 8; i++) {
    out[i] = (uint8_t)(v >> (56 - 8 * i));
  }
  out[0] |= 0xc0;
  return 8;
}

/* Replaces the parameters that an end sends. */
static ngtcp2_ssize encode(const char *name, ngtcp2_conn *conn, uint8_t *dest, size_t destlen) {
  ngtcp2_ssize (*real)(ngtcp2_conn *, uint8_t *, size_t);
  uint8_t said[1024];
  *(void **)&real = dlsym(RTLD_NEXT, name);
  ngtcp2_ssize n = real(conn, said, sizeof(said));
  int mine = change.what != CHANGE_NONE && ngtcp2_conn_is_server(conn) == change.by_server;
  if (n < 0 || (size_t)n + 100 > destlen) {
    return n < 0 ? n : NGTCP2_ERR_NOBUF;
  }
  size_t len = 0;
  for (const uint8_t *p = said, *end = said + n; p < end;) {
    const uint8_t *start = p;
    uint64_t id = get(&p), size = get(&p);
    p += size;
    if (!mine || id != change.id) {
      memcpy(dest + len, start, (size_t)(p - start));
      len += (size_t)(p - start);
    }
  }
  if (mine && change.what == CHANGE_SET) {
    len += put(dest + len, change.id);
    len += put(dest + len, change.len);
    memcpy(dest + len, change.value, change.len);
    len += change.len;
  }
  change.taken += mine;
  return (ngtcp2_ssize)len;
}

/* Replaces the library's function for its TLS helper: the first up to 1.22, the second in later
 * versions. */
ngtcp2_ssize ngtcp2_conn_encode_local_transport_params(ngtcp2_conn *conn, uint8_t *dest,
                                                       size_t destlen) {
  return encode("ngtcp2_conn_encode_local_transport_params", conn, dest, destlen);
}

#if NGTCP2_VERSION_NUM >= 0x011700
ngtcp2_ssize ngtcp2_conn_encode_local_transport_params2(const ngtcp2_conn *conn, uint8_t *dest,
                                                        size_t destlen) {
  return encode("ngtcp2_conn_encode_local_transport_params2", (ngtcp2_conn *)(uintptr_t)conn, dest,
                destlen);
}
#endif

/* Uses a connection with these parameters. */
static void use(const char *what) {
  static sim s;

  change.taken = 0;
  sim_init(&s, change.id);
  s.up.delay = s.down.delay = SIM_MS;
  REQUIRE(sim_start(&s) == 0);
  sim_conn *c = sim_connect(&s);
  sim_conn *srv = sim_handshake(&s, c);
  if (srv != NULL && c->c != NULL && srv->c != NULL) {
    sim_stream *a = sim_open(c, 0), *b = sim_open(srv, 1);
    if (a != NULL) {
      sim_write(a, 20000, 1000, 1);
    }
    if (b != NULL) {
      sim_write(b, 20000, 1000, 1);
    }
    qe_conn_send_datagram(c->c, NULL, NULL, 0, (const uint8_t *)"x", 1, 0, QE_NEVER);
    qe_conn_send_datagram(srv->c, NULL, NULL, 0, (const uint8_t *)"x", 1, 0, QE_NEVER);
    sim_run(&s, QE_SECOND);
    if (c->c != NULL) {
      const struct sockaddr *to = (const struct sockaddr *)&s.client.addr2;
      qe_conn_migrate(c->c, NULL, to, sizeof(s.client.addr2), s.now);
      qe_conn_initiate_key_update(c->c, s.now);
    }
    sim_run(&s, 5 * QE_SECOND);
    if (c->c != NULL) {
      qe_conn_close(c->c, 1, 7, NULL, 0);
    }
  }
  sim_run(&s, 3 * QE_SECOND);
  CHECK(!s.stuck);
  if (change.taken == 0) {
    printf("  %s, parameter %llu was not said\n", what, (unsigned long long)change.id);
    CHECK(0);
  }
  sim_free(&s);
}

static const uint64_t IDS[] = {0x00, 0x01, 0x02, 0x03, 0x04, 0x05,   0x06,
                               0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c,   0x0d,
                               0x0e, 0x0f, 0x10, 0x11, 0x20, 0x2ab2, 0x1234567};
enum { NIDS = sizeof(IDS) / sizeof(IDS[0]) };

static void test_numbers(void) {
  static const uint64_t values[] = {0,
                                    1,
                                    2,
                                    20,
                                    21,
                                    1199,
                                    1200,
                                    16383,
                                    16384,
                                    65527,
                                    65536,
                                    (uint64_t)1 << 32,
                                    (uint64_t)1 << 60,
                                    ((uint64_t)1 << 60) + 1,
                                    ((uint64_t)1 << 62) - 1};
  change.what = CHANGE_SET;
  change.len = 8;
  for (change.by_server = 0; change.by_server < 2; change.by_server++) {
    for (size_t i = 0; i < NIDS; i++) {
      change.id = IDS[i];
      for (size_t k = 0; k < sizeof(values) / sizeof(values[0]); k++) {
        put(change.value, values[k]);
        use("a number");
      }
    }
  }
}

static void test_other_lengths(void) {
  static const size_t lengths[] = {0, 1, 7, 9, 16, 20, 21, 41, 49, 61, 64};
  change.what = CHANGE_SET;
  for (change.by_server = 0; change.by_server < 2; change.by_server++) {
    for (size_t i = 0; i < NIDS; i++) {
      change.id = IDS[i];
      for (size_t k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
        for (int byte = 0; byte < 256; byte += 85) {
          change.len = lengths[k];
          memset(change.value, byte, sizeof(change.value));
          use("a length");
        }
      }
    }
  }
}

static void test_none(void) {
  change.what = CHANGE_REMOVE;
  for (change.by_server = 0; change.by_server < 2; change.by_server++) {
    for (size_t i = 0; i < NIDS; i++) {
      change.id = IDS[i];
      use("none");
    }
  }
}

/* A preferred address with an ID: the client does not migrate to it, and keeps the ID. */
static void test_preferred_address(void) {
  change.what = CHANGE_SET;
  change.by_server = 1;
  change.id = 0x0d;
  for (uint8_t cid_len = 0; cid_len <= 21; cid_len++) {
    memset(change.value, 0x31, sizeof(change.value));
    change.value[24] = cid_len;
    change.len = 24 + 1 + cid_len + 16;
    if (change.len <= sizeof(change.value)) {
      use("preferred address");
    }
  }
}

int main(void) {
  if (sim_global_init() != 0) {
    return 1;
  }
  RUN(test_numbers);
  RUN(test_other_lengths);
  RUN(test_none);
  RUN(test_preferred_address);
  sim_global_free();
  return check_report();
}
