"""The command `resolver`: `resolver [flags]` serves, `resolver check FILE`, `resolver demo`, `resolver probe`,
`resolver -version`.

`main` returns the exit code. An error of the user's is one line on stderr and exit 1, never a traceback; a
traceback means that the error is ours. Little is imported here: what a sub-command needs is imported when it
runs, because a process that is restarted on a node should answer again soon.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from resolver import VERSION
from resolver.errors import ConfigError, ResolverError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line, by default this process's own."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except ResolverError as error:
        print(" ".join(str(error).splitlines()), file=sys.stderr)
        return 1
    except BrokenPipeError:
        # `resolver check FILE | head`: the reader left. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130  # a shell's 128 + SIGINT; while serving, the daemon has its own handler


def _run(words: list[str]) -> int:
    command = words[0] if words else ""
    if command == "check":
        from resolver.tools import check

        code = check.main(words[1:])
        sys.stdout.flush()
        return code
    if command == "demo":
        from resolver.tools import demo

        return demo.main(words[1:])
    if command == "probe":
        from resolver.tools import probe

        return probe.main(words[1:])
    return _serve(words)


def _serve(words: list[str]) -> int:
    from resolver.settings import flags

    parsed = flags.parse(words)
    if parsed.asked:
        sys.stdout.write(_asked(parsed.asked))
        sys.stdout.flush()
        return 0
    if parsed.words:
        raise ConfigError(
            flags.PLACE,
            0,
            f"extra word {parsed.words[0]!a}; accepted: resolver [flags], resolver check FILE, resolver demo"
            " (a boolean flag is written -flag=false)",
        )
    from resolver.settings.environment.machine import read_stdin
    from resolver.settings.loading import load

    process = parsed.process
    if process.conf == "stdin":
        process = replace(process, stdin_text=read_stdin())
    settings = load(process)
    settings = replace(settings, warnings=parsed.warnings + settings.warnings)
    from resolver import daemon

    return daemon.run(settings)


def _asked(what: str) -> str:
    from resolver.settings import directives, flags

    if what == "version":
        from importlib.util import find_spec

        kernel, machine = os.uname().sysname.lower(), os.uname().machine
        compiled = ("accept.lane", "accept.codec", "accept.visits", "cache.life", "report.counters")
        built = all(find_spec(f"resolver.{name}") for name in compiled)
        lane = "compiled" if built else "python"
        return f"node-resolver-{VERSION}\n{kernel}/{machine}, python{sys.version.split()[0]}, {lane} lane\n"
    if what == "plugins":
        return "".join(f"dns.{word}\n" for word in sorted((*directives.WORDS, "import")))
    return flags.help_text()
