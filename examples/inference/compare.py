"""Four ways to run one backend, judged on an hour of two real services.

    python -m examples.inference.compare              (or: make compare)

Needs no server: ``none``, ``fifo`` and ``shed`` are simple enough to be computed, and
``shifter`` is shifter's own code in virtual time. Writes ``compare.json``, rows of
``{policy, priority, offered, on_time_ratio, shed_ratio, wait_p99_s, peak_to_trough}``,
``compare-<slots>.json`` with every answer and its reason, and ``compare.png`` into
``--out``. Of shifter's history C7, C8 and C13 are checked (`history`); where one does
not hold, it ends with 1.

On time is an answer that is there no later than 1 s (``HIGH``) or 30 min (``LOW``)
after it would have been on a backend of its own; a refused one is not. What was
accepted and given up later counts as shed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from examples.inference.managed import managed
from examples.inference.report import peak_to_trough, quantile, spread
from examples.inference.rivals import RIVALS, Served
from examples.inference.trace import IN_TIME_S, PRIORITIES, Arrival, read_trace
from shifter.telemetry import configure_logging

_ROUND: Final = 6
_LOST: Final = ("shed", "expired")
_COLUMNS: Final = (
    *("policy", "priority", "offered", "on_time_ratio", "shed_ratio", "wait_p99_s"),
    "peak_to_trough",
)


def compare(arrivals: Sequence[Arrival], slots: int) -> dict[str, Any]:
    """All four policies on one backend.

    Returns:
        ``rows``, ``load`` a minute by policy, ``offered`` load a minute, ``answers`` of
        shifter by priority and reason, and the ``checks`` of its history.
    """
    results = {name: rule(arrivals, slots) for name, rule in RIVALS.items()}
    run = managed(arrivals, slots)
    results["shifter"] = run.served
    offered: dict[int, float] = defaultdict(float)
    for arrival in arrivals:
        offered[int(arrival.at_s // 60)] += arrival.service_s / 60
    loads = {name: _load(served) for name, served in results.items()}
    return {
        "slots": slots,
        "rows": [row for name in results for row in rows(name, results[name])],
        "offered": _minutes(offered),
        "offered_peak_to_trough": peak_to_trough(offered),
        "load": {name: _minutes(load) for name, load in loads.items()},
        "answers": [
            {"priority": priority, "answer": answer, "reason": reason, "count": count}
            for (priority, answer, reason), count in sorted(run.report.items())
        ],
        "checks": {name: found._asdict() for name, found in run.checks.items()},
    }


def rows(policy: str, served: Sequence[Served]) -> list[dict[str, Any]]:
    """One row for each priority, and one for all."""
    found = []
    for priority in ("HIGH", "LOW", "ALL"):
        mine = [
            s for s in served if priority in ("ALL", PRIORITIES[s.arrival.job].value)
        ]
        waits = sorted(s.wait_s for s in mine if s.wait_s is not None)
        on_time = sum(1 for s in mine if _is_on_time(s))
        lost = sum(1 for s in mine if s.answer in _LOST)
        p99 = quantile(waits, 0.99)
        values = (
            policy,
            priority,
            len(mine),
            round(on_time / len(mine), _ROUND) if mine else None,
            round(lost / len(mine), _ROUND) if mine else None,
            None if p99 is None else round(p99, 3),
            peak_to_trough(_load(mine)),
        )
        found.append(dict(zip(_COLUMNS, values, strict=True)))
    return found


def _is_on_time(served: Served) -> bool:
    limit_s = IN_TIME_S[served.arrival.job]
    return served.wait_s is not None and served.wait_s <= limit_s + 1e-6


def _load(served: Iterable[Served]) -> dict[int, float]:
    load: dict[int, float] = defaultdict(float)
    for one in served:
        for begin_s, end_s, share in one.busy:
            spread(load, begin_s, end_s, share)
    return load


def _minutes(load: dict[int, float]) -> list[float]:
    return [round(load.get(m, 0.0), 3) for m in range(max(load, default=-1) + 1)]


def _show(report: dict[str, Any], console: Console) -> None:
    table = Table(*_COLUMNS, title=f"{report['slots']} slots")
    for row in report["rows"]:
        table.add_row(*("" if row[c] is None else f"{row[c]}" for c in _COLUMNS))
    console.print(table)
    answers = Counter(
        {
            f"{a['priority']} {a['answer']}: {a['reason']}": a["count"]
            for a in report["answers"]
        }
    )
    for text, count in answers.most_common():
        console.print(f"  {count:>6}  {text}")
    for name, found in report["checks"].items():
        verdict = "violations" if found["violations"] else "holds"
        text = f"{found['violations']:>6}  of {found['checked']} against {name}"
        console.print(f"  {text}: {verdict}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.inference.compare", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--slots", type=int, action="append", help="20, then 16")
    parser.add_argument("--minutes", type=float, help="only the first so many")
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument(
        "--scaling",
        action="store_true",
        help="judge four ways to size a fleet instead: examples.scaling.compare",
    )
    options, rest = parser.parse_known_args(arguments)
    if options.scaling:
        from examples.scaling.compare import main as judge_scaling  # noqa: PLC0415

        return judge_scaling(["--out", str(options.out), *rest])
    if rest:
        parser.error(f"unknown: {' '.join(rest)}")
    configure_logging("error", "console")  # a worker logs each job it gives up
    arrivals, console = read_trace(options.minutes), Console(width=110)
    options.out.mkdir(parents=True, exist_ok=True)
    reports = []
    for slots in options.slots or (20, 16):
        report = compare(arrivals, slots)
        path = options.out / f"compare-{slots}.json"
        path.write_text(json.dumps(report, indent=1) + "\n")
        _show(report, console)
        reports.append(report)
    path = options.out / "compare.json"
    path.write_text(json.dumps(reports[0]["rows"], indent=1) + "\n")
    from examples.inference.plot import draw_policies  # noqa: PLC0415  # 0.5 s

    draw_policies(reports, options.out / "compare.png")
    sys.stderr.write(f"written: {path}, {options.out}/compare.png\n")
    found = [c["violations"] for report in reports for c in report["checks"].values()]
    return 1 if any(found) else 0


if __name__ == "__main__":
    sys.exit(main())
