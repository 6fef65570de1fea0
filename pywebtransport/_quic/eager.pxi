# Tasks that wait for what a peer sends continue in the turn that brings it.
#
# A future of asyncio wakes its task through call_soon: the task continues in the next turn of the
# event loop, and what it writes leaves in that turn. An EagerFuture that is done while an endpoint
# receives is put on a list instead. When the endpoint has delivered everything, it lets these
# tasks continue, and sends what they wrote together with the acknowledgements. This saves a look
# at the sockets, and a handle, for each message.
#
# Nothing here knows how a task works: a task registers a callback with any object that has the
# shape of a future, and the callback makes it continue. Calling it sooner is all that differs.

cdef extern from "Python.h":
    ctypedef PyObject *(*iternextfunc)(PyObject *) noexcept
    ctypedef int (*sendfunc)(PyObject *, PyObject *, PyObject **) noexcept
    ctypedef void (*destructor)(PyObject *) noexcept
    ctypedef void (*freefunc)(void *) noexcept
    ctypedef int (*inquiry)(PyObject *) noexcept
    ctypedef PyObject *(*getattrofunc)(PyObject *, PyObject *) noexcept
    ctypedef PyObject *(*ternaryfunc)(PyObject *, PyObject *, PyObject *) noexcept
    ctypedef struct PyAsyncMethods:
        sendfunc am_send
    ctypedef struct PyTypeObject:
        PyObject *(*tp_new)(PyTypeObject *, PyObject *, PyObject *) except NULL
        PyObject *(*tp_alloc)(PyTypeObject *, Py_ssize_t) except NULL
        freefunc tp_free
        Py_ssize_t tp_basicsize
        unsigned int tp_version_tag
        iternextfunc tp_iternext
        destructor tp_dealloc
        destructor tp_finalize
        inquiry tp_clear
        getattrofunc tp_getattro
        ternaryfunc tp_call
        Py_ssize_t tp_weaklistoffset
        PyAsyncMethods *tp_as_async
    enum:
        PYGEN_RETURN
        PYGEN_NEXT
    Py_ssize_t PY_SSIZE_T_MAX
    int PyIter_Send(object iterator, object value, PyObject **result) noexcept
    PyTypeObject *_type_of "Py_TYPE"(object value) noexcept
    bint PyLong_CheckExact(object value)
    PyObject *PyMethod_New(PyObject *function, PyObject *owner) except NULL
    PyObject *_generic_attr "PyObject_GenericGetAttr"(PyObject *owner, PyObject *name) except NULL
    int PyUnicode_CHECK_INTERNED(PyObject *text) noexcept
    int PyUnicode_CompareWithASCIIString(PyObject *text, const char *other) noexcept
    void PyErr_SetObject(object kind, object value) noexcept

cdef enum:
    RUN_SLICE = 2_000_000      # nanoseconds for the tasks that run() lets continue
    RUN_MOST = 128             # and how many they are

cdef enum:
    E_WAITING
    E_DONE
    E_FAILED
    E_CANCELLED


cdef PyObject *_finished(object value) noexcept:
    """End an iterator with a value, from its tp_iternext: no traceback, mostly no exception."""
    if value is None:
        return NULL
    if isinstance(value, (tuple, BaseException)):
        value = StopIteration(value)  # otherwise taken for the arguments of one, or for one
    PyErr_SetObject(StopIteration, value)
    return NULL


@cython.final
cdef class EagerTurn:
    """The tasks of one event loop that continue in the turn in which they were woken."""

    def __init__(self, bint enabled=True):
        self._enabled = enabled
        self._ready = []

    @staticmethod
    def of(loop):
        turn = _eager_turns.get(loop)
        if turn is None:
            # In debug mode, the loop reports slow callbacks by name: it has to see each task.
            turn = _eager_turns[loop] = EagerTurn(not loop.get_debug())
        return turn

    def run(self, work, argument):
        cdef bint opened = self._open()
        try:
            work(argument)
        finally:
            if opened:
                self._close(_clock() + RUN_SLICE, RUN_MOST)

    cpdef EagerFuture create_future(self, loop):
        cdef EagerFuture future = EagerFuture.__new__(EagerFuture)
        future._turn = self
        future._loop = loop
        return future

    cdef bint _open(self) noexcept:
        """Begin to collect futures; False: an endpoint further down the stack does so."""
        if self._collecting or not self._enabled:
            return False
        self._collecting = True
        return True

    cdef Py_ssize_t _close(self, uint64_t end, Py_ssize_t most) except -1:
        """Let tasks continue until a time; return how many did.

        At least one does, and at most as many as ``most`` leaves: those that were left to the
        event loop since the last time may continue in this turn of it, too. The rest, and tasks
        that are woken meanwhile, continue in the next turn.
        """
        cdef list ready
        cdef EagerFuture future
        cdef Py_ssize_t done = 0
        most -= self._later
        self._later = 0
        self._collecting = self._is_cut = False
        if not self._ready:
            return 0
        ready, self._ready = self._ready, []
        try:
            if _current_task((<EagerFuture>ready[0])._loop) is None:
                for future in ready:
                    if done and (done >= most or _clock() >= end):
                        break
                    done += 1
                    future._call_now()
        finally:
            self._is_cut = done < len(ready)
            for future in ready[done:]:
                future._call_later()
        return done


@cython.final
@cython.freelist(64)
cdef class EagerFuture:
    """Shaped like an asyncio.Future."""

    def __init__(self):
        raise TypeError("EagerFuture is made by EagerTurn.create_future()")

    def __repr__(self):
        return f"<EagerFuture {_EAGER_STATES[self._state]}>"

    @property
    def _asyncio_future_blocking(self):
        return self._blocking

    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, bint value):
        self._blocking = value

    def get_loop(self):
        return self._loop

    def done(self):
        return self._state != E_WAITING

    def cancelled(self):
        return self._state == E_CANCELLED

    def result(self):
        if self._state == E_DONE:
            return self._result
        raise self._error()

    def exception(self):
        if self._state == E_DONE:
            return None
        if self._state == E_FAILED:
            return self._result
        raise self._error()

    def set_result(self, result):
        self._settle(E_DONE, result)

    def set_exception(self, exception):
        self._settle(E_FAILED, exception() if isinstance(exception, type) else exception)

    def cancel(self, msg=None):
        if self._state != E_WAITING:
            return False
        self._state = E_CANCELLED
        self._result = msg
        self._call_later()
        return True

    def add_done_callback(self, callback, *, context=None):
        if context is None:
            context = PyContext_CopyCurrent()
        if self._state != E_WAITING:
            self._loop.call_soon(callback, self, context=context)
        elif self._callback is None:
            self._callback = callback
            self._context = context
        elif self._others is None:
            self._others = [(callback, context)]
        else:
            self._others.append((callback, context))

    def remove_done_callback(self, callback):
        cdef list kept = [one for one in self._callbacks() if one[0] != callback]
        cdef Py_ssize_t removed = len(self._callbacks()) - len(kept)
        self._callback, self._context = kept.pop(0) if kept else (None, None)
        self._others = kept or None
        return removed

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self._state == E_WAITING:
            self._blocking = True
            return self
        raise StopIteration(self.result())

    cdef object _error(self):
        if self._state == E_FAILED:
            return self._result
        if self._state == E_CANCELLED:
            return _CancelledError() if self._result is None else _CancelledError(self._result)
        return _InvalidStateError("Result is not set.")

    cdef int _settle(self, int state, object result) except -1:
        if self._state != E_WAITING:
            raise _InvalidStateError(f"{self!r} is done")
        self._state = state
        self._result = result
        if self._callback is None:
            return 0
        if self._turn._collecting:
            self._turn._ready.append(self)
        else:
            self._call_later()
        return 0

    cdef list _callbacks(self):
        if self._callback is None:
            return []
        return [(self._callback, self._context), *(self._others or ())]

    cdef int _call_later(self) except -1:
        """Tell whoever waits in the next turn of the event loop, as a future of asyncio."""
        if self._callback is None:
            return 0
        self._turn._later += 1
        cdef list callbacks = self._callbacks()
        self._callback = self._context = self._others = None
        for callback, context in callbacks:
            self._loop.call_soon(callback, self, context=context)
        return 0

    cdef int _call_now(self) except -1:
        """Tell whoever waits now, as the event loop would."""
        callback, context = self._callback, self._context
        if callback is None:
            return 0
        if self._others is not None:
            self._callback, self._context = self._others.pop(0)
            self._call_later()
        self._callback = self._context = None
        try:
            PyContext_Enter(context)
        except RuntimeError:  # two tasks share it, and one of them is further down the stack
            self._loop.call_soon(callback, self, context=context)
            return 0
        try:
            callback(self)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._loop.call_exception_handler(
                {"message": f"Exception in callback {callback!r}", "exception": exc})
        finally:
            PyContext_Exit(context)
        return 0


cdef PyObject *_eager_next(PyObject *future) except? NULL:
    """As EagerFuture.__next__, for the interpreter."""
    cdef EagerFuture self = <EagerFuture>future
    if self._state == E_WAITING:
        self._blocking = True
        Py_INCREF(self)
        return future
    if self._state == E_DONE:
        return _finished(self._result)
    raise self._error()


# What a task does with a future that is not exactly one of asyncio: it looks at four attributes for
# each wait, and builds the name "result" first. Looking them up costs a third of the wait.

cdef PyObject *_eager_attr(PyObject *future, PyObject *name) except NULL:
    """getattr(future, name)"""
    cdef object blocking
    if name == _n_blocking:
        blocking = (<EagerFuture>future)._blocking
        Py_INCREF(blocking)
        return <PyObject *>blocking
    if name == _n_get_loop:
        return PyMethod_New(<PyObject *>_get_loop_method, future)
    if name == _n_add_callback:
        return PyMethod_New(<PyObject *>_add_callback_method, future)
    if not PyUnicode_CHECK_INTERNED(name) and PyUnicode_CompareWithASCIIString(name, "result") == 0:
        # Python code has interned names: this is C code that calls what it gets, see _eager_call().
        Py_INCREF(<object>future)
        return future
    return _generic_attr(future, name)


cdef PyObject *_eager_call(PyObject *future, PyObject *arguments, PyObject *keywords) except NULL:
    """future.result() of C code"""
    cdef PyObject *result
    if (<EagerFuture>future)._state != E_DONE:
        raise (<EagerFuture>future)._error()
    result = <PyObject *>(<EagerFuture>future)._result
    Py_INCREF(<object>result)
    return result


cdef PyObject *_n_blocking = <PyObject *>"_asyncio_future_blocking"
cdef PyObject *_n_get_loop = <PyObject *>"get_loop"
cdef PyObject *_n_add_callback = <PyObject *>"add_done_callback"
cdef object _get_loop_method = EagerFuture.get_loop
cdef object _add_callback_method = EagerFuture.add_done_callback
_EAGER_STATES = ("pending", "finished", "failed", "cancelled")
_CancelledError = _asyncio.CancelledError
_InvalidStateError = _asyncio.InvalidStateError
# Python 3.11 has current_task() in Python only; this is the dictionary that it looks into.
cdef object _current_task = (
    _asyncio.current_task if _sys.version_info >= (3, 12) else _asyncio.tasks._current_tasks.get)
cdef object _eager_turns = _WeakKeyDictionary()
(<PyTypeObject *>EagerFuture).tp_iternext = <iternextfunc>_eager_next
(<PyTypeObject *>EagerFuture).tp_getattro = <getattrofunc>_eager_attr
(<PyTypeObject *>EagerFuture).tp_call = <ternaryfunc>_eager_call
