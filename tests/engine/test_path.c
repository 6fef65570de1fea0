/* test_path.c - connections whose addresses change. */
#include <arpa/inet.h>

#include "check.h"
#include "sim.h"

#define MIB ((uint64_t)1 << 20)

static int start(sim *s, sim_conn **c, sim_conn **srv) {
  if (sim_start(s) != 0) {
    return 0;
  }
  *c = sim_connect(s);
  *srv = sim_handshake(s, *c);
  if (*srv != NULL) {
    sim_run(s, QE_SECOND);
  }
  return *srv != NULL;
}

struct want {
  sim_conn *conn;
  int64_t id;
};

static int got_fin(void *ctx) {
  struct want *w = ctx;
  sim_stream *st = sim_find(w->conn, w->id);
  return st != NULL && st->fins > 0;
}

static int is_closed(void *ctx) {
  return ((sim_conn *)ctx)->closes > 0;
}

static int moved(void *ctx) {
  sim_conn *c = ctx;
  return c->path_changes > 0 || c->path_failures > 0;
}

static int transfer(sim *s, sim_conn *from, sim_conn *to, uint64_t n) {
  sim_stream *st = sim_open(from, 1);
  if (st == NULL || sim_write(st, n, 10000, 1) != 0) {
    return 0;
  }
  struct want w = {to, st->id};
  return sim_until(s, 60 * QE_SECOND, got_fin, &w) && sim_find(to, st->id)->received == n &&
         sim_find(to, st->id)->wrong == 0;
}

static uint16_t remote_port(sim_conn *c) {
  struct sockaddr_storage local, remote;
  qe_conn_get_path(c->c, &local, &remote);
  return ntohs(((struct sockaddr_in *)&remote)->sin_port);
}

static uint16_t local_port(sim_conn *c) {
  struct sockaddr_storage local, remote;
  qe_conn_get_path(c->c, &local, &remote);
  return ntohs(((struct sockaddr_in *)&local)->sin_port);
}

/* The client's address changes in the middle of transfers, without its knowledge. */
static void test_nat_rebinding(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 1);
  s.nat = 1;
  /* Only a packet from the client can tell the server of its new address. */
  s.client.set.keep_alive = 100 * SIM_MS;
  REQUIRE(start(&s, &c, &srv));
  CHECK_EQ(remote_port(srv), 40001);
  sim_stream *up = sim_open(c, 1), *down = sim_open(srv, 1);
  REQUIRE(up != NULL && down != NULL);
  CHECK_EQ(sim_write(up, 4 * MIB, 10000, 1), 0);
  CHECK_EQ(sim_write(down, 4 * MIB, 10000, 1), 0);
  for (int i = 0; i < 3; i++) {
    sim_run(&s, 60 * SIM_MS);
    s.nat_addr.sin_port = htons((uint16_t)(50000 + i));
    sim_run(&s, 200 * SIM_MS);
    CHECK_EQ(remote_port(srv), 50000 + i);
  }
  struct want a = {srv, up->id}, b = {c, down->id};
  CHECK(sim_until(&s, 60 * QE_SECOND, got_fin, &a));
  CHECK(sim_until(&s, 60 * QE_SECOND, got_fin, &b));
  CHECK_EQ(sim_find(srv, up->id)->wrong, 0);
  CHECK_EQ(sim_find(c, down->id)->received, 4 * MIB);
  CHECK_EQ(srv->path_changes, 3);
  CHECK_EQ(c->path_changes, 0); /* it knows nothing of it */
  CHECK_EQ(c->closes, 0);
  sim_free(&s);
}

/* Nobody receives at the new address: the server must neither move to it permanently nor send
 * much to it. */
static int redirect;

static int spoof(sim *s, int to_server, const uint8_t *data, size_t len) {
  if (to_server && redirect > 0) {
    struct sockaddr_in victim = s->client.addr;
    victim.sin_addr.s_addr = inet_addr("203.0.113.5");
    redirect--;
    sim_inject(s, 1, &victim, data, len); /* an attacker repeats it from elsewhere */
    return 0;
  }
  return 1;
}

static void test_spoofed_address(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 2);
  REQUIRE(start(&s, &c, &srv));
  sim_stream *down = sim_open(srv, 1);
  REQUIRE(down != NULL && sim_write(down, 2 * MIB, 10000, 1) == 0);
  sim_run(&s, 50 * SIM_MS);
  s.filter = spoof;
  redirect = 1;
  struct want w = {c, down->id};
  CHECK(sim_until(&s, 60 * QE_SECOND, got_fin, &w));
  CHECK_EQ(sim_find(c, down->id)->wrong, 0);
  CHECK_EQ(c->closes, 0);
  CHECK_EQ(remote_port(srv), 5001);
  CHECK(s.nowhere_bytes > 0);
  CHECK(s.nowhere_bytes <= 3 * 1452); /* three times what came from there */
  sim_free(&s);
}

static void test_migration(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 3);
  REQUIRE(start(&s, &c, &srv));
  sim_stream *up = sim_open(c, 1);
  REQUIRE(up != NULL && sim_write(up, 2 * MIB, 10000, 1) == 0);
  sim_run(&s, 50 * SIM_MS);
  CHECK_EQ(qe_conn_migrate(c->c, NULL, (struct sockaddr *)&s.client.addr2, sizeof(s.client.addr2),
                           s.now),
           0);
  CHECK_EQ(c->path_changes, 0);
  CHECK(sim_until(&s, 5 * QE_SECOND, moved, c));
  CHECK_EQ(c->path_changes, 1);
  CHECK_EQ(c->path_failures, 0);
  CHECK_EQ(local_port(c), 5002);
  struct want w = {srv, up->id};
  CHECK(sim_until(&s, 60 * QE_SECOND, got_fin, &w));
  CHECK_EQ(sim_find(srv, up->id)->received, 2 * MIB);
  CHECK_EQ(srv->path_changes, 1);
  CHECK_EQ(remote_port(srv), 5002);
  CHECK(transfer(&s, srv, c, MIB));
  /* The same address again is no migration; the way back is one. */
  CHECK_EQ(qe_conn_migrate(c->c, NULL, (struct sockaddr *)&s.client.addr2, sizeof(s.client.addr2),
                           s.now),
           QE_ERR_INVALID);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(
      qe_conn_migrate(c->c, NULL, (struct sockaddr *)&s.client.addr, sizeof(s.client.addr), s.now),
      0);
  sim_run(&s, QE_SECOND);
  CHECK_EQ(c->path_changes, 2);
  CHECK(transfer(&s, c, srv, MIB));
  CHECK_EQ(qe_conn_migrate(srv->c, NULL, (struct sockaddr *)&s.client.addr2, sizeof(s.client.addr2),
                           s.now),
           QE_ERR_MIGRATION); /* only a client may */
  sim_free(&s);
}

static void test_migration_fails(void) {
  sim s;
  sim_conn *c, *srv;
  struct sockaddr_in nowhere;

  sim_init(&s, 4);
  REQUIRE(start(&s, &c, &srv));
  nowhere = s.client.addr;
  nowhere.sin_port = htons(9999); /* answers to it are lost */
  CHECK_EQ(qe_conn_migrate(c->c, NULL, (struct sockaddr *)&nowhere, sizeof(nowhere), s.now), 0);
  CHECK(sim_until(&s, 20 * QE_SECOND, moved, c));
  CHECK_EQ(c->path_failures, 1);
  CHECK_EQ(c->path_changes, 0);
  CHECK_EQ(local_port(c), 5001);
  CHECK(transfer(&s, c, srv, MIB));
  sim_free(&s);

  sim_init(&s, 5);
  s.server.set.enable_migration = 0;
  REQUIRE(start(&s, &c, &srv));
  CHECK_EQ(qe_conn_migrate(c->c, NULL, (struct sockaddr *)&s.client.addr2, sizeof(s.client.addr2),
                           s.now),
           QE_ERR_MIGRATION);
  CHECK(transfer(&s, c, srv, 100000));
  sim_free(&s);
}

static void test_too_early(void) {
  sim s;
  sim_init(&s, 6);
  REQUIRE(sim_start(&s) == 0);
  sim_conn *c = sim_connect(&s);
  REQUIRE(c != NULL);
  qe_stream *none;
  CHECK_EQ(qe_conn_migrate(c->c, NULL, (struct sockaddr *)&s.client.addr2, sizeof(s.client.addr2),
                           s.now),
           QE_ERR_NOT_READY);
  CHECK_EQ(qe_conn_initiate_key_update(c->c, s.now), QE_ERR_NOT_READY);
  CHECK_EQ(qe_conn_open_stream(c->c, 0, NULL, &none), QE_ERR_NOT_READY);
  CHECK_EQ(qe_conn_send_datagram(c->c, NULL, NULL, 0, NULL, 0, 0, QE_NEVER), QE_ERR_NOT_READY);
  CHECK_EQ(qe_conn_streams_left(c->c, 0), 0);
  CHECK_EQ(qe_conn_max_datagram_size(c->c), 0);
  CHECK_STR(qe_conn_alpn(c->c), "");
  uint8_t out[8];
  CHECK_EQ(qe_conn_export(c->c, "x", 1, NULL, 0, out, 8), QE_ERR_NOT_READY);
  CHECK_EQ(qe_conn_close(c->c, 1, 5, NULL, 0), 0);
  CHECK(sim_until(&s, QE_SECOND, is_closed, c));
  CHECK_EQ(c->close.handshake_done, 0);
  sim_free(&s);
}

/* Each worker's connection IDs begin with its number. */
static int wrong_cids, seen_cids;

static int check_cid(sim *s, int to_server, const uint8_t *data, size_t len) {
  (void)len;
  /* Short headers, and Handshake packets: only Initials may carry a client's choice. */
  if (to_server && ((data[0] & 0x80) == 0 || (data[0] & 0x30) == 0x20)) {
    seen_cids++;
    wrong_cids += data[(data[0] & 0x80) == 0 ? 1 : 6] != (uint8_t)s->server.set.worker_index;
  }
  return 1;
}

static void test_worker_index(void) {
  sim s;
  sim_conn *c, *srv;

  sim_init(&s, 7);
  s.server.set.worker_index = 0xa7;
  s.server.set.cid_len = 12;
  s.server.set.retry = QE_RETRY_ALWAYS;
  s.filter = check_cid;
  REQUIRE(start(&s, &c, &srv));
  CHECK(transfer(&s, c, srv, 100000));
  CHECK_EQ(qe_conn_migrate(c->c, NULL, (struct sockaddr *)&s.client.addr2, sizeof(s.client.addr2),
                           s.now),
           0);
  sim_run(&s, QE_SECOND);
  CHECK(transfer(&s, c, srv, 100000));
  CHECK(seen_cids > 50);
  CHECK_EQ(wrong_cids, 0);
  sim_free(&s);
}

/* One of three workers gets handmade packets: which it answers, and which it passes on. */
struct worker {
  qe_engine *engine;
  int last_owner, handed_on, answers;
  size_t last_len;
};

static void on_foreign(void *eu, unsigned owner, unsigned hops, qe_sock *sock,
                       const struct sockaddr *local, socklen_t local_len,
                       const struct sockaddr *remote, socklen_t remote_len, unsigned ecn,
                       const uint8_t *data, size_t len) {
  struct worker *w = eu;
  (void)sock, (void)data;
  CHECK_EQ(hops, 1);
  w->handed_on++;
  w->last_owner = (int)owner;
  w->last_len = len;
  CHECK_EQ(ntohs(((const struct sockaddr_in *)(const void *)local)->sin_port), 4433);
  CHECK_EQ(ntohs(((const struct sockaddr_in *)(const void *)remote)->sin_port), 40001);
  CHECK_EQ(local_len, sizeof(struct sockaddr_in));
  CHECK_EQ(remote_len, sizeof(struct sockaddr_in));
  CHECK_EQ(ecn, 2);
}

static size_t on_answer(void *ctx, const qe_packets *trains, size_t n) {
  (void)trains;
  ((struct worker *)ctx)->answers += (int)n;
  return n;
}

/* Returns -1 if the packet was answered or dropped here, else the worker that it was passed to. */
static int give(struct worker *w, const uint8_t *data, size_t len) {
  struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(4433)};
  struct sockaddr_in remote = {.sin_family = AF_INET, .sin_port = htons(40001)};
  w->last_owner = -1;
  CHECK_EQ(qe_engine_packet_in(w->engine, NULL, (struct sockaddr *)&local, sizeof(local),
                               (struct sockaddr *)&remote, sizeof(remote), 2, data, len, QE_SECOND),
           0);
  qe_engine_process(w->engine, QE_SECOND);
  CHECK(w->last_owner < 0 || w->last_len == len);
  return w->last_owner;
}

static void test_packets_of_other_workers(void) {
  sim s;
  struct worker w = {0};
  qe_callbacks cb = {.foreign_packet = on_foreign};
  qe_engine_stats st;
  uint8_t packet[1200] = {0};

  sim_init(&s, 8);
  REQUIRE(sim_start(&s) == 0);
  s.server.set.worker_index = 1;
  s.server.set.worker_count = 3;
  REQUIRE(qe_engine_new(&w.engine, &s.server.set, &cb, &w, s.server_tls, on_answer, &w) == 0);

  /* Short headers: the first byte of the connection ID is the worker's. */
  packet[0] = 0x40;
  for (int index = 0; index < 3; index++) {
    packet[1] = (uint8_t)index;
    CHECK_EQ(give(&w, packet, 100), index == 1 ? -1 : index);
  }
  CHECK_EQ(w.answers, 1); /* of its own: a connection of before; a stateless reset */
  packet[1] = 3;
  CHECK_EQ(give(&w, packet, 100), -1);
  CHECK_EQ(w.answers, 2);

  /* Long headers: a client's choice goes where the bytes after the first say. */
  memcpy(packet, "\xc0\0\0\0\1\x08\x02\x01\x02\x03\x04", 11);
  CHECK_EQ(give(&w, packet, sizeof(packet)), 2);
  packet[6] = 1;
  CHECK_EQ(give(&w, packet, sizeof(packet)), -1);
  packet[6] = 0xff;
  for (uint32_t n = 0x01020304; n < 0x01020304 + 6; n++) {
    packet[10] = (uint8_t)n;
    CHECK_EQ(give(&w, packet, sizeof(packet)), n % 3 == 1 ? -1 : (int)(n % 3));
  }
  packet[5] = 4; /* too short for a choice */
  CHECK_EQ(give(&w, packet, sizeof(packet)), -1);
  packet[5] = 0;
  CHECK_EQ(give(&w, packet, sizeof(packet)), -1);

  qe_engine_get_stats(w.engine, &st);
  CHECK_EQ(st.foreign_packets, (uint64_t)w.handed_on);
  CHECK_EQ(w.handed_on, 7);
  qe_engine_free(w.engine);

  s.server.set.worker_index = 3;
  CHECK_EQ(qe_engine_new(&w.engine, &s.server.set, &cb, &w, s.server_tls, on_answer, &w),
           QE_ERR_INVALID);
  s.server.set.worker_index = -1;
  sim_free(&s);
}

/* The first packet of a client. */
static struct {
  uint8_t data[1500];
  size_t len;
} first_packet;

static int keep_first(sim *s, int to_server, const uint8_t *data, size_t len) {
  (void)s;
  if (to_server && first_packet.len == 0 && len <= sizeof(first_packet.data)) {
    memcpy(first_packet.data, data, len);
    first_packet.len = len;
  }
  return 0;
}

/* A worker that takes no new clients gets a first packet: it passes the packet on, or drops it
 * silently. */
static void test_worker_that_leaves_refuses_nobody(void) {
  sim s;
  struct worker w = {0};
  qe_callbacks cb = {.foreign_packet = on_foreign};
  qe_engine_stats st;
  struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(4433)};
  struct sockaddr_in remote = {.sin_family = AF_INET, .sin_port = htons(40001)};
  const uint8_t alive[2] = {0, 1};
  const int16_t other[] = {0}, itself[] = {1}, both[] = {1, 0}, nobody[] = {-1};

  sim_init(&s, 9);
  s.filter = keep_first;
  REQUIRE(sim_start(&s) == 0 && sim_connect(&s) != NULL);
  sim_run(&s, 10 * SIM_MS);
  REQUIRE(first_packet.len >= 1200);
  s.server.set.worker_index = 1;
  s.server.set.worker_count = 2;
  REQUIRE(qe_engine_new(&w.engine, &s.server.set, &cb, &w, s.server_tls, on_answer, &w) == 0);
  qe_engine_stop_accepting(w.engine);

  CHECK_EQ(give(&w, first_packet.data, first_packet.len), 0);
  CHECK_EQ(qe_engine_set_steering(w.engine, both, 2, alive, sizeof(alive), 0), 0);
  CHECK_EQ(give(&w, first_packet.data, first_packet.len), 0);
  /* Tables that are out of date, and a gap between two workers. */
  CHECK_EQ(qe_engine_set_steering(w.engine, itself, 1, alive, sizeof(alive), 0), 0);
  CHECK_EQ(give(&w, first_packet.data, first_packet.len), -1);
  CHECK_EQ(qe_engine_set_steering(w.engine, nobody, 1, alive, sizeof(alive), 0), 0);
  CHECK_EQ(give(&w, first_packet.data, first_packet.len), -1);
  /* The tables of the others are out of date: they passed it back until the hop limit. */
  CHECK_EQ(qe_engine_set_steering(w.engine, other, 1, alive, sizeof(alive), 0), 0);
  CHECK_EQ(qe_engine_packet_handed(w.engine, NULL, (struct sockaddr *)&local, sizeof(local),
                                   (struct sockaddr *)&remote, sizeof(remote), 2, first_packet.data,
                                   first_packet.len, 3, QE_SECOND),
           0);
  qe_engine_process(w.engine, QE_SECOND);
  qe_engine_get_stats(w.engine, &st);
  CHECK_EQ(st.refused, 0);
  CHECK_EQ(st.dropped_packets, 3);
  CHECK_EQ(w.answers, 0);
  /* If no worker will follow, the client is refused. */
  CHECK_EQ(qe_engine_set_steering(w.engine, nobody, 1, alive, sizeof(alive), 1), 0);
  CHECK_EQ(give(&w, first_packet.data, first_packet.len), -1);
  qe_engine_get_stats(w.engine, &st);
  CHECK_EQ(st.refused, 1);
  CHECK_EQ(w.answers, 1);
  qe_engine_free(w.engine);
  s.server.set.worker_index = -1;
  sim_free(&s);
}

int main(void) {
  if (sim_global_init() != 0) {
    printf("no certificates\n");
    return 1;
  }
  RUN(test_nat_rebinding);
  RUN(test_spoofed_address);
  RUN(test_migration);
  RUN(test_migration_fails);
  RUN(test_too_early);
  RUN(test_worker_index);
  RUN(test_packets_of_other_workers);
  RUN(test_worker_that_leaves_refuses_nobody);
  sim_global_free();
  return check_report();
}
