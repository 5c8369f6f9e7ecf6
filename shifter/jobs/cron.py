"""When a job with ``cron=…`` fires: five fields, by UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from shifter.errors import ConfigError
from shifter.model.time import EpochMs

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def read_cron(option: str, text: object) -> str:
    """The same text, if it is a cron expression that fires at all.

    Raises:
        ConfigError: It is none.
    """
    if isinstance(text, str) and len(text.split()) == 5:
        try:
            next_firing_ms(text, EpochMs(0))
        except ValueError as error:
            raise ConfigError(option, text, f"{error}; five fields, by UTC") from None
        return text
    raise ConfigError(option, text, "use five fields by UTC, such as '0 3 * * *'")


def next_firing_ms(expression: str, now: EpochMs) -> EpochMs:
    """The first instant after ``now``; epoch milliseconds.

    Raises:
        ValueError: The expression cannot be understood, or never fires.
    """
    from cronsim import CronSim, CronSimError  # noqa: PLC0415  # only where it is used

    try:
        found = next(CronSim(expression, _EPOCH + now * _MS))
    except CronSimError as error:
        raise ValueError(str(error)) from None
    except StopIteration:
        raise ValueError("it never fires") from None
    return EpochMs((found - _EPOCH) // _MS)
