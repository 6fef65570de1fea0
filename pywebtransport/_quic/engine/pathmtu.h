/*
 * pathmtu.h - when the library looks for the largest packet of a path, and notices that a path
 * takes smaller packets than it did.
 *
 * Discovery starts when there is something to gain from it: some KiB of stream data, or a
 * datagram, for which the size decides what it may hold; or half a second after the handshake.  A
 * connection that opens a session and closes it sends no probe.
 *
 * The library's path MTU discovery only ever grows.  When the MTU of a path falls
 * (a VPN comes up, a route changes), full-size packets vanish while small ones
 * arrive: the connection is dead and looks alive.  RFC 8899 section 4.3 calls this
 * a black hole.  Here it is known by a refusal of this machine's kernel or of a
 * router (EMSGSIZE), by bytes of a stream that were sent in full-size packets and
 * are not acknowledged for several probe timeouts, by full-size datagrams of which
 * none arrives, or when nothing is acknowledged at all.  Then packets are no larger
 * than 1200 bytes, which every path of QUIC takes, and after a while full size is
 * tried anew.
 */
#ifndef QE_PATHMTU_H
#define QE_PATHMTU_H

#include "internal.h"

#define QE_BASE_MTU 1200 /* RFC 9000 section 14 */

typedef struct qe_pathmtu {
  size_t cap;           /* largest UDP payload; 0: as large as the library says */
  qe_tstamp check_at;   /* when acknowledgements are looked at next; 0: nothing to look for */
  qe_tstamp raise_at;   /* when full size is tried again, with one packet */
  uint64_t raise_wait;  /* and how long that took the last time */
  unsigned lost_dgrams; /* full-size ones, since the last that arrived */
  int lost_before;      /* some of them before the last look */
  uint64_t in_flight;   /* at the last look; 0 when something was acknowledged since */
  int sent_large;       /* since the last look */
  int64_t probe_id;     /* that packet ends with bytes of this stream up to probe_end; -1: none */
  uint64_t probe_end;
  qe_tstamp probe_at;
  size_t probe_lost;  /* packets of that stream, by then */
  int started;        /* the library may send its probes */
  qe_tstamp start_at; /* when it may at the latest; 0: not known yet */
} qe_pathmtu;

/* Largest UDP payload now. */
size_t qe_conn_mtu(const qe_conn *c);
void qe_pathmtu_init(qe_pathmtu *m);
/* Largest UDP payload that may be written now, probes included. */
size_t qe_pathmtu_room(qe_conn *c, qe_tstamp now);
/* Somebody wants larger packets: look for them now. */
void qe_pathmtu_start(qe_conn *c);
/* A packet of n bytes went out; s is the stream whose bytes it ends with, or NULL. */
void qe_pathmtu_sent(qe_conn *c, size_t n, const qe_stream *s, qe_tstamp now);
/* The peer has acknowledged a datagram, or the bytes of a stream up to `end`. */
void qe_pathmtu_acked(qe_conn *c);
void qe_pathmtu_acked_stream(qe_conn *c, int64_t id, uint64_t end);
/* A datagram of a full-size packet arrived or was lost. */
void qe_pathmtu_dgram(qe_conn *c, int arrived);
/* Somebody said that the path takes no more than `largest` bytes.  It may be a forgery, which
 * costs no more than a somewhat smaller packet size for a while. */
void qe_pathmtu_narrow(qe_conn *c, size_t largest);
/* Another path: nothing is known about it. */
void qe_pathmtu_forget(qe_conn *c);
/* Looks at what is due, and when to do so next; QE_NEVER if there is nothing to look for. */
void qe_pathmtu_check(qe_conn *c, qe_tstamp now);
qe_tstamp qe_pathmtu_next(const qe_conn *c);

#endif
