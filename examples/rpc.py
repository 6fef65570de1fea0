"""Remote calls in both directions over one session, between a shop and a customer.

Run it without arguments: python examples/rpc.py
"""

import argparse
import asyncio
import sys
from dataclasses import dataclass
from typing import Any

from pywebtransport import WebTransportError, WebTransportSession, connect, serve
from pywebtransport.rpc import Proceed, RpcCall, RpcDirection, RpcError, RpcManager


@dataclass
class Item:
    """Something to buy. The price is in cents."""

    name: str
    price: int


@dataclass
class Order:
    """The items that were bought."""

    items: list[Item]
    total: int


PRICES = {"tea": 350, "cake": 420}
SOLD_OUT = 1


def item(name: str) -> Item:
    """A method. Its parameters and its result have types."""
    if name not in PRICES:
        raise RpcError(f"there is no {name} left", error_code=SOLD_OUT, data=sorted(PRICES))
    return Item(name, PRICES[name])


async def shop(session: WebTransportSession) -> None:
    """The handler of a session: offers methods until the session ends."""
    rpc = RpcManager(session, interceptors=[only_with_a_token])

    async def order(items: list[Item]) -> Order:
        total = sum(item.price for item in items)
        if not await rpc.call("confirm", total, timeout=60):
            raise RpcError("the customer changed their mind", error_code=2)
        return Order(items, total)

    rpc.register(item)
    rpc.register(order)
    await rpc.serve()


async def only_with_a_token(call: RpcCall, proceed: Proceed) -> Any:
    """An interceptor: runs around every call. This one lets only some calls pass."""
    if call.direction is RpcDirection.INCOMING and call.metadata.get("token") != "secret":
        raise RpcError("who are you?", error_code=401)
    return await proceed()


async def buy(session: WebTransportSession) -> None:
    """What the customer does."""

    async def with_token(call: RpcCall, proceed: Proceed) -> Any:
        call.metadata["token"] = "secret"
        return await proceed()

    rpc = RpcManager(session, interceptors=[with_token])

    @rpc.register
    def confirm(total: int) -> bool:
        print(f"shall I pay {total / 100:.2f}? yes")
        return True

    async with rpc:
        items = await asyncio.gather(
            *(rpc.call("item", name, result_type=Item) for name in ("tea", "cake"))
        )
        order = await rpc.call("order", items=items, result_type=Order)
        print(f"bought {len(order.items)} things for {order.total / 100:.2f}")
        try:
            await rpc.call("item", "coffee")
        except RpcError as error:
            print(f"{error.message} (code {error.error_code}), but {error.data}")


async def main() -> None:
    """Run both ends in one process."""
    async with (
        serve(shop, "localhost", 0) as server,
        connect(server.url, server_certificate_hashes=[server.certificate_hash]) as session,
    ):
        await buy(session)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    try:
        asyncio.run(main())
    except WebTransportError as error:
        sys.exit(f"error: {error}")
