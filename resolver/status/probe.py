"""The socket for exec probes: a Unix socket private to the pod, answered by the serving loop itself.

On a node two generations of this process share the node's ports, so /health and /ready over HTTP may be answered by
the other one; a path in the pod's own file system cannot be. A client connects, sends `health` or `ready` and a
line feed, gets one line, `OK` or what is wrong, and is closed. The clients: deploy/probe/probe.c, `resolver probe`.

What callers may rely on:

- Nothing answers here while the loop is stuck: the client's own time limit fails the probe.
- Connections, bytes and time are bounded (`options.ProbeOptions`), whatever a client does.
- The socket is ours alone (0600). The file that a dead process left behind is replaced; where a living one listens,
  `open` raises and nothing has changed. At the end the file is removed, unless it is somebody else's by then.
"""

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Callable, Mapping
from typing import cast

from resolver.clock import Timers
from resolver.errors import ResolverError
from resolver.status.options import ProbeOptions

OK = b"OK\n"

Problem = Callable[[], str | None]
"""Returns what is wrong, or None."""

_REASON_MAX_CHARACTERS = 400


class ProbeSocket:
    """The socket and its clients, from `open` to `close`."""

    def __init__(
        self, path: str, problems: Mapping[str, Problem], timers: Timers, options: ProbeOptions | None = None
    ) -> None:
        """Answer these questions; nothing is opened yet."""
        self.path = path
        self.timers = timers
        self.options = options or ProbeOptions()
        self.clients: set[_Client] = set()
        self._problems = problems
        self._server: asyncio.Server | None = None
        self._inode = 0

    async def open(self) -> None:
        """Answer from now on. Raises ResolverError with the remedy."""
        loop = asyncio.get_running_loop()
        listening, self._inode = await loop.run_in_executor(None, _listen, self.path, self.options.connections_max)
        self._server = await loop.create_unix_server(lambda: _Client(self), sock=listening)

    async def close(self) -> None:
        """Answer no more. Closing twice, or what was never opened, is fine."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for client in list(self.clients):
            client.abort()
        await asyncio.get_running_loop().run_in_executor(None, _remove, self.path, self._inode)

    def answer(self, question: str) -> bytes:
        """Return the line that is sent for `question`."""
        ask = self._problems.get(question)
        problem = f"unknown question; accepted: {', '.join(self._problems)}" if ask is None else ask()
        return OK if problem is None else " ".join(problem.split())[:_REASON_MAX_CHARACTERS].encode() + b"\n"


class _Client(asyncio.Protocol):
    """One client: one question, one answer."""

    def __init__(self, owner: ProbeSocket) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._heard = b""
        self._deadline = owner.timers.call_after(owner.options.connection_s, self.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by behaviour only
        if len(self._owner.clients) >= self._owner.options.connections_max:
            self.abort()
            return
        self._owner.clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._owner.clients.discard(self)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        self._heard += data
        line, ended, _ = self._heard.partition(b"\n")
        if ended or len(line) > self._owner.options.question_max_bytes:
            self._transport.write(self._owner.answer(line.decode("ascii", "replace").strip()))
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


def _listen(path: str, backlog: int) -> tuple[socket.socket, int]:
    """Return the listening socket at `path` and the number of its file."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        # Before it has a name, so that nobody else can open it even for a moment: the file takes this mode.
        os.fchmod(listening.fileno(), 0o600)
        try:
            listening.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_if_dead(path)
            listening.bind(path)
        listening.listen(backlog)
        return listening, os.lstat(path).st_ino
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        raise ResolverError(f"-probe-socket {path}: {reason}; name a path in a directory of ours") from None
    except ResolverError:
        listening.close()
        raise


def _remove_if_dead(path: str) -> None:
    """Remove the socket that a dead process has left at `path`. Raises ResolverError if it is anything else."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ResolverError(f"-probe-socket {path} is there and is no socket; remove it or name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as trying:
        found = trying.connect_ex(path)
    if found != errno.ECONNREFUSED:
        raise ResolverError(
            f"-probe-socket {path} is another process's, which lives; give each process a path of its own"
        )
    os.unlink(path)


def _remove(path: str, inode: int) -> None:
    try:
        if os.lstat(path).st_ino == inode:
            os.unlink(path)
    except OSError:
        pass  # gone already, or its directory is: then nobody can ask there
