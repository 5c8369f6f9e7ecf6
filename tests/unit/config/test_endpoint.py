"""URLs and secrets: what a mask shows, and which file a URL names."""

from __future__ import annotations

from hypothesis import given, strategies as st

from shifter.config import Secret
from shifter.config.endpoint import mask_url, sqlite_path

CANARY = "c4n4ry-h7nt3r2"


@given(st.text(alphabet="ab:/?#@&=%,. ", max_size=12))
def test_a_mask_never_shows_a_password_however_it_is_written(tail):
    assert CANARY not in mask_url(f"redis://user:{CANARY}{tail}@host:6379/0")


def test_a_secret_equals_by_its_text_and_is_no_text_itself():
    assert Secret("a") == Secret("a", mask="?")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert not isinstance(Secret("a"), str)


def test_four_slashes_name_the_same_file_as_three():
    three, four = "sqlite:///var/lib/shop.db", "sqlite:////var/lib/shop.db"

    assert sqlite_path("log", four) == sqlite_path("log", three)
