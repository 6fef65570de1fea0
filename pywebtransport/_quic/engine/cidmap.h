/*
 * cidmap.h - a chained hash table from connection IDs to values. It uses SipHash, so that a client
 * cannot choose connection IDs that collide.
 */
#ifndef QE_CIDMAP_H
#define QE_CIDMAP_H

#include <stddef.h>
#include <stdint.h>

#include "siphash.h"

#define QE_CIDMAP_MAX_LEN 20 /* RFC 9000 section 17.2 */

typedef struct qe_cidmap_entry qe_cidmap_entry;

typedef struct qe_cidmap {
  qe_cidmap_entry **buckets; /* NULL until the first entry */
  size_t nbuckets;           /* a power of two */
  size_t size;
  qe_sipkey key;
} qe_cidmap;

int qe_cidmap_init(qe_cidmap *m);
/* Frees the table, not the values. */
void qe_cidmap_free(qe_cidmap *m);
/* Inserts or replaces; the connection ID is copied. value must not be NULL. Returns 0,
 * QE_ERR_INVALID (len > 20, value NULL) or QE_ERR_NOMEM. */
int qe_cidmap_set(qe_cidmap *m, const uint8_t *cid, size_t len, void *value);
/* NULL when absent. */
void *qe_cidmap_get(const qe_cidmap *m, const uint8_t *cid, size_t len);
void qe_cidmap_del(qe_cidmap *m, const uint8_t *cid, size_t len);
size_t qe_cidmap_size(const qe_cidmap *m);

#endif
