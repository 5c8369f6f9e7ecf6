"""URLs of endpoints."""

from __future__ import annotations

import pytest

from shifter.balance import Endpoint
from shifter.errors import ConfigError
from shifter.model.endpoint import read_endpoints


@pytest.mark.parametrize(
    ("given", "url", "host", "port"),
    [
        ("10.0.0.1:8080", "http://10.0.0.1:8080", "10.0.0.1", 8080),
        ("Render.Internal:80", "http://render.internal:80", "render.internal", 80),
        ("[::1]:8080", "http://[::1]:8080", "::1", 8080),
        ("https://[FE80::1]/", "https://[fe80::1]", "fe80::1", 443),
        ("http://a/v1/", "http://a/v1", "a", 80),
        ("redis://a:6379", "redis://a:6379", "a", 6379),
    ],
)
def test_a_url_or_a_host_with_a_port_is_an_endpoint(given, url, host, port):
    endpoint = Endpoint(given)
    assert (endpoint.url, endpoint.host, endpoint.port) == (url, host, port)


@pytest.mark.parametrize(
    "given",
    [
        *("", "a", "a:", "a:0", "a:65536", "a:x", ":80", "::1:80", "::1", "[::1"),
        *("http://", "http://u:p@a", "http://a?q", "http://a#f", "http://a b"),
        *("redis://a", "http://a\n", 7, None, b"a:1", "[::1]", "http://[x]:1"),
    ],
)
def test_what_is_none_is_one_error_that_names_the_option(given):
    with pytest.raises(ConfigError) as raised:
        Endpoint(given)
    assert raised.value.field == "endpoints"
    assert "URL" in raised.value.want


@pytest.mark.parametrize("weight", [0, -1, 1_001, float("nan"), True, "1"])
def test_a_wrong_weight_is_named(weight):
    with pytest.raises(ConfigError, match="weight"):
        Endpoint("a:1", weight=weight)


@pytest.mark.parametrize("given", [[], "a:1", None, 7, [7], ["a"], [None]])
def test_what_is_no_list_of_endpoints_is_named(given):
    with pytest.raises(ConfigError, match="endpoints"):
        read_endpoints(given)


def test_of_equal_urls_the_first_counts():
    first = Endpoint("A:1", weight=2)
    assert read_endpoints([first, "a:1", "http://a:1/"]) == (first,)
