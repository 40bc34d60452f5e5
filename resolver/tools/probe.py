"""`resolver probe health|ready PATH`: ask a running process through its probe socket, once.

For people, and where there is no image: starting Python takes far more CPU than the question. Exec probes ask every
few seconds for as long as a pod lives; they run deploy/probe/probe.c, which does and says the same.
"""

import os
import socket
import sys
from collections.abc import Sequence

from resolver.errors import ConfigError

LIMIT_S = 1.0
"""For connecting and answering each. To a loop that is stuck the kernel still connects us; then it is silent."""

_ANSWER_MAX_BYTES = 512


def main(words: Sequence[str]) -> int:
    """Print the answer; return 0 if it is OK, else 1. Raises ConfigError for a command line that is none."""
    if len(words) != 2:
        raise ConfigError("command line", 0, "accepted: resolver probe health PATH or resolver probe ready PATH")
    question, path = words
    try:
        answer = ask(question, path)
    except TimeoutError:
        answer = f"no answer within {LIMIT_S:g} s"
    except OSError as error:
        answer = f"{path}: {os.strerror(error.errno) if error.errno else error}"
    sys.stdout.write(f"{answer}\n")
    sys.stdout.flush()
    return int(answer != "OK")


def ask(question: str, path: str) -> str:
    """Return the one line that the process behind `path` says. Raises OSError, TimeoutError among them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(LIMIT_S)
        asking.connect(path)
        asking.sendall(f"{question}\n".encode())
        heard = b""
        while len(heard) < _ANSWER_MAX_BYTES and (piece := asking.recv(_ANSWER_MAX_BYTES)):
            heard += piece
    return heard.decode("utf-8", "replace").strip() or "closed without an answer"
