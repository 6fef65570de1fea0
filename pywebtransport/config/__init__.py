"""Configuration of clients and servers."""

from ._base import BaseConfig
from ._builder import ConfigBuilder
from ._client import ClientConfig
from ._keywords import ClientFields, CommonFields, ServerFields
from ._server import ServerConfig

__all__ = [
    "BaseConfig",
    "ClientConfig",
    "ClientFields",
    "CommonFields",
    "ConfigBuilder",
    "ServerConfig",
    "ServerFields",
]
