"""Pages and pictures that are made of code, or drawn beside it, agree with it."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise

import pytest

from docs_build import states
from docs_build.__main__ import pages
from docs_build.diagram import Edge, svg
from shifter.model.claim import JobState
from shifter.telemetry.labels import LABELS
from shifter.telemetry.metric import BUILD_INFO, SCRAPE, SPECS
from tests.documents.blocks import ROOT, blocks

MADE = pages()


@pytest.mark.parametrize("path", MADE)
def test_page_is_what_the_code_makes(path):
    written = (ROOT / path).read_text("utf-8")

    assert written == MADE[path], "run `make reference`"


@pytest.mark.parametrize(
    ("places", "edges"),
    [
        (states.CIRCUIT_PLACES, states.circuit_edges()),
        (states.CLAIM_PLACES, states.claim_edges()),
        (states.JOB_PLACES, states.job_edges()),
    ],
)
def test_every_state_of_a_table_has_its_place_in_the_picture(places, edges):
    assert {edge.source for edge in edges} | {edge.target for edge in edges} == set(
        places
    )


def test_every_state_of_a_job_is_reached():
    assert {edge.target for edge in states.job_edges()} == set(map(str, JobState))


def test_a_rule_that_answers_otherwise_changes_the_picture():
    places = {"a": (0, 0), "b": (100, 0)}

    one = svg("x", places, [Edge("a", "e", "b")])
    other = svg("x", places, [Edge("b", "e", "a")])

    assert one != other


# --- the API --------------------------------------------------------------------------

IMPORTED = {
    name
    for block in blocks("python")
    for name in re.findall(r"^from (shifter[\w.]*) import", block.text, re.MULTILINE)
}
REFERENCE = {
    name
    for path in (ROOT / "docs/reference/api").glob("*.md")
    for name in re.findall(r"^::: ([\w.]+)$", path.read_text("utf-8"), re.MULTILINE)
}
# What stands in the place of an adapter of the reader's own.
IN_PLACE = {"shifter.adapters.memory.state"}


@pytest.mark.parametrize("name", sorted(IMPORTED - IN_PLACE))
def test_module_that_a_page_imports_from_is_in_the_reference(name):
    # The whole module, or the members of it that are for users.
    is_described = any(f"{found}.".startswith(f"{name}.") for found in REFERENCE)
    assert is_described or name.startswith("shifter.testing.conformance.")


# --- the layers -----------------------------------------------------------------------


def contract() -> list[set[str]]:
    """Layers of the import contract, the highest first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    [layers] = [c["layers"] for c in contracts if c["name"].startswith("Layers:")]
    return [
        {name.strip().removeprefix("shifter.") for name in re.split(r"[|:]", layer)}
        for layer in layers
    ]


def picture() -> list[set[str]]:
    """Layers as `CONTRIBUTING.md` draws them, the highest first."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    block = text.partition("## Layers")[2].split("```")[1]
    rows = [line.split("  ")[0] for line in block.strip("\n").splitlines()]
    return [{name.strip() for name in row.split("|")} for row in rows]


def test_picture_of_the_layers_is_the_import_contract():
    assert picture() == contract()


def test_every_package_stands_in_the_picture():
    folders = {
        path.name
        for path in (ROOT / "shifter").iterdir()
        if (path / "__init__.py").exists()
    }

    assert folders <= set().union(*picture())


def test_each_layer_of_the_picture_has_a_description():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    block = text.partition("## Layers")[2].split("```")[1]

    lines = block.strip("\n").splitlines()
    assert [line for line in lines if len(re.split(r" {2,}", line)) < 2] == []
    assert all(above != below for above, below in pairwise(lines))


# --- the tour -------------------------------------------------------------------------

TOUR = (ROOT / "docs/explanation/tour.md").read_text("utf-8")
PLACES = re.findall(r"`([\w/]+\.(?:py|lua))`(?:[^`\n]{0,20}`([\w.]+)`)?", TOUR)


@pytest.mark.parametrize(("file", "symbol"), PLACES)
def test_file_and_symbol_that_the_tour_names_exist(file, symbol):
    path = ROOT / file

    assert path.is_file(), file
    for part in symbol.split(".") if symbol else ():
        assert re.search(
            rf"\b(?:def|class) {part}\b|^\s*{part}\b",
            path.read_text("utf-8"),
            re.MULTILINE,
        )


def test_the_tour_answers_the_questions_of_a_new_contributor():
    headings = re.findall(r"^## (Where .*)\?$", TOUR, re.MULTILINE)

    assert len(headings) >= 7
    assert len([symbol for _, symbol in PLACES if symbol]) >= 10


# --- the metrics ----------------------------------------------------------------------

METRICS = MADE["docs/reference/metrics.md"]


def test_each_metric_of_the_code_stands_once_in_the_catalogue():
    rows = re.findall(r"^\| `(shifter_\w+)` \|", METRICS, re.MULTILINE)

    assert sorted(rows) == sorted({*SPECS, BUILD_INFO.name, SCRAPE.name})
    assert all(METRICS.count(f"`{name}`") == 1 for name in rows)


def test_each_row_of_the_catalogue_is_what_the_metric_is():
    rows = re.findall(
        r"^\| `(shifter_\w+)` \| (\w+) \| (\w+) \| (.*?) \| ", METRICS, re.MULTILINE
    )

    for name, kind, unit, labels in rows:
        spec = {**SPECS, BUILD_INFO.name: BUILD_INFO, SCRAPE.name: SCRAPE}[name]
        assert (kind, unit) == (spec.kind, spec.unit)
        assert tuple(re.findall(r"`(\w+)`", labels)) == spec.labels


def test_each_label_is_explained_and_no_other():
    used = {label for spec in (*SPECS.values(), BUILD_INFO) for label in spec.labels}

    assert set(LABELS) == used
