# dict -> qe_settings, and the engine's statistics as dicts.

cdef dict _CC = {"cubic": QE_CC_CUBIC, "reno": QE_CC_RENO, "bbr": QE_CC_BBR}
cdef dict _RETRY = {"off": QE_RETRY_OFF, "auto": QE_RETRY_AUTO, "always": QE_RETRY_ALWAYS}


cdef uint64_t _u64(str name, object value) except? 0:
    if not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise _bad_value(name, value, "an integer from 0 to 2**64 - 1")
    return value


cdef uint32_t _u32(str name, object value) except? 0:
    if not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise _bad_value(name, value, "an integer from 0 to 2**32 - 1")
    return value


cdef int _flag(str name, object value) except -1:
    if not isinstance(value, int) or value not in (0, 1):
        raise _bad_value(name, value, "True or False")
    return 1 if value else 0


cdef int _choice(str name, object value, dict choices) except -1:
    if not isinstance(value, str) or value not in choices:
        raise _bad_value(name, value, "one of " + ", ".join([repr(c) for c in choices]))
    return choices[value]


cdef size_t _secrets(object value, uint8_t (*out)[32]) except 0:
    """Copy 1 to QE_MAX_SECRETS secrets; return how many."""
    cdef bytes raw
    cdef size_t n = 0
    if not isinstance(value, (tuple, list)) or not 1 <= len(value) <= QE_MAX_SECRETS:
        raise _exc.ConfigurationError(f"secrets must be a list of 1 to {QE_MAX_SECRETS}",
                                      config_key="secrets")
    for secret in value:
        if not isinstance(secret, bytes) or len(secret) != 32:
            raise _exc.ConfigurationError("each of the secrets must be 32 bytes",
                                          config_key="secrets")
        raw = secret
        memcpy(out[n], PyBytes_AS_STRING(raw), 32)
        n += 1
    return n


cdef int _set_setting(qe_settings *s, str name, object value) except -1:
    # Timers, nanoseconds.
    if name == "idle_timeout":
        s.idle_timeout = _u64(name, value)
    elif name == "handshake_timeout":
        s.handshake_timeout = _u64(name, value)
    elif name == "keep_alive":
        s.keep_alive = _u64(name, value)
    # Windows and limits.
    elif name == "initial_max_data":
        s.initial_max_data = _u64(name, value)
    elif name == "initial_max_stream_data":
        s.initial_max_stream_data = _u64(name, value)
    elif name == "max_unread_data":
        s.max_unread_data = _u64(name, value)
    elif name == "max_data_window":
        s.max_data_window = _u64(name, value)
    elif name == "max_stream_window":
        s.max_stream_window = _u64(name, value)
    elif name == "max_streams_bidi":
        s.max_streams_bidi = _u64(name, value)
    elif name == "max_streams_uni":
        s.max_streams_uni = _u64(name, value)
    elif name == "max_datagram_frame_size":
        s.max_datagram_frame_size = _u32(name, value)
    elif name == "datagram_queue_count":
        s.dgram_queue_count = _u32(name, value)
    elif name == "datagram_queue_bytes":
        s.dgram_queue_bytes = _u32(name, value)
    elif name == "stream_write_low":
        s.stream_write_low = _u32(name, value)
    elif name == "max_queued_data":
        s.max_queued_data = _u64(name, value)
    # The path.
    elif name == "max_tx_udp_payload_size":
        s.max_tx_udp_payload_size = _u32(name, value)
    elif name == "pmtud":
        s.pmtud = _flag(name, value)
    elif name == "known_mtu":
        s.known_mtu = _flag(name, value)
    elif name == "ecn":
        s.ecn = _flag(name, value)
    elif name == "pacing":
        s.pacing = _flag(name, value)
    elif name == "cc":
        s.cc = <qe_cc>_choice(name, value, _CC)
    elif name == "prefer_v2":
        s.prefer_v2 = _flag(name, value)
    elif name == "enable_migration":
        s.enable_migration = _flag(name, value)
    # Server.
    elif name == "retry":
        s.retry = <qe_retry>_choice(name, value, _RETRY)
    elif name == "retry_half_open":
        s.retry_half_open = _u32(name, value)
    elif name == "max_half_open":
        s.max_half_open = _u32(name, value)
    elif name == "max_connections":
        s.max_connections = _u32(name, value)
    elif name == "max_half_open_per_address":
        s.max_half_open_per_address = _u32(name, value)
    elif name == "max_connections_per_address":
        s.max_connections_per_address = _u32(name, value)
    elif name == "handshakes_per_address":
        s.handshakes_per_address = _u32(name, value)
    elif name == "stateless_resets_per_second":
        s.stateless_resets_per_second = _u32(name, value)
    # What a peer may do.
    elif name == "max_leftovers":
        s.max_leftovers = _u32(name, value)
    elif name == "max_resets_per_second":
        s.max_resets_per_second = _u32(name, value)
    elif name == "excessive_load_code":
        s.excessive_load_code = _check_code(value, name)
    # Connection IDs, bounds of a turn, diagnostics.
    elif name == "cid_len":
        if not isinstance(value, int) or not 0 <= value <= 255:
            raise _bad_value(name, value, "an integer from 8 to 18")
        s.cid_len = <uint8_t>(<int>value)
    elif name == "worker_index":
        if not isinstance(value, int) or not -1 <= value <= 255:
            raise _bad_value(name, value, "-1 (none) or an integer from 0 to 255")
        s.worker_index = value
    elif name == "worker_count":
        if not isinstance(value, int) or not 0 <= value <= 256:
            raise _bad_value(name, value, "an integer from 0 (no others) to 256")
        s.worker_count = value
    elif name == "lb_server_id":
        if not isinstance(value, bytes) or len(value) > 13:
            raise _bad_value(name, value, "0 (none) to 13 bytes")
        s.lb_server_id_len = <uint8_t>len(value)
        memcpy(s.lb_server_id, PyBytes_AS_STRING(value), s.lb_server_id_len)
    elif name == "lb_config":
        if not isinstance(value, int) or not 0 <= value <= 6:
            raise _bad_value(name, value, "an integer from 0 to 6")
        s.lb_config = <uint8_t>(<int>value)
    elif name == "secrets":
        s.secret_count = _secrets(value, s.secrets)
    elif name == "recv_batch":
        s.recv_batch = _u32(name, value)
    elif name == "send_batch":
        s.send_batch = _u32(name, value)
    elif name == "qlog":
        s.qlog = _flag(name, value)
    elif name == "debug":
        s.debug = _flag(name, value)
    else:
        raise _exc.ConfigurationError(
            f"unknown engine setting {name!r}; see qe_settings in quicengine.h",
            config_key=name, config_value=value)
    return 0


cdef int _fill_settings(qe_settings *s, bint is_server, dict values) except -1:
    cdef const char *field = NULL
    cdef str name
    qe_settings_init(s, is_server)
    for key, value in values.items():
        if not isinstance(key, str):
            raise _bad_value("settings", key, "names of settings as strings")
        _set_setting(s, key, value)
    # A maximum that was not given follows the given window.
    if "max_data_window" not in values and s.max_data_window < s.initial_max_data:
        s.max_data_window = s.initial_max_data
    if "max_stream_window" not in values and s.max_stream_window < s.initial_max_stream_data:
        s.max_stream_window = s.initial_max_stream_data
    cdef int rc = qe_settings_check(s, &field)
    if rc < 0:
        name = _text(field) if field != NULL else "settings"
        raise _exc.ConfigurationError(
            f"{name} = {values.get(name)!r} is out of range or contradicts another setting",
            config_key=name, config_value=values.get(name))
    return 0


cdef dict _engine_stats(const qe_engine_stats *s):
    return {
        "connections": s.connections,
        "half_open": s.half_open,
        "lingering": s.lingering,
        "accepted": s.accepted,
        "handshake_failed": s.handshake_failed,
        "refused": s.refused,
        "refused_for_address": s.refused_for_address,
        "retries_sent": s.retries_sent,
        "version_negotiations_sent": s.version_negotiations_sent,
        "stateless_resets_sent": s.stateless_resets_sent,
        "dropped_packets": s.dropped_packets,
        "rate_limited": s.rate_limited,
        "foreign_packets": s.foreign_packets,
        "packets_received": s.packets_received,
        "bytes_received": s.bytes_received,
        "packets_sent": s.packets_sent,
        "bytes_sent": s.bytes_sent,
        "send_calls": s.send_calls,
        "recv_calls": s.recv_calls,
        "backlog_packets": s.backlog_packets,
        "backlog_dropped": s.backlog_dropped,
    }


cdef inline object _known(uint64_t value, uint64_t unknown):
    return None if value == unknown else value


cdef dict _conn_stats(const qe_conn_stats *s):
    return {
        "smoothed_rtt": _known(s.smoothed_rtt, 0),
        "latest_rtt": _known(s.latest_rtt, 0),
        "min_rtt": _known(s.min_rtt, 0),
        "rttvar": None if s.latest_rtt == 0 else s.rttvar,
        "cwnd": s.cwnd,
        "ssthresh": _known(s.ssthresh, QE_NEVER),
        "bytes_in_flight": s.bytes_in_flight,
        "bytes_sent": s.bytes_sent,
        "bytes_received": s.bytes_received,
        "packets_sent": s.packets_sent,
        "packets_received": s.packets_received,
        "packets_lost": _known(s.packets_lost, QE_NEVER),
        "stream_bytes_sent": s.stream_bytes_sent,
        "stream_bytes_received": s.stream_bytes_received,
        "datagrams_sent": s.dgrams_sent,
        "datagrams_received": s.dgrams_received,
        "datagrams_acked": s.dgrams_acked,
        "datagrams_lost": s.dgrams_lost,
        "datagrams_dropped": s.dgrams_dropped,
        "datagrams_expired": s.dgrams_expired,
        "datagrams_queued": s.dgrams_queued,
        "streams_opened_local": s.streams_opened_local,
        "streams_opened_remote": s.streams_opened_remote,
        "streams_alive": s.streams_alive,
        "resets_received": s.resets_received,
        "leftovers": s.leftovers,
        "mtu_falls": s.mtu_falls,
        "max_udp_payload": s.max_udp_payload,
        "version": s.version,
        "key_updates": s.key_updates,
    }


cdef dict _group_stats(const qe_group_stats *s):
    return {
        "bytes_sent": s.bytes_sent,
        "bytes_received": s.bytes_received,
        "bytes_consumed": s.bytes_consumed,
        "send_limit": _known(s.send_limit, QE_NEVER),
        "recv_limit": _known(s.recv_limit, QE_NEVER),
        "datagrams_queued": s.dgrams_queued,
        "datagrams_queued_bytes": s.dgrams_queued_bytes,
        "datagrams_sent": s.dgrams_sent,
        "datagrams_acked": s.dgrams_acked,
        "datagrams_lost": s.dgrams_lost,
        "datagrams_dropped": s.dgrams_dropped,
        "datagrams_expired": s.dgrams_expired,
    }
