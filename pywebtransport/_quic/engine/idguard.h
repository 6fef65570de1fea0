/*
 * idguard.h - bounds the connection IDs whose retirement a client leaves unacknowledged.
 *
 * The library remembers each connection ID of the peer that it has retired until
 * the peer acknowledges that.  It has room for sixteen; a server in which a
 * client's change of path needs a seventeenth fails an assert (1.11 to 1.25).
 * So here is known which IDs a client has given and has not yet acknowledged as
 * retired, by looking into packets: the client's for NEW_CONNECTION_ID and ACK,
 * ours for RETIRE_CONNECTION_ID.  Beyond sixteen the connection ends with
 * CONNECTION_ID_LIMIT_ERROR, as it does in the library where no path changes.
 *
 * A client that acknowledges what it gets holds four and whatever it was told to
 * retire within the last round trip.
 */
#ifndef QE_IDGUARD_H
#define QE_IDGUARD_H

#include <stddef.h>
#include <stdint.h>

#define QE_IDS_MAX 16

typedef struct qe_idguard {
  uint64_t ids[QE_IDS_MAX]; /* given, and no acknowledged RETIRE_CONNECTION_ID yet */
  size_t n;
  struct {
    uint64_t id;
    int64_t packet;
  } sent[4 * QE_IDS_MAX]; /* our RETIRE_CONNECTION_ID; a ring */
  size_t nsent;
  int64_t largest; /* packet number received */
  uint64_t window; /* bit i: packet largest - i was received, or is too old to tell */
} qe_idguard;

/* `given` is the largest sequence number of the IDs so far.  What was received up to `packet` is
 * not looked at any more. */
void qe_idguard_init(qe_idguard *g, uint64_t given, int64_t packet);
/* A packet with correct keys arrived: 1 the first time. */
int qe_idguard_received(qe_idguard *g, int64_t packet);
/* IDs after `given` up to `id`: 0, or -1 when they are too many. */
int qe_idguard_given(qe_idguard *g, uint64_t given, uint64_t id);
/* Packet `packet` of ours retires `id`. */
void qe_idguard_retires(qe_idguard *g, uint64_t id, int64_t packet);
/* The peer acknowledges our packets from first to last. */
void qe_idguard_acked(qe_idguard *g, int64_t first, int64_t last);

#endif
