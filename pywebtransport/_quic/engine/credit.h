/*
 * credit.h - how much the peer of a connection may send before the user reads.
 *
 * The peer begins with little credit (initial_max_data), so that idle
 * connections promise little memory.  It is extended as bytes arrive, not only
 * as they are read: streams that nobody reads do not stop the others until the
 * connection holds max_unread_data, or as much as all connections together
 * leave free (memory_left): however many hold something, there is room for the
 * next.  A peer whose bytes are read may be further ahead the faster they are.
 *
 * Credit that was given cannot be taken back.  What goes back to the peer
 * inside the library, for streams that were reset or stopped, is not counted.
 *
 * Each stream that ends lets the peer open another one.  As long as the peer
 * may open half of its streams anyway, this is worth no packet of its own: the
 * news goes out with the next bytes, or a little later.
 */
#ifndef QE_CREDIT_H
#define QE_CREDIT_H

#include "internal.h"

typedef struct qe_credit {
  uint64_t granted; /* stream bytes that the peer may send, from the beginning */
  uint64_t ahead;   /* of them, beyond those that were handed up */
  uint64_t due;     /* more credit is given when more bytes were handed up */
  uint64_t mark;    /* bytes returned when the speed of the reader was last measured */
  qe_tstamp mark_at;
} qe_credit;

/* Streams that the peer may open, of one kind. */
typedef struct qe_stream_credit {
  uint64_t allowed, opened; /* from the beginning */
  uint64_t owed;            /* those that it was not told of yet */
} qe_stream_credit;

void qe_credit_init(qe_conn *c);
/* After bytes were handed up, or read, if more than `due` were handed up. */
void qe_credit_update(qe_conn *c);
/* After bytes were read: how fast is the reader? */
void qe_credit_measure(qe_conn *c);
/* What the peer can make the connection hold: bytes that are unread, and credit. */
uint64_t qe_credit_window(const qe_conn *c);

/* The peer opened the stream with this ID. */
void qe_credit_stream_opened(qe_conn *c, int64_t id);
/* The peer may open n more streams. */
void qe_credit_add_streams(qe_conn *c, int uni, uint64_t n);
/* Call it before packets are written: tells the peer what is owed if it is time. */
void qe_credit_tell_streams(qe_conn *c, qe_tstamp now);
/* When qe_credit_tell_streams must be called; QE_NEVER if nothing is owed. */
qe_tstamp qe_credit_next(const qe_conn *c);

#endif
