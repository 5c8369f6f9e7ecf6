"""Every way to dead letters resolves a name alike, and fails with the same error."""

from __future__ import annotations

import pytest

from shifter.config import Secret, Settings
from shifter.errors import ConfigError, UnknownSourceError
from shifter.wiring.dead_letters import (
    opened_dead_letters,
    opened_letter_reader,
    opened_run,
)


@pytest.fixture
def settings(tmp_path):
    url = Secret.of_url(f"sqlite:///{tmp_path}/jobs.db")
    return Settings(namespace="shop", log_url=url, state_url=url)


@pytest.mark.parametrize("opened", [opened_letter_reader, opened_dead_letters])
async def test_a_name_that_no_queue_and_no_topic_has_is_refused(settings, opened):
    with pytest.raises(UnknownSourceError) as caught:
        async with opened(settings, "shop.nosuch.dlt"):
            pytest.fail("opened")

    assert (caught.value.value, caught.value.namespace) == ("shop.nosuch.dlt", "shop")


async def test_a_run_that_was_never_begun_is_refused(settings):
    with pytest.raises(ConfigError, match="--resume"):
        async with opened_run(settings, "replay-00000000"):
            pytest.fail("opened")
