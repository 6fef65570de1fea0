"""Configuration of clients and servers."""

from pywebtransport.config._keywords import ClientFields, CommonFields, ServerFields
from pywebtransport.config.base import BaseConfig
from pywebtransport.config.builder import ConfigBuilder
from pywebtransport.config.client import ClientConfig
from pywebtransport.config.server import ServerConfig

__all__ = [
    "BaseConfig",
    "ClientConfig",
    "ClientFields",
    "CommonFields",
    "ConfigBuilder",
    "ServerConfig",
    "ServerFields",
]
