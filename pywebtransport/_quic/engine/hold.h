/*
 * hold.h - holds back the resets of some streams until another stream has ended.
 *
 * The library sends RESET_STREAM and STOP_SENDING before stream data. When a session ends, the peer
 * has to learn that from the CONNECT stream before the streams of the session are torn down. So
 * their frames are held back until the FIN of the CONNECT stream is acknowledged, or a packet with
 * its reset was written.
 */
#ifndef QE_HOLD_H
#define QE_HOLD_H

#include "internal.h"

/* The streams that wait for the end of one stream. */
typedef struct qe_hold {
  struct qe_hold *next; /* next in the list of the connection */
  qe_stream *until;
  qe_stream *members;
  qe_tstamp deadline;
  unsigned tries; /* number of deadlines that passed */
} qe_hold;

/* Call it before a stream is freed: removes it from all holds and releases the streams that wait
 * for it. */
void qe_hold_forget(qe_stream *s);
/* Releases the streams that need not wait any longer. wrote: a packet with more than
 * acknowledgements was just written. */
void qe_conn_settle_holds(qe_conn *c, qe_tstamp now, int wrote);
/* Call it when the connection ends: frees all holds without sending anything. */
void qe_conn_free_holds(qe_conn *c);
/* When qe_conn_settle_holds must be called at the latest; QE_NEVER if no stream waits. */
qe_tstamp qe_conn_next_hold(const qe_conn *c);

#endif
