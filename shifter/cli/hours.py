"""What ``shifter explain`` says of a job's hours."""

from __future__ import annotations

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.cli.columns import age_text
from shifter.cli.output import note
from shifter.errors import StoreError
from shifter.fleet.overrides import cells_of
from shifter.model.lane import parse_lane
from shifter.model.priority import Priority
from shifter.produce.options import CallPlan


async def learn_hours(app: Shifter) -> None:
    """Let an app know what somebody set; a store that is away is said."""
    store = wiring.open_fleet(app.settings)
    try:
        app.hours.learn(*await cells_of(store, wiring.new_worker_id()))
    except StoreError as error:
        note(f"warning: hours set by hand are not known: {error}")
    finally:
        await store.close()


def hours_text(app: Shifter, plan: CallPlan) -> list[str]:
    """What the windows of a job and its lane say, and what somebody set over them."""
    lane, now = parse_lane(plan.lane), SystemClock().epoch_ms()
    if lane is None:
        return []
    lines = [f"window of the job: {window.text}" for window in plan.spec.windows]
    rule = app.hours.rules.get(lane.name)
    if rule is not None:
        lines += [f"window of its lane: {window.text}" for window in rule.windows]
        lines += ["its lane waits for a quiet time"] if rule.is_opportunistic else []
    if plan.spec.opportunistic and lane.priority is Priority.LOW:
        lines.append("the job waits for a quiet time")
    for scope, setting in sorted(app.hours.settings_of(plan.spec, lane).items()):
        word = "open" if setting.is_open else "closed"
        left = age_text((setting.until_ms - now) / 1_000)
        lines.append(f"by hand: {scope} is {word} for {left} more")
    if plan.opens_ms is not None:
        lines.append(f"it may start in {age_text((plan.opens_ms - now) / 1_000)}")
    return lines
