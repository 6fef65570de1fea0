"""The ID by which a balancer knows a server (draft-ietf-quic-load-balancers)."""

from __future__ import annotations

import base64
import binascii
import os
from typing import Final

from ..constants import MAX_QUIC_LB_SERVER_ID
from ..exceptions import invalid_config

__all__ = ["SERVER_ID_VARIABLE", "server_id_of_environment"]

SERVER_ID_VARIABLE: Final = "AWS_LBC_QUIC_SERVER_ID"
"""Set by the AWS Load Balancer Controller, in base64."""


def server_id_of_environment() -> bytes | None:
    """Return the ID in the environment, if there is one.

    Raises:
        ConfigurationError: It is not base64 of 1 to 13 bytes.
    """
    text = os.environ.get(SERVER_ID_VARIABLE)
    if not text:
        return None
    try:
        found = base64.b64decode(text, validate=True)
    except binascii.Error:
        found = b""
    if not 1 <= len(found) <= MAX_QUIC_LB_SERVER_ID:
        raise invalid_config(
            key=SERVER_ID_VARIABLE,
            value=text,
            reason=f"expected 1 to {MAX_QUIC_LB_SERVER_ID} bytes in base64, in the environment",
        )
    return found
