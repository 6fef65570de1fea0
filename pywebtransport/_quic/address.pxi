# Python address tuples, as the socket module has them, to sockaddr and back.

cdef extern from "<netinet/in.h>" nogil:
    ctypedef unsigned short in_port_t
    struct in_addr:
        uint32_t s_addr
    struct sockaddr_in:
        unsigned short sin_family
        in_port_t sin_port
        in_addr sin_addr
    struct in6_addr:
        uint8_t s6_addr[16]
    struct sockaddr_in6:
        unsigned short sin6_family
        in_port_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    int AF_INET
    int AF_INET6
    int INET6_ADDRSTRLEN
    uint16_t htons(uint16_t v)
    uint16_t ntohs(uint16_t v)

cdef extern from "<arpa/inet.h>" nogil:
    int inet_pton(int family, const char *text, void *out)
    const char *inet_ntop(int family, const void *address, char *out, socklen_t n)

cdef extern from "<net/if.h>" nogil:
    unsigned int if_nametoindex(const char *name)
    char *if_indextoname(unsigned int index, char *name)
    int IF_NAMESIZE

cdef extern from "<sys/socket.h>" nogil:
    int getsockname(int fd, sockaddr *address, socklen_t *n)

cdef uint8_t[12] _MAPPED
_MAPPED[:] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]


cdef socklen_t _to_sockaddr(object address, int family, sockaddr_storage *out) except 0:
    """Fill ``out`` from (host, port[, flowinfo, scope]); IPv4 is mapped for an IPv6 socket.

    ``host`` is an IP address: names are resolved by the layer above.
    """
    cdef sockaddr_in *v4 = <sockaddr_in *>out
    cdef sockaddr_in6 *v6 = <sockaddr_in6 *>out
    cdef in_addr plain
    cdef bytes host
    cdef long port
    cdef unsigned int scope = 0
    try:
        host = address[0].encode("ascii")
        port = address[1]
        if len(address) == 4:
            v6.sin6_flowinfo = address[2]
            scope = address[3]
    except (TypeError, AttributeError, IndexError, UnicodeError, OverflowError):
        raise _bad_value("address", address, "(IP literal, port)") from None
    if not 0 <= port <= 65535:
        raise _bad_value("port", port, "0 to 65535")
    memset(out, 0, sizeof(sockaddr_storage))
    if inet_pton(AF_INET, host, &plain) == 1:
        if family == AF_INET6:
            v6.sin6_family = <unsigned short>AF_INET6
            v6.sin6_port = htons(<uint16_t>port)
            memcpy(v6.sin6_addr.s6_addr, &_MAPPED[0], 12)
            memcpy(v6.sin6_addr.s6_addr + 12, &plain, 4)
            return sizeof(sockaddr_in6)
        v4.sin_family = <unsigned short>AF_INET
        v4.sin_port = htons(<uint16_t>port)
        v4.sin_addr = plain
        return sizeof(sockaddr_in)
    if b"%" in host:
        host, _, zone = host.partition(b"%")
        if zone.isdigit():
            scope = int(zone)
        else:
            scope = if_nametoindex(zone)
            if scope == 0:
                raise _bad_value("address", address, "the name of a network interface after '%'")
    if inet_pton(AF_INET6, host, v6.sin6_addr.s6_addr) != 1:
        raise _bad_value("address", address, "an IP literal; names are resolved before")
    if family == AF_INET:
        raise _bad_value("address", address, "an IPv4 address: the socket is of that family")
    v6.sin6_family = <unsigned short>AF_INET6
    v6.sin6_port = htons(<uint16_t>port)
    v6.sin6_scope_id = scope
    return sizeof(sockaddr_in6)


cdef tuple _from_sockaddr(const sockaddr_storage *address):
    """Return (host, port), or None for no address; an IPv4-mapped address becomes IPv4.

    ``address`` may be aligned for its own family only.
    """
    cdef const sockaddr_in *v4 = <const sockaddr_in *>address
    cdef const sockaddr_in6 *v6 = <const sockaddr_in6 *>address
    cdef char text[64]
    cdef char zone[64]
    cdef str host
    if v4.sin_family == AF_INET:
        if inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text)) == NULL:
            return None
        return (_text(text), ntohs(v4.sin_port))
    if v4.sin_family != AF_INET6:
        return None
    if memcmp(v6.sin6_addr.s6_addr, &_MAPPED[0], 12) == 0:
        if inet_ntop(AF_INET, v6.sin6_addr.s6_addr + 12, text, sizeof(text)) == NULL:
            return None
        return (_text(text), ntohs(v6.sin6_port))
    if inet_ntop(AF_INET6, v6.sin6_addr.s6_addr, text, sizeof(text)) == NULL:
        return None
    host = _text(text)
    if v6.sin6_scope_id != 0:
        if if_indextoname(v6.sin6_scope_id, zone) != NULL:
            host = f"{host}%{_text(zone)}"
        else:
            host = f"{host}%{v6.sin6_scope_id}"
    return (host, ntohs(v6.sin6_port))
