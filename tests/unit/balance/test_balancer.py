"""The list of endpoints of a balancer: a function that fails, and one that changes."""

from __future__ import annotations

import random

import pytest

from shifter.balance import Endpoint
from shifter.balance.balancer import Balancer, CallEvidence
from shifter.errors import ConfigError
from shifter.model.endpoint import read_endpoints
from shifter.policy.balance.subset import Place
from shifter.protection import BalancePolicy


class Listing:
    """What a function of endpoints returns, or raises."""

    def __init__(self, *urls):
        self.urls, self.calls = list(urls), 0

    def __call__(self):
        self.calls += 1
        if self.urls is None:
            raise OSError("no such service")
        return self.urls


def hosts(balancer, now):
    return [view.endpoint.host for view in balancer.views(now)]


def test_a_function_is_asked_at_most_once_a_second():
    listing = Listing("a:1")
    balancer = Balancer("render", listing, BalancePolicy())
    for step in range(30):
        balancer.lease(10 + step / 10)
    assert listing.calls == 3


@pytest.mark.parametrize("found", [None, [], 7, ["no url"]])
def test_while_a_function_fails_or_returns_nothing_the_last_list_holds(found):
    listing = Listing("a:1", "b:1")
    balancer = Balancer("render", listing, BalancePolicy())
    assert hosts(balancer, 10.0) == ["a", "b"]

    listing.urls = found

    assert hosts(balancer, 12.0) == ["a", "b"]
    assert balancer.failed_refreshes == 1
    listing.urls = ["b:1", "c:1"]
    assert hosts(balancer, 14.0) == ["b", "c"]


def test_a_function_that_never_answered_leaves_no_endpoint():
    listing = Listing()
    balancer = Balancer("render", listing, BalancePolicy())
    assert balancer.lease(10.0) is None
    assert balancer.views(10.0) == []


def test_what_is_known_of_endpoints_that_stay_is_kept():
    listing = Listing("a:1", "b:1")
    balancer = Balancer("render", listing, BalancePolicy(), random.Random(1))
    lease = balancer.lease(10.0)
    lease.end(10.4, CallEvidence(failed=False))
    lease.end(99.0, CallEvidence(failed=True))  # the first end counts
    held = balancer.lease(10.4, tried=["http://a:1"])

    listing.urls = ["c:1", held.endpoint.url, lease.endpoint.url]
    views = {view.endpoint.host: view for view in balancer.views(12.0)}

    assert views[lease.endpoint.host].latency_s == pytest.approx(0.34, abs=0.01)
    assert views["b"].inflight == 1
    assert views["c"] == (Endpoint("c:1"), 0, 0.0, 0.0, "")
    listing.urls = ["c:1"]
    assert hosts(balancer, 14.0) == ["c"]
    held.end(14.0, CallEvidence(failed=True))  # of an endpoint that has left


def test_a_list_may_be_replaced():
    balancer = Balancer("render", ["a:1"], BalancePolicy())
    balancer.replace((Endpoint("b:1"),))
    assert hosts(balancer, 1.0) == ["b"]


def test_a_pause_that_an_endpoint_asked_for_is_kept():
    balancer = Balancer("render", ["a:1", "b:1"], BalancePolicy())
    lease = balancer.lease(1.0)
    lease.end(1.0, CallEvidence(failed=None, pause_s=20))
    others = {balancer.lease(2.0).endpoint.url for _ in range(9)}
    assert lease.endpoint.url not in others
    [paused] = [view for view in balancer.views(2.0) if view.out_s]
    assert paused.endpoint == lease.endpoint
    assert paused.out_s == 19


def test_an_empty_list_is_refused():
    with pytest.raises(ConfigError, match="endpoints"):
        Balancer("render", [], BalancePolicy())


def test_a_process_that_moves_keeps_what_it_knows_of_endpoints_that_stay():
    """Until its place is known, the place is random; the bound holds all the same."""
    urls = [f"h{number}:1" for number in range(40)]
    balancer = Balancer("render", urls, BalancePolicy(subset=10))
    assert len(balancer.views(1.0)) == 10

    balancer.place = Place(3, 20)
    lease = balancer.lease(1.0)
    before = {view.endpoint.url: view.inflight for view in balancer.views(1.0)}
    balancer.place = Place(2, 19)
    after = {view.endpoint.url: view.inflight for view in balancer.views(1.0)}

    assert len(before) == len(after) == 10
    assert len(before.keys() & after.keys()) >= 7
    assert before[lease.endpoint.url] == 1
    assert after.get(lease.endpoint.url, 1) == 1
    balancer.replace(read_endpoints(urls[:8]))
    assert len(balancer.views(1.0)) == 8


def test_an_ejection_and_its_end_are_log_lines(caplog):
    balancer = Balancer("render", ["a:1", "b:1"], BalancePolicy())
    for _ in range(5):
        lease = balancer.lease(1.0, tried=["http://b:1"])
        lease.end(1.0, CallEvidence(failed=True))
    assert [record.getMessage() for record in caplog.records] == [
        "endpoint.ejected dependency=render endpoint=http://a:1 why=5 failures in a row"
    ]
    caplog.clear()

    balancer.lease(30.9)
    balancer.lease(31.0)

    assert [record.getMessage() for record in caplog.records] == [
        "endpoint.restored dependency=render endpoint=http://a:1"
    ]
