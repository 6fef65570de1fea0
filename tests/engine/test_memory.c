/* test_memory.c - the engine while out of memory. */
#include <stdlib.h>

#include "batch.h"
#include "check.h"
#include "sim.h"

static int arena_refused; /* memory for outgoing packets, for nothing else */
static unsigned refusals;

/* The linker calls this instead of malloc() in the engine and the tests (--wrap). */
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_malloc(size_t size) {
  if (arena_refused && size >= QE_BATCH_MIN_ARENA) {
    refusals++;
    return NULL;
  }
  return __real_malloc(size);
}

static void test_no_memory_for_packets_is_no_reason_to_spin(void) {
  sim s;

  sim_init(&s, 1);
  s.up.delay = s.down.delay = SIM_MS;
  REQUIRE(sim_start(&s) == 0);
  arena_refused = 1;
  refusals = 0;
  sim_conn *c = sim_connect(&s);
  sim_run(&s, QE_SECOND);
  CHECK(!s.stuck);
  CHECK_EQ(s.client.packets, 0);
  CHECK(refusals > 10);  /* it is tried again by and by, */
  CHECK(refusals < 500); /* not all the time */
  arena_refused = 0;
  REQUIRE(sim_handshake(&s, c) != NULL); /* and nothing is lost by it */
  CHECK_EQ(c->handshakes, 1);
  sim_free(&s);
}

int main(void) {
  if (sim_global_init() != 0) {
    return 1;
  }
  RUN(test_no_memory_for_packets_is_no_reason_to_spin);
  sim_global_free();
  return check_report();
}
