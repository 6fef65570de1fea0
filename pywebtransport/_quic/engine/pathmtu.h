/*
 * pathmtu.h - when the library looks for the largest packet size of a path, and notices that a path
 * no longer carries packets of the size in use.
 *
 * Discovery starts when there is something to gain from it: after some KiB of stream data, with a
 * datagram, whose size limit depends on it, or half a second after the handshake. A connection that
 * opens a session and closes it sends no probe.
 *
 * The library's path MTU discovery can only increase the size. When the MTU of a path falls (a VPN
 * comes up, a route changes), full-size packets vanish while small ones arrive: the connection is
 * dead but looks alive. RFC 8899 section 4.3 calls this a black hole. The signs are: the local
 * kernel or a router refuses a packet (EMSGSIZE), stream bytes that were sent in full-size packets
 * are not acknowledged for several probe timeouts, no full-size datagram arrives, or nothing is
 * acknowledged at all. Then packets are limited to 1200 bytes, which every QUIC path must carry,
 * and full size is tried again after a while.
 */
#ifndef QE_PATHMTU_H
#define QE_PATHMTU_H

#include "internal.h"

#define QE_BASE_MTU 1200 /* RFC 9000 section 14 */

typedef struct qe_pathmtu {
  size_t cap;           /* largest UDP payload; 0: no limit beyond the library's */
  qe_tstamp check_at;   /* when to look at acknowledgements next; 0: not needed */
  qe_tstamp raise_at;   /* when to try full size again, with one packet */
  uint64_t raise_wait;  /* the last delay before that */
  unsigned lost_dgrams; /* full-size ones lost since the last one that arrived */
  int lost_before;      /* some of them were lost before the last look */
  uint64_t in_flight;   /* at the last look; 0 if anything was acknowledged since */
  int sent_large;       /* full-size packets were sent since the last look */
  int64_t probe_id;     /* stream whose bytes up to probe_end are last in that packet; -1: none */
  uint64_t probe_end;
  qe_tstamp probe_at;
  size_t probe_lost;  /* lost packets of that stream at the time */
  int started;        /* the library may send its probes */
  qe_tstamp start_at; /* when it may at the latest; 0: not known yet */
} qe_pathmtu;

/* The largest UDP payload at present. */
size_t qe_conn_mtu(const qe_conn *c);
void qe_pathmtu_init(qe_pathmtu *m);
/* The largest UDP payload that may be written now, including probes. */
size_t qe_pathmtu_room(qe_conn *c, qe_tstamp now);
/* Larger packets are useful now: begin to look for them. */
void qe_pathmtu_start(qe_conn *c);
/* A packet of n bytes was sent; s is the stream whose bytes are last in it, or NULL. */
void qe_pathmtu_sent(qe_conn *c, size_t n, const qe_stream *s, qe_tstamp now);
/* The peer has acknowledged a datagram, or the bytes of a stream up to `end`. */
void qe_pathmtu_acked(qe_conn *c);
void qe_pathmtu_acked_stream(qe_conn *c, int64_t id, uint64_t end);
/* A datagram in a full-size packet arrived or was lost. */
void qe_pathmtu_dgram(qe_conn *c, int arrived);
/* The kernel or an ICMP message says that the path carries at most `largest` bytes. A forged
 * message does little harm: packets are smaller for a while. */
void qe_pathmtu_narrow(qe_conn *c, size_t largest);
/* The path changed: forget everything about the old one. */
void qe_pathmtu_forget(qe_conn *c);
/* qe_pathmtu_check does the checks that are due; qe_pathmtu_next says when to call it again, or
 * QE_NEVER. */
void qe_pathmtu_check(qe_conn *c, qe_tstamp now);
qe_tstamp qe_pathmtu_next(const qe_conn *c);

#endif
