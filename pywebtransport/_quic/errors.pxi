# The one place where engine codes become exceptions, and checks of arguments.

cdef str _text(const char *s):
    return (<bytes>s).decode("utf-8", "replace")


cdef object _system_error(str what):
    """Return the exception for a system call of the binding itself; ``errno`` is set."""
    return _exc.ConnectionError(f"{what}: {_os.strerror(errno)}", details={"errno": errno})


cdef object _error(int code, str what, dict details=None):
    """Return the exception for a negative engine code; ``what`` names the operation."""
    cdef str last
    cdef dict facts = {"engine_error": code}
    if details is not None:
        facts.update(details)
    if code == QE_ERR_NOMEM:
        return MemoryError(f"{what}: out of memory")
    if code == QE_ERR_INVALID:
        return _exc.ConfigurationError(
            f"{what}: an argument is out of range; see the documentation of the call",
            details=facts,
        )
    if code == QE_ERR_CLOSED:
        return _exc.ConnectionError(f"{what}: the connection is closed; open a new one",
                                    details=facts)
    if code == QE_ERR_STREAM_LIMIT:
        return _exc.StreamLimitError(
            f"{what}: the peer's limit of concurrent streams is reached; "
            "finish a stream or wait for more credit", details=facts)
    if code == QE_ERR_STREAM_SHUT:
        return _exc.StreamError(
            f"{what}: this direction of the stream is finished or reset; open a new stream",
            details=facts)
    if code == QE_ERR_BLOCKED:
        return _exc.FlowControlError(f"{what}: a queue is full; wait until it drains",
                                     details=facts)
    if code == QE_ERR_DGRAM_TOO_LARGE:
        return _exc.DatagramTooLargeError(details=facts)
    if code == QE_ERR_DGRAM_DISABLED:
        return _exc.DatagramError(
            f"{what}: the peer does not accept datagrams; use a stream", details=facts)
    if code == QE_ERR_TLS:
        return _exc.HandshakeError(f"{what}: {_text(qe_last_error()) or 'TLS set-up failed'}",
                                   handshake_stage="tls", details=facts)
    if code == QE_ERR_CERTIFICATE:
        last = _text(qe_last_error())
        return _exc.CertificateError(f"{what}: {last or 'the certificate cannot be used'}",
                                     certificate_error=last or None, details=facts)
    if code == QE_ERR_SYSCALL:
        facts["errno"] = errno
        last = _text(qe_last_error())
        return _exc.ConnectionError(
            f"{what}: {last or _os.strerror(errno)}", details=facts)
    if code == QE_ERR_LIMIT:
        return _exc.ConnectionError(
            f"{what}: a configured limit is reached; close something or raise the limit",
            details=facts)
    if code == QE_ERR_NOT_READY:
        return _exc.ConnectionError(
            f"{what}: the handshake is not complete; wait for it", details=facts)
    if code == QE_ERR_UNSUPPORTED:
        return _exc.ConfigurationError(
            f"{what}: not supported by the installed libraries or the kernel "
            f"(ngtcp2 {NGTCP2_VERSION}, GnuTLS {GNUTLS_VERSION})", details=facts)
    if code == QE_ERR_MIGRATION:
        return _exc.ConnectionError(
            f"{what}: the connection cannot migrate; the peer forbids it, "
            "or there is no spare connection ID yet", details=facts)
    return _exc.WebTransportError(f"{what}: {_text(qe_strerror(code))}", details=facts)


cdef object _stream_error(int code, str what, int64_t stream_id):
    """As _error, for one stream: "closed" refers to the stream."""
    if code == QE_ERR_CLOSED:
        return _exc.StreamError(f"{what}: stream {stream_id} is closed",
                                stream_id=stream_id, details={"engine_error": code})
    error = _error(code, what)
    if isinstance(error, _exc.StreamError):
        error.stream_id = stream_id
    return error


cdef object _bad_value(str name, object value, str expected):
    return _exc.ConfigurationError(
        f"{name} = {value!r} is not valid: use {expected}", config_key=name, config_value=value)


cdef uint64_t _check_code(object code, str name) except? 0:
    """An error code that fits a variable-length integer."""
    if not isinstance(code, int) or not 0 <= code <= QE_MAX_VARINT:
        raise _bad_value(name, code, "an integer from 0 to 2**62 - 1")
    return code


cdef uint64_t _check_limit(object value, str name) except? 0:
    """A limit in bytes; None is no limit."""
    if value is None:
        return QE_NEVER
    if not isinstance(value, int) or not 0 <= value <= QE_MAX_VARINT:
        raise _bad_value(name, value, "None or an integer from 0 to 2**62 - 1")
    return value


cdef tuple _CLOSE_KINDS = (
    "application", "transport", "idle", "handshake_timeout", "stateless_reset", "version",
    "refused", "internal",
)


@cython.final
cdef class CloseInfo:
    def __init__(self, *, str kind not None, bint remote=False, code=0, str reason not None="",
                 bint handshake_done=False, str tls_error not None="", int errno=0):
        if kind not in _CLOSE_KINDS:
            raise _bad_value("kind", kind, "one of " + ", ".join(_CLOSE_KINDS))
        self.kind = kind
        self.remote = remote
        self.code = int(code)
        self.reason = reason
        self.handshake_done = handshake_done
        self.tls_error = tls_error
        self._errno = errno

    @property
    def errno(self):
        return self._errno

    def __repr__(self):
        parts = [f"kind={self.kind!r}", f"remote={bool(self.remote)}"]
        if self.code:
            parts.append(f"code=0x{self.code:x}")
        if self.reason:
            parts.append(f"reason={self.reason!r}")
        if self.tls_error:
            parts.append(f"tls_error={self.tls_error!r}")
        if self._errno:
            parts.append(f"errno={self._errno}")
        parts.append(f"handshake_done={bool(self.handshake_done)}")
        return f"<CloseInfo {' '.join(parts)}>"


cdef CloseInfo _make_close_info(const qe_close_info *info):
    cdef CloseInfo result = CloseInfo.__new__(CloseInfo)
    cdef int kind = <int>info.kind
    result.kind = _CLOSE_KINDS[kind] if 0 <= kind < 8 else "internal"
    result.remote = info.remote != 0
    result.code = info.code
    result.reason = info.reason[:info.reason_len].decode("utf-8", "replace")
    result.handshake_done = info.handshake_done != 0
    result.tls_error = _text(info.tls_error)
    result._errno = info.sys_errno
    return result
