"""One module for each Corefile word: `directives/<word>.py` parses it and names the file that does it.

Each module has `FORM` (how the documentation shows its first line), `OPTIONS` (the lines of its block) and
`read(statement, where)`, which returns the word's options or raises ConfigError. This file is the list of all
words, known and refused; `settings/blocks.py` puts what they return into a `Block`.
"""

MANY = frozenset({"bind", "forward", "log"})
"""Words that may stand several times in one block; all others once (CoreDNS plugin.ErrOnce)."""

WORDS = (
    "bind", "debug", "ready", "health", "prometheus", "reload", "errors", "log", "loadbalance", "cache", "loop",
    "forward",
)  # fmt: skip
"""What a server block may say, in the order in which CoreDNS 1.14 runs it; `import` belongs to the parser."""

LATER = (
    "acl", "any", "autopath", "bufsize", "cancel", "dns64", "dnstap", "header", "hosts", "limit",
    "local", "metadata", "minimal", "multisocket", "pprof", "rewrite", "search_path", "template", "timeouts",
    "trace", "view", "whoami",
)  # fmt: skip
"""Words that come with a later release, and are refused until then."""

FOREIGN = (
    "auto", "azure", "chaos", "clouddns", "dnssec", "erratic", "etcd", "file", "geoip", "grpc", "grpc_server",
    "https", "https3", "k8s_external", "kubernetes", "nomad", "nsid", "on", "proxyproto", "quic", "root",
    "route53", "secondary", "shed", "sign", "tls", "transfer", "tsig",
)  # fmt: skip
"""Words of CoreDNS for another job than a cache on a node (authority, other servers); not planned."""
