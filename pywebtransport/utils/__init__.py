"""Helpers: conversion, checks, URLs, time, tasks, logging, certificates."""

from ._certificates import (
    certificate_hash,
    generate_self_signed_cert,
    load_certificate,
)
from ._checks import (
    validate_address,
    validate_error_code,
    validate_port,
    validate_session_id,
    validate_stream_id,
)
from ._data import (
    calculate_checksum,
    chunked_read,
    ensure_bytes,
    ensure_str,
    format_bytes,
    generate_connection_id,
    generate_request_id,
    generate_session_id,
    merge_configs,
    normalize_headers,
)
from ._logs import (
    JsonFormatter,
    get_logger,
    setup_logging,
)
from ._tasks import (
    create_task_with_timeout,
    run_with_timeout,
    wait_for_condition,
)
from ._timing import (
    Timer,
    format_duration,
    format_timestamp,
    get_timestamp,
)
from ._urls import (
    build_webtransport_url,
    is_ipv4_address,
    is_ipv6_address,
    parse_webtransport_url,
    resolve_address,
    validate_url,
)

__all__ = [
    "JsonFormatter",
    "Timer",
    "build_webtransport_url",
    "calculate_checksum",
    "certificate_hash",
    "chunked_read",
    "create_task_with_timeout",
    "ensure_bytes",
    "ensure_str",
    "format_bytes",
    "format_duration",
    "format_timestamp",
    "generate_connection_id",
    "generate_request_id",
    "generate_self_signed_cert",
    "generate_session_id",
    "get_logger",
    "get_timestamp",
    "is_ipv4_address",
    "is_ipv6_address",
    "load_certificate",
    "merge_configs",
    "normalize_headers",
    "parse_webtransport_url",
    "resolve_address",
    "run_with_timeout",
    "setup_logging",
    "validate_address",
    "validate_error_code",
    "validate_port",
    "validate_session_id",
    "validate_stream_id",
    "validate_url",
    "wait_for_condition",
]
