"""``python -m tests.torture.harness SCENARIO [--log …] [--seed …] [--seconds …]``."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from tests.torture.harness.conductor import Order, Verdict, play, say
from tests.torture.harness.event import read_histories
from tests.torture.harness.evidence import Evidence
from tests.torture.harness.scenario import SCENARIOS, schedule
from tests.torture.harness.timeline import story

_SHOWN = 3


def main() -> int:
    """Play, report, and keep the history of what went wrong."""
    given = _arguments()
    scenario = SCENARIOS[given.scenario]
    seed = random.randrange(10**6) if given.seed is None else given.seed
    if given.per_s:
        scenario = scenario._replace(per_s=given.per_s)
    log = scenario.logs[0] if given.log is None else given.log
    if log not in scenario.logs:
        sys.exit(f"{given.scenario} applies on {', '.join(scenario.logs)}")
    order = Order(
        given.scenario, scenario, log, seed, given.seconds, given.jobs, given.drain_s
    )
    if given.plan:
        for act in schedule(scenario, seed, given.seconds):
            print(
                f"{act.at_s:8.2f} s for {act.lasts_s:5.2f} s  {act.what} {act.member}"
            )
        return 0
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    verdict = play(order, folder, say)
    _report(verdict, folder, as_json=given.json)
    kept = Path("build") / "torture"
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "verdicts.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(verdict) + b"\n")
    if given.keep or verdict.violations:
        # Of its own: the next run must not take the evidence away.
        mine = kept / f"{given.scenario}-{log}-{seed}-{int(time.time())}"
        mine.mkdir()
        for name in ("history.jsonl", "verdict.json", "timeline.html"):
            shutil.copy(folder / name, mine / name)
        print(f"history, verdict and timeline: {mine}/")
    if not given.debug:
        shutil.rmtree(folder)
    return 1 if verdict.violations else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument("scenario", choices=SCENARIOS, metavar="SCENARIO")
    parser.add_argument("--log", help="sqlite, kafka or kafka3")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--jobs", type=int, default=0, help="at least so many")
    parser.add_argument("--per-s", type=float, help="jobs offered per second")
    parser.add_argument("--drain-s", type=float, default=75.0)
    parser.add_argument("--plan", action="store_true", help="only print the schedule")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="also of a good run")
    parser.add_argument("--debug", action="store_true", help="keep the whole folder")
    return parser.parse_args()


def _report(verdict: Verdict, folder: Path, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(verdict).decode())
        return
    print(f"{verdict.scenario} on {verdict.log}, seed {verdict.seed}")
    for name in verdict.__struct_fields__:
        if name not in ("scenario", "log", "seed", "violations"):
            print(f"  {name:12} {getattr(verdict, name)}")
    for violation in verdict.violations[:_SHOWN]:
        print(f"{violation.checker}: {violation.text} {violation.job}")
        ev = Evidence(
            read_histories(folder / "history"),
            SCENARIOS[verdict.scenario],
            verdict.log,
        )
        print("\n".join(f"    {line}" for line in story(ev, violation)))
    if len(verdict.violations) > _SHOWN:
        print(f"and {len(verdict.violations) - _SHOWN} more")


if __name__ == "__main__":
    sys.exit(main())
