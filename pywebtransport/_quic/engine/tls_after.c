#include "tls_after.h"

#define NEW_SESSION_TICKET 4
#define HEADER_LEN 4 /* type, length in 24 bits */

uint8_t qe_tls_after_feed(qe_tls_after *a, int is_server, const uint8_t *data, size_t len) {
  while (len > 0) {
    if (a->left > 0 && a->head == 0) {
      size_t n = a->left < len ? a->left : len;
      a->left -= (uint32_t)n;
      data += n;
      len -= n;
      continue;
    }
    if (a->head == 0) {
      if (is_server || data[0] != NEW_SESSION_TICKET) {
        return QE_ALERT_UNEXPECTED_MESSAGE;
      }
      a->left = 0;
    } else {
      a->left = a->left << 8 | data[0];
    }
    a->head = (uint8_t)((a->head + 1) % HEADER_LEN);
    data++;
    len--;
  }
  return 0;
}
