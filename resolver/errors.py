"""Every exception that this package raises on purpose, under one root.

Anything else that escapes a public function is a bug of ours, never the fault of a packet, a file
or an upstream.
"""


class ResolverError(Exception):
    """The root: catch it at an edge (the command line, a reload, a listener) and nowhere else."""


class Malformed(ResolverError):
    """A DNS message that does not follow RFC 1035; the sender's fault."""


class ConfigError(ResolverError):
    """A configuration that cannot be used; the text is one line, `FILE:LINE: what, what is accepted`."""

    def __init__(self, file: str, line: int, problem: str) -> None:
        super().__init__(f"{file}:{line}: {problem}" if line else f"{file}: {problem}")
        self.file = file
        self.line = line
        self.problem = problem


class ConfigMapError(ConfigError):
    """The mounted kube-dns ConfigMap cannot be used; node-cache counts these apart."""


class AddressInUse(ResolverError):
    """A listen address that another process holds; the text names the address, the fields say what to look for."""

    def __init__(self, problem: str, host: str = "", port: int = 0, protocol: str = "tcp") -> None:
        super().__init__(problem)
        self.host = host
        self.port = port
        self.protocol = protocol


class UpstreamError(ResolverError):
    """One exchange with one upstream failed (timeout, refused, closed, handshake); the next one may do."""


class UpstreamTimeout(UpstreamError):
    """The upstream said nothing in time: no connection, or no answer."""


class UpstreamRefused(UpstreamError):
    """Nobody listens there, or there is no way to get there."""


class UpstreamClosed(UpstreamError):
    """The connection was closed with the question on it, twice; or we close the upstream ourselves."""


class UpstreamBusy(UpstreamError):
    """More questions wait for this upstream than our bounds allow."""


class TlsFailed(UpstreamError):
    """The TLS handshake with the upstream failed."""


class BadSnapshot(ResolverError):
    """A saved cache that cannot be used: broken, foreign, too old, not ours. Serving goes on without it."""


class HandoverFailed(ResolverError):
    """Another generation of this process could not be talked to; each of the two goes on by itself."""


class CommandFailed(ResolverError):
    """A program of the node (`ip`, `nft`, `iptables`) did not do what we asked; the text is a line with the remedy.

    kind `missing`      there is no such program
    kind `permission`   we lack NET_ADMIN
    kind `lock`         another program holds the xtables lock
    kind `timeout`      it did not end, or did not answer, in time
    kind `unsupported`  this kernel, or this version of the program, cannot do it
    kind `failed`       anything else
    """

    def __init__(self, program: str, kind: str, problem: str) -> None:
        super().__init__(f"{program}: {problem}")
        self.program = program
        self.kind = kind
        self.problem = problem
