/*
 * idguard.h - limits the retired connection IDs that a client leaves unacknowledged.
 *
 * The library remembers each connection ID of the peer that it has retired, until the peer
 * acknowledges that. It has room for sixteen. If a client's change of path makes a server need a
 * seventeenth, the server fails an assert (1.11 to 1.25). So this module tracks which IDs a client
 * has issued and has not yet acknowledged as retired. It scans packets: those of the client for
 * NEW_CONNECTION_ID and ACK, our own for RETIRE_CONNECTION_ID. If there are more than sixteen, the
 * connection ends with CONNECTION_ID_LIMIT_ERROR, as the library does when no path changes.
 *
 * A client that acknowledges packets has four IDs in use, and those that it was told to retire
 * within the last round trip.
 */
#ifndef QE_IDGUARD_H
#define QE_IDGUARD_H

#include <stddef.h>
#include <stdint.h>

#define QE_IDS_MAX 16

typedef struct qe_idguard {
  uint64_t ids[QE_IDS_MAX]; /* issued, RETIRE_CONNECTION_ID not acknowledged yet */
  size_t n;
  struct {
    uint64_t id;
    int64_t packet;
  } sent[4 * QE_IDS_MAX]; /* ring of our RETIRE_CONNECTION_ID frames */
  size_t nsent;
  int64_t largest; /* largest packet number received */
  uint64_t window; /* bit i: packet largest - i was received, or is too old to tell */
} qe_idguard;

/* `given` is the largest sequence number of an ID so far. Packets up to number `packet` are
 * treated as duplicates. */
void qe_idguard_init(qe_idguard *g, uint64_t given, int64_t packet);
/* Records an authentic packet. Returns 1 the first time, 0 for a duplicate. */
int qe_idguard_received(qe_idguard *g, int64_t packet);
/* Adds the IDs after `given` up to `id`. Returns 0, or -1 if there are too many. */
int qe_idguard_given(qe_idguard *g, uint64_t given, uint64_t id);
/* Our packet with number `packet` retires `id`. */
void qe_idguard_retires(qe_idguard *g, uint64_t id, int64_t packet);
/* The peer acknowledges our packets `first` to `last`. */
void qe_idguard_acked(qe_idguard *g, int64_t first, int64_t last);

#endif
