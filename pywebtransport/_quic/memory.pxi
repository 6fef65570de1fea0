# What the process holds on behalf of peers, and how much that may be.

cdef enum:
    LEAST_FULL = 65536   # bytes in streams below which no turn looks at the limit


# Of all connections; with the GIL held, as _unread_bytes.
cdef int64_t _library_bytes = 0
cdef object _budget = None       # what else is held (used), and the limit
cdef object _on_full = None
cdef object _endpoints = _WeakValueDictionary()


def watch_memory(budget, on_full):
    global _budget, _on_full
    _budget, _on_full = budget, on_full


def unread_bytes():
    return _unread_bytes


def library_bytes():
    return _library_bytes


def held_by_connections():
    cdef QuicEndpoint endpoint
    cdef QuicConnection conn
    cdef list found = []
    for reference in _endpoints.valuerefs():
        endpoint = reference()
        if endpoint is not None:
            for conn in list(endpoint._conns):
                if conn._c != NULL and conn.handler is not None:
                    found.append((conn, qe_conn_held(conn._c)))
    return found


cdef object _memory_left():
    """Return what may still be held, as an int; 0 or less: nothing."""
    return _budget.limit - _budget.used - _unread_bytes - _library_bytes


cdef uint64_t _cb_memory_left(void *eu) noexcept:
    try:
        return QE_NEVER if _budget is None else <uint64_t>max(0, _memory_left())
    except BaseException as exc:
        (<QuicEndpoint>eu)._keep(exc)
        return 0


cdef void _cb_library_memory(void *eu, int64_t change) noexcept:
    global _library_bytes
    _library_bytes += change


cdef int _look_at_memory(QuicEndpoint endpoint) except -1:
    """After a turn: is more held than the limit allows?"""
    try:
        if _on_full is not None and _memory_left() <= 0:
            _on_full()
    except BaseException as exc:
        endpoint._report(exc)
    return 0
