/*
 * Sockets over the real loopback device. Failures that never occur on loopback (a full device
 * queue, a missing route) are injected between the engine and the kernel: this file defines sendmsg
 * and sendmmsg.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "udp.h"

enum { ALL = QE_SOCK_GSO | QE_SOCK_GRO | QE_SOCK_ECN | QE_SOCK_PKTINFO };

/* --------------------------------------- the engine's side, as a recorder */

typedef struct packet {
  uint8_t data[2048];
  size_t len;
  unsigned ecn;
  struct sockaddr_storage local, remote;
  socklen_t local_len, remote_len;
} packet;

enum { MAX_PACKETS = 1024 };

struct qe_engine {
  packet packets[MAX_PACKETS];
  unsigned count;
  unsigned unreachable;
  int unreachable_errno;
  struct sockaddr_storage unreachable_remote;
  unsigned narrow;
  size_t narrow_largest;
  struct sockaddr_storage narrow_remote;
  uint32_t recv_batch;
  uint64_t send_calls, recv_calls;
  int socks;
  qe_sock *free_on_packet; /* freed by the first packet that comes in */
};

static qe_engine engine;

int qe_engine_packet_in(qe_engine *e, qe_sock *sock, const struct sockaddr *local,
                        socklen_t local_len, const struct sockaddr *remote, socklen_t remote_len,
                        unsigned ecn, const uint8_t *data, size_t len, qe_tstamp now) {
  (void)sock;
  CHECK_EQ(now, 42);
  if (e->count < MAX_PACKETS) {
    packet *p = &e->packets[e->count];
    p->len = len;
    p->ecn = ecn;
    memcpy(p->data, data, len < sizeof(p->data) ? len : sizeof(p->data));
    memcpy(&p->local, local, local_len);
    memcpy(&p->remote, remote, remote_len);
    p->local_len = local_len;
    p->remote_len = remote_len;
  }
  e->count++;
  if (e->free_on_packet != NULL) {
    qe_sock_free(e->free_on_packet);
    e->free_on_packet = NULL;
  }
  return 0;
}

void qe_engine_on_unreachable(qe_engine *e, const struct sockaddr *remote, socklen_t len,
                              int sys_errno) {
  e->unreachable++;
  e->unreachable_errno = sys_errno;
  memcpy(&e->unreachable_remote, remote, len);
}

void qe_engine_on_narrow_path(qe_engine *e, const struct sockaddr *remote, socklen_t len,
                              size_t largest) {
  e->narrow++;
  e->narrow_largest = largest;
  memcpy(&e->narrow_remote, remote, len);
}

void qe_engine_add_sock(qe_engine *e, qe_sock *s) {
  (void)s;
  e->socks++;
}

void qe_engine_forget_sock(qe_engine *e, qe_sock *s) {
  (void)s;
  e->socks--;
}

uint32_t qe_engine_recv_batch(const qe_engine *e) {
  return e->recv_batch;
}

const void *qe_engine_owner(const qe_engine *e, const uint8_t *data, size_t len) {
  (void)e, (void)len;
  return data; /* queues have a test of their own: test_fair.c */
}

bool qe_engine_is_late(const qe_engine *e) {
  (void)e;
  return false;
}

void qe_engine_count_backlog(qe_engine *e, int64_t waiting, uint64_t dropped) {
  (void)e, (void)waiting, (void)dropped;
}

void qe_engine_count_io(qe_engine *e, uint64_t send_calls, uint64_t recv_calls) {
  e->send_calls += send_calls;
  e->recv_calls += recv_calls;
}

/* ---------------------------------------------------------- fault injection */

static struct {
  int after; /* messages that still pass; -1: no fault */
  int code;  /* then this errno ... */
  int times; /* ... this often */
  bool gso_only, ecn_only;
  unsigned messages; /* that the kernel got */
} fault = {.after = -1};

static bool has_cmsg(const struct msghdr *h, int level, int type) {
  struct msghdr copy = *h;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&copy); c != NULL; c = CMSG_NXTHDR(&copy, c)) {
    if (c->cmsg_level == level && c->cmsg_type == type) {
      return true;
    }
  }
  return false;
}

static bool fails(const struct msghdr *h) {
  if (fault.after < 0 || fault.times == 0 || (fault.gso_only && !has_cmsg(h, 17, 103)) ||
      (fault.ecn_only && !has_cmsg(h, IPPROTO_IP, IP_TOS))) {
    return false;
  }
  if (fault.after > 0) {
    fault.after--;
    return false;
  }
  fault.times--;
  errno = fault.code;
  return true;
}

ssize_t sendmsg(int fd, const struct msghdr *h, int flags) {
  if (fails(h)) {
    return -1;
  }
  fault.messages++;
  return syscall(SYS_sendmsg, fd, h, flags);
}

int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags) {
  for (unsigned i = 0; i < n; i++) {
    ssize_t rv = sendmsg(fd, &msgs[i].msg_hdr, flags);
    if (rv < 0) {
      return i == 0 ? -1 : (int)i;
    }
    msgs[i].msg_len = (unsigned)rv;
  }
  return (int)n;
}

static void inject(int after, int code, int times) {
  memset(&fault, 0, sizeof(fault));
  fault.after = after;
  fault.code = code;
  fault.times = times;
}

/* ----------------------------------------------------------------- helpers */

static struct sockaddr_storage address(const char *text, uint16_t port, socklen_t *len) {
  struct sockaddr_storage ss;
  struct sockaddr_in *in = (struct sockaddr_in *)&ss;
  struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;

  memset(&ss, 0, sizeof(ss));
  if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
    ss.ss_family = AF_INET;
    in->sin_port = htons(port);
    *len = sizeof(*in);
  } else {
    CHECK_EQ(inet_pton(AF_INET6, text, &in6->sin6_addr), 1);
    ss.ss_family = AF_INET6;
    in6->sin6_port = htons(port);
    *len = sizeof(*in6);
  }
  return ss;
}

static void check_address(const struct sockaddr_storage *ss, const char *text, uint16_t port) {
  char got[INET6_ADDRSTRLEN] = "";
  const struct sockaddr_in *in = (const struct sockaddr_in *)ss;
  const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;

  if (ss->ss_family == AF_INET) {
    inet_ntop(AF_INET, &in->sin_addr, got, sizeof(got));
  } else {
    inet_ntop(AF_INET6, &in6->sin6_addr, got, sizeof(got));
  }
  CHECK_STR(got, text);
  CHECK_EQ(ntohs(in->sin_port), port);
}

static int bound_fd(const char *text) {
  socklen_t len;
  struct sockaddr_storage ss = address(text, 0, &len);
  int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int off = 0;

  if (ss.ss_family == AF_INET6) {
    CHECK_EQ(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)), 0);
  }
  CHECK_EQ(bind(fd, (struct sockaddr *)&ss, len), 0);
  return fd;
}

static uint16_t port_of(const qe_sock *s) {
  struct sockaddr_storage ss;
  socklen_t len = sizeof(ss);
  CHECK_EQ(getsockname(qe_sock_fd(s), (struct sockaddr *)&ss, &len), 0);
  return ntohs(((struct sockaddr_in *)&ss)->sin_port);
}

static void reset(void) {
  memset(&engine, 0, sizeof(engine));
  engine.recv_batch = 256;
  inject(-1, 0, 0);
}

static qe_sock *open_sock(const char *text, int features) {
  qe_sock *s = NULL;
  CHECK_EQ(qe_sock_new(&s, &engine, bound_fd(text), 1 << 20, features), 0);
  return s;
}

static void close_sock(qe_sock *s) {
  int fd = qe_sock_fd(s);
  qe_sock_free(s);
  close(fd);
}

/* Receives until count packets have arrived in total; stops waiting two seconds after the last
 * one. */
static void receive(qe_sock *s, unsigned count) {
  while (engine.count < count) {
    struct pollfd p = {qe_sock_fd(s), POLLIN, 0};
    if (poll(&p, 1, 2000) != 1) {
      break;
    }
    CHECK(qe_sock_recv(s) >= 0);
    qe_sock_dispatch(s, 42);
  }
  CHECK_EQ(engine.count, count);
}

typedef struct outgoing {
  qe_packets p;
  struct sockaddr_storage local, remote;
} outgoing;

static void prepare(outgoing *o, qe_sock *s, const char *to, uint16_t port, const uint8_t *data,
                    size_t len, size_t segment) {
  memset(o, 0, sizeof(*o));
  o->p.sock = s;
  o->remote = address(to, port, &o->p.remote_len);
  o->p.remote = (struct sockaddr *)&o->remote;
  o->local = address(o->remote.ss_family == AF_INET ? "0.0.0.0" : "::", 0, &o->p.local_len);
  o->p.local = (struct sockaddr *)&o->local;
  o->p.data = data;
  o->p.len = len;
  o->p.segment_size = segment;
}

/* Segment i starts with the number i + first. */
static void fill(uint8_t *data, size_t len, size_t segment, unsigned first) {
  for (size_t i = 0; i < len; i++) {
    data[i] = (uint8_t)(i * 7);
  }
  for (size_t at = 0; at < len; at += segment) {
    unsigned n = first + (unsigned)(at / segment);
    data[at] = (uint8_t)n;
    data[at + 1] = (uint8_t)(n >> 8);
  }
}

static void check_segments(unsigned count, size_t segment, size_t last) {
  for (unsigned i = 0; i < count && i < engine.count; i++) {
    CHECK_EQ(engine.packets[i].data[0] | engine.packets[i].data[1] << 8, i);
    CHECK_EQ(engine.packets[i].len, i + 1 == count ? last : segment);
  }
}

/* ------------------------------------------------------------------- tests */

static void round_trip(const char *bind_to, const char *to, const char *client_at,
                       const char *want_local, const char *want_remote, int features) {
  uint8_t data[1200];
  outgoing o;

  reset();
  qe_sock *server = open_sock(bind_to, features);
  qe_sock *client = open_sock(client_at, features);
  REQUIRE(server != NULL && client != NULL);
  CHECK_EQ(engine.socks, 2);
  fill(data, sizeof(data), sizeof(data), 5);
  for (unsigned ecn = 0; ecn < 4; ecn++) {
    prepare(&o, client, to, port_of(server), data, sizeof(data), sizeof(data));
    o.p.ecn = ecn;
    CHECK_EQ(qe_udp_send(&o.p, 1), 1);
  }
  receive(server, 4);
  CHECK(engine.send_calls == 4 && engine.recv_calls >= 1);
  for (unsigned i = 0; i < engine.count; i++) {
    packet *p = &engine.packets[i];
    CHECK_EQ(p->len, sizeof(data));
    CHECK(memcmp(p->data, data, sizeof(data)) == 0);
    CHECK_EQ(p->ecn, (features & QE_SOCK_ECN) ? i : 0);
    check_address(&p->local, want_local, port_of(server));
    check_address(&p->remote, want_remote, port_of(client));
  }
  /* And back from the very address that was reached. */
  packet first = engine.packets[0];
  engine.count = 0;
  prepare(&o, server, to, 0, data, sizeof(data), sizeof(data));
  o.p.local = (struct sockaddr *)&first.local;
  o.p.local_len = first.local_len;
  o.p.remote = (struct sockaddr *)&first.remote;
  o.p.remote_len = first.remote_len;
  o.p.ecn = 2;
  CHECK_EQ(qe_udp_send(&o.p, 1), 1);
  receive(client, 1);
  if (features & QE_SOCK_PKTINFO) {
    CHECK(memcmp(&engine.packets[0].remote, &first.local, sizeof(struct sockaddr_in)) == 0 ||
          first.local.ss_family == AF_INET6);
    CHECK_EQ(engine.packets[0].ecn, (features & QE_SOCK_ECN) ? 2 : 0);
  }
  close_sock(server);
  close_sock(client);
  CHECK_EQ(engine.socks, 0);
}

static void test_ipv4_round_trip(void) {
  round_trip("0.0.0.0", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", ALL);
}

static void test_ipv4_second_address_is_reported_and_answered_from(void) {
  round_trip("0.0.0.0", "127.0.0.2", "127.0.0.1", "127.0.0.2", "127.0.0.1", ALL);
  check_address(&engine.packets[0].remote, "127.0.0.2",
                ntohs(((struct sockaddr_in *)&engine.packets[0].remote)->sin_port));
}

static void test_ipv6_round_trip(void) {
  round_trip("::", "::1", "::1", "::1", "::1", ALL);
}

static void test_dual_stack_keeps_mapped_form(void) {
  round_trip("::", "127.0.0.2", "127.0.0.1", "::ffff:127.0.0.2", "::ffff:127.0.0.1", ALL);
  check_address(&engine.packets[0].remote, "127.0.0.2",
                ntohs(((struct sockaddr_in *)&engine.packets[0].remote)->sin_port));
}

static void test_no_features_still_carries_packets(void) {
  round_trip("127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", 0);
}

static void test_features_are_those_asked_for(void) {
  reset();
  qe_sock *s = open_sock("127.0.0.1", QE_SOCK_ECN | QE_SOCK_PKTINFO);
  REQUIRE(s != NULL);
  CHECK_EQ(qe_sock_features(s), QE_SOCK_ECN | QE_SOCK_PKTINFO);
  close_sock(s);
  s = open_sock("::1", ALL);
  REQUIRE(s != NULL);
  CHECK_EQ(qe_sock_features(s), ALL);
  close_sock(s);
}

static void test_wrong_descriptors_are_refused(void) {
  qe_sock *s = NULL;
  int fds[2];

  reset();
  CHECK_EQ(qe_sock_new(&s, &engine, -1, 0, ALL), QE_ERR_SYSCALL);
  CHECK_HAS(qe_last_error(), "getsockname: Bad file descriptor");
  int tcp = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQ(qe_sock_new(&s, &engine, tcp, 0, ALL), QE_ERR_INVALID);
  CHECK_HAS(qe_last_error(), "is not a UDP socket");
  close(tcp);
  REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds) == 0);
  CHECK_EQ(qe_sock_new(&s, &engine, fds[0], 0, ALL), QE_ERR_INVALID);
  close(fds[0]);
  close(fds[1]);
  CHECK_EQ(engine.socks, 0);
}

static void train(const char *server_at, const char *client_at, const char *to, int rx, int tx) {
  static uint8_t data[40 * 1200 + 77];
  outgoing o;

  reset();
  qe_sock *server = open_sock(server_at, rx);
  qe_sock *client = open_sock(client_at, tx);
  REQUIRE(server != NULL && client != NULL);
  fill(data, sizeof(data), 1200, 0);
  prepare(&o, client, to, port_of(server), data, sizeof(data), 1200);
  o.p.ecn = 1;
  CHECK_EQ(qe_udp_send(&o.p, 1), 1);
  receive(server, 41);
  check_segments(41, 1200, 77);
  CHECK_EQ(engine.packets[40].ecn, (rx & tx & QE_SOCK_ECN) ? 1 : 0);
  if (tx & QE_SOCK_GSO) {
    CHECK_EQ(fault.messages, 1);
  } else {
    CHECK_EQ(fault.messages, 41);
  }
  close_sock(server);
  close_sock(client);
}

static void test_train_with_gso_and_gro(void) {
  train("127.0.0.1", "127.0.0.1", "127.0.0.1", ALL, ALL);
  train("::1", "::1", "::1", ALL, ALL);
  train("::", "::", "::ffff:127.0.0.1", ALL, ALL);
}

static void test_train_with_gso_to_a_plain_receiver(void) {
  train("127.0.0.1", "127.0.0.1", "127.0.0.1", 0, ALL);
}

static void test_train_without_gso(void) {
  train("127.0.0.1", "127.0.0.1", "127.0.0.1", ALL, ALL & ~QE_SOCK_GSO);
}

static void test_several_trains_go_in_one_call_in_order(void) {
  static uint8_t data[5][3000];
  outgoing o[5];
  qe_packets trains[6];

  reset();
  qe_sock *server = open_sock("127.0.0.1", ALL);
  qe_sock *client = open_sock("127.0.0.1", ALL);
  REQUIRE(server != NULL && client != NULL);
  for (unsigned i = 0; i < 5; i++) {
    fill(data[i], sizeof(data[i]), 1000, 3 * i);
    prepare(&o[i], client, "127.0.0.1", port_of(server), data[i], sizeof(data[i]), 1000);
    trains[i] = o[i].p;
  }
  trains[5] = o[0].p;
  trains[5].sock = NULL; /* its socket is gone: dropped, not an error */
  CHECK_EQ(qe_udp_send(trains, 6), 6);
  CHECK_EQ(engine.send_calls, 1);
  receive(server, 15);
  check_segments(15, 1000, 1000);
  close_sock(server);
  close_sock(client);
}

static void test_receive_work_is_bounded(void) {
  uint8_t data[100];
  outgoing o;

  reset();
  engine.recv_batch = 10;
  qe_sock *server = open_sock("127.0.0.1", 0);
  qe_sock *client = open_sock("127.0.0.1", 0);
  REQUIRE(server != NULL && client != NULL);
  CHECK_EQ(qe_sock_recv(server), 0);
  CHECK_EQ(qe_sock_dispatch(server, 42), 0);
  for (unsigned i = 0; i < 25; i++) {
    fill(data, sizeof(data), sizeof(data), i);
    prepare(&o, client, "127.0.0.1", port_of(server), data, sizeof(data), sizeof(data));
    CHECK_EQ(qe_udp_send(&o.p, 1), 1);
  }
  CHECK_EQ(qe_sock_recv(server), 10);
  CHECK_EQ(engine.count, 0); /* nothing reaches the engine before dispatch */
  CHECK_EQ(qe_sock_dispatch(server, 42), 1);
  CHECK_EQ(engine.count, 10);
  CHECK_EQ(qe_sock_dispatch(server, 42) + (int)engine.count, 11); /* nothing twice */
  CHECK_EQ(qe_sock_recv(server), 10);
  CHECK_EQ(qe_sock_dispatch(server, 42), 1);
  CHECK_EQ(qe_sock_recv(server), 5);
  CHECK_EQ(qe_sock_dispatch(server, 42), 0);
  check_segments(25, 100, 100);
  close_sock(server);
  close_sock(client);
}

static void test_socket_may_be_freed_while_dispatching(void) {
  uint8_t data[100];
  outgoing o;

  reset();
  qe_sock *server = open_sock("127.0.0.1", ALL);
  qe_sock *client = open_sock("127.0.0.1", ALL);
  REQUIRE(server != NULL && client != NULL);
  fill(data, sizeof(data), 50, 0);
  for (int i = 0; i < 3; i++) {
    prepare(&o, client, "127.0.0.1", port_of(server), data, sizeof(data), 50);
    CHECK_EQ(qe_udp_send(&o.p, 1), 1);
  }
  int fd = qe_sock_fd(server);
  engine.free_on_packet = server;
  CHECK_EQ(qe_sock_recv(server), 6);
  CHECK_EQ(qe_sock_dispatch(server, 42), 0);
  CHECK_EQ(engine.count, 1);
  CHECK_EQ(engine.socks, 1);
  close(fd);
  close_sock(client);
}

static void refused(const char *at, const char *to, const char *want) {
  uint8_t data[1200] = {0};
  outgoing o;

  reset();
  qe_sock *client = open_sock(at, ALL);
  int closed = bound_fd(to);
  struct sockaddr_storage ss;
  socklen_t len = sizeof(ss);
  REQUIRE(client != NULL && getsockname(closed, (struct sockaddr *)&ss, &len) == 0);
  uint16_t port = ntohs(((struct sockaddr_in *)&ss)->sin_port);
  close(closed);
  prepare(&o, client, want, port, data, sizeof(data), sizeof(data));
  CHECK_EQ(qe_udp_send(&o.p, 1), 1);
  struct pollfd p = {qe_sock_fd(client), POLLIN, 0};
  CHECK_EQ(poll(&p, 1, 2000), 1);
  CHECK_EQ(qe_sock_recv(client), 0);
  CHECK_EQ(engine.unreachable, 0); /* told by dispatch only */
  CHECK_EQ(qe_sock_dispatch(client, 42), 0);
  CHECK_EQ(engine.unreachable, 1);
  CHECK_EQ(engine.unreachable_errno, ECONNREFUSED);
  check_address(&engine.unreachable_remote, want, port);
  CHECK_EQ(poll(&p, 1, 0), 0); /* the error queue is empty: no endless wake-ups */
  close_sock(client);
}

static void test_refused_port_is_reported(void) {
  refused("127.0.0.1", "127.0.0.1", "127.0.0.1");
  refused("::1", "::1", "::1");
  refused("::", "127.0.0.1", "::ffff:127.0.0.1");
}

static void test_error_of_one_peer_costs_no_packet_to_another(void) {
  uint8_t data[1200];
  outgoing dead, alive;

  reset();
  qe_sock *client = open_sock("127.0.0.1", ALL);
  qe_sock *server = open_sock("127.0.0.1", ALL);
  qe_sock *gone = open_sock("127.0.0.1", ALL);
  REQUIRE(client != NULL && server != NULL && gone != NULL);
  fill(data, sizeof(data), sizeof(data), 0);
  prepare(&dead, client, "127.0.0.1", port_of(gone), data, sizeof(data), sizeof(data));
  close_sock(gone);
  prepare(&alive, client, "127.0.0.1", port_of(server), data, sizeof(data), sizeof(data));
  for (int i = 0; i < 5; i++) {
    CHECK_EQ(qe_udp_send(&dead.p, 1), 1);
    CHECK_EQ(qe_udp_send(&alive.p, 1), 1);
  }
  receive(server, 5);
  CHECK_EQ(engine.unreachable, 0); /* nobody but the dead peer is unreachable */
  CHECK(qe_sock_recv(client) >= 0);
  qe_sock_dispatch(client, 42);
  CHECK_EQ(engine.unreachable, 5);
  check_address(&engine.unreachable_remote, "127.0.0.1",
                ntohs(((struct sockaddr_in *)&dead.remote)->sin_port));
  close_sock(client);
  close_sock(server);
}

static void test_no_route_is_reported_at_once(void) {
  uint8_t data[1200] = {0};
  outgoing o;

  reset();
  qe_sock *client = open_sock("127.0.0.1", ALL);
  REQUIRE(client != NULL);
  prepare(&o, client, "192.0.2.1", 443, data, sizeof(data), sizeof(data));
  inject(0, ENETUNREACH, 2);
  CHECK_EQ(qe_udp_send(&o.p, 1), 1);
  CHECK_EQ(engine.unreachable, 1);
  CHECK_EQ(engine.unreachable_errno, ENETUNREACH);
  check_address(&engine.unreachable_remote, "192.0.2.1", 443);
  close_sock(client);
}

static void test_kernel_that_refuses_gso_turns_it_off(void) {
  static uint8_t data[10 * 1200];
  outgoing o;
  int one = 1;

  reset();
  qe_sock *server = open_sock("127.0.0.1", ALL);
  qe_sock *client = open_sock("127.0.0.1", ALL);
  REQUIRE(server != NULL && client != NULL);
  /* Linux needs checksums for segmentation and says EINVAL without. */
  CHECK_EQ(setsockopt(qe_sock_fd(client), SOL_SOCKET, SO_NO_CHECK, &one, sizeof(one)), 0);
  fill(data, sizeof(data), 1200, 0);
  prepare(&o, client, "127.0.0.1", port_of(server), data, sizeof(data), 1200);
  o.p.ecn = 2;
  CHECK_EQ(qe_udp_send(&o.p, 1), 1);
  receive(server, 10);
  check_segments(10, 1200, 1200);
  CHECK_EQ(qe_sock_features(client), ALL & ~QE_SOCK_GSO);
  close_sock(server);
  close_sock(client);
}

static void test_gso_errors_turn_it_off(void) {
  static const int codes[] = {EIO, EOPNOTSUPP, ENOSYS, EINVAL};
  static uint8_t data[10 * 1200];
  outgoing o;

  for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
    reset();
    qe_sock *server = open_sock("127.0.0.1", ALL);
    qe_sock *client = open_sock("127.0.0.1", ALL);
    REQUIRE(server != NULL && client != NULL);
    fill(data, sizeof(data), 1200, 0);
    prepare(&o, client, "127.0.0.1", port_of(server), data, sizeof(data), 1200);
    inject(0, codes[i], 99);
    fault.gso_only = true;
    CHECK_EQ(qe_udp_send(&o.p, 1), 1);
    receive(server, 10);
    check_segments(10, 1200, 1200);
    CHECK_EQ(qe_sock_features(client), ALL & ~QE_SOCK_GSO);
    close_sock(server);
    close_sock(client);
  }
}

static void test_other_failures_leave_gso_on(void) {
  static uint8_t data[10 * 1200];
  outgoing o;

  reset();
  qe_sock *server = open_sock("127.0.0.1", ALL);
  qe_sock *client = open_sock("127.0.0.1", ALL);
  REQUIRE(server != NULL && client != NULL);
  fill(data, sizeof(data), 1200, 0);
  prepare(&o, client, "127.0.0.1", port_of(server), data, sizeof(data), 1200);
  inject(0, EMSGSIZE, 99); /* the path became narrower: single packets fail too */
  CHECK_EQ(qe_udp_send(&o.p, 1), 1);
  CHECK_EQ(qe_sock_features(client), ALL);
  CHECK(engine.narrow > 0);
  CHECK_EQ(engine.narrow_largest, 1199);
  CHECK_EQ(((struct sockaddr_in *)&engine.narrow_remote)->sin_port, htons(port_of(server)));
  engine.narrow = 0;
  inject(0, EINVAL, 99); /* the source address is gone */
  CHECK_EQ(qe_udp_send(&o.p, 1), 1);
  CHECK_EQ(qe_sock_features(client), ALL);
  inject(0, EMSGSIZE, 1); /* left over from an earlier packet */
  CHECK_EQ(qe_udp_send(&o.p, 1), 1);
  CHECK_EQ(engine.narrow, 0);
  CHECK_EQ(qe_sock_features(client), ALL);
  receive(server, 10);
  check_segments(10, 1200, 1200);
  close_sock(server);
  close_sock(client);
}

static void test_short_tail_beyond_the_mtu_leaves_gso_on(void) {
  static uint8_t data[3 * 1200 + 100];
  outgoing o;

  reset();
  qe_sock *server = open_sock("127.0.0.1", ALL);
  qe_sock *client = open_sock("127.0.0.1", ALL);
  REQUIRE(server != NULL && client != NULL);
  fill(data, sizeof(data), 1200, 0);
  prepare(&o, client, "127.0.0.1", port_of(server), data, sizeof(data), 1200);
  inject(0, EMSGSIZE, 8); /* the train and three packets, each tried twice */
  CHECK_EQ(qe_udp_send(&o.p, 1), 1);
  CHECK_EQ(qe_sock_features(client), ALL);
  receive(server, 1);
  CHECK_EQ(engine.packets[0].len, 100);
  CHECK_EQ(engine.packets[0].data[0], 3);
  close_sock(server);
  close_sock(client);
}

static void test_refused_ecn_is_turned_off(void) {
  static uint8_t data[3 * 1200];
  outgoing o;

  reset();
  qe_sock *server = open_sock("127.0.0.1", ALL);
  qe_sock *client = open_sock("127.0.0.1", ALL);
  REQUIRE(server != NULL && client != NULL);
  fill(data, sizeof(data), 1200, 0);
  prepare(&o, client, "127.0.0.1", port_of(server), data, sizeof(data), 1200);
  o.p.ecn = 2;
  inject(0, EINVAL, 99);
  fault.ecn_only = true;
  CHECK_EQ(qe_udp_send(&o.p, 1), 1);
  receive(server, 3);
  check_segments(3, 1200, 1200);
  CHECK_EQ(qe_sock_features(client), ALL & ~QE_SOCK_ECN);
  close_sock(server);
  close_sock(client);
}

static void test_too_large_packet_is_swallowed(void) {
  static uint8_t data[65535];
  uint8_t small[100];
  outgoing o[2];
  qe_packets trains[2];

  reset();
  qe_sock *server = open_sock("127.0.0.1", ALL);
  qe_sock *client = open_sock("127.0.0.1", ALL);
  REQUIRE(server != NULL && client != NULL);
  fill(small, sizeof(small), sizeof(small), 0);
  prepare(&o[0], client, "127.0.0.1", port_of(server), data, sizeof(data), sizeof(data));
  prepare(&o[1], client, "127.0.0.1", port_of(server), small, sizeof(small), sizeof(small));
  trains[0] = o[0].p;
  trains[1] = o[1].p;
  CHECK_EQ(qe_udp_send(trains, 2), 2);
  receive(server, 1);
  check_segments(1, 100, 100);
  close_sock(server);
  close_sock(client);
}

static void blocked(int code, int features) {
  static uint8_t data[3][3 * 1000];
  outgoing o[3];
  qe_packets trains[3];

  reset();
  qe_sock *server = open_sock("127.0.0.1", ALL);
  qe_sock *client = open_sock("127.0.0.1", features);
  REQUIRE(server != NULL && client != NULL);
  for (unsigned i = 0; i < 3; i++) {
    fill(data[i], sizeof(data[i]), 1000, 3 * i);
    prepare(&o[i], client, "127.0.0.1", port_of(server), data[i], sizeof(data[i]), 1000);
    trains[i] = o[i].p;
  }
  /* With GSO the second train blocks; without, the second packet of it. */
  bool gso = (features & QE_SOCK_GSO) != 0;
  inject(gso ? 1 : 4, code, 1);
  size_t taken = qe_udp_send(trains, 3);
  /* A batch that stopped half-way is tried at once again and then passes. */
  CHECK_EQ(taken, 3);
  receive(server, 9);
  check_segments(9, 1000, 1000);
  engine.count = 0;

  inject(gso ? 1 : 4, code, 2); /* now it lasts */
  CHECK_EQ(qe_udp_send(trains, 3), 1);
  inject(0, code, 1); /* still */
  CHECK_EQ(qe_udp_send(trains + 1, 2), 0);
  inject(-1, 0, 0);
  CHECK_EQ(qe_udp_send(trains + 1, 2), 2);
  receive(server, 9); /* nothing is lost, nothing comes twice */
  check_segments(9, 1000, 1000);
  close_sock(server);
  close_sock(client);
}

static void test_full_queue_keeps_what_was_not_taken(void) {
  blocked(EAGAIN, ALL);
  blocked(EAGAIN, ALL & ~QE_SOCK_GSO);
}

/* A queue behind the socket that dropped a packet would drop it again, and the socket is always
 * writable: waiting would be a busy loop, and nothing else would be sent. */
static void test_what_a_full_interface_threw_away_is_lost(void) {
  static uint8_t data[2][1000];
  outgoing o[2];
  qe_packets trains[2];

  reset();
  qe_sock *server = open_sock("127.0.0.1", ALL);
  qe_sock *client = open_sock("127.0.0.1", ALL);
  REQUIRE(server != NULL && client != NULL);
  for (unsigned i = 0; i < 2; i++) {
    fill(data[i], sizeof(data[i]), 1000, i);
    prepare(&o[i], client, "127.0.0.1", port_of(server), data[i], sizeof(data[i]), 1000);
    trains[i] = o[i].p;
  }
  inject(0, ENOBUFS, 1);
  CHECK_EQ(qe_udp_send(trains, 1), 1);
  CHECK_EQ(qe_udp_send(trains + 1, 1), 1);
  receive(server, 1);
  CHECK_EQ(engine.packets[0].data[0], 1);
  close_sock(server);
  close_sock(client);
}

static void test_progress_is_not_applied_to_another_train(void) {
  static uint8_t first[3000], second[3000];
  outgoing a, b;

  reset();
  qe_sock *server = open_sock("127.0.0.1", ALL);
  qe_sock *client = open_sock("127.0.0.1", ALL & ~QE_SOCK_GSO);
  REQUIRE(server != NULL && client != NULL);
  fill(first, sizeof(first), 1000, 0);
  fill(second, sizeof(second), 1000, 100);
  prepare(&a, client, "127.0.0.1", port_of(server), first, sizeof(first), 1000);
  prepare(&b, client, "127.0.0.1", port_of(server), second, sizeof(second), 1000);
  inject(1, EAGAIN, 2);
  CHECK_EQ(qe_udp_send(&a.p, 1), 0);
  /* Its connection ended; the next train is a new one and goes out whole. */
  CHECK_EQ(qe_udp_send(&b.p, 1), 1);
  receive(server, 4);
  CHECK_EQ(engine.packets[0].data[0], 0);
  CHECK_EQ(engine.packets[1].data[0], 100);
  CHECK_EQ(engine.packets[3].data[0], 102);
  close_sock(server);
  close_sock(client);
}

static void test_interrupted_call_is_repeated(void) {
  uint8_t data[100] = {0};
  outgoing o;

  reset();
  qe_sock *server = open_sock("127.0.0.1", ALL);
  qe_sock *client = open_sock("127.0.0.1", ALL);
  REQUIRE(server != NULL && client != NULL);
  prepare(&o, client, "127.0.0.1", port_of(server), data, sizeof(data), sizeof(data));
  inject(0, EINTR, 3);
  CHECK_EQ(qe_udp_send(&o.p, 1), 1);
  receive(server, 1);
  close_sock(server);
  close_sock(client);
}

static void test_empty_datagram_is_dropped(void) {
  uint8_t data[100] = {0};
  outgoing o;

  reset();
  qe_sock *server = open_sock("127.0.0.1", ALL);
  qe_sock *client = open_sock("127.0.0.1", ALL);
  REQUIRE(server != NULL && client != NULL);
  prepare(&o, client, "127.0.0.1", port_of(server), data, sizeof(data), sizeof(data));
  CHECK_EQ(sendto(qe_sock_fd(client), data, 0, 0, o.p.remote, o.p.remote_len), 0);
  CHECK_EQ(qe_udp_send(&o.p, 1), 1);
  receive(server, 1);
  CHECK_EQ(engine.packets[0].len, 100);
  close_sock(server);
  close_sock(client);
}

int main(void) {
  RUN(test_ipv4_round_trip);
  RUN(test_ipv4_second_address_is_reported_and_answered_from);
  RUN(test_ipv6_round_trip);
  RUN(test_dual_stack_keeps_mapped_form);
  RUN(test_no_features_still_carries_packets);
  RUN(test_features_are_those_asked_for);
  RUN(test_wrong_descriptors_are_refused);
  RUN(test_train_with_gso_and_gro);
  RUN(test_train_with_gso_to_a_plain_receiver);
  RUN(test_train_without_gso);
  RUN(test_several_trains_go_in_one_call_in_order);
  RUN(test_receive_work_is_bounded);
  RUN(test_socket_may_be_freed_while_dispatching);
  RUN(test_refused_port_is_reported);
  RUN(test_error_of_one_peer_costs_no_packet_to_another);
  RUN(test_no_route_is_reported_at_once);
  RUN(test_kernel_that_refuses_gso_turns_it_off);
  RUN(test_gso_errors_turn_it_off);
  RUN(test_other_failures_leave_gso_on);
  RUN(test_short_tail_beyond_the_mtu_leaves_gso_on);
  RUN(test_refused_ecn_is_turned_off);
  RUN(test_too_large_packet_is_swallowed);
  RUN(test_full_queue_keeps_what_was_not_taken);
  RUN(test_what_a_full_interface_threw_away_is_lost);
  RUN(test_progress_is_not_applied_to_another_train);
  RUN(test_interrupted_call_is_repeated);
  RUN(test_empty_datagram_is_dropped);
  return check_report();
}
