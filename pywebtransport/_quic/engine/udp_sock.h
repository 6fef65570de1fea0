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
  uint32_t mtu; /* EMSGSIZE: MTU of the link that refused the packet, including headers; 0:
                   unknown */
};

struct qe_sock {
  qe_engine *engine;
  int fd;
  int family;
  bool dual; /* IPv6 socket that also carries IPv4, with mapped addresses */
  bool dead; /* freed while dispatching; destroyed afterwards */
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
  struct qe_fair *fair; /* packets that wait for their turn; NULL until some had to */
  unsigned fed;         /* packets since the clock was last read */
  bool late;            /* the time of this call is over: queue the rest */
  bool alone;           /* see qe_sock_set_alone */

  /* Without GSO a full buffer may cut a train, and the caller then offers the whole train again.
   * These members tell how much of it is sent already. */
  uint64_t cut_mark; /* fingerprint of the train; meaningful when cut_sent > 0 */
  size_t cut_sent;
};

static inline bool qe_is_unreachable(int err) {
  return err == ECONNREFUSED || err == EHOSTUNREACH || err == ENETUNREACH;
}

/* Errors caused by ICMP. The kernel reports each once, on the next call, so it may belong to an
 * earlier packet to a different peer. */
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
