/*
 * hold.h - resets of some streams that wait until another stream has ended.
 *
 * The library puts RESET_STREAM and STOP_SENDING before stream data.  When a
 * session ends, the peer has to read so on its CONNECT stream before the
 * streams of the session are torn down, so their frames are held back until
 * the CONNECT stream's FIN is acknowledged, or the packet with its reset was
 * written.
 */
#ifndef QE_HOLD_H
#define QE_HOLD_H

#include "internal.h"

/* All that waits for one stream. */
typedef struct qe_hold {
  struct qe_hold *next; /* in the connection's list */
  qe_stream *until;
  qe_stream *members;
  qe_tstamp deadline;
  unsigned tries; /* deadlines that passed */
} qe_hold;

/* The stream is going away: it waits for nothing, and nothing for it. */
void qe_hold_forget(qe_stream *s);
/* Lets go of what need not wait any longer.  wrote: a packet with more than
 * acknowledgements was just written. */
void qe_conn_settle_holds(qe_conn *c, qe_tstamp now, int wrote);
/* The connection ends: nothing waits any more, and nothing is sent for it. */
void qe_conn_free_holds(qe_conn *c);
/* When qe_conn_settle_holds has work at the latest; QE_NEVER if none is waiting. */
qe_tstamp qe_conn_next_hold(const qe_conn *c);

#endif
