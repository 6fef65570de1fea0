/*
 * udp_sock.h - the socket object, shared by udp.c (receiving) and udp_send.c.
 */
#ifndef QE_UDP_SOCK_H
#define QE_UDP_SOCK_H

#include <errno.h>
#include <stdbool.h>

#include "quicengine.h"

#define QE_SOCK_MAX_ERRORS 16

struct qe_rx; /* receive buffers */
struct qe_fair;

struct qe_sock_error {
  struct sockaddr_storage remote;
  socklen_t len;
  int code;
  uint32_t mtu; /* EMSGSIZE: of the link that was too narrow, headers included; 0: not told */
};

struct qe_sock {
  qe_engine *engine;
  int fd;
  int family;
  bool dual; /* IPv6 socket that also carries IPv4, as mapped addresses */
  bool dead; /* freed while dispatching: destroyed when that ends */
  bool dispatching;
  int features; /* QE_SOCK_* in force */
  struct sockaddr_storage bound;
  socklen_t bound_len;

  /* Receiving. */
  uint32_t recv_batch;
  struct qe_rx *rx; /* NULL until the first qe_sock_recv */
  unsigned rx_count;
  bool rx_more;           /* the batch was full */
  bool errors_wait;       /* the error queue may hold something */
  unsigned segments_seen; /* most datagrams in one message, last time */
  uint64_t recv_calls;
  struct qe_sock_error errors[QE_SOCK_MAX_ERRORS];
  unsigned error_count;
  struct qe_fair *fair; /* what waits for its turn; NULL until something waited */
  unsigned fed;         /* packets since the last look at the clock */
  bool late;            /* the time of this call is over: what comes now waits */

  /* Sending without GSO: a train that was cut by a full buffer comes back
   * whole; this tells how much of it is already out. */
  uint64_t cut_mark; /* fingerprint of the train; meaningful when cut_sent > 0 */
  size_t cut_sent;
};

static inline bool qe_is_unreachable(int err) {
  return err == ECONNREFUSED || err == EHOSTUNREACH || err == ENETUNREACH;
}

/* Errors that ICMP causes.  The kernel reports them once, on whatever call
 * comes next, so they may well belong to an earlier packet to someone else. */
static inline bool qe_is_late_error(int err) {
  switch (err) {
  case ECONNREFUSED:
  case EHOSTUNREACH:
  case ENETUNREACH:
  case EHOSTDOWN:
  case ENETDOWN:
  case ENONET:
  case ENOPROTOOPT:
  case EPROTO:
  case EMSGSIZE:
  case EACCES:
  case EOPNOTSUPP:
    return true;
  default:
    return false;
  }
}

#endif
