"""Vendor errors become refusals or outages, in words without secrets or keys."""

from __future__ import annotations

import pytest
from redis import exceptions
from redis.asyncio.sentinel import MasterNotFoundError

from shifter.adapters.redis.client import store_error, translated
from shifter.errors import StoreRefusedError, StoreUnavailableError


@pytest.mark.parametrize(
    "error",
    [
        exceptions.AuthenticationError("invalid pair", status_code="WRONGPASS"),
        exceptions.AuthenticationError("Authentication required", status_code="NOAUTH"),
        exceptions.NoPermissionError("no permissions", status_code="NOPERM"),
        exceptions.OutOfMemoryError("command not allowed", status_code="OOM"),
        exceptions.ReadOnlyError("can't write", status_code="READONLY"),
        exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"),
        exceptions.ResponseError("unknown command 'EVALSHA', with args"),
        MasterNotFoundError(
            "No master found for 'main' : <redis.asyncio.client.Redis(<pool(<c(h=1)>)>)>"
            " - AuthenticationError('invalid username-password pair')"
        ),
        exceptions.ResponseError(
            "Error running script (call to f_1): @user_script:5: OOM command not allowed"
        ),
        exceptions.ResponseError(
            "The user executing the script can't run this command or subcommand script: "
            "8bbf, on @user_script:125."
        ),
        exceptions.ResponseError(
            "Unknown Redis command called from script script: 8bbf, on @user_script:5."
        ),
    ],
)
def test_what_a_person_must_mend_is_refused(error):
    found = store_error(error, store="redis h:1/0", op="claim")

    assert isinstance(found, StoreRefusedError)
    assert found.op == "claim"
    assert "<redis" not in found.detail


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError("Error 111 connecting to h:1"),
        exceptions.TimeoutError("Timeout reading from h:1"),
        exceptions.BusyLoadingError("loading", status_code="LOADING"),
        exceptions.MaxConnectionsError("Too many connections"),
        exceptions.NoScriptError("No matching script", status_code="NOSCRIPT"),
        exceptions.ClusterDownError("CLUSTERDOWN the cluster is down"),
        exceptions.SlotNotCoveredError("slot 1 not covered"),
        exceptions.ResponseError("BUSY Redis is busy running a script"),
        exceptions.ResponseError("NOREPLICAS Not enough good replicas to write"),
        TimeoutError(),
        ConnectionResetError("reset"),
    ],
)
def test_what_passes_by_itself_is_unavailable(error):
    found = store_error(error, store="redis h:1/0", op="claim")

    assert isinstance(found, StoreUnavailableError)
    assert found.detail


async def test_an_answer_that_is_not_known_is_refused():
    error = exceptions.ResponseError("ERR something new")

    with pytest.raises(StoreRefusedError), translated("redis", "claim"):
        raise error


async def test_a_wrong_argument_of_ours_passes_untouched():
    error = exceptions.DataError("Invalid input of type: 'UUID'")

    assert store_error(error, store="redis", op="claim") is None
    with pytest.raises(exceptions.DataError), translated("redis", "claim"):
        raise error


async def test_a_cause_is_kept_and_the_text_is_one_bounded_line_without_keys():
    text = "Command # 1 (EVALSHA abc 1 mail:s3cret) of pipeline caused error: x\n" * 99

    with (
        pytest.raises(StoreUnavailableError) as caught,
        translated("redis h:1/0", "claim"),
    ):
        raise exceptions.ConnectionError(text)

    assert isinstance(caught.value.__cause__, exceptions.ConnectionError)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(caught.value.detail) <= 200


def test_the_servers_code_leads_the_text():
    error = exceptions.AuthenticationError("invalid pair", status_code="WRONGPASS")

    found = store_error(error, store="redis", op="claim")

    assert found is not None
    assert str(found) == "redis refused claim: WRONGPASS invalid pair"
