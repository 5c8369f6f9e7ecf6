"""A small typed language that selects dead letters.

``error == "SMTPError" and age < 6h and payload.order_id > 10``

A filter has no regular expressions, and nothing is evaluated as Python: it becomes a
tree of small functions. Its cost is bounded before it runs: its length, its depth and
the number of its comparisons are, and each comparison reads its record once.

```
filter     = any
any        = all { "or" all }
all        = one { "and" one }
one        = "not" one | "(" any ")" | comparison
comparison = field ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) value
           | field ( "contains" | "startswith" | "endswith" ) text
           | field "in" "(" value { "," value } ")"
           | "exists" field
field      = a name of FIELDS | "payload" path | "header" "[" text "]"
path       = { "." name | "[" number | text "]" }
```

A field of a known type refuses a value of another type when the filter is read. The
types in a payload are known only when it is read: there, values of different types are
not equal, and neither is greater.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any, Final, TypeAlias

from shifter.deadletter.filter_lexer import Token, TokenKind, instant_ms, tokens
from shifter.deadletter.letter import (
    FIELDS,
    Letter,
    Path,
    Value,
    ValueType,
    header_field,
    payload_field,
)
from shifter.errors import FilterError
from shifter.model.advice import nearest
from shifter.model.job import canonical_id

MAX_DEPTH: Final = 32
MAX_COMPARISONS: Final = 100

Test: TypeAlias = Callable[[Letter], bool]
Get: TypeAlias = Callable[[Letter], Value]

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS: Final[dict[str, Callable[[str, str], bool]]] = {
    "contains": lambda text, part: part in text,
    "startswith": str.startswith,
    "endswith": str.endswith,
}
_OPERATORS: Final = (*_COMPARE, *_WORDS, "in")
_CONSTANTS: Final[dict[str, Value]] = {"true": True, "false": False, "null": None}


def compile_filter(text: str) -> Test:
    """Compile a filter to a function that tests whether it selects a dead letter.

    Args:
        text: A filter; an empty one selects every letter.

    Raises:
        FilterError: The filter is wrong; the error has the place and what is allowed.
    """
    parser = _Parser(text)
    if parser.next.kind is TokenKind.END:
        return lambda _: True
    test = parser.any(0)
    parser.end()
    return test


def named_fingerprints(text: str) -> list[str]:
    """Fingerprints that a filter compares with, to report those that no letter has.

    Raises:
        FilterError: A character that belongs to no word.

    >>> named_fingerprints('error == "x" and fingerprint == "0123456789ab"')
    ['0123456789ab']
    """
    found = tokens(text)
    return [
        value.text
        for field, word, value in zip(found, found[1:], found[2:], strict=False)
        if (field.kind, field.text, word.text) == (TokenKind.WORD, "fingerprint", "==")
        and value.kind is TokenKind.TEXT
    ]


class _Parser:
    """Recursive descent over the tokens of one filter."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens = text, tokens(text)
        self._place = self._comparisons = 0

    @property
    def next(self) -> Token:
        return self._tokens[self._place]

    def end(self) -> None:
        if self.next.kind is not TokenKind.END:
            raise self._wrong("the filter should end here", 'join with "and" or "or"')

    def any(self, depth: int) -> Test:
        """All alternatives joined by ``or``."""
        if depth > MAX_DEPTH:
            raise self._wrong("too deeply nested", f"use at most {MAX_DEPTH} levels")
        tests = [self._all(depth)]
        while self._takes("or"):
            tests.append(self._all(depth))
        if len(tests) == 1:
            return tests[0]
        return lambda letter: any(test(letter) for test in tests)

    def _all(self, depth: int) -> Test:
        tests = [self._one(depth)]
        while self._takes("and"):
            tests.append(self._one(depth))
        if len(tests) == 1:
            return tests[0]
        return lambda letter: all(test(letter) for test in tests)

    def _one(self, depth: int) -> Test:
        is_turned = False
        while self._takes("not"):
            is_turned = not is_turned
        if self._takes("("):
            test = self.any(depth + 1)
            self._need(")")
        else:
            test = self._comparison()
        return (lambda letter: not test(letter)) if is_turned else test

    def _comparison(self) -> Test:
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise self._wrong("too long", f"use at most {MAX_COMPARISONS} comparisons")
        if self._takes("exists"):
            get, _ = self._field()
            return lambda letter: get(letter) is not None
        get, kind = self._field()
        word = self.next
        if word.text not in _OPERATORS or word.kind is TokenKind.TEXT:
            raise self._wrong("an operator is missing", f"use {' '.join(_OPERATORS)}")
        self._place += 1
        if word.text == "in":
            return _is_in(get, self._values(kind))
        if word.text in _WORDS:
            value = self._value(ValueType.TEXT if kind is ValueType.ID else kind)
            if kind is ValueType.ID and isinstance(value, str):
                value = value.lower()  # as ids are kept
            return self._text_test(word, get, value)
        value = self._value(kind)
        return self._compared(word, get, value)

    def _text_test(self, word: Token, get: Get, part: Value) -> Test:
        if not isinstance(part, str):
            raise self._wrong_at(word, f"{word.text} needs a text", 'such as "timeout"')
        test = _WORDS[word.text]

        def met(letter: Letter) -> bool:
            found = get(letter)
            return isinstance(found, str) and test(found, part)

        return met

    def _compared(self, word: Token, get: Get, value: Value) -> Test:
        compare = _COMPARE[word.text]
        if word.text in ("==", "!="):
            wanted = word.text == "=="
            return lambda letter: _equal(get(letter), value) is wanted
        if value is None or isinstance(value, bool):
            raise self._wrong_at(word, "this value has no order", "use == or !=")

        def met(letter: Letter) -> bool:
            found = get(letter)
            return _same_order(found, value) and compare(found, value)

        return met

    # --- fields ---------------------------------------------------------------------

    def _field(self) -> tuple[Get, ValueType]:
        word = self.next
        known = [*FIELDS, "payload", "header"]
        if word.kind is not TokenKind.WORD:
            raise self._wrong("a field is missing", f"fields: {' '.join(known)}")
        self._place += 1
        if word.text == "payload":
            return payload_field(self._path()), ValueType.ANY
        if word.text == "header":
            return header_field(self._header()), ValueType.TEXT
        field = FIELDS.get(word.text)
        if field is None:
            hint = nearest(word.text, known, "fields")
            raise self._wrong_at(word, f"unknown field {word.text!r}", hint)
        return field.get, field.type

    def _path(self) -> Path:
        path: list[str | int] = []
        while self.next.text in (".", "[") and self.next.kind is TokenKind.MARK:
            is_name = self._take().text == "."
            step = self._take()
            if is_name and step.kind is not TokenKind.WORD:
                raise self._wrong_at(step, "a name is missing", 'or ["any name"]')
            if step.kind is TokenKind.NUMBER and isinstance(step.value, int):
                path.append(step.value)
            elif step.kind in (TokenKind.WORD, TokenKind.TEXT):
                path.append(step.text)
            else:
                raise self._wrong_at(step, "not a place", 'use [0] or ["name"]')
            if not is_name:
                self._need("]")
        return tuple(path)

    def _header(self) -> str:
        self._need("[")
        name = self._take()
        if name.kind is not TokenKind.TEXT:
            raise self._wrong_at(name, "a name is missing", 'header["traceparent"]')
        self._need("]")
        return name.text

    # --- values ---------------------------------------------------------------------

    def _values(self, kind: ValueType) -> list[Value]:
        self._need("(")
        values = [self._value(kind)]
        while self._takes(","):
            values.append(self._value(kind))
            if len(values) > MAX_COMPARISONS:
                raise self._wrong("too many", f"use at most {MAX_COMPARISONS} values")
        self._need(")")
        return values

    def _value(self, kind: ValueType) -> Value:
        token = self._take()
        value = _constant(token)
        if value is ...:
            raise self._wrong_at(token, "a value is missing", kind.value)
        if kind is ValueType.INSTANT and isinstance(value, str):
            instant = instant_ms(value)
            if instant is None:
                raise self._wrong_at(token, f"{value!r} is no instant", kind.value)
            return instant
        if kind is ValueType.ID and isinstance(value, str):
            job_id = canonical_id(value)
            if job_id is None:
                raise self._wrong_at(token, f"{value!r} is no job's id", kind.value)
            return job_id
        if not kind.takes(value, is_duration=token.kind is TokenKind.DURATION):
            raise self._wrong_at(token, "a value of another type", kind.value)
        return value

    # --- tokens ---------------------------------------------------------------------

    def _take(self) -> Token:
        token = self.next
        if token.kind is not TokenKind.END:
            self._place += 1
        return token

    def _takes(self, text: str) -> bool:
        token = self.next
        if token.text != text or token.kind not in (TokenKind.WORD, TokenKind.MARK):
            return False
        self._place += 1
        return True

    def _need(self, text: str) -> None:
        if not self._takes(text):
            raise self._wrong(f"{text!r} is missing", f"write {text} here")

    def _wrong(self, what: str, want: str) -> FilterError:
        return self._wrong_at(self.next, what, want)

    def _wrong_at(self, token: Token, what: str, want: str) -> FilterError:
        return FilterError(self._text, token.at, what, want)


def _constant(token: Token) -> Value | EllipsisType:
    """The value of a token; ``...`` if it has none."""
    if token.kind is TokenKind.TEXT:
        return token.text
    if token.kind in (TokenKind.NUMBER, TokenKind.DURATION):
        return token.value
    return _CONSTANTS.get(token.text, ...) if token.kind is TokenKind.WORD else ...


def _is_in(get: Get, values: Sequence[Value]) -> Test:
    return lambda letter: any(_equal(get(letter), value) for value in values)


def _equal(found: Value, value: Value) -> bool:
    # In JSON, true is not 1.
    if isinstance(found, bool) or isinstance(value, bool):
        return found is value
    return found == value


def _same_order(found: Value, value: Value) -> bool:
    if isinstance(found, bool) or found is None:
        return False
    return isinstance(found, str) is isinstance(value, str)
