import asyncio
import json
import sys

from pywebtransport import WebTransportSession, serve

PROBE = (sys.executable, "-m", "pywebtransport", "probe", "--json")


async def stay(session: WebTransportSession) -> None:
    await session.wait_closed()


async def main() -> None:
    async with serve(stay, "localhost", 0) as server:
        pin = ("--certificate-hash", server.certificate_hash.hex())
        for url in (server.url, "https://localhost:1/"):
            probe = await asyncio.create_subprocess_exec(
                *PROBE, url, *pin, stdout=asyncio.subprocess.PIPE
            )
            output, _ = await probe.communicate()
            found = json.loads(output)
            print(probe.returncode, found.get("drafts"))
            # -> 0 [2, 7, 14, 16]
            # -> 4 None


asyncio.run(main())
