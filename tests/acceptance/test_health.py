"""Probes, scrapes and the watchdog of ``shifter work``; handlers that take long."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request

import pytest

from stack.process import free_port
from tests.acceptance.fleet import TARGET

PROBES = ("/startupz", "/livez", "/readyz")


def page(port, path):
    """Status and body of a page; status 0 while nobody answers."""
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}{path}", timeout=20
        ) as got:
            return got.status, got.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 0, b""


def processes(port):
    return json.loads(page(port, "/livez")[1])["processes"]


@pytest.mark.timeout(240)
def test_one_endpoint_speaks_for_all_processes_and_the_watchdog_replaces_the_dead(
    fleet,
):
    port = free_port()
    health = ("--health", f"127.0.0.1:{port}", "--watchdog", "3s")
    worker = fleet.work("--processes", "2", *health)
    fleet.until(lambda: page(port, "/readyz")[0] == 200)
    before = {one["pid"] for one in processes(port)}
    for number in range(5):
        fleet.run("submit", TARGET, "note", "--json", json.dumps({"number": number}))
    done = 'shifter_jobs_total{outcome="done",priority="NORMAL",queue="default"} 5.0'
    fleet.until(lambda: done in page(port, "/metrics")[1].decode())

    frozen = min(before)
    os.kill(frozen, signal.SIGSTOP)

    seen = []

    def is_dead():
        seen.append(page(port, "/livez"))
        return seen[-1][0] == 503

    fleet.until(is_dead)
    assert "silent for" in seen[-1][1].decode()
    fleet.until(lambda: page(port, "/readyz")[0] == 200)
    after = {one["pid"] for one in processes(port)}
    assert len(after) == 2
    assert after & before == before - {frozen}
    # What the dead one counted stays.
    assert done in page(port, "/metrics")[1].decode()
    assert page(port, "/else")[0] == 404
    assert page(port, "/startupz")[0] == 200
    worker.terminate()
    assert worker.wait(60) == 0


@pytest.mark.timeout(120)
def test_a_worker_that_drains_is_alive_and_not_ready(fleet):
    port = free_port()
    worker = fleet.work("--health", f"127.0.0.1:{port}")
    fleet.until(lambda: page(port, "/startupz")[0] == 200)
    fleet.run("submit", TARGET, "slow", "--json", '{"number": 1, "seconds": 55}')
    fleet.until(lambda: fleet.effects("begun"))

    worker.terminate()

    fleet.until(lambda: b"draining" in page(port, "/readyz")[1])
    assert [page(port, path)[0] for path in PROBES] == [200, 200, 503]
    # A second signal, later than the first one's moment, ends the drain.
    time.sleep(1)
    worker.terminate()
    assert worker.wait(60) == 0


def test_an_address_that_is_taken_or_wrong_is_said_at_once(fleet):
    port = free_port()
    fleet.work("--health", f"127.0.0.1:{port}")
    fleet.until(lambda: page(port, "/livez")[0] == 200)

    for address in (f"127.0.0.1:{port}", "127.0.0.1:http", "no.such.host.invalid:1"):
        said = fleet.run("work", TARGET, "--health", address, check=False)

        assert said.returncode == 2, said.stderr
        assert address in said.stderr
        assert "Traceback" not in said.stderr


@pytest.mark.timeout(240)
def test_a_long_handler_outlives_lease_session_and_poll_interval(fleet):
    fleet.environment |= {"SHIFTER_LEASE": "3s", "SHIFTER_CLAIM_TIMEOUT": "1s"}
    if fleet.environment["SHIFTER_LOG"].startswith("kafka:"):
        fleet.environment |= {
            "SHIFTER_KAFKA__SESSION_TIMEOUT_MS": "6000",
            "SHIFTER_KAFKA__MAX_POLL_INTERVAL_MS": "6000",
        }
    arguments = json.dumps({"number": 1, "seconds": 14.0})
    fleet.run("submit", TARGET, "slow", "--json", arguments)
    fleet.work()
    fleet.until(lambda: len(fleet.effects("begun")) == 1)

    # Members that join in the middle may be given its partition.
    fleet.work()

    fleet.until(lambda: len(fleet.effects("slow")) == 1)
    fleet.run("work", TARGET, "--burst")
    assert len(fleet.effects("begun")) == 1
    assert len(fleet.effects("slow")) == 1
