"""Where the compose test gets its engine from, and what it leaves behind."""

from __future__ import annotations

import pytest

from tests.compose import docker


@pytest.fixture
def kit(tmp_path, monkeypatch):
    """A compose-kit that writes down what it was asked."""
    monkeypatch.setattr(docker, "KIT", tmp_path)

    def make(*, works: bool):
        for verb in ("up", "down"):
            script = tmp_path / verb
            code = 0 if works else 1
            script.write_text(
                f"#!/bin/sh\necho {verb} >> {tmp_path}/asked\nexit {code}\n"
            )
            script.chmod(0o755)
        return tmp_path / "asked"

    return make


@pytest.mark.parametrize("was_there", [True, False])
def test_engine_that_was_started_is_stopped_and_no_other(was_there, kit, monkeypatch):
    asked = kit(works=True)
    monkeypatch.setattr(docker, "_answers", lambda: was_there)

    with docker.engine():
        pass

    assert asked.read_text().split() == (["up"] if was_there else ["up", "down"])


def test_engine_of_the_machine_is_used_where_there_is_no_kit(tmp_path, monkeypatch):
    monkeypatch.setattr(docker, "KIT", tmp_path / "none")
    monkeypatch.setattr(docker, "_answers", lambda: True)

    with docker.engine():
        pass


def test_missing_engine_and_kit_are_reported_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(docker, "KIT", tmp_path / "none")
    monkeypatch.setattr(docker, "_answers", lambda: False)

    with pytest.raises(docker.NoDocker, match="no Docker engine"), docker.engine():
        pass


def test_kit_that_fails_reports_it_in_one_line(kit, monkeypatch):
    asked = kit(works=False)
    monkeypatch.setattr(docker, "_answers", lambda: False)

    with pytest.raises(docker.NoDocker) as caught, docker.engine():
        pass

    assert "\n" not in str(caught.value)
    # Half of it may run.
    assert asked.read_text().split() == ["up", "down"]
