"""An S3 server on this machine, and the distance to it: versitygw behind a proxy that delays.

The delay is made by a proxy and not by the kernel (netem): kernels without it exist, and so everybody's figures are
made in one way. What comes in at one side goes out at the other half a round trip later, in order, without a
limit to the bandwidth. The proxy is a process of its own: `python3 s3.py LISTEN_PORT SERVER_PORT MILLISECONDS`.
"""
from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCESS_KEY = "kist-bench-access"
SECRET_KEY = "kist-bench-secret"
REGION = "us-east-1"
PIECE = 1 << 18
# Of one direction of one connection: what a link of 10 Gbit/s has under way in 30 ms, in round numbers.
UNDER_WAY = 256


class Server:
    """A running server, with its proxy if there is a delay. To be closed."""

    def __init__(self, program: Path, folder: Path, delay_ms: int) -> None:
        self.buckets = folder / "buckets"
        for name in ("buckets", "iam"):
            (folder / name).mkdir(parents=True)
        self.children: list[subprocess.Popen[bytes]] = []
        port = free_port()
        env = {**os.environ, "ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
        # By default it closes each connection after one answer, which no provider's server does.
        words = [program, "--port", f"127.0.0.1:{port}", "--keep-alive", "--iam-dir", folder / "iam", "posix", self.buckets]
        self.start([str(word) for word in words], env, folder / "server.log")
        if delay_ms > 0:
            near = free_port()
            self.start([sys.executable, __file__, str(near), str(port), str(delay_ms)], env, folder / "proxy.log")
            port = near
        self.endpoint = f"http://127.0.0.1:{port}"
        try:
            self.wait()
        except BaseException:
            self.close()
            raise

    def start(self, command: list[str], env: dict[str, str], log: Path) -> None:
        with log.open("wb") as out:
            self.children.append(subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out))

    def wait(self) -> None:
        """Until it answers, whatever it says."""
        end = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(self.endpoint, timeout=5).close()
                return
            except urllib.error.HTTPError:
                return
            except OSError as error:
                if time.monotonic() > end or any(child.poll() is not None for child in self.children):
                    raise RuntimeError(f"the S3 server does not answer at {self.endpoint}") from error
                time.sleep(0.05)

    def bucket(self, name: str) -> Path:
        """Makes a bucket and gives the folder that its objects lie in."""
        folder = self.buckets / name
        folder.mkdir()
        return folder

    def close(self) -> None:
        for child in self.children:
            child.terminate()
            child.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# The proxy.


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Hands on what comes, each piece `delay` seconds after it came."""
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(UNDER_WAY)

    async def take() -> None:
        while True:
            data = await reader.read(PIECE)
            await pieces.put((time.monotonic() + delay, data))
            if not data:
                return

    taking = asyncio.create_task(take())
    try:
        while True:
            due, data = await pieces.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
    finally:
        taking.cancel()


async def connect(port: int, delay: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    far: asyncio.StreamWriter | None = None
    try:
        # A connection is made in one round trip.
        await asyncio.sleep(2 * delay)
        far_reader, far = await asyncio.open_connection("127.0.0.1", port, limit=PIECE)
        await asyncio.gather(carry(reader, far, delay), carry(far_reader, writer, delay))
    except (ConnectionError, OSError):
        pass
    finally:
        for side in (writer, far):
            if side is not None:
                side.close()


async def proxy(listen: int, port: int, delay_ms: int) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await connect(port, delay_ms / 2000, reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", listen, limit=PIECE)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(proxy(*map(int, sys.argv[1:4])))
