#include "cidmap.h"

#include <stdlib.h>
#include <string.h>

#include "quicengine.h"

#define MIN_BUCKETS 16

struct qe_cidmap_entry {
  qe_cidmap_entry *next;
  void *value;
  uint64_t hash;
  uint8_t len;
  uint8_t cid[];
};

/* The link that points to the entry, or the empty link at the end of the chain. */
static qe_cidmap_entry **find(const qe_cidmap *m, uint64_t hash, const uint8_t *cid, size_t len) {
  qe_cidmap_entry **link = &m->buckets[hash & (m->nbuckets - 1)];
  while (*link != NULL) {
    const qe_cidmap_entry *e = *link;
    if (e->hash == hash && e->len == len && (len == 0 || memcmp(e->cid, cid, len) == 0)) {
      break;
    }
    link = &(*link)->next;
  }
  return link;
}

static int resize(qe_cidmap *m, size_t nbuckets) {
  qe_cidmap_entry **buckets = calloc(nbuckets, sizeof(*buckets));
  if (buckets == NULL) {
    return QE_ERR_NOMEM;
  }
  for (size_t i = 0; i < m->nbuckets; i++) {
    qe_cidmap_entry *e = m->buckets[i];
    while (e != NULL) {
      qe_cidmap_entry *next = e->next;
      size_t slot = e->hash & (nbuckets - 1);
      e->next = buckets[slot];
      buckets[slot] = e;
      e = next;
    }
  }
  free(m->buckets);
  m->buckets = buckets;
  m->nbuckets = nbuckets;
  return 0;
}

int qe_cidmap_init(qe_cidmap *m) {
  memset(m, 0, sizeof(*m));
  return qe_sipkey_init(&m->key);
}

void qe_cidmap_free(qe_cidmap *m) {
  for (size_t i = 0; i < m->nbuckets; i++) {
    qe_cidmap_entry *e = m->buckets[i];
    while (e != NULL) {
      qe_cidmap_entry *next = e->next;
      free(e);
      e = next;
    }
  }
  free(m->buckets);
  m->buckets = NULL;
  m->nbuckets = 0;
  m->size = 0;
}

int qe_cidmap_set(qe_cidmap *m, const uint8_t *cid, size_t len, void *value) {
  if (len > QE_CIDMAP_MAX_LEN || value == NULL) {
    return QE_ERR_INVALID;
  }
  if (m->nbuckets == 0 && resize(m, MIN_BUCKETS) != 0) {
    return QE_ERR_NOMEM;
  }
  uint64_t hash = qe_siphash(&m->key, cid, len);
  qe_cidmap_entry **link = find(m, hash, cid, len);
  if (*link != NULL) {
    (*link)->value = value;
    return 0;
  }
  qe_cidmap_entry *e = malloc(sizeof(*e) + len);
  if (e == NULL) {
    return QE_ERR_NOMEM;
  }
  e->next = NULL;
  e->value = value;
  e->hash = hash;
  e->len = (uint8_t)len;
  if (len > 0) {
    memcpy(e->cid, cid, len);
  }
  *link = e;
  m->size++;
  if (m->size > m->nbuckets) {
    /* If the table cannot grow, it is slower but still correct. */
    (void)resize(m, m->nbuckets * 2);
  }
  return 0;
}

void *qe_cidmap_get(const qe_cidmap *m, const uint8_t *cid, size_t len) {
  if (m->size == 0 || len > QE_CIDMAP_MAX_LEN) {
    return NULL;
  }
  const qe_cidmap_entry *e = *find(m, qe_siphash(&m->key, cid, len), cid, len);
  return e == NULL ? NULL : e->value;
}

void qe_cidmap_del(qe_cidmap *m, const uint8_t *cid, size_t len) {
  if (m->size == 0 || len > QE_CIDMAP_MAX_LEN) {
    return;
  }
  qe_cidmap_entry **link = find(m, qe_siphash(&m->key, cid, len), cid, len);
  qe_cidmap_entry *e = *link;
  if (e == NULL) {
    return;
  }
  *link = e->next;
  free(e);
  m->size--;
  if (m->nbuckets > MIN_BUCKETS && m->size < m->nbuckets / 8) {
    (void)resize(m, m->nbuckets / 2);
  }
}

size_t qe_cidmap_size(const qe_cidmap *m) {
  return m->size;
}
