#include "linger.h"

#include <stdlib.h>

#define CID_SLOT (1 + NGTCP2_MAX_CIDLEN)

void qe_linger_init(qe_linger_list *list, qe_cidmap *cids, qe_timers *timers, qe_batch *batch) {
  *list = (qe_linger_list){.cids = cids, .timers = timers, .batch = batch};
}

void qe_linger_remove(qe_linger_list *list, qe_linger *l) {
  for (size_t i = 0; i < l->cid_count; i++) {
    const uint8_t *slot = l->data + i * CID_SLOT;
    if (qe_cidmap_get(list->cids, slot + 1, slot[0]) == l) {
      qe_cidmap_del(list->cids, slot + 1, slot[0]);
    }
  }
  qe_timers_remove(list->timers, &l->target.timer);
  if (l->prev != NULL) {
    l->prev->next = l->next;
  } else {
    list->oldest = l->next;
  }
  if (l->next != NULL) {
    l->next->prev = l->prev;
  } else {
    list->newest = l->prev;
  }
  list->count--;
  free(l);
}

void qe_linger_clear(qe_linger_list *list) {
  while (list->oldest != NULL) {
    qe_linger_remove(list, list->oldest);
  }
}

void qe_linger_add(qe_linger_list *list, const qe_keys *cids, const ngtcp2_path *path,
                   const uint8_t *packet, size_t packet_len, qe_tstamp until) {
  size_t n = cids->n;
  qe_linger *l = malloc(sizeof(*l) + n * CID_SLOT + packet_len);
  if (l == NULL) {
    for (size_t i = 0; i < n; i++) {
      qe_cidmap_del(list->cids, cids->items[i].data, cids->items[i].len);
    }
    return;
  }
  l->target.kind = QE_TARGET_LINGER;
  qe_timer_init(&l->target.timer);
  l->received = 0;
  l->cid_count = n;
  l->packet_len = packet_len;
  ngtcp2_path_storage_zero(&l->path);
  ngtcp2_path_copy(&l->path.path, path);
  if (packet_len > 0) {
    memcpy(l->data + n * CID_SLOT, packet, packet_len);
  }
  l->next = NULL;
  l->prev = list->newest;
  if (l->prev != NULL) {
    l->prev->next = l;
  } else {
    list->oldest = l;
  }
  list->newest = l;
  list->count++;

  for (size_t i = 0; i < n; i++) {
    uint8_t *slot = l->data + i * CID_SLOT;
    slot[0] = cids->items[i].len;
    memcpy(slot + 1, cids->items[i].data, slot[0]);
    if (qe_cidmap_set(list->cids, slot + 1, slot[0], l) != 0) {
      qe_cidmap_del(list->cids, slot + 1, slot[0]);
    }
  }
  if (qe_timers_set(list->timers, &l->target.timer, until) != 0) {
    qe_linger_remove(list, l);
    return;
  }
  if (list->count > QE_LINGER_MAX) {
    qe_linger_remove(list, list->oldest);
  }
}

void qe_linger_on_packet(qe_linger_list *list, qe_linger *l, const ngtcp2_path *path) {
  /* Answer only the 1st, 2nd, 4th, 8th ... packet, and only to the known address: nobody must be
   * able to use the answers to flood someone else. */
  l->received++;
  if (l->packet_len == 0 || (l->received & (l->received - 1)) != 0 ||
      !qe_addr_eq(l->path.path.remote.addr, path->remote.addr)) {
    return;
  }
  qe_batch_put(list->batch, &l->path.path, 0, l->data + l->cid_count * CID_SLOT, l->packet_len);
}
