from __future__ import annotations

import enum
import json
import pickle
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypedDict,
)

import msgspec
import pytest

from shifter.errors import ConfigError, DecodeError, PayloadError
from shifter.model.reason import Reason
from shifter.wire.headers import JSON, MSGPACK
from shifter.wire.payload import DEFAULT_MAX_PAYLOAD_BYTES, PayloadCodec

if TYPE_CHECKING:
    from fractions import Fraction

OrderId = NewType("OrderId", int)


class Context:
    """Stands for `shifter.Context`."""


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Line:
    sku: str
    count: int = 1


class Address(TypedDict):
    city: str


class Point(NamedTuple):
    x: int
    y: int


class Order(msgspec.Struct):
    lines: list[Line]


def codec(
    function: Callable[..., Any], content_type: str = JSON, **options: Any
) -> PayloadCodec:
    return PayloadCodec(
        function,
        name="job",
        context_type=Context,
        content_type=content_type,
        **options,
    )


async def send_receipt(order_id: int, email: str, *, copies: int = 1) -> str: ...


@pytest.mark.parametrize("content_type", [JSON, MSGPACK])
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((7, "a@b"), {}),
        ((7,), {"email": "a@b"}),
        ((), {"email": "a@b", "order_id": 7, "copies": 2}),
    ],
)
def test_a_call_arrives_as_it_was_made(content_type, args, kwargs):
    one = codec(send_receipt, content_type)

    arguments = one.decode(one.encode(args, kwargs), content_type)

    copies = kwargs.get("copies", 1)
    assert arguments == {"order_id": 7, "email": "a@b", "copies": copies}


def test_a_payload_is_readable_json_and_holds_only_what_was_given():
    assert codec(send_receipt).encode((7, "a@b"), {}) == b'{"order_id":7,"email":"a@b"}'


@pytest.mark.parametrize("writes", [JSON, MSGPACK])
def test_both_formats_are_read_whatever_a_codec_writes(writes):
    one = codec(send_receipt, writes)

    as_json = one.decode(b'{"order_id":7,"email":"a"}', JSON)
    as_msgpack = one.decode(b"\x82\xa8order_id\x07\xa5email\xa1a", MSGPACK)

    assert as_json == as_msgpack == {"order_id": 7, "email": "a", "copies": 1}
    assert one.content_type == writes


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        ((7,), {}, "missing: 'email'"),
        ((), {}, "missing: 'order_id', 'email'"),
        (("7", "a"), {}, "argument 'order_id': Expected `int`, got `str`"),
        ((7, None), {}, "argument 'email': Expected `str`, got `null`"),
        ((True, "a"), {}, "argument 'order_id': Expected `int`, got `bool`"),
        ((7, "a", 2), {}, "takes 2 positional arguments, 3 given"),
        ((7, "a"), {"email": "b"}, "argument 'email' is given twice"),
        ((7,), {"emial": "a"}, "unknown argument 'emial'; did you mean 'email'?"),
        (
            (7, "a"),
            {"zzz": 1},
            "unknown argument 'zzz'; arguments: order_id, email, copies",
        ),
        ((7, object()), {}, "argument 'email': Encoding objects of type object is"),
        ((7, "\ud800"), {}, "argument 'email': 'utf-8' codec can't encode"),
        ((10**5_000, "a"), {}, "argument 'order_id': "),
        ((float("nan"), "a"), {}, "argument 'order_id': NaN and infinity"),
    ],
)
def test_a_call_that_does_not_fit_names_the_argument(args, kwargs, told):
    with pytest.raises(PayloadError) as caught:
        codec(send_receipt).encode(args, kwargs)

    assert caught.value.detail.startswith(told)
    assert caught.value.job == "job"


def test_a_number_too_large_for_msgpack_names_its_argument():
    one = codec(send_receipt, MSGPACK)

    with pytest.raises(PayloadError, match="argument 'order_id': can't serialize"):
        one.encode((2**64, "a"), {})


def test_an_error_far_down_has_its_path():
    def handler(order: Order) -> None: ...

    with pytest.raises(PayloadError) as caught:
        codec(handler).encode(({"lines": [{"sku": 7}]},), {})

    assert caught.value.detail == (
        "argument 'order.lines[0].sku': Expected `str`, got `int`"
    )


def test_an_argument_that_holds_itself_is_refused():
    def handler(items: list[Any]) -> None: ...

    items: list[Any] = []
    items.append(items)

    with pytest.raises(PayloadError, match="'items'"):
        codec(handler).encode((items,), {})


@pytest.mark.parametrize("content_type", [JSON, MSGPACK])
def test_nesting_a_worker_would_refuse_is_refused_at_once(content_type):
    def handler(items: list[Any]) -> None: ...

    deep: list[Any] = []
    for _ in range(64):
        deep = [deep]

    one = codec(handler, content_type)
    assert one.decode(one.encode((deep[0][0],), {}), content_type)
    with pytest.raises(PayloadError, match="nested deeper"):
        one.encode((deep,), {})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda bad: bad,
        lambda bad: [1, (2, [bad])],
        lambda bad: {"a": {"b": bad}},
        lambda bad: {"first": None, "then": {bad}},
    ],
)
def test_not_a_number_never_becomes_null_on_the_way(bad, wrap):
    def handler(first: Any, value: Any) -> None: ...

    with pytest.raises(PayloadError, match="argument 'value': NaN and infinity"):
        codec(handler).encode((None, wrap(bad)), {})


@pytest.mark.parametrize("fine", [None, "null", 0.0, -0.0, 1e308, [None, "nan"]])
def test_null_and_its_like_are_not_taken_for_a_number(fine):
    def handler(value: Any) -> None: ...

    one = codec(handler)

    assert one.decode(one.encode((fine,), {}), JSON) == {"value": fine}


def test_msgpack_has_its_own_not_a_number():
    def handler(value: float) -> None: ...

    one = codec(handler, MSGPACK)

    assert str(one.decode(one.encode((float("nan"),), {}), MSGPACK)["value"]) == "nan"


TYPED = [
    (int, 2**63),
    (float, 1.5),
    (bool, True),
    (str, "ü\x00"),
    (bytes, b"\x00\xff"),
    (None, None),
    (int | None, None),
    (Optional[str], "a"),  # noqa: UP045  # people write it
    (list[int], [1]),
    (tuple[int, str], (1, "a")),
    (set[str], {"a"}),
    (dict[str, list[int]], {"a": [1]}),
    (dict[int, str], {7: "a"}),
    (Literal["a", "b"], "b"),
    (Colour, Colour.RED),
    (Line, Line("a", 2)),
    (Address, {"city": "x"}),
    (Point, Point(1, 2)),
    (Order, Order([Line("a")])),
    (OrderId, 7),
    (uuid.UUID, uuid.UUID(int=7)),
    (Decimal, Decimal("1.50")),
    (datetime, datetime(2026, 1, 2, tzinfo=UTC)),
    (timedelta, timedelta(seconds=90)),
    (Annotated[int, msgspec.Meta(ge=7)], 7),
    (Any, {"a": [1, None]}),
    (object, [1]),
]


@pytest.mark.parametrize("content_type", [JSON, MSGPACK])
@pytest.mark.parametrize(("kind", "value"), TYPED, ids=lambda one: str(one)[:40])
def test_values_keep_their_type(kind, value, content_type):
    def handler(value) -> None: ...

    handler.__annotations__["value"] = kind
    one = codec(handler, content_type)

    found = one.decode(one.encode((value,), {}), content_type)["value"]

    assert found == value
    assert type(found) is type(value)


def test_constraints_of_an_annotation_hold_on_both_sides():
    def handler(count: Annotated[int, msgspec.Meta(ge=1)]) -> None: ...

    with pytest.raises(PayloadError, match=">= 1"):
        codec(handler).encode((0,), {})
    with pytest.raises(DecodeError, match=">= 1"):
        codec(handler).decode(b'{"count":0}', JSON)


def test_a_default_is_the_very_object_python_would_use():
    shared = [1]
    marker = object()

    def handler(a: list[int] = shared, b: Any = marker, c: int = 3) -> None: ...

    arguments = codec(handler).decode(codec(handler).encode((), {}), JSON)

    assert arguments == {"a": [1], "b": marker, "c": 3}
    assert arguments["a"] is shared


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_context_is_no_part_of_the_payload_wherever_it_stands(place):
    def first(ctx: Context, a: int, b: int) -> None: ...
    def middle(a: int, ctx: Context, b: int) -> None: ...
    def last(a: int, b: int, ctx: Context | None = None) -> None: ...

    one = codec({"first": first, "middle": middle, "last": last}[place])

    assert one.context_parameter == "ctx"
    assert one.encode((1, 2), {}) == b'{"a":1,"b":2}'
    assert one.decode(b'{"a":1,"b":2}', JSON) == {"a": 1, "b": 2}
    with pytest.raises(PayloadError, match="unknown argument 'ctx'"):
        one.encode((1, 2), {"ctx": None})
    with pytest.raises(DecodeError, match="`ctx`"):
        one.decode(b'{"a":1,"b":2,"ctx":{}}', JSON)


def test_a_list_of_contexts_is_no_context():
    def handler(contexts: list[Context]) -> None: ...

    with pytest.raises(ConfigError, match="contexts"):
        codec(handler)


def test_a_handler_without_arguments_has_an_empty_object_as_payload():
    def handler() -> None: ...

    one = codec(handler)

    assert one.encode((), {}) == b"{}"
    assert one.decode(b"{}", JSON) == {}
    with pytest.raises(PayloadError, match="arguments: none"):
        one.encode((), {"a": 1})


def test_any_mapping_may_hold_the_arguments():
    raw = codec(send_receipt).encode((), MappingProxyType({"order_id": 1, "email": ""}))

    assert json.loads(raw) == {"order_id": 1, "email": ""}


def positional_only(a: int, /) -> None: ...
def any_number(*a: int) -> None: ...
def any_names(**a: int) -> None: ...
def two_contexts(a: Context, b: Context) -> None: ...
def function_type(a: Callable[[], int]) -> None: ...
def impossible_union(a: list[int] | set[int]) -> None: ...
def not_at_run_time(a: Fraction) -> None: ...
def named_strangely(a: int, __b: int) -> None: ...


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (positional_only, "'a: 'int''"),
        (any_number, "'*a: 'int''"),
        (any_names, "'**a: 'int''"),
        (two_contexts, "'a, b'; use one context"),
        (function_type, "use a type that can travel"),
        (impossible_union, "use a type that can travel"),
        (named_strangely, "'__b: 'int''"),
        (not_at_run_time, "'Fraction' is not defined"),
    ],
)
def test_what_cannot_travel_is_refused_when_the_job_is_registered(handler, told):
    with pytest.raises(ConfigError) as caught:
        codec(handler)

    assert told in str(caught.value).replace('"', "'")
    assert "'job'" in caught.value.field
    assert "\n" not in str(caught.value)


BAD_BYTES = {
    "null": None,
    "empty": b"",
    "zero byte": b"\x00",
    "0xFF": b"\xff",
    "byte order mark": b'\xef\xbb\xbf{"order_id":1,"email":"a"}',
    "UTF-16": '{"order_id":1,"email":"a"}'.encode("utf-16"),
    "truncated": b'{"order_id":1,"em',
    "trailing": b'{"order_id":1,"email":"a"}x',
    "array": b'[1,"a"]',
    "JSON null": b"null",
    "number": b"1",
    "missing": b'{"order_id":1}',
    "unknown": b'{"order_id":1,"email":"a","x":1}',
    "wrong type": b'{"order_id":"1","email":"a"}',
    "fraction": b'{"order_id":1.0,"email":"a"}',
    "NaN": b'{"order_id":NaN,"email":"a"}',
    "1e999": b'{"order_id":1e999,"email":"a"}',
    "100,000 digits": b'{"order_id":' + b"9" * 100_000 + b',"email":"a"}',
    "overlong UTF-8": b'{"order_id":1,"email":"\xc0\xaf"}',
    "lone surrogate": b'{"order_id":1,"email":"\\ud800"}',
    "raw control character": b'{"order_id":1,"email":"\n"}',
    "pickle": pickle.dumps({"order_id": 1}),
    "control characters in a name": b'{"\\u001b[2J\\u202e":1}',
}


@pytest.mark.parametrize("name", BAD_BYTES)
@pytest.mark.parametrize("content_type", [JSON, MSGPACK])
def test_bad_bytes_are_one_error_with_a_printable_detail(name, content_type):
    with pytest.raises(DecodeError) as caught:
        codec(send_receipt).decode(BAD_BYTES[name], content_type)

    assert caught.value.reason == Reason.UNDECODABLE_PAYLOAD
    assert caught.value.detail.isprintable()
    assert 0 < len(caught.value.detail) <= 300


@pytest.mark.parametrize(
    ("value", "told"), [(None, "null value"), (b"", "empty value")]
)
def test_a_record_without_a_payload_is_named_as_such(value, told):
    with pytest.raises(DecodeError) as caught:
        codec(send_receipt).decode(value, JSON)

    assert caught.value.detail == told


@pytest.mark.parametrize(
    "raw",
    [
        *(
            b"\xdd\xff\xff\xff\xff",
            b"\xdf\xff\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff\x00",
        ),
        *(b"\x81\xa8order_id\xdb\xff\xff\xff\xff", b"\xc1", b"\x82\xa8order_id"),
    ],
)
def test_msgpack_lengths_that_lie_are_refused_at_once(raw):
    with pytest.raises(DecodeError):
        codec(send_receipt).decode(raw, MSGPACK)


class Hostile(msgspec.Struct):
    kind: str

    def __post_init__(self) -> None:
        raise {"memory": MemoryError, "recursion": RecursionError, "own": OSError}[
            self.kind
        ]


@pytest.mark.parametrize("kind", ["memory", "recursion", "own"])
def test_whatever_a_decoder_raises_is_an_undecodable_payload(kind):
    def handler(a: Hostile) -> None: ...

    with pytest.raises(DecodeError) as caught:
        codec(handler).decode(b'{"a":{"kind":"%s"}}' % kind.encode(), JSON)

    assert caught.value.reason == Reason.UNDECODABLE_PAYLOAD
    assert caught.value.detail


def test_the_largest_payload_that_can_be_written_can_be_read():
    one = codec(send_receipt)
    room = DEFAULT_MAX_PAYLOAD_BYTES - len(one.encode((1, ""), {}))

    raw = one.encode((1, "x" * room), {})

    assert len(raw) == DEFAULT_MAX_PAYLOAD_BYTES
    assert len(one.decode(raw, JSON)["email"]) == room
    with pytest.raises(PayloadError, match="900001 bytes; at most 900000"):
        one.encode((1, "x" * (room + 1)), {})
    with pytest.raises(DecodeError, match="900001 bytes"):
        one.decode(raw + b" ", JSON)


def test_the_limit_can_be_set():
    with pytest.raises(PayloadError, match="at most 10"):
        codec(send_receipt, max_bytes=10).encode((1, "a"), {})


@pytest.mark.parametrize(
    "content_type",
    [
        *("application/json;charset=utf-8", "Application/JSON", "application/x+json"),
        *(
            'application/json; charset="UTF-8"; v=1',
            "application/json; charset=us-ascii",
        ),
    ],
)
def test_json_by_any_of_its_names(content_type):
    found = codec(send_receipt).decode(b'{"order_id":1,"email":"a"}', content_type)

    assert found["order_id"] == 1


@pytest.mark.parametrize(
    "content_type", ["application/x-msgpack", "application/vnd.msgpack; v=5"]
)
def test_msgpack_by_any_of_its_names(content_type):
    raw = b"\x82\xa8order_id\x07\xa5email\xa1a"

    assert codec(send_receipt).decode(raw, content_type)["order_id"] == 7


@pytest.mark.parametrize(
    "content_type",
    [
        *("", "text/plain", "application/json; charset=utf-16", "application/x-pickle"),
        *(
            "application/octet-stream",
            "application/cloudevents",
            "json",
            "\u202e" * 200,
        ),
    ],
)
def test_other_content_types_are_refused_with_their_name(content_type):
    with pytest.raises(DecodeError, match="content type") as caught:
        codec(send_receipt).decode(b'{"order_id":1,"email":"a"}', content_type)

    assert caught.value.reason == Reason.UNDECODABLE_PAYLOAD
    assert caught.value.detail.isprintable()


@pytest.mark.parametrize("writes", [JSON, MSGPACK])
def test_arguments_as_json_text_are_what_the_handler_takes(writes):
    def handler(at: datetime, blob: bytes, note: str = "") -> None: ...

    one = codec(handler, writes)

    found = one.read_json(b'{"at": "2026-01-02T00:00:00Z", "blob": "AP8="}')

    assert found == {"at": datetime(2026, 1, 2, tzinfo=UTC), "blob": b"\x00\xff"}
    assert one.decode(one.encode((), found), writes) == {**found, "note": ""}
    with pytest.raises(PayloadError, match="missing: 'blob'"):
        one.read_json(b'{"at": "2026-01-02T00:00:00Z"}')
