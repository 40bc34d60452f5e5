"""One HTTP client: bytes in, one page at a time out, within bounds.

h11 thinks (it has no I/O); this gives it bytes, deadlines and a transport. A connection is always in one phase:
idle between two requests, reading one (from its first byte to its last), answering, or writing. Each phase has
its own deadline, which further bytes do not extend, so a client that sends one byte a second is closed like
one that sends none. While we answer, reading is paused: what the client sends meanwhile stays in the kernel.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol, cast

import h11

from resolver import logs
from resolver.clock import Timers
from resolver.status.options import HttpOptions

TEXT = "text/plain; charset=utf-8"


class Response(NamedTuple):
    """What a page says."""

    status: int
    body: bytes
    content_type: str = TEXT


Page = Callable[[], Awaitable[Response]]


class Server(Protocol):
    """Who owns the connections; see `status.http`."""

    timers: Timers
    options: HttpOptions
    connections: "set[Connection]"

    def gone(self, connection: "Connection") -> None:
        """`connection` is closed."""


class Listening(Protocol):
    """Where a connection came in: the pages of that address now."""

    pages: Mapping[str, Page]


class _Cancellable(Protocol):
    def cancel(self) -> None: ...


class Connection(asyncio.Protocol):
    """One client, until it or a deadline ends it."""

    def __init__(self, server: Server, listening: Listening) -> None:
        self._server = server
        self._listening = listening
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=server.options.head_max_bytes)
        self._transport: asyncio.Transport | None = None
        self._deadline: _Cancellable | None = None
        self._request: h11.Request | None = None
        self._body_bytes = 0
        self._in_request = False
        self._answering: asyncio.Task[None] | None = None
        self._unsent = False
        self._closing = False
        self._lingering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is one by behaviour only
        self._transport = transport
        if len(self._server.connections) >= self._server.options.connections_max:
            self._closing = True
            transport.abort()
            return
        transport.set_write_buffer_limits(high=0)  # `pause_writing` tells of any byte that is not yet sent
        self._server.connections.add(self)
        self._phase(self._server.options.idle_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self._answering is not None:
            self._answering.cancel()
        self._server.gone(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if not self._in_request:
            self._in_request = True
            self._phase(self._server.options.request_s)
        self._http.receive_data(data)
        self._advance()

    def eof_received(self) -> bool:
        if not self._closing:
            self._http.receive_data(b"")
            self._advance()
        # True keeps our direction open, for an answer that is under way.
        return self._answering is not None or self._unsent or not self._closing

    def pause_writing(self) -> None:
        self._unsent = True

    def resume_writing(self) -> None:
        self._unsent = False
        if self._answering is None:
            self._next()

    def abort(self) -> None:
        """Close at once: a deadline has passed, or the process ends."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def close_when_idle(self) -> None:
        """Take no further request, and close as soon as nothing is owed to the client."""
        self._closing = True
        if self._answering is None and not self._unsent and self._transport is not None:
            self._transport.close()

    def _phase(self, limit_s: float) -> None:
        """A new phase begins; it may take `limit_s`."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._server.timers.call_after(limit_s, self.abort)

    def _advance(self) -> None:
        """Take events out of what has arrived, until one whole request is there or more bytes are needed."""
        options = self._server.options
        while self._answering is None and not self._closing:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self._refuse(error.error_status_hint, b"not HTTP/1.1 as we understand it\n")
                return
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    self._refuse(417, b"no request here needs a body\n")
                return
            if isinstance(event, h11.Request):
                self._request = event
                self._body_bytes = 0
            elif isinstance(event, h11.Data):
                self._body_bytes += len(event.data)
                if self._body_bytes > options.body_max_bytes:
                    self._refuse(413, b"no request here needs a body\n")
            elif isinstance(event, h11.EndOfMessage):
                self._start_answer()
            else:  # ConnectionClosed, or PAUSED behind a request to switch protocols
                self.close_when_idle()
                return

    def _start_answer(self) -> None:
        assert self._transport is not None
        assert self._request is not None
        self._transport.pause_reading()
        self._phase(self._server.options.request_s)
        task = asyncio.get_running_loop().create_task(self._answer(self._request))
        self._answering = logs.held(task, "an HTTP answer")

    async def _answer(self, request: h11.Request) -> None:
        try:
            response = await self._respond(request)
        finally:
            self._answering = None
        if self._transport is None or self._transport.is_closing():
            return
        self._send(response, request)

    async def _respond(self, request: h11.Request) -> Response:
        page = self._listening.pages.get(_path(request.target))
        if page is None:
            return Response(404, b"404 page not found\n")
        if request.method not in {b"GET", b"HEAD"}:
            return Response(405, b"only GET and HEAD\n")
        try:
            return await page()
        except Exception as error:
            # A page that fails is a bug; the client is told, and the one known place hears of it.
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{request.target[:80]!r} failed", "exception": error}
            )
            return Response(500, b"internal error\n")

    def _refuse(self, status: int, body: bytes) -> None:
        """Answer what is not a whole request, and close.

        The client may still be sending. If we closed now, the kernel would answer that with a reset, which
        throws our answer away on the client's side: so our direction ends, and his is read and dropped.
        """
        request, self._request = self._request, None
        self._closing = self._lingering = True
        self._phase(self._server.options.write_s)
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._send(Response(status, body), request)
        elif self._transport is not None:
            self._transport.close()

    def _send(self, response: Response, request: h11.Request | None) -> None:
        """Write one answer and go on with the next request when the kernel has taken all of it."""
        assert self._transport is not None
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
        ]
        if response.status == 405:
            headers.append(("Allow", "GET, HEAD"))
        if self._closing:
            headers.append(("Connection", "close"))
        head = self._http.send(h11.Response(status_code=response.status, headers=headers)) or b""
        body = b""
        if request is None or request.method != b"HEAD":
            body = self._http.send(h11.Data(data=response.body)) or b""
        end = self._http.send(h11.EndOfMessage()) or b""
        self._phase(self._server.options.write_s)
        self._transport.write(head + body + end)
        if not self._unsent:
            self._next()

    def _next(self) -> None:
        """The answer is out: read on, or close."""
        assert self._transport is not None
        if self._closing or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            self._closing = True
            if self._lingering and self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()
            return
        self._http.start_next_cycle()
        self._request = None
        self._in_request = bool(self._http.trailing_data[0])
        self._phase(self._server.options.request_s if self._in_request else self._server.options.idle_s)
        self._transport.resume_reading()
        self._advance()


def _path(target: bytes) -> str:
    """Return the path of a request target in origin or absolute form (RFC 9112 section 3.2)."""
    text = target.decode("latin-1").partition("?")[0]
    for scheme in ("http://", "https://"):
        if text.lower().startswith(scheme):
            return "/" + text[len(scheme) :].partition("/")[2]
    return text
