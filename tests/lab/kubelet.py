"""A small kubelet: restarts what exits, and rolls an update as a DaemonSet with `maxSurge: 1` does.

    kubelet = Kubelet(node, folder, ready, story)
    pod = kubelet.start(spec)          # its container is restarted whenever it ends, a little later each time
    kubelet.until_ready(pod)
    kubelet.update(pod, spec)          # the new pod beside the old one, whose SIGTERM comes when that is Ready

Each pod has a thread that waits for its container; what happens is told to `story`. Back-off is shorter than a real
kubelet's (10 s, doubled up to 5 min), so that tests see several restarts.
"""

import contextlib
import itertools
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.lab.container import Container, Probe, Spec
from tests.lab.spaces import LabError, Space, pause, wait_for

BACK_OFF_S = 0.2
BACK_OFF_MAX_S = 3.0
PROBE_EVERY_S = 0.05
READY_S = 15.0
GRACE_S = 20.0


class Pod:
    """One pod of ours: a container, and the next one when that has ended."""

    def __init__(self, name: str, begin: Callable[[str], Container], story: Callable[[str], object]) -> None:
        """Start its first container."""
        self.name = name
        self.restarts = 0
        self.exits: list[int] = []
        self.paused = False  # a container that ended is not started again while this is set
        self._begin = begin
        self._story = story
        self._ending = threading.Event()
        self.container = begin(name)
        story(f"{name} started, pid {self.container.pid}")
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        back_off_s = BACK_OFF_S
        while True:
            status = self.container.wait(1e6)
            self.exits.append(status)
            self._story(f"{self.name} ended with {status}")
            while self.paused and not self._ending.is_set():
                pause(PROBE_EVERY_S)
            if self._ending.wait(back_off_s):
                return
            back_off_s = min(back_off_s * 2, BACK_OFF_MAX_S)
            self.restarts += 1
            self.container.remove()
            self.container = self._begin(f"{self.name}-{self.restarts}")
            self._story(f"{self.name} started again, pid {self.container.pid}")

    def expect_end(self) -> None:
        """From now on its container is not started again."""
        self._ending.set()

    def remove(self) -> None:
        """Kill its container, and let it end."""
        self.expect_end()
        while self._thread.is_alive():
            # Again, where it was being started anew just now.
            self.container.remove()
            self._thread.join(PROBE_EVERY_S)


class Kubelet:
    """The pods of ours on one node."""

    def __init__(self, node: Space, folder: Path, ready: Probe, story: Callable[[str], object]) -> None:
        """`ready` is the readiness probe."""
        self._node = node
        self._folder = folder
        self._ready = ready
        self._story = story
        self._numbers = itertools.count(1)
        self.pods: list[Pod] = []
        self.everything: list[Container] = []

    def start(self, spec: Spec) -> Pod:
        """Start a pod; it need not be Ready when this returns."""

        def begin(name: str) -> Container:
            made = Container(self._node, spec, self._folder / name)
            self.everything.append(made)
            return made

        pod = Pod(f"resolver-{next(self._numbers)}", begin, self._story)
        self.pods.append(pod)
        return pod

    def is_ready(self, pod: Pod) -> bool:
        """Ask the readiness probe."""
        return pod.container.ended is None and self._ready(pod.container)

    def until_ready(self, pod: Pod, within_s: float = READY_S) -> float:
        """Probe until the pod is Ready; return how long that took. Raises AssertionError."""
        begun_s = time.monotonic()
        wait_for(f"{pod.name} is Ready", lambda: self.is_ready(pod), within_s=within_s, every_s=PROBE_EVERY_S)
        self._story(f"{pod.name} is Ready")
        return time.monotonic() - begun_s

    def update(self, old: Pod, spec: Spec) -> Pod:
        """Roll: the new pod first, and the old one's SIGTERM only once it is Ready. Return the new pod."""
        new = self.start(spec)
        self.until_ready(new)
        status = self.terminate(old)
        if status:
            raise LabError(f"{old.name} ended with {status}")
        return new

    def terminate(self, pod: Pod, grace_s: float = GRACE_S) -> int:
        """Delete a pod: SIGTERM, SIGKILL when its grace is over. Return its exit status."""
        pod.expect_end()
        self._story(f"SIGTERM to {pod.name}")
        pod.container.send(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            pod.container.wait(grace_s)
        pod.remove()
        self.pods.remove(pod)
        return pod.exits[-1]

    def close(self) -> None:
        """Kill everything."""
        for pod in self.pods:
            pod.expect_end()
        for pod in self.pods:
            pod.remove()
        self.pods.clear()
