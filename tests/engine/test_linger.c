#include "linger.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "check.h"

typedef struct bed {
  qe_cidmap cids;
  qe_timers timers;
  qe_batch batch;
  qe_linger_list list;
  qe_engine_stats stats;
  size_t sent; /* packets */
  uint8_t last;
} bed;

static size_t take(void *ctx, const qe_packets *trains, size_t n) {
  bed *t = ctx;
  for (size_t i = 0; i < n; i++) {
    t->sent += trains[i].len / trains[i].segment_size;
    t->last = trains[i].data[0];
  }
  return n;
}

static qe_sock *find(const void *owner, uintptr_t id) {
  (void)owner, (void)id;
  return NULL;
}

static void begin(bed *t) {
  memset(t, 0, sizeof(*t));
  CHECK_EQ(qe_cidmap_init(&t->cids), 0);
  CHECK_EQ(qe_timers_init(&t->timers), 0);
  qe_batch_init(&t->batch,
                (qe_outlet){.send = take, .send_ctx = t, .sock = find, .stats = &t->stats});
  qe_linger_init(&t->list, &t->cids, &t->timers, &t->batch);
}

static void end(bed *t) {
  qe_linger_clear(&t->list);
  CHECK_EQ(t->list.count, 0);
  CHECK(qe_timers_top(&t->timers) == NULL);
  qe_batch_free(&t->batch);
  qe_timers_free(&t->timers);
  qe_cidmap_free(&t->cids);
}

typedef struct place {
  struct sockaddr_in local, remote;
  ngtcp2_path path;
} place;

static void to_port(place *p, uint16_t port) {
  memset(p, 0, sizeof(*p));
  p->local.sin_family = p->remote.sin_family = AF_INET;
  p->remote.sin_port = htons(port);
  p->path.local.addr = (struct sockaddr *)&p->local;
  p->path.remote.addr = (struct sockaddr *)&p->remote;
  p->path.local.addrlen = p->path.remote.addrlen = sizeof(p->local);
}

static size_t answered(bed *t, qe_linger *l, const place *p, size_t packets) {
  size_t before = t->sent;
  for (size_t i = 0; i < packets; i++) {
    qe_linger_on_packet(&t->list, l, &p->path);
  }
  qe_batch_flush(&t->batch);
  return t->sent - before;
}

/* One that has the connection ID {8, number, 0 ...}. */
static qe_linger *add(bed *t, uint8_t number, const place *p, size_t packet_len, qe_tstamp until) {
  uint8_t packet[64], id[8] = {number};
  qe_keys keys = {.items = calloc(1, sizeof(*keys.items)), .n = 1};
  if (keys.items == NULL) {
    return NULL;
  }
  keys.items[0].len = sizeof(id);
  memcpy(keys.items[0].data, id, sizeof(id));
  memset(packet, number, sizeof(packet));
  qe_linger_add(&t->list, &keys, &p->path, packet, packet_len, until);
  free(keys.items);
  return qe_cidmap_get(&t->cids, id, sizeof(id));
}

static void test_powers_of_two_are_answered(void) {
  bed t;
  place p, other;

  begin(&t);
  to_port(&p, 1);
  to_port(&other, 2);
  qe_linger *l = add(&t, 5, &p, 40, 1000);
  REQUIRE(l != NULL);
  CHECK_EQ(answered(&t, l, &p, 16), 5); /* the 1st, 2nd, 4th, 8th, 16th */
  CHECK_EQ(t.last, 5);
  CHECK_EQ(answered(&t, l, &other, 16), 0); /* the 32nd is from elsewhere */
  end(&t);
}

static void test_one_that_drains_says_nothing(void) {
  bed t;
  place p;

  begin(&t);
  to_port(&p, 1);
  qe_linger *l = add(&t, 1, &p, 0, 1000);
  REQUIRE(l != NULL);
  CHECK_EQ(answered(&t, l, &p, 8), 0);
  end(&t);
}

static void test_removal_forgets_ids_and_timer(void) {
  bed t;
  place p;
  uint8_t id[8] = {2};

  begin(&t);
  to_port(&p, 1);
  qe_linger *first = add(&t, 1, &p, 40, 1000), *second = add(&t, 2, &p, 40, 500);
  REQUIRE(first != NULL && second != NULL);
  CHECK_EQ(t.list.count, 2);
  CHECK(qe_timers_top(&t.timers) == &second->target.timer);
  qe_linger_remove(&t.list, second);
  CHECK(qe_cidmap_get(&t.cids, id, sizeof(id)) == NULL);
  CHECK(qe_timers_top(&t.timers) == &first->target.timer);
  CHECK(t.list.oldest == first && t.list.newest == first);
  end(&t);
}

static void test_the_oldest_makes_room(void) {
  bed t;
  place p;

  begin(&t);
  to_port(&p, 1);
  qe_linger *oldest = NULL;
  for (size_t i = 0; i < QE_LINGER_MAX; i++) {
    qe_linger_add(&t.list, &(qe_keys){0}, &p.path, NULL, 0, 1000 + i);
  }
  oldest = t.list.oldest;
  CHECK_EQ(t.list.count, QE_LINGER_MAX);
  CHECK_EQ(oldest->target.timer.at, 1000);
  qe_linger_add(&t.list, &(qe_keys){0}, &p.path, NULL, 0, 5);
  CHECK_EQ(t.list.count, QE_LINGER_MAX);
  CHECK_EQ(t.list.oldest->target.timer.at, 1001);
  end(&t);
}

int main(void) {
  RUN(test_powers_of_two_are_answered);
  RUN(test_one_that_drains_says_nothing);
  RUN(test_removal_forgets_ids_and_timer);
  RUN(test_the_oldest_makes_room);
  return check_report();
}
