"""The glossary defines the nouns of public names, logs, metrics and help, and no other."""

from __future__ import annotations

import inspect
import pkgutil
import re
from functools import cache

import pytest

from shifter.config.settings import OPTIONS
from shifter.jobs.options import JobOptions
from shifter.model.reason import Reason
from shifter.telemetry import Event
from tests.documents.blocks import ROOT

PAGE = (ROOT / "docs/reference/glossary.md").read_text("utf-8")
ENTRIES = re.findall(r"^\| (\*\*.*?) \|", PAGE, re.MULTILINE)
WORDS = [word for entry in ENTRIES for word in re.findall(r"\*\*([^*]+)\*\*", entry)]
PUBLIC = re.findall(
    r"^::: ([\w.]+)$",
    "\n".join(
        p.read_text() for p in sorted((ROOT / "docs/reference/api").glob("*.md"))
    ),
    re.MULTILINE,
)
# Words of everybody, and of Python and Kafka; a reader needs no glossary for them.
ORDINARY = {
    "age",
    "attempts",
    "backlog",
    "build",
    "busy",
    "callback",
    "change",
    "changes",
    "clock",
    "commits",
    "config",
    "delayed",
    "desired",
    "dropped",
    "due",
    "duration",
    "errors",
    "eta",
    "failures",
    "gap",
    "headers",
    "health",
    "inflight",
    "info",
    "lag",
    "left",
    "lines",
    "loop",
    "margin",
    "oldest",
    "open",
    "process",
    "rebalances",
    "records",
    "restarts",
    "retries",
    "round",
    "scale",
    "scrape",
    "seconds",
    "skew",
    "slots",
    "store",
    "tightest",
    "trip",
}


@cache
def vocabulary() -> str:
    """All words that a user reads without opening the source."""
    parts = [(ROOT / "docs/reference/commands.md").read_text("utf-8")]
    for name in PUBLIC:
        found = pkgutil.resolve_name(name)
        if not inspect.ismodule(found):
            parts += [name, inspect.getdoc(found) or ""]
            continue
        for public in getattr(found, "__all__", vars(found)):
            value = getattr(found, public)
            parts.append(public)
            if inspect.isclass(value) and value.__module__.startswith("shifter"):
                parts += [member for member in dir(value) if member[0] != "_"]
                parts.append(inspect.getdoc(value) or "")
    parts += [event.value for event in Event]
    parts += [option.name for option in OPTIONS]
    parts += [*JobOptions.__annotations__, *(reason.value for reason in Reason)]
    parts.append((ROOT / "shifter/telemetry/metric.py").read_text("utf-8"))
    parts.append((ROOT / "shifter/telemetry/fleet_metric.py").read_text("utf-8"))
    parts.append((ROOT / "shifter/errors.py").read_text("utf-8"))
    # `DeadLetter` and `dead_letter` are two words.
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", "\n".join(parts))
    return re.sub(r"[_\s-]+", " ", text).lower()


def found(word: str) -> bool:
    stem = re.sub(r"[_\s-]+", " ", word.lower()).strip("`")
    return re.search(rf"\b{re.escape(stem)}", vocabulary()) is not None


@pytest.mark.parametrize("word", WORDS)
def test_word_of_the_glossary_is_one_that_a_user_reads(word):
    assert found(word)


def test_word_that_is_not_used_would_be_seen():
    assert not found("epitaph")


def nouns() -> set[str]:
    """Subjects of log events and metrics, and verbs' groups of the command."""
    events = {event.value.partition(".")[0] for event in Event}
    metrics = set(
        re.findall(
            r'"shifter_([a-z_]+?)(?:_total|_seconds|_bytes|_info)?"',
            (ROOT / "shifter/telemetry/metric.py").read_text("utf-8")
            + (ROOT / "shifter/telemetry/fleet_metric.py").read_text("utf-8"),
        )
    )
    return events | {word for name in metrics for word in name.split("_")}


@pytest.mark.parametrize("noun", sorted(nouns() - ORDINARY))
def test_noun_of_an_event_or_a_metric_is_in_the_glossary(noun):
    defined = " ".join(WORDS).lower()

    assert noun.removesuffix("s") in defined


def test_no_word_is_defined_twice():
    assert len(set(WORDS)) == len(WORDS)
