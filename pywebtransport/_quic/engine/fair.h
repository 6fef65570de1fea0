/*
 * fair.h - packets that were read from a socket and wait for their turn.
 *
 * Each connection with waiting packets has a queue, and the queues are served in rounds. Packets
 * that belong to no connection share one queue. The pointer to a connection is used only as a key
 * and never dereferenced. So a connection may end while packets of its own wait; they are then
 * treated as packets of an unknown connection.
 */
#ifndef QE_FAIR_H
#define QE_FAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Packets of one connection in one turn, not counting the first batch. */
#define QE_FAIR_QUOTA 16
/* Bytes that may wait at one socket. */
#define QE_FAIR_MAX_BYTES ((size_t)8 << 20)
/* Packets of one connection that may wait. */
#define QE_FAIR_MAX_PACKETS 8192

typedef struct qe_fair_packet {
  struct qe_fair_packet *next;
  struct sockaddr_storage local, remote;
  socklen_t local_len, remote_len;
  unsigned ecn;
  unsigned count; /* number of packets; a train is kept whole */
  size_t segment; /* bytes of each packet except the last */
  size_t len;
  uint8_t data[];
} qe_fair_packet;

typedef struct qe_fair qe_fair;

qe_fair *qe_fair_new(void); /* NULL when out of memory */
void qe_fair_free(qe_fair *f);
/* Starts a turn: every connection has its full quota again. */
void qe_fair_begin_turn(qe_fair *f);
/* Whether packets of this connection wait; if so, new ones must wait behind them. */
bool qe_fair_waits(const qe_fair *f, const void *key);
/* Whether `count` more packets are within the connection's quota for this turn. If so, counts
 * them. */
bool qe_fair_admit(qe_fair *f, const void *key, unsigned count);
/* Queues a copy of a packet. Returns false if it is dropped because of the limits or for lack of
 * memory. */
bool qe_fair_put(qe_fair *f, const void *key, const qe_fair_packet *head, const uint8_t *data);
/* Removes and returns the next packet, in rounds of QE_FAIR_QUOTA packets, or NULL. The caller
 * frees it with free(). */
qe_fair_packet *qe_fair_take(qe_fair *f);
size_t qe_fair_packets(const qe_fair *f);

#endif
