"""Compatibility name: a fixed set of clients."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from .._states import URL
from ..exceptions import ClientError, WebTransportError, invalid_config
from ..utils import parse_webtransport_url
from ..utils._attempts import attempt_facts, furthest
from ..utils._checks import check_count
from ..utils._closing import AsyncContext
from ..utils._text import printable_path
from .client import WebTransportClient

if TYPE_CHECKING:
    from ..config import ClientConfig
    from ..session import WebTransportSession

__all__ = ["ClientPool"]


class ClientPool(AsyncContext):
    """Several clients that you get in turn.

    Each client has its own UDP sockets and its own connections. Use as
    ``async with ClientPool.create(num_clients=4) as pool:``; leaving the block
    closes all clients.
    """

    def __init__(self, configs: Sequence[ClientConfig | None]) -> None:
        """Create one client for each configuration, without connections.

        Args:
            configs: At least one; None stands for ``ClientConfig()``.

        Raises:
            ConfigurationError: No configuration, or one with a field out of range.
        """
        if not isinstance(configs, Sequence) or isinstance(configs, str | bytes):
            raise invalid_config(
                key="configs", value=configs, reason="expected a list of ClientConfig"
            )
        if not configs:
            raise invalid_config(
                key="configs", value=configs, reason="expected at least one ClientConfig"
            )
        self._clients = tuple(WebTransportClient(config=config) for config in configs)
        self._next = 0
        self._closed = False

    @classmethod
    def create(cls, num_clients: int = 10, *, base_config: ClientConfig | None = None) -> Self:
        """Create ``num_clients`` clients with the same configuration.

        Args:
            num_clients: At least 1.
            base_config: Configuration of each client; default ``ClientConfig()``.

        Raises:
            ConfigurationError: ``num_clients`` is below 1, or a field is out of range.
        """
        check_count("num_clients", num_clients)
        return cls([base_config] * num_clients)

    @property
    def is_closed(self) -> bool:
        """``close_all`` was called."""
        return self._closed

    def get_client_count(self) -> int:
        """Number of clients that are not closed."""
        return sum(not client.is_closed for client in self._clients)

    async def get_client(self) -> WebTransportClient:
        """Return the next client in turn; closed ones are skipped.

        Raises:
            ClientError: The pool, or every client of it, is closed.

        Cancellation: does not wait, so there is nothing to cancel.
        """
        for _ in self._clients:
            client = self._clients[self._next]
            self._next = (self._next + 1) % len(self._clients)
            if not client.is_closed:
                return client
        raise ClientError("every client of the pool is closed; make a new pool")

    async def connect_all(self, url: URL) -> list[WebTransportSession]:
        """Open one session to ``url`` with each client, all in parallel.

        Either all sessions open, or none stays open.

        Args:
            url: ``https://host[:port]/path?query``.

        Returns:
            One session per client, in the order of the configurations.

        Raises:
            ConfigurationError: The URL is malformed, or the pool belongs to another event
                loop.
            ClientError: A client could not connect. The message contains the error of the attempt
                that got furthest; ``details["errors"]`` has all errors, by the number of the
                client. ``is_retriable_error`` is true if it is for all.

        Cancellation: safe, nothing stays open.
        """
        parse_webtransport_url(url)
        for client in self._clients:
            client.home_loop.enter()
        tasks = [asyncio.ensure_future(client.connect(url)) for client in self._clients]
        try:
            await asyncio.wait(tasks)
            errors = {n: error for n, task in enumerate(tasks) if (error := task.exception())}
            if errors:
                raise _failure(url, errors, len(tasks))
        except BaseException:
            await _undo(tasks)
            raise
        return [task.result() for task in tasks]

    async def close_all(self) -> None:
        """Close all clients with their sessions. Idempotent.

        Cancellation: everything is released anyway.
        """
        self._closed = True
        results = await asyncio.gather(
            *(client.close() for client in self._clients), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def __aenter__(self) -> Self:
        if self._closed:
            raise ClientError("the pool is closed; make a new one")
        return self

    async def _end_block(self) -> None:
        await self.close_all()


def _failure(url: URL, errors: dict[int, BaseException], count: int) -> BaseException:
    """One error that reports all of them; a programming error is raised unchanged."""
    for error in errors.values():
        if not isinstance(error, WebTransportError) or isinstance(error, ValueError):
            return error
    number, first = list(errors.items())[furthest(list(errors.values()))]
    failure = ClientError(
        f"{len(errors)} of {count} clients could not connect to {printable_path(url)}; "
        f"client {number}: {first}",
        target_url=url,
        details={
            "attempts": [
                attempt_facts(f"client {number}", error) for number, error in errors.items()
            ],
            "errors": {
                number: error.to_dict()
                for number, error in errors.items()
                if isinstance(error, WebTransportError)
            },
        },
    )
    failure.__cause__ = first
    return failure


async def _undo(tasks: Sequence[asyncio.Future[WebTransportSession]]) -> None:
    """Cancel the connection attempts in progress, and close what is open."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*(_close_result(task) for task in tasks))


async def _close_result(task: asyncio.Future[WebTransportSession]) -> None:
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is None:
        await task.result().close()
