/*
 * udp.h - UDP sockets: the part of the engine that makes system calls.
 *
 * Receiving has two steps, so that the first can run without the interpreter lock: qe_sock_recv
 * fills buffers of the socket, and qe_sock_dispatch passes them to the engine.
 */
#ifndef QE_UDP_H
#define QE_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "quicengine.h"

/* The default packets_out function, as described at qe_packets_out. A train whose sock is NULL
 * counts as taken. */
size_t qe_udp_send(const qe_packets *trains, size_t n);

/* CLOCK_MONOTONIC in nanoseconds. */
qe_tstamp qe_udp_clock(void);

/* Called by udp.c; implemented by engine.c. */

/* remote cannot be reached (sys_errno: ECONNREFUSED, EHOSTUNREACH, ENETUNREACH). Called from
 * qe_sock_dispatch (ICMP) and, if the kernel has no route, from qe_udp_send and thus inside
 * qe_engine_process: the implementation may only set flags. */
void qe_engine_on_unreachable(qe_engine *e, const struct sockaddr *remote, socklen_t len,
                              int sys_errno);
/* The path to remote does not carry UDP payloads above `largest`: the kernel refused one, or a
 * router reported it. The implementation may only set flags here too. */
void qe_engine_on_narrow_path(qe_engine *e, const struct sockaddr *remote, socklen_t len,
                              size_t largest);
void qe_engine_add_sock(qe_engine *e, qe_sock *s);    /* from qe_sock_new */
void qe_engine_forget_sock(qe_engine *e, qe_sock *s); /* from qe_sock_free */
uint32_t qe_engine_recv_batch(const qe_engine *e);    /* settings.recv_batch */
/* Whether the time limit of qe_engine_set_until has passed. */
bool qe_engine_is_late(const qe_engine *e);
/* The connection that the ID in a packet belongs to, or NULL. The pointer must only be compared. */
const void *qe_engine_owner(const qe_engine *e, const uint8_t *data, size_t len);
/* The number of packets that wait at a socket changed by `waiting`, and `dropped` were dropped. */
void qe_engine_count_backlog(qe_engine *e, int64_t waiting, uint64_t dropped);
void qe_engine_count_io(qe_engine *e, uint64_t send_calls, uint64_t recv_calls);

#endif
