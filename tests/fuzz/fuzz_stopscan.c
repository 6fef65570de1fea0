/*
 * libFuzzer target for the walks over decrypted payloads.
 *
 * Beside memory safety it checks what callers rely on: values are valid
 * varints, at most one frame per three bytes, and the scan is repeatable.
 */
#include <stdlib.h>

#include "stopscan.h"

typedef struct tally {
  size_t count;
  uint64_t sum;
} tally;

static void found(void *ctx, int64_t stream_id, uint64_t code) {
  tally *t = ctx;
  if (stream_id < 0 || (uint64_t)stream_id >> 62 != 0 || code >> 62 != 0) {
    abort();
  }
  t->count++;
  t->sum = t->sum * 31 + (uint64_t)stream_id * 7 + code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  tally first = {0, 0}, second = {0, 0};
  (void)qe_scan_early(data, size);
  qe_stopscan(data, size, found, &first);
  qe_stopscan(data, size, found, &second);
  if (first.count != second.count || first.sum != second.sum || first.count > size / 3) {
    abort();
  }
  return 0;
}
