/*
 * libFuzzer target: tokens, session tickets and TLS messages after the handshake.
 *
 * The first byte chooses who reads the rest: a server as the token of an Initial packet, a client
 * as its session ticket or its token, the reader of tickets, or the guard of TLS messages.
 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "tls_after.h"
#include "tls_ticket.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  if (sim_global_init() != 0) {
    abort();
  }
  return 0;
}

static void connect_with(const uint8_t *ticket, size_t ticket_len, const uint8_t *token,
                         size_t token_len, int retry) {
  static sim s;

  sim_init(&s, 1);
  s.server.set.retry = retry ? QE_RETRY_ALWAYS : QE_RETRY_OFF;
  s.up.delay = s.down.delay = SIM_MS;
  if (sim_start(&s) != 0) {
    abort();
  }
  sim_conn *c = sim_connect_with(&s, ticket, ticket_len, token, token_len);
  sim_run(&s, 500 * SIM_MS);
  /* Neither keeps anybody from connecting, but for a Retry token that is not the server's. */
  if (c != NULL && c->handshakes == 0 && c->closes == 0) {
    abort();
  }
  sim_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2) {
    return 0;
  }
  uint8_t mode = data[0];
  data++;
  size--;
  switch (mode % 5) {
  case 0:
    connect_with(NULL, 0, data, size < 512 ? size : 512, mode & 0x80);
    break;
  case 1:
    connect_with(data, size, NULL, 0, 0);
    break;
  case 2: {
    uint8_t binding[QE_TICKET_BINDING_LEN] = {0};
    size_t len = 0;
    uint64_t expires = 0;
    const uint8_t *found = qe_ticket_unwrap(data, size, binding, 1, &len, &expires);
    if (found != NULL && (found < data || found + len != data + size)) {
      abort();
    }
    break;
  }
  default: {
    /* What comes in one piece and what comes byte by byte is the same. */
    qe_tls_after whole = {0, 0}, parts = {0, 0};
    uint8_t one = qe_tls_after_feed(&whole, mode & 0x80, data, size), other = 0;
    for (size_t i = 0; i < size && other == 0; i++) {
      other = qe_tls_after_feed(&parts, mode & 0x80, data + i, 1);
    }
    if (one != other) {
      abort();
    }
    break;
  }
  }
  return 0;
}
