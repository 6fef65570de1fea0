# One UDP socket of an endpoint. The descriptor belongs to the caller.

cdef dict _FEATURES = {
    "gso": QE_SOCK_GSO, "gro": QE_SOCK_GRO, "ecn": QE_SOCK_ECN, "pktinfo": QE_SOCK_PKTINFO,
}


@cython.final
cdef class QuicSocket:
    def __cinit__(self):
        global _live_sockets
        _live_sockets += 1
        self._fd = -1

    def __init__(self):
        raise TypeError("QuicSocket is made by QuicEndpoint.add_socket()")

    def __dealloc__(self):
        global _live_sockets
        _live_sockets -= 1

    def __repr__(self):
        return f"<QuicSocket fd={self._fd}{' closed' if self._c == NULL else ''}>"

    @property
    def fd(self):
        return self._fd

    @property
    def features(self):
        if self._c == NULL:
            return frozenset()
        cdef int found = qe_sock_features(self._c)
        return frozenset([name for name, bit in _FEATURES.items() if found & <int>bit])

    def close(self):
        cdef qe_sock *c = self._c
        if c == NULL:
            return
        if self._endpoint._inside:
            # The socket may be in use for reading, further down or on another thread.
            self._endpoint._closing_socks.append(self)
            return
        self._c = NULL
        qe_sock_free(c)
        if self in self._endpoint._socks:
            self._endpoint._socks.remove(self)
