# cython: language_level=3, cdivision=True, initializedcheck=False, nonecheck=False
# (boundscheck stays on: only Python sequences given by callers are indexed here.)
"""The binding of the QUIC engine. See _core.pyi for the contract of every member.

One extension module, one file per class:

- errors.pxi      code -> exception, checks of arguments
- address.pxi     Python address tuples <-> sockaddr
- settings.pxi    dict -> qe_settings, statistics -> dict
- buffers.pxi     received bytes
- memory.pxi      what all connections hold, and the limit
- tls.pxi, sock.pxi, group.pxi, connection.pxi, endpoint.pxi
- transport_stream.pxi   what streams of all transports have
- stream.pxi, plain_stream.pxi   streams of the engine, and of a transport in Python
- callbacks.pxi   the functions that the engine calls
- eager.pxi       tasks that continue in the turn that wakes them
- slots.pxi       attributes of Python classes, read like those of compiled ones
- verbs.pxi, read_verbs.pxi   awaitables without coroutine frames
- stream_port.pxi, session_port.pxi, datagram_port.pxi   the hot paths of the classes in _core
- h3_port.pxi     the hot paths of streams in h3

Ownership: the endpoint owns the engine and a set of the connections alive in
it; a connection owns a set of its streams alive in the engine. The engine's
user pointers borrow from these sets, so that the garbage collector sees every
reference. An object leaves its set when the engine says that its handle is
dead; the handle pointer is cleared in the same moment.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.weakref cimport PyWeakref_NewRef
from libc.errno cimport errno
from libc.stddef cimport size_t
from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset, strlen

from pywebtransport._quic.quicengine cimport *

import asyncio as _asyncio
import os as _os
import sys as _sys
import warnings as _warnings
from collections import deque as _deque
from time import monotonic as _time_monotonic
from types import MemberDescriptorType as _MemberDescriptorType
from weakref import WeakKeyDictionary as _WeakKeyDictionary
from weakref import WeakValueDictionary as _WeakValueDictionary
from weakref import ref as _weakref_ref

from pywebtransport import _states
from pywebtransport import exceptions as _exc
from pywebtransport.utils import _clock as _clock_module

NGTCP2_VERSION = (<bytes>qe_ngtcp2_version()).decode("ascii", "replace")
NGTCP2_BUILD_VERSION = (<bytes>qe_ngtcp2_build_version()).decode("ascii", "replace")
GNUTLS_VERSION = (<bytes>qe_gnutls_version()).decode("ascii", "replace")
QLOG_SUPPORTED = bool(qe_qlog_supported())

# How many objects exist; see live_objects().
cdef Py_ssize_t _live_endpoints = 0
cdef Py_ssize_t _live_sockets = 0
cdef Py_ssize_t _live_connections = 0
cdef Py_ssize_t _live_streams = 0
cdef Py_ssize_t _live_groups = 0

# Forks between the first process and this one; see QuicEndpoint._check_process().
cdef unsigned long _forks = 0


def _count_fork():
    global _forks
    _forks += 1


_os.register_at_fork(after_in_child=_count_fork)

include "errors.pxi"
include "address.pxi"
include "settings.pxi"
include "buffers.pxi"
include "memory.pxi"
include "tls.pxi"
include "sock.pxi"
include "group.pxi"
include "eager.pxi"
include "transport_stream.pxi"
include "stream.pxi"
include "plain_stream.pxi"
include "connection.pxi"
include "callbacks.pxi"
include "endpoint.pxi"
include "slots.pxi"
include "verbs.pxi"
include "stream_port.pxi"
include "read_verbs.pxi"
include "session_port.pxi"
include "h3_port.pxi"
include "datagram_port.pxi"
include "deliver.pxi"


def live_objects():
    """How many endpoints, sockets, connections, streams and groups exist (leak checks)."""
    return {
        "endpoints": _live_endpoints,
        "sockets": _live_sockets,
        "connections": _live_connections,
        "streams": _live_streams,
        "groups": _live_groups,
    }
