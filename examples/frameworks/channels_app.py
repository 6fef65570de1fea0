"""Django with Channels: a page, a WebSocket and WebTransport sessions.

pywebtransport serve channels_app:app --certfile localhost.crt --keyfile localhost.key

``ProtocolTypeRouter`` knows scopes by their type, so that sessions need no other router.
"""

from __future__ import annotations

from typing import Any

import django
from channels.consumer import AsyncConsumer
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["localhost"], ROOT_URLCONF=__name__, SECRET_KEY="of an example")
django.setup()


def hello(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(f"hello, {name}")


def upload(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{len(request.body)} bytes")


urlpatterns = [path("hello/<name>", hello), path("upload", upload)]


class Shout(AsyncWebsocketConsumer):
    async def receive(self, text_data: str = "", bytes_data: bytes = b"") -> None:
        await self.send(text_data.upper())


class Room(AsyncConsumer):
    """A session as a consumer: events have the names of the scope's messages."""

    async def webtransport_connect(self, event: dict[str, Any]) -> None:
        await self.send({"type": "webtransport.accept"})

    async def webtransport_datagram_receive(self, event: dict[str, Any]) -> None:
        name = self.scope["url_route"]["kwargs"]["name"]
        data = f"{name}: ".encode() + event["data"]
        await self.send({"type": "webtransport.datagram.send", "data": data})

    async def webtransport_stream_receive(self, event: dict[str, Any]) -> None:
        """Send the bytes back, and the end after them."""
        await self.send({**event, "type": "webtransport.stream.send"})

    async def webtransport_stream_reset(self, event: dict[str, Any]) -> None:
        """The client has given a stream up: every event needs a method."""

    webtransport_stream_stop_sending = webtransport_drain = webtransport_stream_reset

    async def webtransport_disconnect(self, event: dict[str, Any]) -> None:
        raise StopConsumer


app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("shout", Shout.as_asgi())]),
        "webtransport": URLRouter([path("room/<name>", Room.as_asgi())]),
    }
)
