#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sendmmsg */
#endif
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "udp.h"
#include "udp_cmsg.h"
#include "udp_sock.h"

/* Messages per system call. */
#define BATCH 32

/* How far sending has got: a train, and the number of its bytes that are sent. */
typedef struct place {
  size_t train;
  size_t offset;
} place;

/* How one attempt has to differ from a normal one. */
typedef struct manner {
  bool split;  /* send this train as single packets, although GSO is on */
  bool no_ecn; /* leave the ECN mark out once */
} manner;

typedef struct batch {
  struct mmsghdr msgs[BATCH];
  struct iovec iov[BATCH];
  qe_cmsg_buf control[BATCH];
  place after[BATCH]; /* the place after each message */
  size_t count;
} batch;

static uint64_t fingerprint(const qe_packets *t) {
  /* FNV-1a over the start of the first packet. The protected packet number makes it unique
   * enough to recognise the train. */
  uint64_t h = 0xcbf29ce484222325u ^ t->len;
  size_t n = t->len < 48 ? t->len : 48;
  for (size_t i = 0; i < n; i++) {
    h = (h ^ t->data[i]) * 0x100000001b3u;
  }
  return h;
}

static bool is_train(const qe_packets *t, size_t offset) {
  return t->segment_size > 0 && t->len - offset > t->segment_size;
}

static void add(batch *b, const qe_packets *t, place at, const manner *m) {
  const qe_sock *s = t->sock;
  struct msghdr *h = &b->msgs[b->count].msg_hdr;
  struct iovec *iov = &b->iov[b->count];
  bool whole = !is_train(t, at.offset) || ((s->features & QE_SOCK_GSO) && !m->split);
  size_t len = whole ? t->len - at.offset : t->segment_size;
  qe_cmsg_send what = {
      .local = (s->features & QE_SOCK_PKTINFO) ? t->local : NULL,
      .remote = t->remote,
      .ecn = (s->features & QE_SOCK_ECN) && !m->no_ecn ? t->ecn : 0,
      .segment_size = len > t->segment_size ? (uint16_t)t->segment_size : 0,
  };

  /* The kernel only reads what these point to. */
  iov->iov_base = (void *)(uintptr_t)(t->data + at.offset);
  iov->iov_len = len;
  memset(h, 0, sizeof(*h));
  h->msg_name = (void *)(uintptr_t)t->remote;
  h->msg_namelen = t->remote_len;
  h->msg_iov = iov;
  h->msg_iovlen = 1;
  qe_cmsg_write(h, &b->control[b->count], &what);
  b->after[b->count] =
      at.offset + len < t->len ? (place){at.train, at.offset + len} : (place){at.train + 1, 0};
  b->count++;
}

/* Collects messages for one socket, starting at `at`. */
static void fill(batch *b, const qe_packets *trains, size_t n, place at, const manner *m) {
  const qe_sock *s = trains[at.train].sock;
  size_t first = at.train;

  b->count = 0;
  while (b->count < BATCH && at.train < n && trains[at.train].sock == s) {
    /* A special manner applies to one train only. */
    if (at.train != first && (m->split || m->no_ecn)) {
      break;
    }
    add(b, &trains[at.train], at, m);
    at = b->after[b->count - 1];
  }
}

/* Returns how many messages the kernel accepted, or -1 with errno. */
static int push(qe_sock *s, batch *b, uint64_t *calls) {
  int rv;
  do {
    (*calls)++;
    if (b->count == 1) {
      rv = sendmsg(s->fd, &b->msgs[0].msg_hdr, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -1 : 1;
    } else {
      rv = sendmmsg(s->fd, b->msgs, (unsigned)b->count, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
  } while (rv < 0 && errno == EINTR);
  return rv;
}

/* Errors that mean that GSO is not supported. EINVAL and EMSGSIZE have other causes too (a
 * source address that is gone, packets above the MTU), so they are doubtful: they count against
 * GSO only if single packets then pass. */
static bool gso_refused(int err) {
  return err == EIO || err == EOPNOTSUPP || err == ENOSYS;
}

static bool gso_doubtful(int err) {
  return err == EINVAL || err == EMSGSIZE;
}

/* ENOBUFS is not included: it means that a queue of the system, or the link itself, has dropped
 * the packet. The socket stays writable, so waiting for that would be a busy loop, and the
 * packet may never pass (for instance if a virtual link finds it too large). Such a packet
 * counts as lost. */
static bool would_block(int err) {
  return err == EAGAIN || err == EWOULDBLOCK;
}

/* Handles a message that failed with err. Returns true to try again in the manner that was set,
 * or false if the message is lost. */
static bool recover(qe_sock *s, const qe_packets *t, place at, manner *m, bool *retried, int err) {
  if (qe_is_late_error(err)) {
    s->errors_wait = true;
    if (!*retried) {
      *retried = true;
      return true;
    }
  }
  if (err == EINVAL && t->ecn != 0 && (s->features & QE_SOCK_ECN) && !m->no_ecn) {
    m->no_ecn = true;
    return true;
  }
  bool gso = is_train(t, at.offset) && (s->features & QE_SOCK_GSO) && !m->split;
  if (gso && (gso_refused(err) || gso_doubtful(err))) {
    if (gso_refused(err)) {
      s->features &= ~QE_SOCK_GSO;
    }
    *m = (manner){.split = true};
    return true;
  }
  if (err == EMSGSIZE) {
    size_t left = t->len - at.offset;
    qe_engine_on_narrow_path(s->engine, t->remote, t->remote_len,
                             (left < t->segment_size ? left : t->segment_size) - 1);
  }
  if (qe_is_unreachable(err)) {
    qe_engine_on_unreachable(s->engine, t->remote, t->remote_len, err);
  }
  return false;
}

/* Draws conclusions from a successful attempt in a special manner. A short last packet proves
 * nothing about segmentation: it may pass where full-size packets are too large. */
static void learn(qe_sock *s, const manner *m, const batch *b, const qe_packets *t) {
  if (m->no_ecn) {
    s->features &= ~QE_SOCK_ECN;
  }
  if (m->split && b->iov[0].iov_len == t->segment_size) {
    s->features &= ~QE_SOCK_GSO;
  }
}

/* Sends consecutive trains of one socket, starting at `at`. Returns true if the kernel would
 * block. */
static bool send_run(const qe_packets *trains, size_t n, place *at, uint64_t *calls) {
  qe_sock *s = trains[at->train].sock;
  manner m = {false, false};
  bool retried = false;
  batch b;

  while (at->train < n && trains[at->train].sock == s) {
    const qe_packets *t = &trains[at->train];
    size_t current = at->train;

    fill(&b, trains, n, *at, &m);
    int rv = push(s, &b, calls);
    if (rv > 0) {
      learn(s, &m, &b, t);
      *at = b.after[rv - 1];
      retried = false;
    } else {
      int err = errno;
      if (rv < 0 && would_block(err)) {
        return true;
      }
      if (rv < 0 && recover(s, t, *at, &m, &retried, err)) {
        continue;
      }
      *at = b.after[0]; /* treat it as lost on the path */
      retried = false;
    }
    if (at->train != current) {
      m = (manner){false, false};
    }
  }
  return false;
}

static size_t resume_offset(const qe_packets *t) {
  const qe_sock *s = t->sock;
  return s->cut_sent > 0 && s->cut_sent < t->len && fingerprint(t) == s->cut_mark ? s->cut_sent : 0;
}

size_t qe_udp_send(const qe_packets *trains, size_t n) {
  place at = {0, 0};

  while (at.train < n) {
    const qe_packets *t = &trains[at.train];
    qe_sock *s = t->sock;
    uint64_t calls = 0;

    if (s == NULL || t->len == 0) {
      at.train++;
      continue;
    }
    at.offset = resume_offset(t);
    s->cut_sent = 0;
    bool blocked = send_run(trains, n, &at, &calls);
    qe_engine_count_io(s->engine, calls, 0);
    if (blocked) {
      if (at.offset > 0) {
        s->cut_sent = at.offset;
        s->cut_mark = fingerprint(&trains[at.train]);
      }
      break;
    }
  }
  return at.train;
}
