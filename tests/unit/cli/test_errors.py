"""Every mistake is three lines, one exit code and, with --json, one object."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from shifter import wiring
from shifter.cli import main
from shifter.cli.problem import Exit, explain
from shifter.errors import (
    ConfigError,
    DeadlineExceededError,
    DecodeError,
    OutcomeUnknownError,
    PayloadError,
    StoreRefusedError,
    StoreUnavailableError,
)

CANARY = "c4n4ry"
DOCUMENT = (Path(__file__).parents[3] / "docs" / "reference" / "cli.md").read_text()
JOB = "018f0000-0000-7000-8000-000000000000"


def test_the_payload_option_of_submit_does_not_ask_for_json_output(world):
    ended = world.run("submit", "nosuch:app", "x", "--json", "{}")

    assert ended.out == ""
    assert len(ended.problem) == 3


@pytest.mark.parametrize(
    "verb", ["work {shop}", f"job show {JOB}", f"job cancel {JOB}"]
)
def test_the_error_of_a_fleet_without_a_state_store_names_the_setting(
    world, shop, verb
):
    os.environ.pop("SHIFTER_STATE")

    ended = world.run(*verb.format(shop=shop).split())

    assert ended.code == 78
    what, why, fix = ended.problem
    assert what == "no state is configured"
    assert "SHIFTER_STATE" in why
    assert 'eval "$(make -s stack)"' in fix


# --- MODULE:APP -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        ("nosuch:app", 2, "no module 'nosuch'"),
        ("{shop}.deeper:app", 2, "module"),
        ("nocolon", 2, "MODULE:APP"),
        (":app", 2, "MODULE:APP"),
        ("{shop}:", 2, "MODULE:APP"),
        ("{shop}:a b", 2, "MODULE:APP"),
        ("{shop}:apq", 2, "did you mean 'app'?"),
        ("{shop}:other", 2, "not a shifter.Shifter"),
        ("../x:app", 2, "with dots"),
        ("shop/jobs.py:app", 2, "with dots"),
    ],
)
def test_a_target_that_is_no_app_is_explained(world, shop, target, code, said):
    ended = world.run("topics", "plan", target.format(shop=shop.removesuffix(":app")))

    assert ended.code == code
    assert said in " ".join(ended.problem)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n\ndef f():\n    raise KeyError('no')\n\nf()\n", "KeyError: 'no'"),
        ("import nosuch_module_either\n", "ModuleNotFoundError"),
        ("def (:\n", "SyntaxError"),
        ("raise SystemExit(0)\n", "SystemExit"),
        ("raise RuntimeError('a\\nb\\x1b[2J')\n", "RuntimeError: a"),
    ],
)
def test_a_module_that_raises_shows_its_own_tail_and_no_traceback(
    world, module, text, said
):
    name = module(text)

    ended = world.run("topics", "plan", f"{name}:app")

    assert ended.code == 78
    what, why, fix = ended.problem
    assert what == f"{name}:app cannot be imported"
    assert said in why
    assert re.search(rf"{name}\.py:\d+", fix)
    assert "\x1b" not in ended.err


@pytest.mark.parametrize("flag", ["--log", "--state"])
def test_a_flag_that_the_apps_own_settings_would_ignore_is_refused(world, module, flag):
    name = module(
        "from shifter import Shifter\nfrom shifter.config import Settings\n"
        "app = Shifter('shop', settings=Settings(namespace='shop'))\n"
    )

    ended = world.run("topics", "plan", f"{name}:app", flag, f"redis://u:{CANARY}@h")

    assert ended.code == 2
    assert ended.problem[0] == f"{flag} cannot be used"
    assert CANARY not in ended.err


def test_a_job_declared_wrongly_is_explained_by_its_own_words(world, module):
    name = module(
        "from shifter import Shifter\napp = Shifter('shop')\n"
        "@app.job(attemps=3)\nasync def f(): ...\n"
    )

    ended = world.run("topics", "plan", f"{name}:app")

    assert "did you mean 'attempts'?" in " ".join(ended.problem)


# --- exit codes of every error ----------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (ConfigError("lease", "1", "w"), "config", Exit.CONFIG),
        (ConfigError("--lease", "1", "w"), "usage", Exit.USAGE),
        (ConfigError("MODULE:APP", "1", "w"), "usage", Exit.USAGE),
        (PayloadError("j", "d"), "data", Exit.DATA),
        (DecodeError("r", "d"), "data", Exit.DATA),
        (StoreUnavailableError("kafka", "op", "d"), "unavailable", Exit.UNAVAILABLE),
        (StoreRefusedError("kafka", "op", "d"), "refused", Exit.NO_PERMISSION),
        (OutcomeUnknownError("j", 1.0, "d"), "unknown_outcome", Exit.TRY_LATER),
        (DeadlineExceededError("j", 1.0), "failure", Exit.FAILURE),
    ],
)
def test_each_error_has_one_exit_code(error, kind, code):
    problem = explain(error)

    assert (problem.kind, problem.exit_code) == (kind, code)
    assert all((problem.what, problem.why, problem.fix))


def test_exit_codes_are_the_documented_ones(world):
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", DOCUMENT, re.MULTILINE)
    assert [(int(number), name) for number, name in rows] == [
        (int(code), code.name) for code in Exit
    ]
    described = world.run("--help").out.partition("Exit codes:")[2]
    assert [int(number) for number in re.findall(r"\d+", described)] == list(Exit)
    assert {code.name: int(code) for code in Exit} == {
        "OK": 0,
        "FAILURE": 1,
        "USAGE": 2,
        "PARTIAL": 3,
        "DATA": 65,
        "UNAVAILABLE": 69,
        "SOFTWARE": 70,
        "CANNOT_CREATE": 73,
        "OUTPUT": 74,
        "TRY_LATER": 75,
        "NO_PERMISSION": 77,
        "CONFIG": 78,
        "INTERRUPTED": 130,
        "BROKEN_PIPE": 141,
    }


@pytest.fixture
def raising(world, monkeypatch):
    """Make ``shifter status`` end with an exception."""

    def arrange(error: BaseException):
        def open_admin(settings):
            raise error

        monkeypatch.setattr(wiring, "open_admin", open_admin)
        return world.run("status", "--json")

    return arrange


def test_a_fault_of_ours_is_three_lines_too(raising):
    ended = raising(KeyError("oops"))

    assert ended.code == 70
    assert ended.json["error"]["kind"] == "internal"
    assert "SHIFTER_TRACEBACK=1" in ended.problem[2]


def test_the_traceback_of_a_fault_is_shown_to_who_asks(raising):
    os.environ["SHIFTER_TRACEBACK"] = "1"

    ended = raising(KeyError("oops"))

    assert "Traceback (most recent call last)" in ended.err
    assert ended.code == 70


def test_the_cause_inside_a_group_is_what_is_explained(raising):
    inner = StoreUnavailableError("kafka", "connect", "nobody there")
    ended = raising(ExceptionGroup("g", [ExceptionGroup("h", [inner])]))

    assert ended.code == 69
    assert ended.json["error"]["why"] == "nobody there"


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), BaseExceptionGroup("g", [KeyboardInterrupt()])]
)
def test_ctrl_c_ends_with_130_and_without_a_word(raising, error):
    assert raising(error) == (130, "", "")


def test_hostile_words_of_a_store_cannot_reach_the_terminal(raising):
    ended = raising(StoreRefusedError("kafka", "op", "a\r\nb\x1b[2J\u202e"))

    assert len(ended.problem) == 3
    assert ended.err.replace("\n", "").isprintable()


# --- secrets ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        "config show --origin",
        "config show --json",
        "status --json",
        "doctor --json",
        "doctor",
        "topics plan {shop}",
        "topics plan nosuch:app",
        f"job show {JOB}",
        "--help",
        "config show --help",
        "status --namespace A",
        "version --json",
        "config show --state redis://:{canary}/x@h",
        "config show --log kafka://u:{canary}@h",
    ],
)
def test_no_secret_is_in_any_output(world, shop, arguments):
    os.environ["SHIFTER_TRACEBACK"] = "1"
    os.environ["SHIFTER_LOG"] = (
        f"kafka://u:{CANARY}1@b1/?security_protocol=SASL_SSL&ssl_key_password={CANARY}2"
    )
    os.environ["SHIFTER_STATE"] = f"redis://u:{CANARY}3@r1/0"
    os.environ["SHIFTER_KAFKA__SSL_KEY_PEM"] = f"{CANARY}4"

    ended = world.run(*arguments.format(shop=shop, canary=CANARY).split())

    assert CANARY not in ended.out + ended.err
    assert ended.out or ended.err


# --- streams ----------------------------------------------------------------------


def test_text_that_an_ascii_terminal_cannot_show_is_spelled_out(monkeypatch, tmp_path):
    path = tmp_path / "out"
    with path.open("w", encoding="ascii") as out:
        monkeypatch.setattr(sys, "stdout", out)

        code = main(["config", "show", "--namespace", "x", "--json"])

    assert code == 0
    assert json.loads(path.read_text("ascii"))["namespace"]["value"] == "x"


def test_warnings_of_settings_go_to_stderr_once(world, tmp_path):
    (tmp_path / "shifter.toml").write_text('[kafka]\nsasl_password = "x"\n')
    os.environ["SHIFTER_LOG"] = "kafka://b/?security_protocol=SASL_SSL"

    ended = world.run("config", "show", "--json")

    assert ended.err.count("chmod 600") == 1
    assert ended.json["kafka.sasl.password"]["value"] == "***"
