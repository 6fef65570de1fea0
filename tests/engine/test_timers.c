#include "check.h"
#include "timers.h"

static void test_earliest_is_on_top(void) {
  qe_timers ts;
  qe_timer a, b, c;

  qe_timer_init(&a);
  qe_timer_init(&b);
  qe_timer_init(&c);
  CHECK_EQ(qe_timers_init(&ts), 0);
  CHECK(qe_timers_top(&ts) == NULL);
  CHECK_EQ(qe_timers_set(&ts, &a, 30), 0);
  CHECK_EQ(qe_timers_set(&ts, &b, 10), 0);
  CHECK_EQ(qe_timers_set(&ts, &c, 20), 0);
  CHECK(qe_timers_top(&ts) == &b);
  CHECK_EQ(qe_timers_set(&ts, &b, 40), 0); /* later */
  CHECK(qe_timers_top(&ts) == &c);
  CHECK_EQ(qe_timers_set(&ts, &a, 5), 0); /* earlier */
  CHECK(qe_timers_top(&ts) == &a);
  CHECK_EQ(qe_timers_set(&ts, &a, 5), 0); /* the same */
  CHECK(qe_timers_top(&ts) == &a);
  qe_timers_free(&ts);
}

static void test_never_and_remove_disarm(void) {
  qe_timers ts;
  qe_timer a, b;

  qe_timer_init(&a);
  qe_timer_init(&b);
  CHECK_EQ(a.pos, -1);
  qe_timers_init(&ts);
  CHECK_EQ(qe_timers_set(&ts, &a, QE_NEVER), 0);
  CHECK_EQ(ts.len, 0);
  qe_timers_set(&ts, &a, 1);
  qe_timers_set(&ts, &b, 2);
  qe_timers_set(&ts, &a, QE_NEVER);
  CHECK_EQ(a.pos, -1);
  CHECK(a.at == QE_NEVER);
  CHECK(qe_timers_top(&ts) == &b);
  qe_timers_remove(&ts, &b);
  qe_timers_remove(&ts, &b); /* twice is fine */
  CHECK(qe_timers_top(&ts) == NULL);
  qe_timers_free(&ts);
}

static void test_free_disarms_what_is_left(void) {
  qe_timers ts;
  qe_timer a;

  qe_timer_init(&a);
  qe_timers_init(&ts);
  qe_timers_set(&ts, &a, 7);
  qe_timers_free(&ts);
  CHECK_EQ(a.pos, -1);
  CHECK(qe_timers_top(&ts) == NULL);
  CHECK_EQ(qe_timers_set(&ts, &a, 8), 0); /* and the heap is usable again */
  CHECK(qe_timers_top(&ts) == &a);
  qe_timers_free(&ts);
}

static void check_heap(const qe_timers *ts) {
  const qe_timer *top = qe_timers_top(ts);
  for (size_t i = 0; i < ts->len; i++) {
    CHECK_EQ(ts->heap[i]->pos, i);
    CHECK(ts->heap[i]->at >= top->at);
  }
}

static void test_random_operations_keep_order(void) {
  enum { N = 500, STEPS = 20000 };
  static qe_timer timers[N];
  qe_timers ts;
  uint32_t rnd = 777;

  qe_timers_init(&ts);
  for (int i = 0; i < N; i++) {
    qe_timer_init(&timers[i]);
  }
  for (int step = 0; step < STEPS; step++) {
    rnd = rnd * 1664525u + 1013904223u;
    qe_timer *t = &timers[(rnd >> 8) % N];
    if ((rnd >> 24) % 4 == 0) {
      qe_timers_remove(&ts, t);
    } else {
      CHECK_EQ(qe_timers_set(&ts, t, (rnd >> 5) % 1000), 0);
    }
    if (step % 64 == 0) {
      check_heap(&ts);
    }
  }
  size_t armed = 0;
  for (int i = 0; i < N; i++) {
    armed += timers[i].pos != SIZE_MAX;
  }
  CHECK_EQ(ts.len, armed);
  /* Taken one by one they come out sorted. */
  qe_tstamp last = 0;
  for (qe_timer *t = qe_timers_top(&ts); t != NULL; t = qe_timers_top(&ts)) {
    CHECK(t->at >= last);
    last = t->at;
    qe_timers_remove(&ts, t);
    armed--;
  }
  CHECK_EQ(armed, 0);
  qe_timers_free(&ts);
}

int main(void) {
  RUN(test_earliest_is_on_top);
  RUN(test_never_and_remove_disarm);
  RUN(test_free_disarms_what_is_left);
  RUN(test_random_operations_keep_order);
  return check_report();
}
