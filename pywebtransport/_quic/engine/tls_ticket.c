#include "tls_ticket.h"

#include <stdlib.h>
#include <string.h>

static const uint8_t magic[5] = {'q', 'e', 't', 'k', 1};

uint8_t *qe_ticket_wrap(const uint8_t binding[QE_TICKET_BINDING_LEN], uint64_t expires,
                        const uint8_t *data, size_t len) {
  uint8_t *out = malloc(QE_TICKET_HEADER_LEN + len);
  if (out == NULL) {
    return NULL;
  }
  uint8_t *p = out;
  memcpy(p, magic, sizeof(magic));
  p += sizeof(magic);
  memcpy(p, binding, QE_TICKET_BINDING_LEN);
  p += QE_TICKET_BINDING_LEN;
  for (int shift = 56; shift >= 0; shift -= 8) {
    *p++ = (uint8_t)(expires >> shift);
  }
  memcpy(p, data, len);
  return out;
}

const uint8_t *qe_ticket_unwrap(const uint8_t *ticket, size_t len,
                                const uint8_t binding[QE_TICKET_BINDING_LEN], uint64_t now,
                                size_t *data_len, uint64_t *expires) {
  uint64_t until = 0;

  if (len <= QE_TICKET_HEADER_LEN || memcmp(ticket, magic, sizeof(magic)) != 0 ||
      memcmp(ticket + sizeof(magic), binding, QE_TICKET_BINDING_LEN) != 0) {
    return NULL;
  }
  const uint8_t *p = ticket + sizeof(magic) + QE_TICKET_BINDING_LEN;
  for (int i = 0; i < 8; i++) {
    until = (until << 8) | *p++;
  }
  if (now > until) {
    return NULL;
  }
  *data_len = len - QE_TICKET_HEADER_LEN;
  *expires = until;
  return p;
}
