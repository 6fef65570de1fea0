# Attributes of Python classes with __slots__, at the price of a pointer.
#
# The compiled classes share a few objects with Python code that cannot be compiled or must not
# know them: the sessions of h3, the lines of utils. An ordinary access asks the type for the
# descriptor of the attribute, and that for the value. A Slot remembers where the descriptor finds
# it, as the interpreter does for its own code (its instruction LOAD_ATTR_SLOT): as long as the
# version of the type is the same, nothing about the type has changed. Anything that is not an
# ordinary slot is read and set as usual.

cdef extern from "structmember.h":
    ctypedef struct PyMemberDef:
        int type
        Py_ssize_t offset
        int flags
    int T_OBJECT_EX

cdef extern from "Python.h":
    ctypedef struct PyMemberDescrObject:
        PyMemberDef *d_member


cdef struct Slot:
    unsigned int version       # of the type, which no two types share
    Py_ssize_t offset          # of the attribute in its objects
    PyObject *name


cdef enum:
    NO_VERSION = 0x7FFFFFFF    # no type has this one, and 0 stands for none


cdef Slot _slot(str name) noexcept:
    """An attribute of this name, of which kind of objects will be seen; ``name`` lives on."""
    cdef Slot slot
    slot.version = NO_VERSION
    slot.offset = 0
    slot.name = <PyObject *>name
    return slot


cdef inline object _slot_get(Slot *slot, object owner):
    """owner.name"""
    cdef PyObject *value
    if _type_of(owner).tp_version_tag == slot.version:
        value = (<PyObject **>(<char *><PyObject *>owner + slot.offset))[0]
        if value != NULL:
            return <object>value
    return _slot_learn(slot, owner)


cdef inline int _slot_set(Slot *slot, object owner, object value) except -1:
    """owner.name = value"""
    cdef PyObject **place
    cdef PyObject *old
    if _type_of(owner).tp_version_tag == slot.version:
        place = <PyObject **>(<char *><PyObject *>owner + slot.offset)
        if place[0] != NULL:
            old = place[0]
            Py_INCREF(value)
            place[0] = <PyObject *>value
            Py_DECREF(<object>old)
            return 0
    setattr(owner, <str>slot.name, value)
    return 0


cdef object _slot_learn(Slot *slot, object owner):
    cdef PyMemberDef *member
    kind = type(owner)
    found = getattr(kind, <str>slot.name, None)
    if type(found) is _MemberDescriptor:
        member = (<PyMemberDescrObject *><PyObject *>found).d_member
        if member.type == T_OBJECT_EX and member.flags == 0:
            slot.offset = member.offset
            # The lookup above has given the type its version, if there are any left.
            slot.version = (<PyTypeObject *><PyObject *>kind).tp_version_tag or NO_VERSION
    return getattr(owner, <str>slot.name)


# The same for values of a class, such as those that a subclass of a compiled class gives it.
cdef struct ClassValue:
    unsigned int version
    PyObject *value            # which the class keeps, as long as it has this version
    PyObject *name


cdef ClassValue _class_value(str name) noexcept:
    cdef ClassValue wanted
    wanted.version = NO_VERSION
    wanted.value = NULL
    wanted.name = <PyObject *>name
    return wanted


cdef inline object _class_get(ClassValue *wanted, object owner):
    """type(owner).name"""
    cdef PyTypeObject *kind = _type_of(owner)
    if kind.tp_version_tag != wanted.version:
        found = getattr(type(owner), <str>wanted.name)
        wanted.value = <PyObject *>found
        wanted.version = kind.tp_version_tag or NO_VERSION
        return found
    return <object>wanted.value


cdef object _MemberDescriptor = _MemberDescriptorType
