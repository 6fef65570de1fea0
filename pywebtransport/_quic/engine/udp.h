/*
 * udp.h - UDP sockets: the only part of the engine that makes system calls.
 *
 * Receiving is two steps so that the first can run without the interpreter
 * lock: qe_sock_recv fills buffers that belong to the socket, and
 * qe_sock_dispatch hands them to the engine.
 */
#ifndef QE_UDP_H
#define QE_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "quicengine.h"

/* The default packets_out; see qe_packets_out for the contract.  A train whose
 * sock is NULL counts as taken. */
size_t qe_udp_send(const qe_packets *trains, size_t n);

/* CLOCK_MONOTONIC in nanoseconds. */
qe_tstamp qe_udp_clock(void);

/* Called by udp.c; implemented by engine.c. */

/* The network says that remote cannot be reached (sys_errno: ECONNREFUSED,
 * EHOSTUNREACH, ENETUNREACH).  Comes from qe_sock_dispatch (ICMP) and, when
 * the kernel has no route, from qe_udp_send and so from inside
 * qe_engine_process: the implementation may only set flags. */
void qe_engine_on_unreachable(qe_engine *e, const struct sockaddr *remote, socklen_t len,
                              int sys_errno);
/* The path to remote takes no UDP payload above `largest`: the kernel refused one, or a
 * router sent it back.  As above. */
void qe_engine_on_narrow_path(qe_engine *e, const struct sockaddr *remote, socklen_t len,
                              size_t largest);
void qe_engine_add_sock(qe_engine *e, qe_sock *s);    /* from qe_sock_new */
void qe_engine_forget_sock(qe_engine *e, qe_sock *s); /* from qe_sock_free */
uint32_t qe_engine_recv_batch(const qe_engine *e);    /* settings.recv_batch */
/* The time of the call that reads packets is over, see qe_engine_set_until. */
bool qe_engine_is_late(const qe_engine *e);
/* The connection that a packet says it is for, to be compared only; NULL: none. */
const void *qe_engine_owner(const qe_engine *e, const uint8_t *data, size_t len);
/* Packets that wait at a socket became more or fewer; so many were dropped there. */
void qe_engine_count_backlog(qe_engine *e, int64_t waiting, uint64_t dropped);
void qe_engine_count_io(qe_engine *e, uint64_t send_calls, uint64_t recv_calls);

#endif
