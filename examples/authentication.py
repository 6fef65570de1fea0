"""Two ways to know who opened a session: a token in the URL, and one in the first message.

python examples/authentication.py            serves, and prints the URL of ann with her token
"""

import argparse
import asyncio
import base64
import builtins
import hmac
import secrets
import time
from weakref import WeakKeyDictionary

from pywebtransport import ServerApp, WebTransportSession
from pywebtransport.exceptions import SessionRejectedError
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

SECRET = secrets.token_bytes(32)  # share it with the web application that makes the tokens
LIFETIME = 60.0  # seconds
app = ServerApp()
users: WeakKeyDictionary[WebTransportSession, str] = WeakKeyDictionary()


def token_for(user: str, *, now: float) -> str:
    """A token of a user that expires: name, time, and a signature of both."""
    name = base64.urlsafe_b64encode(user.encode()).decode().rstrip("=")
    text = f"{name}.{int(now + LIFETIME)}"
    return f"{text}.{hmac.digest(SECRET, text.encode(), 'sha256').hex()}"


def user_of(token: str, *, now: float) -> str | None:
    """The user, or None if the token is forged, damaged or too old."""
    text, _, signature = token.rpartition(".")
    expected = hmac.digest(SECRET, text.encode(), "sha256").hex()
    if not hmac.compare_digest(signature.encode(), expected.encode()):
        return None
    name, _, expires = text.partition(".")
    if now > int(expires):
        return None
    return base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()


@app.middleware
async def check_token(session: WebTransportSession) -> bool:
    """Require a token in the URL, except on the path that wants it in a message."""
    if session.path.partition("?")[0] == "/log-in":
        return True
    user = user_of(session.query_params.get("token", ""), now=time.time())
    if user is None:
        raise SessionRejectedError(status_code=401)
    users[session] = user
    return True


@app.route("/greet")
async def greet(session: WebTransportSession) -> None:
    await session.datagrams.send(f"hello, {users[session]}")


@app.route("/log-in")
async def log_in(session: WebTransportSession) -> None:
    try:
        async with asyncio.timeout(5):
            stream = await anext(session.incoming_bidirectional_streams())
            token = (await stream.read_all(max_size=1_000)).decode(errors="replace")
    except builtins.TimeoutError:
        await session.close(code=401, reason="no token within 5 seconds")
        return
    user = user_of(token, now=time.time())
    if user is None:
        await session.close(code=401, reason="this token is not valid")
        return
    await stream.write_all(f"hello, {user}")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    certfile, keyfile = generate_self_signed_cert(hostname="localhost")
    print(f"https://localhost:4433/greet?token={token_for('ann', now=time.time())}")
    print(certificate_hash(certfile).hex(), flush=True)
    app.run(host="localhost", port=4433, certfile=certfile, keyfile=keyfile)
