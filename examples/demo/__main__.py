"""``make demo``: starts a server process and a client process, and ends both cleanly."""

import argparse
import asyncio
import os
import sys

from . import arguments
from .process import ServerProcessError, server_process


async def run(size: int) -> int:
    """Run both processes and return the exit code of the demo."""
    async with server_process() as server:
        print(f"server process {server.pid} listens at {server.url}", flush=True)
        client = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "examples.demo.client", server.url, server.certificate_hash),
            *("--size", str(size)),
        )
        code = await client.wait()
    if code == 0:
        print("server process ended with exit code 0 after SIGINT")
    return code


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument(
        "--size",
        type=arguments.size,
        default=os.environ.get("DEMO_SIZE") or "256MiB",
        help="size of each bulk transfer; by default $DEMO_SIZE or 256MiB",
    )
    try:
        return asyncio.run(run(parser.parse_args().size))
    except ServerProcessError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
