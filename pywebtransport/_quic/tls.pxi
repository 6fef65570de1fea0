# A TLS configuration, reference-counted in C: connections keep the one they
# started with. Releasing the reference in __dealloc__ can only free credentials;
# it runs no callback and touches no connection.

cdef bytes _path(object value, str name):
    try:
        result = _os.fsencode(value)
    except TypeError:
        raise _bad_value(name, value, "a path") from None
    if b"\0" in result:
        raise _bad_value(name, value, "a path without NUL bytes")
    return result


cdef int _check_file(object path, str what) except -1:
    """Report a missing file as Python does; the engine reports what is wrong inside."""
    if path is None:
        return 0
    if not _os.path.exists(path):
        raise _exc.CertificateError(
            f"{what} {_os.fspath(path)!r} was not found; check the path",
            certificate_path=str(_os.fspath(path)), certificate_error="file_not_found")
    if not _os.access(path, _os.R_OK):
        raise _exc.CertificateError(
            f"{what} {_os.fspath(path)!r} cannot be read; check its permissions",
            certificate_path=str(_os.fspath(path)), certificate_error="file_not_readable")
    return 0


cdef object _certificate_error(int code, str what, object path):
    error = _error(code, what)
    if isinstance(error, _exc.CertificateError) and path is not None:
        error.certificate_path = str(_os.fspath(path))
    return error


@cython.final
cdef class QuicTls:
    def __init__(self, *, bint is_server, alpn, certfile=None, keyfile=None, ca_certs=None,
                 bytes ca_data=None, int verify=0, certificate_hashes=(), bint keylog=False, bint tickets=True,
                 bytes ticket_key=None):
        cdef qe_tls_options opt
        cdef const char **names = NULL
        cdef uint8_t *hashes = NULL
        cdef bytes item, cert_path, key_path, ca_path
        cdef Py_ssize_t i, n
        cdef int rc
        if self._c != NULL:
            raise RuntimeError("QuicTls is immutable; make a new one")
        memset(&opt, 0, sizeof(opt))
        if isinstance(alpn, str):
            raise _bad_value("alpn", alpn, "a sequence of protocol names")
        cdef list protocols = [_alpn_name(name) for name in alpn]
        if not protocols:
            raise _bad_value("alpn", alpn, "at least one protocol name")
        if not 0 <= verify <= 2:
            raise _bad_value("verify", verify, "0 (none), 1 (optional) or 2 (required)")
        if is_server and (certfile is None or keyfile is None):
            raise _exc.ConfigurationError(
                "A server needs a certificate: give certfile and keyfile",
                config_key="certfile" if certfile is None else "keyfile")
        if (certfile is None) != (keyfile is None):
            raise _exc.ConfigurationError(
                "certfile and keyfile belong together: give both or none",
                config_key="certfile" if certfile is None else "keyfile")
        _check_file(certfile, "Certificate file")
        _check_file(keyfile, "Key file")
        if ca_data is None:
            _check_file(ca_certs, "CA file")
        elif ca_certs is None or not ca_data:
            raise _bad_value("ca_data", ca_data, "certificates in PEM format and their ca_certs")
        opt.is_server = is_server
        opt.verify = <qe_verify>verify
        opt.keylog = keylog
        opt.tickets = tickets
        if ticket_key is not None:
            if len(ticket_key) != 64:
                raise _exc.ConfigurationError("ticket_key must be 64 bytes",
                                              config_key="ticket_key")
            opt.ticket_key = <const uint8_t (*)[64]>PyBytes_AS_STRING(ticket_key)
        if certfile is not None:
            cert_path = _path(certfile, "certfile")
            key_path = _path(keyfile, "keyfile")
            opt.cert_file = cert_path
            opt.key_file = key_path
        if ca_certs is not None:
            ca_path = _path(ca_certs, "ca_certs")
            opt.ca_file = ca_path
        if ca_data is not None:
            opt.ca_data = PyBytes_AS_STRING(ca_data)
            opt.ca_data_len = <size_t>len(ca_data)
        cdef list digests = [_hash(value) for value in certificate_hashes]
        try:
            n = len(protocols)
            names = <const char **>PyMem_Malloc(n * sizeof(char *))
            if names == NULL:
                raise MemoryError()
            for i in range(n):
                item = protocols[i]
                names[i] = item
            opt.alpn = names
            opt.alpn_count = <size_t>n
            n = len(digests)
            if n:
                hashes = <uint8_t *>PyMem_Malloc(n * 32)
                if hashes == NULL:
                    raise MemoryError()
                for i in range(n):
                    item = digests[i]
                    memcpy(hashes + 32 * i, PyBytes_AS_STRING(item), 32)
                opt.cert_hashes = <const uint8_t (*)[32]>hashes
                opt.cert_hash_count = <size_t>n
            rc = qe_tls_new(&self._c, &opt)
        finally:
            PyMem_Free(names)
            PyMem_Free(hashes)
        if rc < 0:
            self._c = NULL
            raise _certificate_error(rc, "TLS configuration", certfile or ca_certs)
        self.is_server = is_server

    def __dealloc__(self):
        if self._c != NULL:
            qe_tls_unref(self._c)
            self._c = NULL

    @property
    def has_roots(self):
        return self._c != NULL and qe_tls_has_roots(self._c) != 0

    def add_sni(self, str name not None, certfile, keyfile):
        cdef bytes host, cert_path, key_path
        cdef int rc
        if self._c == NULL:
            raise RuntimeError("QuicTls was not initialised")
        try:
            host = name.encode("ascii") if name.isascii() else name.encode("idna")
        except UnicodeError:
            raise _bad_value("name", name, "a DNS name or '*.' and a DNS name") from None
        if not host or b"\0" in host:
            raise _bad_value("name", name, "a DNS name or '*.' and a DNS name")
        _check_file(certfile, "Certificate file")
        _check_file(keyfile, "Key file")
        cert_path = _path(certfile, "certfile")
        key_path = _path(keyfile, "keyfile")
        rc = qe_tls_add_sni(self._c, host, cert_path, key_path)
        if rc < 0:
            raise _certificate_error(rc, f"certificate for {name}", certfile)


cdef bytes _alpn_name(object name):
    try:
        result = name.encode("ascii")
    except (AttributeError, UnicodeError):
        raise _bad_value("alpn", name, "ASCII protocol names") from None
    if not 1 <= len(result) <= 255 or b"\0" in result:
        raise _bad_value("alpn", name, "protocol names of 1 to 255 bytes")
    return result


cdef bytes _hash(object value):
    try:
        result = bytes(value) if not isinstance(value, (int, str)) else b""
    except TypeError:
        result = b""
    if len(result) != 32:
        raise _bad_value("certificate_hashes", value, "SHA-256 digests of 32 bytes each")
    return result
