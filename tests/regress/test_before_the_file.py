"""Every verb answers on a machine where no embedded file was made yet.

`shifter quality set`, and nine other verbs of the fleet's state, ended with "unable to
open database file", because only the log's part of the file made its folder. Each part
makes what it needs. A state that is not set is kept in the log's file, as the documents
say: with ``SHIFTER_LOG=sqlite:///…`` alone, every state verb demanded Redis.
"""

from __future__ import annotations

import json
import stat

import pytest

from shifter import Shifter
from shifter.cli.entry import run
from shifter.config import Secret, Settings, load_settings

JOB = "018f0000-0000-7000-8000-000000000000"
STATE_VERBS = (
    "quality show",
    "quality set reduced --reason test",
    "quality auto",
    "circuit list",
    "circuit open mailer --reason test",
    "circuit close mailer --reason test",
    "circuit auto mailer",
    "budget list",
    "window list",
    "window open-now mail --reason test",
    "window close-now --job send --reason test",
    "window auto mail",
    "status",
    "dlt runs",
    "doctor",
    f"job cancel {JOB}",
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home, an empty folder, and no setting but the namespace."""
    for name in ("SHIFTER_LOG", "SHIFTER_STATE", "SHIFTER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("SHIFTER_NAMESPACE", "shop")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("verb", STATE_VERBS)
def test_verb_answers_before_the_embedded_file_exists(verb, home, capsys):
    code = run(verb.split())

    said = capsys.readouterr()
    # A circuit that no process reports is a plain failure; it was looked for.
    assert code in (0, 1), said.err
    assert "unable to open" not in said.out + said.err


@pytest.mark.parametrize("verb", STATE_VERBS)
def test_verb_needs_no_state_url_beside_a_log_in_a_file(
    verb, home, monkeypatch, capsys
):
    monkeypatch.setenv("SHIFTER_LOG", f"sqlite://{home}/deep/down/own.db")

    code = run(verb.split())

    said = capsys.readouterr()
    assert code in (0, 1), said.err
    assert "redis" not in said.out + said.err
    assert not (home / "state").exists()


def test_files_and_folders_that_a_state_verb_makes_are_private(home):
    run(["quality", "set", "reduced", "--reason", "test"])

    made = [home / "state" / "shifter", *(home / "state" / "shifter").iterdir()]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made}
    assert len(made) > 1
    assert all(mode & 0o077 == 0 for mode in modes.values()), modes


@pytest.mark.parametrize("how", ["environment", "flag", "file", "by hand"])
def test_state_is_in_the_logs_file_unless_it_is_set(how, tmp_path):
    url = f"sqlite://{tmp_path}/own.db"
    match how:
        case "environment":
            settings = load_settings("shop", environ={"SHIFTER_LOG": url}, cwd=tmp_path)
        case "flag":
            settings = load_settings(
                "shop", flags={"log": url}, environ={}, cwd=tmp_path
            )
        case "file":
            (tmp_path / "shifter.toml").write_text(f'log = "{url}"\n')
            settings = load_settings("shop", environ={}, cwd=tmp_path)
        case _:
            settings = Settings(namespace="shop", log_url=Secret.of_url(url))

    assert settings.state_url == settings.log_url
    assert settings.origin("state_url") == "default"


def test_state_that_is_set_is_kept_and_kafka_gets_none(tmp_path):
    def load(**environ):
        return load_settings("shop", environ=environ, cwd=tmp_path).state_url

    log, state = f"sqlite://{tmp_path}/own.db", "redis://localhost:1/0"

    assert load(SHIFTER_LOG=log, SHIFTER_STATE=state) == Secret.of_url(state)
    assert load(SHIFTER_LOG="kafka://localhost:1") is None


def test_config_show_tells_where_the_state_is(home, monkeypatch, capsys):
    url = f"sqlite://{home}/own.db"
    monkeypatch.setenv("SHIFTER_LOG", url)

    assert run(["config", "show", "--origin", "--json"]) == 0

    state = json.loads(capsys.readouterr().out)["state"]
    assert state == {"value": url, "origin": "default"}


async def test_library_claims_and_runs_a_job_with_a_log_url_alone(tmp_path):
    settings = Settings(
        namespace="shop", log_url=Secret.of_url(f"sqlite://{tmp_path}/own.db")
    )
    app = Shifter("shop", settings=settings)

    @app.job()
    async def close(order: int) -> None: ...

    async with app:
        answer = await close.defer(7)
        ended = await app.status(answer.job_id)

    assert answer.job_id
    assert ended is None or ended.state is not None
