# Awaitables that make no coroutine frame: what `stream.read()` and the like return.
#
# A verb does nothing before it is awaited, and can be awaited once, like the coroutine that it
# stands for. asyncio.create_task() and the like take it: it has the methods of a coroutine.
#
# The interpreter asks an awaitable for its next value through tp_iternext, in every version of
# Python; 3.11, and a task whose coroutine this is, prefer am_send, which needs no exception for a
# result. Cython's __next__ would make an exception and a traceback for each; the functions that
# _set_slots() sets do not.

cdef enum:
    V_NEW
    V_WAITING
    V_FINISHED


cdef class Verb:
    def __init__(self):
        raise TypeError(f"{type(self).__name__} is made by the method that it belongs to")

    def __del__(self):
        if self._stage == V_NEW:
            _warnings.warn(f"coroutine '{self.__qualname__}' was never awaited", RuntimeWarning,
                           source=self)

    def __repr__(self):
        return f"<coroutine {self.__qualname__}>"

    @property
    def __name__(self):
        return self.__qualname__.rpartition(".")[2]

    def __await__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        cdef object result
        if self._stage == V_FINISHED:
            raise RuntimeError("cannot reuse already awaited coroutine")
        try:
            if self._slow is None:
                result = self._advance()
                if self._slow is None:
                    if self._stage == V_FINISHED:
                        raise StopIteration(result)
                    return result
            return next(self._slow)
        except BaseException:
            self._stage = V_FINISHED
            raise

    def throw(self, kind, value=None, traceback=None):
        if self._stage == V_FINISHED:
            raise RuntimeError("cannot reuse already awaited coroutine")
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        if traceback is not None:
            value = value.with_traceback(traceback)
        if self._slow is not None:
            try:
                return self._slow.throw(value)
            except BaseException:
                self._stage = V_FINISHED
                raise
        stage, self._stage = self._stage, V_FINISHED
        if stage == V_WAITING:
            self._give_up(value)
        raise value

    def close(self):
        if self._stage == V_FINISHED:
            return
        stage, self._stage = self._stage, V_FINISHED
        if self._slow is not None:
            self._slow.close()
        elif stage == V_WAITING:
            self._give_up(None)

    cdef object _advance(self):
        """Do what can be done now.

        Return what to wait for, or the result if this is the end (then ``_finish`` was called), or
        anything after ``_continue``.
        """
        raise NotImplementedError

    cdef int _give_up(self, object error) except -1:
        """An exception came in place of what this waits for; None: the coroutine is closed."""
        return 0

    cdef object _finish(self, object result):
        self._stage = V_FINISHED
        return result

    cdef object _continue(self, object coroutine):
        """Leave the rest to a coroutine."""
        self._stage = V_WAITING
        self._slow = coroutine.__await__()
        return None


cdef PyObject *_verb_next(PyObject *verb) except? NULL:
    """As Verb.__next__, for the interpreter."""
    cdef PyObject *awaited = NULL
    cdef int status = _verb_send(verb, NULL, &awaited)
    if status == PYGEN_RETURN:
        result = <object>awaited
        Py_DECREF(result)
        return _finished(result)
    return awaited


cdef int _verb_send(PyObject *verb, PyObject *value, PyObject **result) except -1:
    """As Verb.send(), for Python 3.11: without an exception for the result."""
    cdef Verb self = <Verb>verb
    cdef int status = PYGEN_NEXT
    if self._stage == V_FINISHED:
        raise RuntimeError("cannot reuse already awaited coroutine")
    if self._slow is None:
        try:
            awaited = self._advance()
        except BaseException:
            self._stage = V_FINISHED
            raise
        if self._slow is None:
            if self._stage == V_FINISHED:
                status = PYGEN_RETURN
            Py_INCREF(awaited)
            result[0] = <PyObject *>awaited
            return status
    status = PyIter_Send(self._slow, None, result)
    if status != PYGEN_NEXT:
        self._stage = V_FINISHED
    return status


cdef void _verb_finalize(PyObject *verb) noexcept:
    """As __del__, for which Cython saves and restores the error indicator each time."""
    if (<Verb>verb)._stage == V_NEW:
        _finalize_verb(verb)


cdef destructor _finalize_verb = (<PyTypeObject *>Verb).tp_finalize


cdef void _set_slots(PyTypeObject *kind) noexcept:
    """What Cython has no words for."""
    kind.tp_iternext = <iternextfunc>_verb_next
    kind.tp_finalize = <destructor>_verb_finalize
    kind.tp_as_async.am_send = <sendfunc>_verb_send
