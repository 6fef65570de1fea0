/*
 * libmem.h - counts the memory that the library uses for one connection.
 *
 * What arrives out of order waits in the library.  Flow control counts offsets,
 * and not what the pieces cost: a byte here and there, in a hundred streams, is
 * fifty times as much in memory as in packets, and 1.11 bounds the pieces of a
 * stream only.  So all that the library allocates for a connection is counted,
 * and qe_libmem_check() ends the connection above a bound that grows with the
 * credit it was given and with what it has in flight.
 */
#ifndef QE_LIBMEM_H
#define QE_LIBMEM_H

#include <ngtcp2/ngtcp2.h>

#include "internal.h"

/* Allowance on top of credit and bytes in flight. An idle connection uses 28 KiB, and one that
 * opens streams as fast as it can uses less than a mebibyte. */
#define QE_LIBMEM_SPARE ((uint64_t)6 << 20)

typedef struct qe_libmem {
  ngtcp2_mem mem; /* passed to the library */
  uint64_t bytes;
} qe_libmem;

/* m must not move while the library uses it. */
void qe_libmem_init(qe_libmem *m);
/* Call it after the library has read a packet. */
void qe_libmem_check(qe_conn *c);

#endif
