/*
 * fair.h - packets that were read from a socket before their turn came.
 *
 * One queue for each connection that has any, served in rounds; packets of no
 * connection share one.  A connection is a key here, compared and never
 * followed: one that ends leaves its packets behind, and they are nobody's.
 */
#ifndef QE_FAIR_H
#define QE_FAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Of one connection in one turn, beyond the first batch. */
#define QE_FAIR_QUOTA 16
/* Of all that waits at one socket. */
#define QE_FAIR_MAX_BYTES ((size_t)8 << 20)
/* Of one connection. */
#define QE_FAIR_MAX_PACKETS 8192

typedef struct qe_fair_packet {
  struct qe_fair_packet *next;
  struct sockaddr_storage local, remote;
  socklen_t local_len, remote_len;
  unsigned ecn;
  unsigned count; /* packets: a train is kept whole */
  size_t segment; /* bytes of each of them but the last */
  size_t len;
  uint8_t data[];
} qe_fair_packet;

typedef struct qe_fair qe_fair;

qe_fair *qe_fair_new(void); /* NULL: no memory */
void qe_fair_free(qe_fair *f);
/* Nobody has used up anything. */
void qe_fair_begin_turn(qe_fair *f);
/* Packets of this connection wait: those that come now are behind them. */
bool qe_fair_waits(const qe_fair *f, const void *key);
/* So many more would still be within the connection's quota of this turn; counts them if so. */
bool qe_fair_admit(qe_fair *f, const void *key, unsigned count);
/* Copies a packet.  False: it is dropped, for the bounds or for lack of memory. */
bool qe_fair_put(qe_fair *f, const void *key, const qe_fair_packet *head, const uint8_t *data);
/* The next one in rounds of QE_FAIR_QUOTA packets, or NULL; free() it. */
qe_fair_packet *qe_fair_take(qe_fair *f);
size_t qe_fair_packets(const qe_fair *f);

#endif
