#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* recvmmsg, sendmmsg, struct in6_pktinfo */
#endif
#include "udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include "fair.h"
#include "log.h"
#include "udp_cmsg.h"
#include "udp_sock.h"

/* Size of a receive slot: no coalesced datagram is longer. */
#define RX_SLOT_SIZE ((size_t)65536)
/* With GRO a slot holds up to 64 datagrams, otherwise exactly one. */
#define RX_SLOTS_GRO 16
#define RX_SLOTS_PLAIN 64
#define RX_ERRORS QE_SOCK_MAX_ERRORS /* ICMP errors read per call */

/* Messages that qe_sock_read_ahead reads per call; more than the kernel's default buffer holds. */
#define AHEAD_MESSAGES 8192

/* Packets processed between two readings of the clock. */
#define FEED_STEP 8u

#define DEFAULT_BUFFER ((uint32_t)4 << 20)

struct qe_rx {
  struct mmsghdr msgs[RX_SLOTS_PLAIN];
  struct iovec iov[RX_SLOTS_PLAIN];
  struct sockaddr_storage from[RX_SLOTS_PLAIN];
  qe_cmsg_buf control[RX_SLOTS_PLAIN];
  uint8_t *slots;
  unsigned nslots;
};

qe_tstamp qe_udp_clock(void) {
  struct timespec ts = {0};

  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (qe_tstamp)ts.tv_sec * 1000000000 + (qe_tstamp)ts.tv_nsec;
}

/* ------------------------------------------------------------------ set-up */

static bool set_int(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof(value)) == 0;
}

static int get_int(int fd, int level, int name, int fallback) {
  int value = fallback;
  socklen_t len = sizeof(value);
  return getsockopt(fd, level, name, &value, &len) == 0 ? value : fallback;
}

static void set_buffer(int fd, int name, int force_name, uint32_t wanted) {
  int bytes = wanted > INT32_MAX / 2 ? INT32_MAX / 2 : (int)wanted;
  (void)set_int(fd, SOL_SOCKET, name, bytes);
  /* The kernel reports twice the size that was set. If it reports less, the system limit was
   * hit, which a privileged process may exceed. */
  if (get_int(fd, SOL_SOCKET, name, 0) < 2 * bytes) {
    (void)set_int(fd, SOL_SOCKET, force_name, bytes);
  }
}

/* Sets the option for the socket's own family and, on an IPv6 socket that
 * also serves IPv4, for the other one. */
static bool set_both(const qe_sock *s, int v6_name, int v4_name, int value) {
  if (s->family == AF_INET) {
    return set_int(s->fd, IPPROTO_IP, v4_name, value);
  }
  bool ok = set_int(s->fd, IPPROTO_IPV6, v6_name, value);
  if (s->dual) {
    (void)set_int(s->fd, IPPROTO_IP, v4_name, value);
  }
  return ok;
}

static void enable_features(qe_sock *s, int want) {
  if (want & QE_SOCK_PKTINFO) {
    /* IPV6_RECVPKTINFO reports IPv4 peers too, as mapped addresses. */
    bool ok = s->family == AF_INET ? set_int(s->fd, IPPROTO_IP, IP_PKTINFO, 1)
                                   : set_int(s->fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    s->features |= ok ? QE_SOCK_PKTINFO : 0;
  }
  if ((want & QE_SOCK_ECN) && set_both(s, IPV6_RECVTCLASS, IP_RECVTOS, 1)) {
    s->features |= QE_SOCK_ECN;
  }
  if ((want & QE_SOCK_GRO) && set_int(s->fd, SOL_UDP, UDP_GRO, 1)) {
    s->features |= QE_SOCK_GRO;
  }
  /* A segment size of 0 changes nothing, and fails if the kernel does not know GSO. */
  if ((want & QE_SOCK_GSO) && set_int(s->fd, SOL_UDP, UDP_SEGMENT, 0)) {
    s->features |= QE_SOCK_GSO;
  }
  (void)set_both(s, IPV6_RECVERR, IP_RECVERR, 1);
  /* Do not fragment; the QUIC layer finds the path MTU. */
  (void)set_both(s, IPV6_MTU_DISCOVER, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
  if (s->family == AF_INET6) {
    (void)set_int(s->fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
  }
}

static int check_fd(qe_sock *s) {
  socklen_t len = sizeof(s->bound);

  if (getsockname(s->fd, (struct sockaddr *)&s->bound, &len) != 0) {
    return qe_set_syscall_error("getsockname");
  }
  s->family = s->bound.ss_family;
  if ((s->family != AF_INET && s->family != AF_INET6) ||
      get_int(s->fd, SOL_SOCKET, SO_TYPE, 0) != SOCK_DGRAM) {
    return qe_set_error(QE_ERR_INVALID, "descriptor %d is not a UDP socket for IPv4 or IPv6",
                        s->fd);
  }
  s->bound_len = len;
  s->dual = s->family == AF_INET6 && get_int(s->fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) == 0;
  return 0;
}

int qe_sock_new(qe_sock **out, qe_engine *e, int fd, uint32_t buffer_bytes, int want_features) {
  qe_sock *s = calloc(1, sizeof(*s));
  if (s == NULL) {
    return QE_ERR_NOMEM;
  }
  s->engine = e;
  s->fd = fd;
  s->recv_batch = qe_engine_recv_batch(e);
  s->segments_seen = 1;
  int rv = check_fd(s);
  if (rv != 0) {
    free(s);
    return rv;
  }
  uint32_t wanted = buffer_bytes == 0 ? DEFAULT_BUFFER : buffer_bytes;
  set_buffer(fd, SO_RCVBUF, SO_RCVBUFFORCE, wanted);
  set_buffer(fd, SO_SNDBUF, SO_SNDBUFFORCE, wanted);
  enable_features(s, want_features);
  qe_engine_add_sock(e, s);
  *out = s;
  return 0;
}

static void destroy(qe_sock *s) {
  qe_fair_free(s->fair);
  if (s->rx != NULL) {
    free(s->rx->slots);
    free(s->rx);
  }
  free(s);
}

void qe_sock_free(qe_sock *s) {
  if (s == NULL || s->dead) {
    return;
  }
  s->dead = true;
  qe_engine_count_backlog(s->engine, -(int64_t)qe_fair_packets(s->fair), 0);
  qe_engine_forget_sock(s->engine, s);
  if (!s->dispatching) {
    destroy(s);
  }
}

int qe_sock_features(const qe_sock *s) {
  return s->features;
}

int qe_sock_fd(const qe_sock *s) {
  return s->fd;
}

/* --------------------------------------------------------------- receiving */

static struct qe_rx *rx_new(bool gro) {
  struct qe_rx *rx = calloc(1, sizeof(*rx));
  if (rx == NULL) {
    return NULL;
  }
  rx->nslots = gro ? RX_SLOTS_GRO : RX_SLOTS_PLAIN;
  rx->slots = malloc(rx->nslots * RX_SLOT_SIZE);
  if (rx->slots == NULL) {
    free(rx);
    return NULL;
  }
  for (unsigned i = 0; i < rx->nslots; i++) {
    rx->iov[i].iov_base = rx->slots + i * RX_SLOT_SIZE;
    rx->iov[i].iov_len = RX_SLOT_SIZE;
  }
  return rx;
}

static void rx_reset(struct qe_rx *rx, unsigned first, unsigned count) {
  for (unsigned i = first; i < first + count; i++) {
    struct msghdr *h = &rx->msgs[i].msg_hdr;
    h->msg_name = &rx->from[i];
    h->msg_namelen = sizeof(rx->from[i]);
    h->msg_iov = &rx->iov[i];
    h->msg_iovlen = 1;
    h->msg_control = rx->control[i].bytes;
    h->msg_controllen = sizeof(rx->control[i].bytes);
    h->msg_flags = 0;
    rx->msgs[i].msg_len = 0;
  }
}

static unsigned segments(size_t len, size_t segment) {
  return segment == 0 || segment >= len ? 1 : (unsigned)((len + segment - 1) / segment);
}

/* How many messages to ask for to stay within the batch, assuming as many datagrams per message
 * as last time. */
static unsigned rx_want(const qe_sock *s, unsigned datagrams) {
  unsigned room = s->rx->nslots - s->rx_count;
  unsigned left = datagrams < s->recv_batch ? s->recv_batch - datagrams : 0;
  unsigned want = (left + s->segments_seen - 1) / s->segments_seen;
  return want < room ? want : room;
}

/* Reads one entry of the error queue. Returns false if it is empty. */
static bool read_error(qe_sock *s) {
  qe_cmsg_buf control;
  struct sockaddr_storage to;
  uint8_t byte;
  struct iovec iov = {&byte, 1};
  struct msghdr h = {.msg_name = &to,
                     .msg_namelen = sizeof(to),
                     .msg_iov = &iov,
                     .msg_iovlen = 1,
                     .msg_control = control.bytes,
                     .msg_controllen = sizeof(control.bytes)};

  s->recv_calls++;
  if (recvmsg(s->fd, &h, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
    return false;
  }
  uint32_t mtu = 0;
  int err = qe_cmsg_read_error(&h, &mtu);
  if ((qe_is_unreachable(err) || mtu > 0) && h.msg_namelen > 0 && s->error_count < RX_ERRORS) {
    struct qe_sock_error *slot = &s->errors[s->error_count++];
    memcpy(&slot->remote, &to, sizeof(to));
    slot->len = h.msg_namelen;
    slot->code = err;
    slot->mtu = mtu;
  }
  return true;
}

static void drain_errors(qe_sock *s) {
  for (int i = 0; i < RX_ERRORS && s->error_count < RX_ERRORS; i++) {
    if (!read_error(s)) {
      s->errors_wait = false;
      return;
    }
  }
  s->errors_wait = true;
}

int qe_sock_recv(qe_sock *s) {
  unsigned datagrams = 0, retries = 0;

  if (s->rx == NULL) {
    s->rx = rx_new((s->features & QE_SOCK_GRO) != 0);
    if (s->rx == NULL) {
      return QE_ERR_NOMEM;
    }
  }
  s->rx_count = 0;
  s->rx_more = false;
  for (;;) {
    unsigned want = rx_want(s, datagrams);
    if (want == 0) {
      s->rx_more = true;
      break;
    }
    rx_reset(s->rx, s->rx_count, want);
    int n = recvmmsg(s->fd, s->rx->msgs + s->rx_count, want, MSG_DONTWAIT, NULL);
    s->recv_calls++;
    if (n < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        /* Woken without data, possibly by the error queue. */
        s->errors_wait |= datagrams == 0;
        break;
      }
      if (errno == ENOMEM || errno == ENOBUFS) {
        s->rx_more = true; /* temporary; the kernel keeps the datagrams */
        break;
      }
      if (errno != EINTR && !qe_is_late_error(errno)) {
        return qe_set_syscall_error("recvmmsg");
      }
      s->errors_wait |= errno != EINTR;
      if (++retries > RX_ERRORS) {
        s->rx_more = true;
        break;
      }
      continue;
    }
    unsigned most = 1;
    for (int i = 0; i < n; i++) {
      struct mmsghdr *m = &s->rx->msgs[s->rx_count + (unsigned)i];
      unsigned k = segments(m->msg_len, qe_cmsg_read_segment_size(&m->msg_hdr));
      most = k > most ? k : most;
      datagrams += k;
    }
    if (n > 0) {
      /* Decrease slowly: single packets arrive between long trains, and if they set the
       * estimate, the next batch would be far too large. */
      s->segments_seen = most > s->segments_seen / 2 ? most : s->segments_seen / 2;
    }
    s->rx_count += (unsigned)n;
    if ((unsigned)n < want) {
      break;
    }
  }
  if (s->errors_wait) {
    drain_errors(s);
  }
  return (int)datagrams;
}

/* The address that a datagram was sent to: from packet info, with the port of the socket.
 * Without packet info it is the bound address. */
static socklen_t local_address(const qe_sock *s, const qe_cmsg_info *info,
                               struct sockaddr_storage *out) {
  memcpy(out, &s->bound, sizeof(*out));
  if (!info->has_local) {
    return s->bound_len;
  }
  if (s->family == AF_INET) {
    ((struct sockaddr_in *)out)->sin_addr = info->local4;
  } else {
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    in6->sin6_addr = info->local6;
    /* Link-local addresses need their interface. */
    in6->sin6_scope_id = IN6_IS_ADDR_LINKLOCAL(&info->local6) ? info->ifindex : 0;
  }
  return s->bound_len;
}

/* Gets what qe_sock_recv has read into slot i. Returns false if it is not usable. */
static bool read_slot(const qe_sock *s, unsigned i, qe_fair_packet *p) {
  struct mmsghdr *m = &s->rx->msgs[i];
  qe_cmsg_info info;

  p->len = m->msg_len;
  if (p->len == 0 || m->msg_hdr.msg_namelen == 0 || (m->msg_hdr.msg_flags & MSG_TRUNC)) {
    return false;
  }
  qe_cmsg_read(&m->msg_hdr, &info);
  p->local_len = local_address(s, &info, &p->local);
  p->remote_len = m->msg_hdr.msg_namelen;
  p->ecn = info.ecn;
  p->segment = info.segment_size == 0 || info.segment_size > p->len ? p->len : info.segment_size;
  return true;
}

/* Prepares the queues for packets that have to wait. Returns false when out of memory. */
static bool can_keep(qe_sock *s) {
  if (s->fair == NULL) {
    s->fair = qe_fair_new();
  }
  return s->fair != NULL;
}

/* Passes a train to the engine, or as much of it as there is time for. Returns how many bytes it
 * passed. */
static size_t feed(qe_sock *s, const qe_fair_packet *p, const struct sockaddr_storage *remote,
                   const uint8_t *data, qe_tstamp now) {
  size_t at = 0;

  while (at < p->len && !s->dead) {
    size_t n = p->len - at < p->segment ? p->len - at : p->segment;
    if (s->fed == FEED_STEP) {
      s->fed = 0;
      s->late = qe_engine_is_late(s->engine) && can_keep(s);
    }
    if (s->late) {
      break;
    }
    s->fed++;
    /* When out of memory this datagram is dropped; QUIC recovers. */
    (void)qe_engine_packet_in(s->engine, s, (const struct sockaddr *)&p->local, p->local_len,
                              (const struct sockaddr *)remote, p->remote_len, p->ecn, data + at, n,
                              now);
    at += n;
  }
  return at;
}

/* Queues a train until its connection's turn, in pieces that are processed one by one. */
static void keep(qe_sock *s, const void *owner, const qe_fair_packet *train, const uint8_t *data) {
  qe_fair_packet p = *train;
  size_t most = train->segment * FEED_STEP;

  for (size_t at = 0; at < train->len; at += p.len) {
    p.len = train->len - at < most ? train->len - at : most;
    p.count = segments(p.len, p.segment);
    bool kept = qe_fair_put(s->fair, owner, &p, data + at);
    qe_engine_count_backlog(s->engine, kept ? p.count : 0, kept ? 0 : p.count);
  }
}

/* Whether packets of a connection are processed at once in a call that reads ahead and has
 * processed `direct` packets so far. */
static bool admit(qe_sock *s, const void *owner, unsigned count, unsigned direct) {
  if (direct < s->recv_batch && qe_fair_admit(s->fair, owner, count)) {
    return true;
  }
  return s->alone && owner != NULL && direct + count <= s->recv_batch / 2;
}

/* Passes a message to the engine or queues it. The packets of a connection stay in order: if
 * some wait, so do all that follow. */
static void dispatch_message(qe_sock *s, unsigned i, bool ahead, unsigned *direct, qe_tstamp now) {
  const uint8_t *data = s->rx->iov[i].iov_base;
  const void *owner = NULL;
  qe_fair_packet p;
  size_t at = 0;

  if (!read_slot(s, i, &p)) {
    return;
  }
  memcpy(&p.remote, &s->rx->from[i], sizeof(p.remote));
  p.count = segments(p.len, p.segment);
  bool waits = s->late;
  if (ahead || waits || qe_fair_packets(s->fair) > 0) {
    /* A whole train counts for the connection of its first packet, because it comes from one
     * socket of the peer. */
    owner = qe_engine_owner(s->engine, data, p.segment);
    waits = waits || qe_fair_waits(s->fair, owner) || (ahead && !admit(s, owner, p.count, *direct));
    *direct += waits ? 0 : p.count;
  }
  if (!waits) {
    at = feed(s, &p, &p.remote, data, now);
    if (at == p.len || s->dead) {
      return;
    }
    if (owner == NULL) {
      owner = qe_engine_owner(s->engine, data, p.segment);
    }
  }
  p.len -= at;
  keep(s, owner, &p, data + at);
}

static void report_error(qe_sock *s, const struct qe_sock_error *error) {
  const struct sockaddr *remote = (const struct sockaddr *)&error->remote;

  if (error->mtu == 0) {
    qe_engine_on_unreachable(s->engine, remote, error->len, error->code);
    return;
  }
  const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&error->remote;
  bool v4 = remote->sa_family == AF_INET || IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
  size_t headers = v4 ? 20 + 8 : 40 + 8;
  qe_engine_on_narrow_path(s->engine, remote, error->len,
                           error->mtu > headers ? error->mtu - headers : 0);
}

/* Clears s->dispatching. Returns false if the socket was freed meanwhile. */
static bool leave(qe_sock *s) {
  s->dispatching = false;
  if (s->dead) {
    destroy(s);
    return false;
  }
  if (s->recv_calls > 0) {
    qe_engine_count_io(s->engine, 0, s->recv_calls);
    s->recv_calls = 0;
  }
  return true;
}

static void dispatch_batch(qe_sock *s, bool ahead, unsigned *direct, qe_tstamp now) {
  unsigned count = s->rx_count, errors = s->error_count;

  s->rx_count = 0;
  s->error_count = 0;
  for (unsigned i = 0; i < count && !s->dead; i++) {
    dispatch_message(s, i, ahead, direct, now);
  }
  for (unsigned i = 0; i < errors && !s->dead; i++) {
    report_error(s, &s->errors[i]);
  }
}

/* Call it at the start of each call that passes packets to the engine. */
static void begin_time(qe_sock *s) {
  s->late = false;
  s->fed = 0;
}

int qe_sock_dispatch(qe_sock *s, qe_tstamp now) {
  int more = s->rx_more || s->errors_wait;
  unsigned direct = 0;

  if (s->dead || s->dispatching) {
    return 0;
  }
  /* The socket had no port until its first packet was sent: get it now. */
  if (s->rx_count > 0 && ((struct sockaddr_in *)&s->bound)->sin_port == 0) {
    socklen_t len = sizeof(s->bound);
    (void)getsockname(s->fd, (struct sockaddr *)&s->bound, &len);
  }
  s->dispatching = true;
  begin_time(s);
  dispatch_batch(s, false, &direct, now);
  return !leave(s) ? 0 : more || qe_fair_packets(s->fair) > 0;
}

void qe_sock_set_alone(qe_sock *s, int alone) {
  s->alone = alone != 0;
}

int qe_sock_read_ahead(qe_sock *s, qe_tstamp now) {
  unsigned direct = 0, messages = 0;
  int n;

  if (s->dead || s->dispatching) {
    return 0;
  }
  if (!can_keep(s)) {
    return 1; /* leave the packets in the kernel's buffer */
  }
  begin_time(s);
  qe_fair_begin_turn(s->fair);
  s->dispatching = true;
  do {
    n = qe_sock_recv(s);
    messages += s->rx_count;
    dispatch_batch(s, true, &direct, now);
  } while (n > 0 && !s->dead && s->rx_more && messages < AHEAD_MESSAGES);
  int more = s->rx_more || s->errors_wait;
  return !leave(s) ? 0 : n < 0 ? n : more;
}

int qe_sock_serve(qe_sock *s, unsigned budget, qe_tstamp now) {
  unsigned served = 0;
  qe_fair_packet *p;

  if (s->dead || s->dispatching || qe_fair_packets(s->fair) == 0) {
    return 0;
  }
  s->dispatching = true;
  while (!s->dead && served < budget && (p = qe_fair_take(s->fair)) != NULL) {
    served += p->count;
    qe_engine_count_backlog(s->engine, -(int64_t)p->count, 0);
    begin_time(s); /* no piece is longer than FEED_STEP, and the caller checks the time */
    (void)feed(s, p, &p->remote, p->data, now);
    free(p);
  }
  return leave(s) && qe_fair_packets(s->fair) > 0;
}
