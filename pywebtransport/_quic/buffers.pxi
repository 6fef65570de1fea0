# Received bytes of one stream, copied once out of the packet.
#
# A single small piece becomes a bytes object of exactly its size. When more
# pieces arrive before the application reads, they are appended to slabs: bytes
# objects allocated with room to grow, from 4 KiB doubling to 64 KiB. A reader
# that keeps up takes whole slabs: at most one shrinking resize, no second copy.
# A stream that is known to transfer bulk data starts with a slab at once.

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **obj, Py_ssize_t size) except -1
    PyObject *_rbuf_new "PyBytes_FromStringAndSize"(const char *data, Py_ssize_t n) except NULL
    void _rbuf_decref "Py_DECREF"(PyObject *obj)
    Py_ssize_t _rbuf_size "PyBytes_GET_SIZE"(PyObject *obj)
    char *_rbuf_ptr "PyBytes_AS_STRING"(PyObject *obj)

cdef enum:
    MIN_SLAB = 4096 - 64       # with the header of a bytes object, a page
    MAX_SLAB = 65536 - 64
    SMALL_TAIL = 1024          # a slab with no more than this in it ends the bulk mode


# Bytes in all receive buffers of the process. Endpoints may run in several threads: each
# changes it with the GIL held.
cdef int64_t _unread_bytes = 0


cdef inline void rbuf_count(RecvBuffer *b, int64_t n) noexcept:
    """Add n bytes to the total; negative n removes them."""
    global _unread_bytes
    b.buffered += n
    _unread_bytes += n


cdef inline PyObject **rbuf_ring(RecvBuffer *b) noexcept:
    return b.heap if b.heap != NULL else b.slots


cdef int rbuf_push(RecvBuffer *b, PyObject *chunk, bint front) except -1:
    """Add a chunk; takes over its reference, even on failure."""
    cdef PyObject **ring
    cdef PyObject **bigger
    cdef uint32_t size, i
    if b.mask == 0:
        b.mask = 1
    if b.count == b.mask + 1:
        size = 2 * (b.mask + 1)
        bigger = <PyObject **>PyMem_Malloc(size * sizeof(PyObject *))
        if bigger == NULL:
            _rbuf_decref(chunk)
            raise MemoryError()
        ring = rbuf_ring(b)
        for i in range(b.count):
            bigger[i] = ring[(b.head + i) & b.mask]
        PyMem_Free(b.heap)
        b.heap = bigger
        b.mask = size - 1
        b.head = 0
    ring = rbuf_ring(b)
    if front:
        b.head = (b.head - 1) & b.mask
        ring[b.head] = chunk
    else:
        ring[(b.head + b.count) & b.mask] = chunk
    b.count += 1
    return 0


cdef PyObject *rbuf_pop(RecvBuffer *b) noexcept:
    """Remove the oldest chunk; the caller owns the reference."""
    cdef PyObject *chunk = rbuf_ring(b)[b.head]
    b.head = (b.head + 1) & b.mask
    b.count -= 1
    b.head_pos = 0
    if b.count == 0:
        b.head = 0
        b.tail_len = 0
        if b.heap != NULL and b.mask > 15:
            PyMem_Free(b.heap)
            b.heap = NULL
            b.mask = 1
    return chunk


cdef inline size_t rbuf_head_end(RecvBuffer *b) noexcept:
    """Return the number of valid bytes of the oldest chunk."""
    return b.tail_len if b.count == 1 else <size_t>_rbuf_size(rbuf_ring(b)[b.head])


cdef int rbuf_append(RecvBuffer *b, const uint8_t *data, size_t n) except -1:
    """Append a copy of n > 0 bytes."""
    cdef PyObject *chunk
    cdef size_t room, size
    if b.count != 0:
        chunk = rbuf_ring(b)[(b.head + b.count - 1) & b.mask]
        room = <size_t>_rbuf_size(chunk) - b.tail_len
        if room != 0:
            if room > n:
                room = n
            memcpy(_rbuf_ptr(chunk) + b.tail_len, data, room)
            b.tail_len += room
            rbuf_count(b, <int64_t>room)
            n -= room
            if n == 0:
                return 0
            data += room
        # The newest chunk is full: data arrives faster than it is read.
        if b.slab == 0:
            b.slab = MIN_SLAB
        elif b.slab < MAX_SLAB:
            b.slab = min(2 * b.slab, <uint32_t>MAX_SLAB)
    elif b.slab == 0:
        chunk = _rbuf_new(<const char *>data, <Py_ssize_t>n)
        rbuf_push(b, chunk, False)
        b.tail_len = n
        rbuf_count(b, <int64_t>n)
        return 0
    size = b.slab
    if size < n:
        size = n
    chunk = _rbuf_new(NULL, <Py_ssize_t>size)
    rbuf_push(b, chunk, False)
    memcpy(_rbuf_ptr(chunk), data, n)
    b.tail_len = n
    rbuf_count(b, <int64_t>n)
    return 0


cdef bytes rbuf_take(RecvBuffer *b, size_t want):
    """Remove up to ``want`` > 0 bytes of the oldest chunk; the buffer is not empty."""
    cdef PyObject *chunk = rbuf_ring(b)[b.head]
    cdef size_t pos = b.head_pos
    cdef size_t end = rbuf_head_end(b)
    cdef bytes result
    if want < end - pos:
        result = PyBytes_FromStringAndSize(_rbuf_ptr(chunk) + pos, <Py_ssize_t>want)
        b.head_pos = pos + want
        rbuf_count(b, -<int64_t>want)
        return result
    if pos != 0:
        result = PyBytes_FromStringAndSize(_rbuf_ptr(chunk) + pos, <Py_ssize_t>(end - pos))
        rbuf_count(b, -<int64_t>(end - pos))
        _rbuf_decref(rbuf_pop(b))
        return result
    chunk = rbuf_pop(b)
    rbuf_count(b, -<int64_t>end)
    if end != <size_t>_rbuf_size(chunk):
        # The slab was not filled: the reader keeps up, so the next slab may be
        # smaller.
        if end <= SMALL_TAIL:
            b.slab = 0
        elif 4 * end < b.slab and b.slab > MIN_SLAB:
            b.slab //= 2
        _PyBytes_Resize(&chunk, <Py_ssize_t>end)
    result = <bytes>chunk
    _rbuf_decref(chunk)
    return result


cdef size_t rbuf_copy(RecvBuffer *b, uint8_t *out, size_t n) noexcept:
    """Copy up to n bytes from the front without removing them."""
    cdef PyObject **ring = rbuf_ring(b)
    cdef PyObject *chunk
    cdef size_t pos = b.head_pos
    cdef size_t done = 0
    cdef size_t part
    cdef uint32_t i
    for i in range(b.count):
        if done == n:
            break
        chunk = ring[(b.head + i) & b.mask]
        part = (b.tail_len if i == b.count - 1 else <size_t>_rbuf_size(chunk)) - pos
        if part > n - done:
            part = n - done
        memcpy(out + done, _rbuf_ptr(chunk) + pos, part)
        done += part
        pos = 0
    return done


cdef void rbuf_skip(RecvBuffer *b, size_t n) noexcept:
    """Remove n <= buffered bytes."""
    cdef size_t part
    rbuf_count(b, -<int64_t>n)
    while n != 0:
        part = rbuf_head_end(b) - b.head_pos
        if n < part:
            b.head_pos += n
            return
        n -= part
        _rbuf_decref(rbuf_pop(b))


cdef bytes rbuf_peek(RecvBuffer *b, size_t n):
    """Return a copy of up to n bytes from the front."""
    cdef bytes result
    if n > b.buffered:
        n = b.buffered
    if n == 0:
        return b""
    # Never create an object of size 1 from a NULL source: it would be shared.
    result = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>n)
    rbuf_copy(b, <uint8_t *>PyBytes_AS_STRING(result), n)
    return result


cdef int rbuf_unread(RecvBuffer *b, bytes data) except -1:
    """Put bytes back at the front."""
    cdef PyObject *rest
    cdef size_t end
    cdef size_t n = <size_t>PyBytes_GET_SIZE(data)
    cdef bint alone
    if n == 0:
        return 0
    if b.head_pos != 0:
        # Only complete chunks can follow the one that is put back.
        end = rbuf_head_end(b)
        alone = b.count == 1
        rest = _rbuf_new(_rbuf_ptr(rbuf_ring(b)[b.head]) + b.head_pos,
                         <Py_ssize_t>(end - b.head_pos))
        end -= b.head_pos
        _rbuf_decref(rbuf_pop(b))
        rbuf_push(b, rest, True)
        if alone:
            b.tail_len = end
    Py_INCREF(data)
    rbuf_push(b, <PyObject *>data, True)
    if b.count == 1:
        b.tail_len = n
    rbuf_count(b, <int64_t>n)
    return 0


cdef void rbuf_clear(RecvBuffer *b) noexcept:
    """Drop everything and free the memory."""
    while b.count != 0:
        _rbuf_decref(rbuf_pop(b))
    PyMem_Free(b.heap)
    b.heap = NULL
    b.mask = 1
    rbuf_count(b, -<int64_t>b.buffered)
    b.slab = 0
