"""HTTP/1.1 as a loopback server needs it: requests read from a stream, answers written to one, a loop in a thread."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Self

__all__ = ["Answer", "Loopback", "Request"]

BODILESS = (204, 304)
"""Codes whose answers have no body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request."""

    method: str
    """"GET", "HEAD", …"""
    path: str
    """Path with its query, as sent."""
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes = b""
    """Body of the request."""

    @property
    def range(self) -> tuple[int, int | None] | None:
        """First and last requested byte; the last is `None` for an open range."""
        text = self.headers.get("range", "")
        if not text.startswith("bytes=") or "," in text or text.startswith("bytes=-"):
            return None
        first, _, last = text.removeprefix("bytes=").partition("-")
        return int(first), int(last) if last else None

    @property
    def suffix(self) -> int | None:
        """Number of requested bytes at the end of the file, or `None`."""
        text = self.headers.get("range", "")
        return int(text.removeprefix("bytes=-")) if text.startswith("bytes=-") and "," not in text else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP response."""

    status: int
    """Code."""
    headers: dict[str, str] = field(default_factory=dict)
    """By lower-case name; the length of the body is added if absent."""
    body: bytes = b""
    """Body of the response; may contradict the headers."""
    close: bool = False
    """Whether the connection is cut after it."""

    def head(self) -> bytes:
        """Return the status line and the headers."""
        known = {s.value: s.phrase for s in HTTPStatus}
        fields = {"content-length": str(len(self.body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} {known.get(self.status, 'Other')}", *(f"{k}: {v}" for k, v in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Loopback:
    """A server on a free port of this machine, in a separate thread; used by `with`."""

    def __init__(self) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="geoxt-loopback", daemon=True)

    @property
    def url(self) -> str:
        """Address of the root, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: Request) -> Answer | None:
        """Return the answer to a request; `None` leaves the client without one until the server stops."""
        raise NotImplementedError

    def run(self) -> None:
        """Serve until the process is ended; the address is printed first."""
        with self:
            print(self.url, flush=True)  # noqa: T201 (whoever started the process reads it)
            self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._client, "127.0.0.1", self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close their sockets in a later step of the loop

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await read_request(reader)) is not None:
                answer = await self.answer(request)
                if answer is None:
                    await self._stop.wait()
                    return
                writer.write(answer.head())
                if request.method != "HEAD" and answer.status not in BODILESS:
                    writer.write(answer.body)
                await writer.drain()
                if answer.close:
                    return
        except asyncio.CancelledError:
            writer.transport.abort()  # without what the client has not read yet
            return
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Return the next request of a connection, `None` where the client has gone."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, headers = parse_head(head)
    method, path, _ = line.split(" ", 2)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method=method, path=path, headers=headers, body=body)


def parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    """Return the first line of a message, and its headers by lower-case name."""
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return first, {name.strip().lower(): value.strip() for name, _, value in pairs}
