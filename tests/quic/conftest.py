"""Fixtures of the binding's tests."""

from __future__ import annotations

import pytest

from tests.support.certificates import Certificates

from .harness import Lab


@pytest.fixture(scope="session")
def lab(certs: Certificates) -> Lab:
    """Makes endpoints and connections; what it makes ends with its ``with`` block."""
    return Lab(certs)
