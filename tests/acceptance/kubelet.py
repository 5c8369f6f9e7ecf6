"""Plays a cluster's part on this machine: pods are processes, by what manifests state.

What a kubelet and the controllers do is read from ``deploy/kubernetes``: arguments and
settings, the periods and thresholds of the probes, the hook before the end, the time
until SIGKILL, how many pods a rolling update adds and takes away, and how many an
eviction may. Sources: Kubernetes, "Pod Lifecycle", "Deployments", "Disruptions".

Not played: images, volumes and networks; each pod listens on a port of its own.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from typing import Any, NamedTuple

from stack.process import free_port
from tests.acceptance.fleet import Fleet
from tests.deploy.kubernetes import Manifest, pod_of, rendered

_OF_THE_SERVERS = ("SHIFTER_NAMESPACE", "SHIFTER_LOG", "SHIFTER_STATE_FILE")


class Probe(NamedTuple):
    """One probe of a container."""

    path: str
    period_s: float
    timeout_s: float
    failures: int


class Stated(NamedTuple):
    """What the manifests state of the workers.

    Attributes:
        arguments: Of the command, without program and address.
        settings: In the environment.
        startup: Until the container has started.
        readiness: From then on.
        before_end: Command of the hook before SIGTERM; ``None`` without one.
        grace_s: From the order to end to SIGKILL, with the hook.
        surge: Pods that a rolling update may add.
        missing: Pods that may be missing while it runs.
        evictions: Pods that may be missing because of evictions.
    """

    arguments: list[str]
    settings: dict[str, str]
    startup: Probe
    readiness: Probe
    before_end: list[str] | None
    grace_s: float
    surge: int
    missing: int
    evictions: int


def stated() -> Stated:
    """What `overlays/example` states; skipped where there is no kubectl."""
    manifests = rendered("overlays/example")
    worker = _find(manifests, "Deployment", "shifter-worker")
    update = worker["spec"]["strategy"]["rollingUpdate"]
    pod = pod_of(worker)
    [container] = pod["containers"]
    settings = _find(manifests, "ConfigMap", "shifter-settings")["data"]
    hook = container.get("lifecycle", {}).get("preStop", {}).get("exec")
    budget = _find(manifests, "PodDisruptionBudget", "shifter-worker")["spec"]
    return Stated(
        arguments=container["args"],
        settings={k: v for k, v in settings.items() if k not in _OF_THE_SERVERS},
        startup=_probe(container["startupProbe"]),
        readiness=_probe(container["readinessProbe"]),
        before_end=None if hook is None else hook["command"],
        grace_s=pod["terminationGracePeriodSeconds"],
        surge=update["maxSurge"],
        missing=update["maxUnavailable"],
        evictions=budget["maxUnavailable"],
    )


def _find(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    [found] = [
        one
        for one in manifests
        if one["kind"] == kind and one["metadata"]["name"] == name
    ]
    return found


def _probe(found: dict[str, Any]) -> Probe:
    return Probe(
        found["httpGet"]["path"],
        found["periodSeconds"],
        found["timeoutSeconds"],
        found["failureThreshold"],
    )


class Pod:
    """A worker in its container, and the kubelet that looks after it.

    Attributes:
        version: Of the template that it was made from.
        is_ready: What the readiness probe last said.
        unready_at: When a probe of a pod that ends first found it not ready.
        was_killed: Whether SIGKILL ended it.
    """

    def __init__(self, fleet: Fleet, told: Stated, target: str, version: int) -> None:
        self.version, self._told, self._port = version, told, free_port()
        self.is_ready = self.was_killed = False
        self.unready_at: float | None = None
        verb, _, *rest = told.arguments
        address = rest.index("--health") + 1
        rest[address] = f"127.0.0.1:{self._port}"
        assert verb == "work"
        self.process = fleet.work(*rest, target=target)
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()
        self._ending: threading.Thread | None = None

    @property
    def is_ending(self) -> bool:
        return self._ending is not None

    def terminate(self) -> None:
        """Begin the end: the hook, SIGTERM, and SIGKILL after the grace."""
        self._ending = threading.Thread(target=self._end, daemon=True)
        self._ending.start()

    def gone(self) -> int:
        """Wait until it has ended; its exit code."""
        assert self._ending is not None
        self._ending.join()
        self._watching.join()
        return self.process.wait()

    def _end(self) -> None:
        until = time.monotonic() + self._told.grace_s
        if self._told.before_end is not None:
            subprocess.run(self._told.before_end, check=True)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.was_killed = True
            self.process.kill()

    def _watch(self) -> None:
        """Probe as the kubelet does, until the process has ended."""
        failed = 0
        while self._asked(self._told.startup) != 200:
            failed += 1
            if failed >= self._told.startup.failures:
                self.was_killed = True
                self.process.kill()
            if self._rest(self._told.startup.period_s):
                return
        failed = 0
        while True:
            is_well = self._asked(self._told.readiness) == 200
            failed = 0 if is_well else failed + 1
            if is_well or failed >= self._told.readiness.failures:
                self.is_ready = is_well
            if not is_well and self.is_ending and self.unready_at is None:
                self.unready_at = time.monotonic()
            if self._rest(self._told.readiness.period_s):
                self.is_ready = False
                return

    def _rest(self, period_s: float) -> bool:
        """Wait a period; whether the process has ended meanwhile."""
        try:
            self.process.wait(period_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _asked(self, probe: Probe) -> int:
        url = f"http://127.0.0.1:{self._port}{probe.path}"
        try:
            with urllib.request.urlopen(url, timeout=probe.timeout_s) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0


class Cluster:
    """The Deployment of the workers, and what happens to its pods.

    Args:
        fleet: Starts the processes.
        told: What the manifests state.
        target: The program that runs in place of that of the manifests.

    Attributes:
        started: All pods that were ever started.
    """

    def __init__(self, fleet: Fleet, told: Stated, target: str) -> None:
        self._fleet, self._told, self._target = fleet, told, target
        self._version = 1
        self.started: list[Pod] = []

    @property
    def pods(self) -> list[Pod]:
        """Those that do not end; a pod that ends no longer counts as one."""
        return [pod for pod in self.started if not pod.is_ending]

    def scale(self, replicas: int) -> None:
        """Have so many pods; all that is too much ends at once."""
        while len(self.pods) < replicas:
            self._start()
        # The newest ones first, as of pods that are equally ready.
        for pod in reversed(self.pods[replicas:]):
            pod.terminate()
        self._until_ready(replicas)

    def update(self) -> None:
        """A rolling update to a new version of the template."""
        wanted = len(self.pods)
        self._version += 1
        while old := [pod for pod in self.pods if pod.version != self._version]:
            has_room = len(self.pods) < wanted + self._told.surge
            if has_room and len(self.pods) - len(old) < wanted:
                self._start()
                continue
            ready = sum(pod.is_ready for pod in self.pods)
            if ready > wanted - self._told.missing:
                old[0].terminate()
                continue
            self._look()
        self._until_ready(wanted)

    def drain_node(self, pods: list[Pod]) -> None:
        """Evict pods of a node: each as soon as the disruption budget allows it.

        The Deployment starts another pod for each at once.
        """
        wanted = len(self.pods)
        for pod in pods:
            while wanted - sum(p.is_ready for p in self.pods) >= self._told.evictions:
                self._look()
            pod.terminate()
            self._start()
        self._until_ready(wanted)

    def close(self) -> list[int]:
        """End all pods at once; the exit codes of all that were ever started."""
        for pod in self.pods:
            pod.terminate()
        return [pod.gone() for pod in self.started]

    def _start(self) -> None:
        pod = Pod(self._fleet, self._told, self._target, self._version)
        self.started.append(pod)

    def _until_ready(self, count: int) -> None:
        while sum(pod.is_ready for pod in self.pods) < count:
            self._look()

    def _look(self) -> None:
        for pod in self.pods:
            code = pod.process.poll()
            assert code is None, f"a pod ended with {code}\n{self._fleet.said()}"
        time.sleep(0.1)
