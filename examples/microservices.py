"""Microservices: a shop calls its price and stock services, and survives their restart.

python examples/microservices.py [--orders 200]

Each service is a process of its own. The shop keeps one session to each of them and calls both at
the same time, many orders at once. In the middle, the price service is killed and started again:
its calls may be repeated, because they only read; a reservation may not, so the shop has to ask.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from multiprocessing.connection import Connection

from pywebtransport import ClientConfig, ServerConfig, WebTransportError, WebTransportSession, serve
from pywebtransport.client import ReconnectingClient
from pywebtransport.rpc import ReconnectingRpc, RpcConnectionLostError, RpcManager
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

# --------------------------------------------------------------------------- services


class Prices:
    """Reads only."""

    async def price(self, article: str) -> int:
        """Cents."""
        await asyncio.sleep(0.002)  # a database
        return sum(article.encode())


class Stock:
    """Reservations by order, so that asking about one is possible."""

    def __init__(self) -> None:
        self._orders: dict[int, str] = {}

    async def reserve(self, order: int, article: str) -> None:
        self._orders[order] = article

    async def reserved(self, order: int) -> bool:
        """Whether ``reserve`` has run for this order."""
        return order in self._orders

    async def counts(self) -> AsyncIterator[tuple[str, int]]:
        """How often each article was reserved, one after the other."""
        for article, count in sorted(Counter(self._orders.values()).items()):
            yield article, count


async def offer(service: object, config: ServerConfig, started: Connection) -> None:
    """Serve the public methods of an object until the process ends."""

    async def handler(session: WebTransportSession) -> None:
        rpc = RpcManager(session)
        for name in dir(service):
            if not name.startswith("_"):
                rpc.register(getattr(service, name))
        await rpc.serve()

    async with serve(handler, config=config) as server:
        started.send(server.port)
        await server.serve_forever()


def service_process(make: Callable[[], object], config: ServerConfig, started: Connection) -> None:
    asyncio.run(offer(make(), config, started))


class Service:
    """The process of a service, which keeps its port when it is started again."""

    def __init__(self, make: Callable[[], object], config: ServerConfig) -> None:
        self._make = make
        self.config = config

    async def start(self) -> None:
        """Start, and wait until it listens."""
        context = multiprocessing.get_context("spawn")
        reading, writing = context.Pipe(duplex=False)
        self.process = context.Process(
            target=service_process, args=(self._make, self.config, writing), daemon=True
        )
        self.process.start()
        self.config = self.config.update(bind_port=await asyncio.to_thread(reading.recv))


# ------------------------------------------------------------------------------- shop


async def order(number: int, prices: ReconnectingRpc, stock: ReconnectingRpc) -> int:
    """One order: price and reservation at the same time."""
    article = ("tea", "milk", "sugar")[number % 3]

    async def reserve() -> None:
        try:
            await stock.call("reserve", number, article)
        except RpcConnectionLostError:
            if not await stock.call("reserved", number):
                await stock.call("reserve", number, article)

    price, _ = await asyncio.gather(prices.call("price", article, result_type=int), reserve())
    return price


async def main(orders: int) -> None:
    """Start the services, order, and restart one of them meanwhile."""
    with tempfile.TemporaryDirectory() as directory:
        certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=directory)
        base = ServerConfig(certfile=certfile, keyfile=keyfile, bind_port=0)
        services = [Service(Prices, base), Service(Stock, base)]
        await asyncio.gather(*(service.start() for service in services))
        # Who only waits for an answer has to send PINGs to notice that the service was killed.
        config = ClientConfig(retry_delay=0.1, max_retries=50, connection_keepalive_timeout=1)
        config = config.update(server_certificate_hashes=[certificate_hash(certfile)])
        async with contextlib.AsyncExitStack() as stack:
            shops = []
            for service in services:
                client = ReconnectingClient(
                    f"https://localhost:{service.config.bind_port}/", config=config
                )
                await stack.enter_async_context(client)
                rpc = ReconnectingRpc(client, idempotent=["price", "reserved"])
                shops.append(await stack.enter_async_context(rpc))
            running = [asyncio.create_task(order(number, *shops)) for number in range(orders)]
            await running[orders // 4]
            services[0].process.kill()
            await services[0].start()
            print("the price service was restarted", flush=True)
            print(f"{orders} orders for {sum([await one for one in running])} cents")
            print(f"{shops[0].stats.repeated} calls were repeated")
            async for article, count in shops[1].stream("counts", item_type=tuple[str, int]):
                print(f"{count:5} {article}")
        for service in services:
            service.process.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A shop that calls two services.")
    parser.add_argument("--orders", type=int, default=200)
    try:
        asyncio.run(main(parser.parse_args().orders))
    except WebTransportError as error:
        sys.exit(f"error: {error}")
