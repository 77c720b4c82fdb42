"""A proxy on loopback, in a separate process: counts requests, adds latency, and injects network faults."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from http.client import responses
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import Request as Call
from urllib.request import urlopen

from support.processes import start
from support.wire import Answer, Loopback, Request, parse_head

__all__ = ["Fault", "Proxy", "Server", "proxied"]

Kind = Literal["status", "cut", "truncated", "length", "hang"]
CONTROL = "/-/"
"""Paths below it are for the proxy itself."""
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How an answer is spoiled."""

    kind: Kind
    """"status": a refusal instead of the answer. "cut": the connection is closed amid the body. "truncated": a whole,
    but too short answer, whose length fits its body. "length": a length larger than the body. "hang": no answer."""
    status: int = 503
    """Code of a refusal."""
    retry_after: str | None = None
    """Seconds, or a date, after which a refusal asks to come again."""
    keep: float = 0.5
    """Share of the body that is sent."""
    path: str = ""
    """What the path has to hold."""
    method: str = ""
    """"GET" or "HEAD"; all by default."""
    beyond: int = 0
    """Spoils only requests for bytes from this one on."""
    skip: int = 0
    """Requests that pass before those that are spoilt."""
    times: int = 1
    """How many are spoilt."""

    def meant(self, request: Request) -> bool:
        """Whether the fault applies to a request."""
        start = request.range[0] if request.range else 0
        return self.path in request.path and self.method in {"", request.method} and start >= self.beyond

    def spoil(self, answer: Answer) -> Answer | None:
        """Return the faulty answer; `None` for a closed connection without an answer."""
        short = answer.body[: int(len(answer.body) * self.keep)]
        match self.kind:
            case "status":
                wait = {} if self.retry_after is None else {"retry-after": self.retry_after}
                return Answer(status=self.status, headers=wait, body=responses[self.status].encode())
            case "cut":
                headers = answer.headers | {"content-length": str(len(answer.body))}
                return replace(answer, headers=headers, body=short, close=True)
            case "truncated":
                return replace(answer, headers=answer.headers | {"content-length": str(len(short))}, body=short)
            case "length":
                headers = answer.headers | {"content-length": str(2 * len(answer.body) + 1)}
                return replace(answer, headers=headers, close=True)
            case "hang":
                return None
            case _:
                msg = f"Cannot spoil an answer by {self.kind!r}: pass kind= one of {Kind}."
                raise ValueError(msg)


class Server(Loopback):
    """The proxy itself, in a thread; `proxied` runs it in a process, which no lock of its client can hold up.

    Parameters
    ----------
    upstream
        Address of the server that answers, such as "http://127.0.0.1:8080".
    latency
        Seconds added to each request.
    """

    def __init__(self, upstream: str, *, latency: float = 0.0) -> None:
        super().__init__()
        self.latency, self.require = latency, ""
        self.requests: list[Request] = []
        self._faults: list[list[Fault | None]] = []
        self._host = urlsplit(upstream).hostname or "127.0.0.1", urlsplit(upstream).port or 80
        self._idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()

    async def answer(self, request: Request) -> Answer | None:
        """Return the answer of the upstream server, with the injected faults."""
        if request.path.startswith(CONTROL):
            return Answer(status=200, body=json.dumps(self._control(request)).encode())
        self.requests.append(request)
        fault = self._fault(request)
        if self.latency:
            await asyncio.sleep(self.latency)
        if self.require not in request.path:
            return Answer(status=403, body=b"signature expired")
        if fault is not None and fault.kind in {"status", "hang"}:
            return fault.spoil(Answer(status=200))
        answer = await self._forward(request)
        return answer if fault is None else fault.spoil(answer)

    def _control(self, request: Request) -> Any:
        fields = json.loads(request.body or b"{}")
        match request.path.removeprefix(CONTROL):
            case "requests":
                return [{"method": r.method, "path": r.path, "headers": r.headers} for r in self.requests]
            case "fail":
                fault = Fault(**fields)
                self._faults.append([None] * fault.skip + [fault] * fault.times)
            case "set":
                self.latency, self.require = fields["latency"], fields["require"]
            case "forget":
                self.requests.clear()
                self._faults.clear()
            case other:
                msg = f"Cannot do {other!r}: ask for requests, fail, set or forget."
                raise ValueError(msg)
        return None

    def _fault(self, request: Request) -> Fault | None:
        for queue in self._faults:
            fault = queue[-1] if queue else None
            if fault is not None and fault.meant(request):
                fault = queue.pop(0)
                if fault is not None:
                    return fault
        return None

    async def _forward(self, request: Request) -> Answer:
        while self._idle:
            try:
                return await self._ask(self._idle.popleft(), request)
            except (ConnectionError, asyncio.IncompleteReadError):
                continue  # the server had closed it meanwhile
        return await self._ask(await asyncio.open_connection(*self._host), request)

    async def _ask(self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: Request) -> Answer:
        reader, writer = connection
        headers = {name: text for name, text in request.headers.items() if name not in HOP}
        if request.body:
            headers["content-length"] = str(len(request.body))
        lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + request.body)
        line, head = parse_head(await reader.readuntil(b"\r\n\r\n"))
        body = b"" if request.method == "HEAD" else await _body(reader, head)
        if head.get("connection", "").lower() == "close":
            writer.close()
        else:
            self._idle.append(connection)
        end_to_end = {k: v for k, v in head.items() if k not in HOP}
        if request.method == "HEAD" and "content-length" in head:
            end_to_end["content-length"] = head["content-length"]
        return Answer(status=int(line.split(" ", 2)[1]), headers=end_to_end, body=body)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    parts = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A running proxy, as tests and measurements use it."""

    url: str
    """Address of its root, without a slash at its end."""

    def fail(self, kind: Kind, **choice: Any) -> None:
        """Spoil the next requests that match; see `Fault` for the choice."""
        self._tell("fail", asdict(Fault(kind=kind, **choice)))

    def set(self, *, latency: float = 0.0, require: str = "") -> None:
        """Set the seconds added to each request, and a text that a path must contain (else the status is 403)."""
        self._tell("set", {"latency": latency, "require": require})

    def forget(self) -> None:
        """Reset counts, faults, latency and conditions."""
        self._tell("forget", {})
        self.set()

    @property
    def requests(self) -> list[Request]:
        """All requests, in the order in which they came."""
        return [Request(**fields) for fields in self._tell("requests", {})]

    @property
    def counts(self) -> Counter[str]:
        """How many requests came, by path without its query."""
        return Counter(request.path.split("?", 1)[0] for request in self.requests)

    @property
    def ranges(self) -> Counter[tuple[str, tuple[int, int | None] | None]]:
        """How many requests came, by path without its query and by range."""
        return Counter((request.path.split("?", 1)[0], request.range) for request in self.requests)

    def _tell(self, what: str, fields: dict[str, Any]) -> Any:
        call = Call(f"{self.url}{CONTROL}{what}", data=json.dumps(fields).encode(), method="POST")  # noqa: S310
        with urlopen(call, timeout=60) as answer:  # noqa: S310 (loopback alone)
            return json.load(answer)


@contextmanager
def proxied(upstream: str, *, latency: float = 0.0) -> Iterator[Proxy]:
    """Run a proxy before a server.

    Parameters
    ----------
    upstream
        Address of the server, such as "http://127.0.0.1:8080".
    latency
        Seconds added to each request.
    """
    with start(__name__, upstream, "--latency", str(latency)) as url:
        yield Proxy(url=url)


def main() -> None:
    """Serve until the process is ended; the address is printed first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstream")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds added to each request")
    args = parser.parse_args()
    Server(args.upstream, latency=args.latency).run()


if __name__ == "__main__":
    main()
