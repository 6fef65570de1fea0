# The hot paths of datagrams: from the connection to the queue of their session, and out again.
#
# The classes in _core inherit from DatagramQueuePort and DatagramPort; see stream_port.pxi.

cdef enum:
    IN_A_ROW = 63              # datagrams taken without waiting before others get a turn, minus one


@cython.final
cdef class DatagramRoutes:
    """The handler's datagrams_received(): cuts headers off, and finds the sessions."""

    def __init__(self, dict routes not None, others not None):
        self._routes = routes
        self._others = others

    def __call__(self, list datagrams not None):
        self._route(datagrams)

    cdef int _route(self, list datagrams) except -1:
        cdef bytes datagram
        cdef const uint8_t *data
        cdef Py_ssize_t size
        cdef long quarter
        cdef long current = -1  # of the run, datagrams in a row of one session
        cdef object receive = None
        cdef list run = None
        for datagram in datagrams:
            data = <const uint8_t *>PyBytes_AS_STRING(datagram)
            quarter, size = -2, 0
            if PyBytes_GET_SIZE(datagram) > 1:
                if data[0] < 0x40:
                    quarter, size = data[0], 1
                elif data[0] < 0x80:
                    quarter, size = (data[0] & 0x3F) << 8 | data[1], 2
            if quarter != current:
                if receive is not None:
                    receive(run)
                current, receive = quarter, self._routes.get(quarter)
                run = []
            if receive is not None:
                run.append(PyBytes_FromStringAndSize(
                    <const char *>data + size, PyBytes_GET_SIZE(datagram) - size))
            else:
                self._others([datagram])
        if receive is not None:
            receive(run)
        return 0


cdef class DatagramQueuePort:
    """Datagrams that wait for the application; a subclass keeps the budgets."""

    def add(self, list datagrams not None, Py_ssize_t total):
        return self._add(datagrams, total)

    cdef Py_ssize_t _add(self, list datagrams, Py_ssize_t total) except -1:
        cdef Py_ssize_t dropped = 0
        cdef Py_ssize_t gone
        waiting = self.waiting
        # Arrival times of datagrams that are gone are forgotten.
        gone = self._came - len(waiting)
        arrivals = self._arrivals
        if gone == self._came:
            if arrivals:
                arrivals.clear()
        else:
            while arrivals and <Py_ssize_t>arrivals[0][0] <= gone:
                arrivals.popleft()
            _append(arrivals, (self._came, self._last_arrival))
        self._came += len(datagrams)
        self._last_arrival = _monotonic()
        if len(datagrams) == 1:
            _append(waiting, datagrams[0])
        else:
            waiting.extend(datagrams)
        self.held += total
        while len(waiting) > self.limit or (self.held > self._high and waiting):
            self.held -= len(waiting.popleft())
            dropped += 1
        if self.held > self._reserved:
            dropped += <Py_ssize_t>self._reserve()
        return dropped

    def pop(self):
        return self._pop()

    cdef object _pop(self):
        data = _popleft(self.waiting)
        self.held -= len(data)
        if self.held < self.low:
            self.release()
        return data


cdef class DatagramPort:
    # ---------------------------------------------------------------- receiving

    def _received(self, list datagrams not None):
        """The datagrams of one turn arrived (deliver phase)."""
        cdef Py_ssize_t count = len(datagrams)
        cdef Py_ssize_t total = 0
        cdef Py_ssize_t most = 0
        cdef Py_ssize_t least = PyBytes_GET_SIZE(<bytes>datagrams[0])
        cdef Py_ssize_t size
        cdef bytes datagram
        if self._closed:
            self._receive_drops += count
            return
        if self._queue is None:
            self._make_queue()
        for datagram in datagrams:
            size = PyBytes_GET_SIZE(datagram)
            total += size
            most = max(most, size)
            least = min(least, size)
        self._bytes_received += <uint64_t>total
        self._note_sizes(least, most)
        self._received_count += count
        self._receive_drops += self._queue._add(datagrams, total)
        if self._receivers is not None:
            DatagramPort._serve_receivers(self)
        if self._emitter is not None:
            self._tell_received(datagrams)

    cdef int _note_sizes(self, Py_ssize_t least, Py_ssize_t most) except -1:
        if most > self._max_size:
            self._max_size = most
        if least < self._min_size:
            self._min_size = least
        return 0

    cpdef object _serve_receivers(self, Py_ssize_t taken=0):
        """Wake one waiting caller for each datagram, except for ``taken`` datagrams."""
        line = self._receivers
        if line is None or self._queue is None:
            return
        turns = _slot_get(&_s_turns, line)
        waiting = self._queue.waiting
        # As line.serve().
        while turns and len(waiting) - taken > <Py_ssize_t>_slot_get(&_s_served, line):
            turn = _popleft(turns)
            if isinstance(turn, EagerFuture):
                if (<EagerFuture>turn)._state == E_WAITING:
                    _slot_set(&_s_served, line, _slot_get(&_s_served, line) + 1)
                    (<EagerFuture>turn)._settle(E_DONE, line)
            elif not turn.done():
                line.served += 1
                turn.set_result(line)

    def _receive(self, *, timeout=None):
        cdef ReceiveVerb verb = <ReceiveVerb>_new_verb(V_RECEIVE)
        verb._port = self
        verb._timeout = timeout
        verb._is_first = False
        return verb

    cdef bint _has_receivers(self) except -1:
        """As bool(line): somebody waits, or was served and has not continued yet."""
        line = self._receivers
        return line is not None and _has_line(line)

    cdef bint _is_over(self) noexcept:
        state = self._session._state
        return self._closed or state is _CLOSING or state is _CLOSED

    # ------------------------------------------------------------------ sending

    def _send(self, data, *, priority=0, ttl=None):
        cdef SendVerb verb = <SendVerb>_new_verb(V_SEND)
        verb._port = self
        verb._data = data
        verb._priority = priority
        verb._ttl = ttl
        return verb

    def _send_many(self, list payloads not None):
        """Send as many in a row as ``send`` would without waiting; return how many."""
        cdef Py_ssize_t done = 0
        for payload in payloads:
            if not PyBytes_CheckExact(payload) or not self._send_now(<bytes>payload):
                break
            done += 1
        return done

    cdef bint _send_now(self, bytes data) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        if not self._may_send_now():
            return False
        way = _slot_get(&_s_datagram_way, self._h3)
        if way is None or _send_on(way, data) != 0:
            return False
        self._send_sequence += 1
        self._bytes_sent += <uint64_t>size
        self._note_sizes(size, size)
        return True

    cdef bint _may_send_now(self) except -1:
        """Nothing but the queue can stand in the way of an ordinary datagram."""
        return not (self._is_over() or self._outgoing_max_age is not None or self._emitter is not None
                    or self._session._connection._datagram_gates)


@cython.final
cdef class ReceiveVerb(Verb):
    """datagrams.receive()"""

    @property
    def __qualname__(self):
        return f"{type(self._port).__name__}.receive"

    cdef object _advance(self):
        cdef DatagramPort port = self._port
        cdef EagerFuture turn = self._turn
        cdef DatagramQueuePort queue = port._queue
        cdef double waited
        if turn is None:
            # There is a fast path for whom no time limits.
            if self._timeout is not None or port._incoming_max_age is not None:
                return self._continue(port._receive_other(self._timeout))
            if queue is not None and queue.waiting and not port._has_receivers():
                if not port._receive_sequence & IN_A_ROW:
                    return self._continue(port._receive_other(None))
                return self._take(port, queue)
            if _get_running_loop() is not port._session._loop:
                return self._continue(port._receive_other(None))
            if port._receivers is None:
                port._make_receivers()
            self._started = _monotonic()
        else:
            self._turn = None
            if turn._state != E_DONE:
                turn.result()  # raises
            line = port._receivers
            _slot_set(&_s_served, line, _slot_get(&_s_served, line) - 1)
            self._is_first = True
            if _slot_get(&_s_turns, line):
                DatagramPort._serve_receivers(port, 1)  # callers that came meanwhile; one is taken here
            queue = port._queue
        if (queue is None or not queue.waiting
                or not (self._is_first or not port._has_receivers())):
            if (queue is None or not queue.waiting) and port._is_over():
                raise port.closed_error("no datagram can be received")
            self._turn = turn = port._session._eager.create_future(port._session._loop)
            if self._is_first:
                port._receivers.turns.appendleft(turn)
            else:
                _append(_slot_get(&_s_turns, port._receivers), turn)
            return self._wait(turn)
        waited = _monotonic() - self._started
        port._receive_time += waited
        port._max_receive_time = max(port._max_receive_time, waited)
        return self._take(port, queue)

    cdef object _take(self, DatagramPort port, DatagramQueuePort queue):
        port._receive_sequence += 1
        return queue._pop()

    cdef int _give_up(self, object error) except -1:
        turn, self._turn = self._turn, None
        self._port._receivers.leave(turn)
        DatagramPort._serve_receivers(self._port)
        return 0


cdef int _send_on(tuple way, bytes data) except -32768:
    """Queue an ordinary datagram; return the engine's result."""
    cdef QuicConnection conn = way[0]
    cdef bytes prefix = way[1]
    cdef QuicGroup group = way[2]
    cdef int rc = QE_ERR_CLOSED
    if conn._c != NULL and group._c != NULL:
        rc = conn._send_datagram(group, prefix, <const uint8_t *>PyBytes_AS_STRING(data),
                                 <size_t>PyBytes_GET_SIZE(data), 0, QE_NEVER)
    if rc == 0:
        conn._endpoint._want_flush()
    return rc


@cython.final
cdef class SendVerb(Verb):
    """datagrams.send()"""

    @property
    def __qualname__(self):
        return f"{type(self._port).__name__}.send"

    cdef object _advance(self):
        cdef DatagramPort port = self._port
        if (self._ttl is None and self._priority is _ZERO and PyBytes_CheckExact(self._data)
                and port._send_now(<bytes>self._data)):
            return None
        return self._continue(port._send_other(self._data, self._priority, self._ttl))


cdef Slot _s_datagram_way = _slot("datagram_way")  # of H3Session
_set_slots(V_RECEIVE, ReceiveVerb)
_set_slots(V_SEND, SendVerb)
