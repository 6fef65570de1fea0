import asyncio

from pywebtransport.pubsub import Broker, PubSubManager
from pywebtransport.testing import session_pair


async def main() -> None:
    async with session_pair() as (client, server), Broker() as broker, asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(broker.serve(server))
        async with PubSubManager(client) as pubsub, pubsub.subscribe("rooms.*") as subscription:
            await pubsub.publish("rooms.python", {"text": "hello"})
            message = await anext(subscription)
            print(message.topic, message.data["text"])  # -> rooms.python hello
        serving.cancel()


asyncio.run(main())
