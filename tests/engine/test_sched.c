#include "sched.h"

#include "check.h"
#include "quicengine.h"

#define N 100

static qe_sched_node nodes[N];

static void setup(qe_sched *s, size_t n) {
  qe_sched_init(s);
  CHECK_EQ(qe_sched_reserve(s, n), 0);
  for (size_t i = 0; i < N; i++) {
    qe_sched_node_init(&nodes[i]);
  }
}

static void test_order(void) {
  qe_sched s;
  setup(&s, 5);
  const int64_t orders[] = {0, 5, -3, INT64_MAX, INT64_MIN};
  for (int i = 0; i < 5; i++) {
    nodes[i].order = orders[i];
    qe_sched_add(&s, &nodes[i]);
  }
  const int expect[] = {3, 1, 0, 2, 4};
  for (int i = 0; i < 5; i++) {
    CHECK(qe_sched_top(&s) == &nodes[expect[i]]);
    for (int k = 0; k < 100; k++) { /* sending does not give it away */
      qe_sched_sent(&s, &nodes[expect[i]], 5000);
    }
    CHECK(qe_sched_top(&s) == &nodes[expect[i]]);
    qe_sched_remove(&s, &nodes[expect[i]]);
    CHECK(!qe_sched_waiting(&nodes[expect[i]]));
  }
  CHECK(qe_sched_top(&s) == NULL);
  qe_sched_free(&s);
}

static void test_round_robin(void) {
  qe_sched s;
  setup(&s, 2);
  qe_sched_add(&s, &nodes[0]);
  qe_sched_add(&s, &nodes[1]);
  uint64_t sent[2] = {0, 0};
  int switches = 0;
  qe_sched_node *last = NULL;
  for (int i = 0; i < 1000; i++) {
    qe_sched_node *n = qe_sched_top(&s);
    sent[n - nodes] += 1200;
    qe_sched_sent(&s, n, 1200);
    switches += n != last;
    last = n;
  }
  CHECK(sent[0] + QE_SCHED_RUN >= sent[1] && sent[1] + QE_SCHED_RUN >= sent[0]);
  CHECK(switches > 50 && switches < 300); /* runs, not single packets */
  qe_sched_free(&s);
}

static void test_fair_among_many(void) {
  qe_sched s;
  setup(&s, N);
  uint64_t sent[N] = {0};
  for (int i = 0; i < N; i++) {
    qe_sched_add(&s, &nodes[i]);
  }
  for (int i = 0; i < N * 50; i++) {
    qe_sched_node *n = qe_sched_top(&s);
    sent[n - nodes] += 1200;
    qe_sched_sent(&s, n, 1200);
  }
  for (int i = 0; i < N; i++) {
    CHECK_EQ(sent[i], 50 * 1200); /* one packet each per round */
  }
  qe_sched_free(&s);
}

/* A new stream waits for at most the run of the stream before it. */
static void test_small_stream_is_prompt(void) {
  qe_sched s;
  setup(&s, 2);
  qe_sched_add(&s, &nodes[0]);
  for (int i = 0; i < 1000; i++) {
    qe_sched_sent(&s, &nodes[0], 1200);
  }
  qe_sched_add(&s, &nodes[1]);
  uint64_t waited = 0;
  while (qe_sched_top(&s) != &nodes[1] && waited < 1000000) {
    waited += 1200;
    qe_sched_sent(&s, &nodes[0], 1200);
  }
  CHECK(waited <= QE_SCHED_RUN);
  qe_sched_free(&s);
}

static void test_order_change(void) {
  qe_sched s;
  setup(&s, 3);
  for (int i = 0; i < 3; i++) {
    qe_sched_add(&s, &nodes[i]);
  }
  qe_sched_set_order(&s, &nodes[2], 1);
  CHECK(qe_sched_top(&s) == &nodes[2]);
  qe_sched_set_order(&s, &nodes[2], -1);
  CHECK(qe_sched_top(&s) == &nodes[0]);
  qe_sched_set_order(&s, &nodes[0], -2);
  CHECK(qe_sched_top(&s) == &nodes[1]);
  qe_sched_add(&s, &nodes[1]); /* twice is once */
  CHECK_EQ(s.len, 3);
  qe_sched_remove(&s, &nodes[1]);
  qe_sched_remove(&s, &nodes[1]);
  CHECK_EQ(s.len, 2);
  qe_sched_free(&s);
  CHECK(!qe_sched_waiting(&nodes[0]));
}

/* Random use: the top is always the best by (order, turn). */
static void test_heap_property(void) {
  qe_sched s;
  uint32_t r = 99;
  setup(&s, N);
  for (int step = 0; step < 20000; step++) {
    r = r * 1103515245 + 12345;
    qe_sched_node *n = &nodes[(r >> 16) % N];
    switch ((r >> 8) % 5) {
    case 0:
    case 1:
      qe_sched_add(&s, n);
      break;
    case 2:
      qe_sched_remove(&s, n);
      break;
    case 3:
      qe_sched_set_order(&s, n, (int64_t)((r >> 20) % 5));
      break;
    default:
      if (qe_sched_top(&s) != NULL) {
        qe_sched_sent(&s, qe_sched_top(&s), r % 3000);
      }
    }
    const qe_sched_node *best = NULL;
    size_t waiting = 0;
    for (int i = 0; i < N; i++) {
      if (!qe_sched_waiting(&nodes[i])) {
        continue;
      }
      waiting++;
      if (best == NULL || nodes[i].order > best->order ||
          (nodes[i].order == best->order && nodes[i].turn < best->turn)) {
        best = &nodes[i];
      }
    }
    CHECK_EQ(waiting, s.len);
    CHECK(qe_sched_top(&s) == best);
  }
  qe_sched_free(&s);
}

int main(void) {
  RUN(test_order);
  RUN(test_round_robin);
  RUN(test_fair_among_many);
  RUN(test_small_stream_is_prompt);
  RUN(test_order_change);
  RUN(test_heap_property);
  return check_report();
}
