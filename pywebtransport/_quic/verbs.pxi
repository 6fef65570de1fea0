# Awaitables that make no coroutine frame: what `stream.read()` and the like return.
#
# A verb does nothing before it is awaited, and can be awaited once, like the coroutine that it
# stands for. asyncio.create_task() and the like take it: it has the methods of a coroutine.
#
# The interpreter asks an awaitable for its next value through tp_iternext, in every version of
# Python; 3.11, and a task whose coroutine this is, prefer am_send, which needs no exception for a
# result. Cython's __next__ would make an exception and a traceback for each; the functions that
# _set_slots() sets do not.
#
# Every read and every write needs a verb, for a moment. The ones that were awaited are kept for
# the next call: that costs a third of creating and freeing them.

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(PyObject *value) noexcept
    int PyObject_GC_IsFinalized(PyObject *value) noexcept
    int PyObject_CallFinalizerFromDealloc(PyObject *value) noexcept
    PyTypeObject *_type_at "Py_TYPE"(PyObject *value) noexcept

cdef enum:  # stages
    V_NEW
    V_WAITING
    V_FINISHED

cdef enum:  # kinds, one for each class
    V_READ
    V_READ_ALL
    V_READ_EXACTLY
    V_WRITE
    V_CLOSE
    V_OPEN
    V_NEXT
    V_RECEIVE
    V_SEND
    VERB_KINDS

    MOST_SPARE = 128           # of a class, about 16 KiB

# By kind. The garbage collector does not know the spare ones, and their members are None.
cdef PyTypeObject *_verb_types[VERB_KINDS]
cdef destructor _verb_deallocs[VERB_KINDS]
cdef PyObject *_spare_verbs[VERB_KINDS][MOST_SPARE]
cdef int _spare_counts[VERB_KINDS]


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
        cdef PyObject *got = NULL
        cdef int status = _verb_send(<PyObject *>self, NULL, &got)
        result = <object>got
        Py_DECREF(result)  # the name has a reference of its own
        if status == PYGEN_NEXT:
            return result
        raise StopIteration(result)

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
        """Do what can be done now; the stage is that of the end.

        Return the result, or what to wait for after ``_wait``, or anything after ``_continue``.
        """
        raise NotImplementedError

    cdef int _give_up(self, object error) except -1:
        """An exception came in place of what this waits for; None: the coroutine is closed."""
        return 0

    cdef object _wait(self, EagerFuture future):
        """Wait for a future of this verb."""
        self._stage = V_WAITING
        future._blocking = True
        return future

    cdef object _continue(self, object coroutine):
        """Leave the rest to a coroutine."""
        self._slow = coroutine.__await__()
        self._stage = V_WAITING
        return None


cdef Verb _new_verb(int kind):
    """Return a verb of a class. Its members are None, and numbers what they happen to be."""
    cdef PyTypeObject *its_type = _verb_types[kind]
    cdef PyObject *found
    cdef Verb verb
    if _spare_counts[kind]:
        _spare_counts[kind] -= 1
        found = PyObject_Init(_spare_verbs[kind][_spare_counts[kind]], its_type)
        PyObject_GC_Track(found)
    else:
        found = its_type.tp_new(its_type, <PyObject *>(), NULL)
    verb = <Verb>found
    Py_DECREF(verb)  # the name has a reference of its own
    verb._kind = kind
    return verb


cdef void _free_verb(PyObject *verb) noexcept:
    """Its tp_dealloc: keep it for the next call, if it can be."""
    cdef PyTypeObject *its_type = _type_at(verb)
    cdef int kind = (<Verb>verb)._kind
    if ((<Verb>verb)._stage == V_NEW or PyObject_GC_IsFinalized(verb)
            or (<PyObject **>(<char *>verb + its_type.tp_weaklistoffset))[0] != NULL):
        if PyObject_CallFinalizerFromDealloc(verb) < 0:
            return  # it is in use again
        kind = 0
        while _verb_types[kind] != its_type:  # not made by _new_verb()
            kind += 1
        _verb_deallocs[kind](verb)
        return
    PyObject_GC_UnTrack(verb)
    its_type.tp_clear(verb)
    if _spare_counts[kind] == MOST_SPARE:
        PyObject_GC_Track(verb)
        _verb_deallocs[kind](verb)
        return
    (<Verb>verb)._stage = V_NEW
    _spare_verbs[kind][_spare_counts[kind]] = verb
    _spare_counts[kind] += 1


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
    cdef int status
    if self._stage == V_FINISHED:
        raise RuntimeError("cannot reuse already awaited coroutine")
    if self._slow is None:
        self._stage = V_FINISHED  # unless it has to wait
        awaited = self._advance()
        if self._slow is None:
            Py_INCREF(awaited)
            result[0] = <PyObject *>awaited
            return PYGEN_RETURN if self._stage == V_FINISHED else PYGEN_NEXT
    status = PyIter_Send(self._slow, None, result)
    if status != PYGEN_NEXT:
        self._stage = V_FINISHED
    return status


cdef void _verb_finalize(PyObject *verb) noexcept:
    """As __del__, for which Cython saves and restores the error indicator each time."""
    if (<Verb>verb)._stage == V_NEW:
        _finalize_verb(verb)


cdef destructor _finalize_verb = (<PyTypeObject *>Verb).tp_finalize


cdef void _set_slots(int kind, object its_class) noexcept:
    """What Cython has no words for."""
    cdef PyTypeObject *its_type = <PyTypeObject *>its_class
    its_type.tp_iternext = <iternextfunc>_verb_next
    its_type.tp_finalize = <destructor>_verb_finalize
    its_type.tp_as_async.am_send = <sendfunc>_verb_send
    _verb_types[kind] = its_type
    _verb_deallocs[kind] = its_type.tp_dealloc
    its_type.tp_dealloc = <destructor>_free_verb
