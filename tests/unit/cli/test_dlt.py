"""``shifter dlt`` beyond looking: what it does, what it refuses, what it writes."""

from __future__ import annotations

import io
import json

import pytest

from shifter.ports import Record
from shifter.wire.dead_letter import dead_letter_headers
from shifter.wire.headers import build_headers, read_headers
from tests.unit.deadletter.letters import envelope, info, job_id

DLT, LANE = "shop.mail.dlt", "shop.mail.low"
NOW = ("--slow-start", "0s", "--yes")


@pytest.fixture
def dead(world):
    """Six letters of two kinds with jobs inside, and a stranger."""
    world.log.create_lanes(DLT, LANE, "orders-dlt", "orders")
    for n in range(6):
        facts = (
            {} if n < 4 else {"fingerprint": "ff00ff00ff00", "error_type": "KeyError"}
        )
        job = envelope(n, type="send_receipt", queue="mail", priority="LOW")
        own = build_headers(
            job, content_type="application/json", extra=[("x", b"\x1b[2J")]
        )
        headers = dead_letter_headers(info(n, **facts), own)
        value = b'{"order_id": %d}' % n
        world.log.append([Record(DLT, value, headers, b"k%d" % n)], 10**6)
    world.log.append([Record(DLT, b"\xff", [])], 10**6)
    return world


def came_back(world) -> list[str]:
    found = [read_headers(e.headers).envelope for e in world.log.entries(LANE)]
    return sorted(each.replay_of for each in found)


def test_a_replay_sends_what_the_filter_means_and_lists_the_rest(dead):
    ended = dead.run("dlt", "replay", "mail", "--filter", 'error == "KeyError"', *NOW)
    listed = dead.run("dlt", "list", "mail", "--json").json
    everything = dead.run("dlt", "list", "mail", "--all", "--json").json

    assert ended.code == 0, ended.err
    assert came_back(dead) == [job_id(4), job_id(5)]
    assert [group["count"] for group in listed] == [4, 1]
    assert [group["count"] for group in everything] == [4, 2, 1]


def test_what_stays_behind_makes_a_run_partial(dead):
    ended = dead.run("dlt", "replay", "mail", *NOW, "--json")

    assert ended.code == 3
    assert ended.json["counts"] == {"sent": 6, "skipped:no_origin": 1}
    assert ended.json["state"] == "done"


def test_a_dry_run_shows_where_and_does_nothing(dead):
    seen = dead.run("dlt", "replay", "mail", "--limit", 5, "--dry-run", "--json").json
    text = dead.run("dlt", "replay", "mail", "--dry-run")

    assert (seen["sent"], seen["selected"]) == ({LANE: 5}, 7)
    assert seen["skipped"] == {"no_origin": 1, "over_the_limit": 1}
    assert sum(group["count"] for group in seen["groups"]) == 5
    assert text.code == 0
    assert LANE in text.out
    assert came_back(dead) == []


@pytest.mark.parametrize(
    "verb",
    [
        ["replay", "mail"],
        ["discard", "mail", "--reason", "old"],
    ],
    ids=lambda verb: verb[0],
)
def test_without_a_terminal_and_a_yes_nothing_is_done(dead, verb):
    ended = dead.run("dlt", *verb)

    assert ended.code == 2
    assert ended.err.splitlines()[-3:] == [
        "error: the command is not confirmed",
        "  why: there is no terminal to ask on",
        "  fix: look with --dry-run first, then add --yes",
    ]
    assert came_back(dead) == []
    assert dead.run("dlt", "runs", "--json").json == []


@pytest.mark.parametrize(
    ("answer", "code", "count"), [("yes\n", 3, 6), ("y\n", 1, 0), ("", 1, 0)]
)
def test_at_a_terminal_only_a_whole_yes_is_one(dead, monkeypatch, answer, code, count):
    monkeypatch.setattr("shifter.cli.session.is_terminal", lambda stream: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))

    ended = dead.run("dlt", "replay", "mail", "--slow-start", "0s")

    assert (ended.code, len(came_back(dead))) == (code, count)
    assert "6 dead letters of mail go back. Type yes to go on:" in ended.err


def test_a_discard_wants_a_reason_and_is_written_down(dead):
    for missing in ([], ["--reason", " "]):
        assert dead.run("dlt", "discard", "mail", "--yes", *missing).code == 2
    ended = dead.run("dlt", "discard", "mail", "--reason", "sold out", "--yes")
    [run] = dead.run("dlt", "runs", "--json").json

    assert ended.code == 0
    assert (run["action"], run["reason"], run["counts"]) == (
        *("discard", "sold out"),
        {"discarded": 7},
    )
    assert "@" in run["by"]
    assert dead.run("dlt", "list", "mail", "--json").json == []


def test_offsets_choose_letters_without_a_filter(dead):
    ended = dead.run("dlt", "replay", "mail", "--offsets", "0:1-2", *NOW)

    assert ended.code == 0
    assert came_back(dead) == [job_id(1), job_id(2)]


@pytest.mark.parametrize(
    ("arguments", "what", "fix"),
    [
        (["list", "mail", "--filter", "eror == 1"], "character 1", "did you mean"),
        (["list", "mail", "--since", "yesterday"], "--since", "6h"),
        (["list", "mail", "--offsets", "0:5"], "--offsets", "0:100-199"),
        (["list", "mial"], "no dead-letter topic", "mail"),
        (["replay", "--resume", "mend"], "--resume", "runs"),
        (["replay", "mail", "--rate", "0", "--yes"], "--rate", "above 0"),
        (["replay", "mail", "--limit", "0", "--yes"], "--limit", "1 or more"),
        (["replay", "mail", "--max-replays", "0", "--yes"], "--max-replays", "1"),
        (["replay", "mail", "--target", "=x", "--yes"], "--target", "ORIGIN=TOPIC"),
        (["replay", "mail", "--target", "order", "--yes"], "--target", "orders"),
        (
            ["replay", "mail", "--target", DLT, "--yes"],
            "--target",
            "its own dead letters",
        ),
        (["replay", "mail", "--slow-start", "5", "--yes"], "--slow-start", "5m"),
        (["replay", "mail", "--name", "A B", "--yes"], "--name", "lower-case"),
        (["replay", "--yes"], "source is missing", "queue"),
        (["runs", "mend"], "--resume", "runs"),
    ],
)
def test_what_cannot_be_meant_is_said_in_three_lines(dead, arguments, what, fix):
    ended = dead.run("dlt", *arguments)

    assert ended.code in (1, 2)
    assert what in ended.problem[0]
    assert fix in ended.problem[2]
    assert came_back(dead) == []


def test_an_unknown_fingerprint_names_the_nearest(dead):
    wrong = ("--filter", 'fingerprint == "ff00ff00ff01"')
    shown = dead.run("dlt", "show", "mail", "ff00ff00ff01")
    said = [
        dead.run("dlt", *verb, *wrong, *rest).err
        for verb, rest in (
            (("list", "mail"), ()),
            (("replay", "mail"), ("--dry-run",)),
            (("replay", "mail"), NOW),
            (("discard", "mail", "--reason", "x"), ("--yes",)),
        )
    ]
    right = dead.run("dlt", "show", "mail", "ff00ff00ff00", "--json").json

    assert shown.problem[2] == "did you mean 'ff00ff00ff00'?"
    for text in said:
        assert "no open dead letter has fingerprint 'ff00ff00ff01'" in text
        assert "did you mean 'ff00ff00ff00'?" in text
    assert right["offset"] == 5
    assert came_back(dead) == []


def test_the_nearest_run_is_named(dead):
    dead.run("dlt", "replay", "mail", "--name", "mend-mail", *NOW)

    ended = dead.run("dlt", "replay", "--resume", "mend-mial")

    assert "mend-mail" in ended.problem[2]


def test_a_strangers_record_goes_back_only_to_a_target_that_is_given(dead):
    refused = dead.run("dlt", "replay", "mail", "--offsets", "0:6-6", *NOW, "--json")
    ended = dead.run(
        *("dlt", "replay", "mail", "--offsets", "0:6-6", "--target", "orders", *NOW),
        "--json",
    )

    assert (refused.code, refused.json["counts"]) == (3, {"skipped:no_origin": 1})
    assert (ended.code, ended.json["counts"]) == (0, {"sent": 1})
    assert dead.log.entries("orders")[0].value == b"\xff"


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_what_was_exported_can_be_imported(dead, tmp_path, kind):
    dead.run("dlt", "export", "mail", "--format", kind, "--out", tmp_path / "out")

    ended = dead.run("dlt", "import", "orders-dlt", tmp_path / "out", "--yes")

    before, after = dead.log.entries(DLT), dead.log.entries("orders-dlt")
    assert ended.code == 0, ended.err
    assert [(e.key, e.value, e.headers) for e in after] == [
        (e.key, e.value, e.headers) for e in before
    ]


def test_an_export_is_readable_and_never_overwrites(dead, tmp_path):
    lines = dead.run("dlt", "export", "mail", "--filter", "offset < 2").out.splitlines()
    (tmp_path / "there").write_text("mine")
    ended = dead.run("dlt", "export", "mail", "--out", tmp_path / "there")

    first = json.loads(lines[0])
    assert (len(lines), first["payload"], first["error"]) == (
        *(2, {"order_id": 0}),
        "smtplib.SMTPError",
    )
    assert ended.code == 73
    assert (tmp_path / "there").read_text() == "mine"


def test_every_verb_that_changes_something_leaves_an_audit_record(dead, shop, tmp_path):
    """Who, when, what, why and how many: of a replay, discard, edit and import."""
    file = tmp_path / "out"
    why = ("--reason", "ticket 7")
    dead.run("dlt", "export", "mail", "--filter", "offset < 2", "--out", file)
    payload = '{"order_id": 33, "email": "a@b"}'

    for verb in (
        ("replay", "mail", "--filter", "offset < 2", *why, *NOW),
        ("discard", "mail", "--filter", "offset == 2", *why, "--yes"),
        ("edit", shop, "mail", "0/3", "--payload", payload, *why, "--yes"),
        ("import", "orders-dlt", file, *why, "--yes"),
    ):
        assert dead.run("dlt", *verb).code == 0
    found = dead.run("dlt", "runs", "--json").json
    text = dead.run("dlt", "runs")

    assert [(run["action"], run["counts"], run["source"]) for run in found] == [
        ("replay", {"sent": 2}, DLT),
        ("discard", {"discarded": 1}, DLT),
        ("edit", {"edited": 1}, DLT),
        ("import", {"imported": 2}, "orders-dlt"),
    ]
    assert [run["filter"] for run in found] == ["offset < 2", "offset == 2", "", ""]
    assert [run["file"] for run in found] == ["", "", "", str(file)]
    for run in found:
        assert (run["state"], run["reason"]) == ("done", "ticket 7")
        assert "@" in run["by"]
        assert 0 < run["begun_ms"] <= run["last_ms"]
        assert run["run"] in text.out
    assert "2 imported" in text.out


def test_status_counts_the_letters_that_are_still_to_be_handled(dead, shop):
    def counted():
        rows = dead.run("status", "--json").json["dead_letters"]
        return [(row["queue"], row["count"]) for row in rows]

    seen = [counted()]
    for verb in (
        ("replay", "mail", "--filter", "offset < 2", *NOW),
        ("discard", "mail", "--filter", "offset == 2", "--reason", "x", "--yes"),
        ("edit", shop, "mail", "0/3", "--payload", '{"order_id": 3}', "--reason", "x"),
        ("replay", "mail", "--offsets", "0:5-6", *NOW),
    ):
        dead.run("dlt", *verb, *(() if "--yes" in verb else ("--yes",)))
        seen.append(counted())
    dead.log.truncate(DLT, 0, 5)
    seen.append(counted())

    # An edited letter stands for its original; the stranger stayed behind.
    counts = [7, 5, 4, 4, 3, 2]
    assert seen == [[("mail", count)] for count in counts]


def test_status_names_the_letters_that_were_parked(dead):
    dead.run("dlt", "replay", "mail", "--max-replays", "1", *NOW)
    [first, *_] = dead.log.entries(LANE)
    own = dead_letter_headers(info(0), first.headers)
    dead.log.append([Record(DLT, first.value, own, first.key)], 10**6)

    dead.run("dlt", "replay", "mail", "--max-replays", "1", *NOW)

    rows = dead.run("status", "--json").json["dead_letters"]
    parking = f"{DLT}.parking"
    assert rows == [{"queue": "mail", "count": 1}, {"queue": parking, "count": 1}]
    assert len(dead.run("dlt", "list", parking, "--json").json) == 1


def test_an_import_that_breaks_off_reports_how_far_it_came(dead, monkeypatch):
    line = dead.run("dlt", "export", "mail", "--filter", "offset == 0").out
    monkeypatch.setattr("sys.stdin", io.StringIO(line * 1_500 + "{}\n"))

    ended = dead.run("dlt", "import", "orders-dlt", "-", "--yes")

    [run] = dead.run("dlt", "runs", "--json").json
    again = dead.run("dlt", "replay", "--resume", run["run"])
    assert ended.code == 65, ended.err
    assert (run["action"], run["state"]) == ("import", "stopped")
    assert "line 1501" in run["why"]
    assert run["counts"]["imported"] == len(dead.log.entries("orders-dlt")) == 1_000
    assert "an import cannot be resumed; inspect it with" in again.problem[2]


@pytest.mark.parametrize("topic", [LANE, "shop.delay.5s", "shop.replays"])
def test_a_topic_that_is_alive_is_not_taken_for_dead_letters(dead, tmp_path, topic):
    dead.log.create_lanes("shop.delay.5s", "shop.replays")
    file = tmp_path / "out"
    dead.run("dlt", "export", "mail", "--out", file)

    for verb in (
        ("import", topic, file, "--yes"),
        ("replay", topic, "--target", "orders", "--yes"),
        ("discard", topic, "--reason", "old", "--yes"),
    ):
        ended = dead.run("dlt", *verb)
        assert ended.code == 78
        assert "it holds no dead letters" in ended.problem[2]

    assert dead.log.entries(topic) == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("{}\n", "line 1"),
        ('{"key_base64":null,"value_base64":"!","headers_base64":[]}\n', "/0/0"),
        ("a,b\n", "line 1"),
        ("[" * 100_000, "line 1"),
    ],
)
def test_a_broken_file_is_refused_before_anything_is_written(
    dead, tmp_path, text, where
):
    (tmp_path / "in").write_text(text)

    ended = dead.run("dlt", "import", "orders-dlt", tmp_path / "in", "--yes")

    assert ended.code == 65
    assert where in ended.problem[1]
    assert dead.log.entries("orders-dlt") == []


def test_an_edit_is_checked_by_the_jobs_types_and_keeps_the_original(dead, shop):
    place = ("dlt", "edit", shop, "mail", job_id(3), "--reason", "typo", "--yes")
    wrong = dead.run(*place, "--payload", '{"order_id": "x"}')
    unsaid = dead.run(*place[:-1], "--payload", '{"order_id": 33}')
    ended = dead.run(*place, "--payload", '{"order_id": 33, "email": "a@b"}')
    dead.run("dlt", "replay", "mail", "--filter", "payload.order_id in (3, 33)", *NOW)

    assert (wrong.code, unsaid.code, ended.code) == (65, 2, 0)
    [back] = dead.log.entries(LANE)
    assert json.loads(back.value) == {"order_id": 33, "email": "a@b"}
    assert read_headers(back.headers).envelope.replay_of == job_id(3)
    assert dead.log.entries(DLT)[3].value == b'{"order_id": 3}'


@pytest.mark.parametrize(
    "verb",
    [
        "dlt list mail",
        "dlt list mail --json",
        "dlt show mail 0/7",
        "dlt show mail 0/7 --json",
        "dlt show mail 0/8",
        "dlt export mail",
        "dlt export mail --format csv",
        "dlt replay mail --dry-run",
        "dlt replay mail --dry-run --json",
        "dlt replay mail --reason \x1b[2J --yes",
        "dlt discard mail --reason \x1b[2J --yes",
        "dlt list mail --filter \x1b[2J",
        "dlt list \x1b[2J",
        "dlt show mail \x1b[2J",
        "dlt replay --resume \x1b[2J",
    ],
)
def test_nothing_of_a_letter_moves_the_cursor(dead, verb):
    evil = "a\x1b[2Jb\x7fc\x9b31md\u202ee\r\n\x07"
    story = info(7, error_type=evil, error_message=evil, error_stack=f"{evil}\n{evil}")
    own = [*dead_letter_headers(story, []), (evil, evil.encode())]
    value = json.dumps({evil: [evil]}, ensure_ascii=False).encode()
    dead.log.append([Record(DLT, value, own, evil.encode())], 10**6)
    dead.log.append([Record(DLT, evil.encode(), [(evil, evil.encode())])], 10**6)

    ended = dead.run(*verb.split())
    runs = dead.run("dlt", "runs")

    for text in (ended.out, ended.err, runs.out):
        assert all(line.isprintable() for line in text.split("\n")), text
