"""Operators and workers: circuits, budgets and quality through the real command."""

from __future__ import annotations

import json
import time

import pytest

from tests.acceptance.dependency_jobs import COOLDOWN_S

pytestmark = pytest.mark.timeout(240)

TARGET = "tests.acceptance.dependency_jobs:app"
DARK = "tests.acceptance.dependency_jobs:dark"


def submit(fleet, job, number):
    arguments = json.dumps({"number": number})
    fleet.run("submit", TARGET, job, "--json", arguments)


def by_hand(fleet, *arguments):
    return fleet.run(*arguments, "--namespace", fleet.namespace)


def shown(fleet, *arguments):
    return fleet.json(*arguments, "--namespace", fleet.namespace)


def numbers(fleet, name):
    return [int(line[1]) for line in fleet.effects(name)]


def test_a_circuit_set_by_hand_holds_until_it_is_let_go(fleet):
    (fleet.folder / "bank-is-well").touch()
    fleet.run("topics", "apply", TARGET)
    said = by_hand(
        fleet, "circuit", "open", "bank", "--reason", "they asked", "--for", "5m"
    )
    assert "open for 5m" in said.stderr
    explained = fleet.run("explain", TARGET, "pay").stdout
    assert "not here: circuit_open" in explained
    assert explained.splitlines()[-1].startswith("defer: circuit_open")
    fleet.work("--processes", "2", target=TARGET)
    submit(fleet, "pay", 1)

    def is_held():
        (row,) = shown(fleet, "circuit", "list")
        return row["held_back"].get("circuit", 0) > 0

    fleet.until(is_held)
    (row,) = shown(fleet, "status")["circuits"]
    assert row["by_hand"]["reason"] == "they asked"
    assert numbers(fleet, "called") == []

    by_hand(fleet, "circuit", "auto", "bank")
    fleet.until(lambda: numbers(fleet, "paid") == [1])


def test_an_outage_is_survived_without_spending_attempts(fleet):
    jobs = 12
    fleet.run("topics", "apply", TARGET)
    for number in range(jobs):
        submit(fleet, "pay", number)
    fleet.work("--processes", "2", target=TARGET)

    def is_open():
        rows = shown(fleet, "circuit", "list")
        return [row["state"] for row in rows] in (["open"], ["half_open"])

    fleet.until(is_open)
    (fleet.folder / "bank-is-well").touch()
    called, paid = fleet.effects("called"), fleet.effects("paid")

    def is_drained():
        return not any(row["waiting"] for row in shown(fleet, "status")["lanes"])

    fleet.until(is_drained, timeout_s=120)
    dead = sum(row["count"] for row in shown(fleet, "status")["dead_letters"])
    assert sorted(numbers(fleet, "paid")) == sorted(set(numbers(fleet, "paid")))
    assert len(numbers(fleet, "paid")) + dead == jobs
    # An attempt is spent by a call, never by waiting, and while the circuit is open one
    # call a cooldown is made. Without a circuit all 24 attempts end in a second or two.
    at_s = [float(line[-1]) for line in called]
    probes = (time.time() - min(at_s)) / COOLDOWN_S
    assert not paid
    assert len(called) <= jobs + 1 + probes
    assert dead <= 1 + probes


def test_lower_quality_is_answered_cheaper_and_mended_later(fleet):
    fleet.run("topics", "apply", TARGET)
    by_hand(fleet, "quality", "set", "reduced", "--reason", "a spike", "--for", "5m")
    explained = fleet.run("explain", TARGET, "rate").stdout
    assert explained.splitlines()[-1] == "degrade: quality_reduced"
    fleet.work("--processes", "1", target=TARGET)
    submit(fleet, "rate", 7)
    fleet.until(lambda: numbers(fleet, "guessed-REDUCED") == [7])
    # The repair waits for nothing but its turn, and is not answered cheaper again.
    fleet.until(lambda: numbers(fleet, "rated-REDUCED") == [7])
    assert shown(fleet, "quality", "show")["by_hand"]["reason"] == "a spike"

    by_hand(fleet, "quality", "auto")
    assert shown(fleet, "quality", "show")["quality"] == "FULL"


def test_what_is_dark_is_counted_and_shown_and_refuses_nothing(fleet):
    jobs = 5
    fleet.run("topics", "apply", DARK)
    for number in range(jobs):
        fleet.run("submit", DARK, "knock", "--json", json.dumps({"number": number}))
    fleet.work("--processes", "1", target=DARK)
    fleet.until(lambda: len(numbers(fleet, "called")) == 3 * jobs)

    def said():
        status = shown(fleet, "status")
        return status["circuits"][0], status["budgets"][0]

    fleet.until(
        lambda: {"circuit", "limit", "rate"} <= said()[0]["would_hold_back"].keys()
    )
    circuit, budget = said()
    assert circuit["held_back"] == {}
    assert (budget["refused"], budget["would_refuse"] > 0) == (0, True)
    columns = by_hand(fleet, "circuit", "list").stdout
    assert f"(circuit {circuit['would_hold_back']['circuit']} in the dark)" in columns
    assert (
        f"0 ({budget['would_refuse']} in the dark)"
        in by_hand(fleet, "budget", "list").stdout
    )
    assert "in the dark" in by_hand(fleet, "status").stdout
