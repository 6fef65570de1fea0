/*
 * libmem.h - counts the memory that the library uses for one connection.
 *
 * What arrives out of order waits in the library.  Flow control counts offsets,
 * and not what the pieces cost: a byte here and there, in a hundred streams, is
 * fifty times as much in memory as in packets, and 1.11 bounds the pieces of a
 * stream only.  So all that the library allocates for a connection is counted,
 * and qe_libmem_check() ends the connection above a bound that grows with the
 * credit it was given and with what it has in flight.  It also tells the user
 * (library_memory) of what is more than a connection needs.
 */
#ifndef QE_LIBMEM_H
#define QE_LIBMEM_H

#include <ngtcp2/ngtcp2.h>
#include <stdbool.h>

#include "internal.h"

/* Allowance on top of credit and bytes in flight. An idle connection uses 26 KiB, and one that
 * opens streams as fast as it can uses less than a mebibyte. */
#define QE_LIBMEM_SPARE ((uint64_t)6 << 20)
/* What a connection may take, beyond its flight, without being counted for the process. */
#define QE_LIBMEM_FREE ((uint64_t)128 << 10)
/* The user is told of changes of this size. */
#define QE_LIBMEM_STEP ((uint64_t)32 << 10)

/*
 * Every connection of the library has two buffers for what it decrypts: one for the header of a
 * packet, one for the payload. What is in them is not used after the call that reads the packet,
 * so the connections of an engine, which never read at the same time, share one pair.
 */
#define QE_SCRATCH_BUFFERS 2
#define QE_SCRATCH_SIZE ((size_t)65536) /* more than any UDP payload */

/* Initialize with zeros. Only the pages that are used take memory. */
typedef struct qe_scratch {
  uint8_t *buffers[QE_SCRATCH_BUFFERS];
} qe_scratch;

void qe_scratch_free(qe_scratch *s);

typedef struct qe_libmem {
  ngtcp2_mem mem; /* passed to the library */
  uint64_t bytes;
  uint64_t told;       /* of them, counted by the user */
  qe_scratch *scratch; /* NULL: not shared */
  uint8_t lent;        /* how many of its buffers the library has */
} qe_libmem;

/* m must not move while the library uses it, and the scratch buffers must outlive it. */
void qe_libmem_init(qe_libmem *m, qe_scratch *scratch);
/* Whether there is something to check: mostly not, as long as the packets come in order. */
static inline bool qe_libmem_is_large(const qe_libmem *m) {
  return m->bytes > QE_LIBMEM_FREE || m->told != 0;
}
/* Call it after the library has read a packet, if it is large. */
void qe_libmem_check(qe_conn *c);
/* At the end: nothing is held any more. */
void qe_libmem_forget(qe_conn *c);

#endif
