"""The version of the app is a short text, or none."""

from __future__ import annotations

import pytest

from shifter.config import load_settings
from shifter.errors import ConfigError


def test_the_version_of_the_app_comes_from_the_environment(tmp_path):
    environ = {"SHIFTER_APP_VERSION": "2026.11.3"}

    found = load_settings("shop", environ=environ, cwd=tmp_path)

    assert found.app_version == "2026.11.3"
    assert load_settings("shop", environ={}, cwd=tmp_path).app_version is None


@pytest.mark.parametrize("text", ["x" * 65, "a\x1b[2J"])
def test_a_version_that_is_no_short_line_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match="SHIFTER_APP_VERSION"):
        load_settings("shop", environ={"SHIFTER_APP_VERSION": text}, cwd=tmp_path)
