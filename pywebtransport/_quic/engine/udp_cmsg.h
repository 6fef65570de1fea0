/*
 * udp_cmsg.h - reads and writes control messages of UDP sockets: local address, ECN, segment size
 * and queued errors.
 */
#ifndef QE_UDP_CMSG_H
#define QE_UDP_CMSG_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* With some C libraries <netinet/udp.h> and <linux/udp.h> conflict, so define it here. */
#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define QE_ECN_MASK 0x03

/* Room for all control messages that are read or written here, aligned for cmsghdr. */
typedef union qe_cmsg_buf {
  size_t align;
  uint8_t bytes[256];
} qe_cmsg_buf;

typedef struct qe_cmsg_info {
  bool has_local;
  struct in_addr local4;  /* from an AF_INET socket */
  struct in6_addr local6; /* from an AF_INET6 socket; IPv4 in mapped form */
  unsigned ifindex;
  unsigned ecn;        /* 0 if not reported */
  size_t segment_size; /* 0 if not coalesced */
} qe_cmsg_info;

void qe_cmsg_read(struct msghdr *h, qe_cmsg_info *out);
size_t qe_cmsg_read_segment_size(struct msghdr *h);
/* Returns the errno of an error-queue entry, or 0 if there is none. */
int qe_cmsg_read_error(struct msghdr *h, uint32_t *mtu);

/* Control data for a packet to send. */
typedef struct qe_cmsg_send {
  const struct sockaddr *local; /* NULL or a wildcard: let the kernel choose */
  const struct sockaddr *remote;
  unsigned ecn;          /* 0: not set */
  uint16_t segment_size; /* 0: not a train */
} qe_cmsg_send;

/* Fills buf and makes h point to it; leaves h without control data if there is none. */
void qe_cmsg_write(struct msghdr *h, qe_cmsg_buf *buf, const qe_cmsg_send *what);

#endif
