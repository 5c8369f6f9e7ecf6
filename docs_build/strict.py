"""A hook of MkDocs: what `--strict` refuses beside its own rules.

1. A public name of the API reference without a docstring. A field may be described by
   the ``Attributes`` section of its class instead.
2. A parameter that a docstring describes and the function does not have.
3. A page that makes a browser ask another host for anything.

Each is a warning, which strict mode turns into a failed build.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import griffe

Documented: TypeAlias = griffe.Object | griffe.Alias

log = logging.getLogger("mkdocs.hooks.shifter")  # noqa: TID251  # what strict mode counts

_DIRECTIVE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
_FOREIGN = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?"
    r"\b(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)"
)
_UNPACK = re.compile(r"Unpack\[(\w+)\]")
_QUIET = {"warn_unknown_params": False, "warn_missing_types": False}


def on_pre_build(config: dict[str, Any]) -> None:
    """Warn of what the API reference would show wrongly, or not at all."""
    pages = sorted(Path(config["docs_dir"], "reference", "api").glob("*.md"))
    modules = [name for page in pages for name in _DIRECTIVE.findall(page.read_text())]
    loader = griffe.GriffeLoader(search_paths=["."])
    loader.load("shifter")
    loader.resolve_aliases(external=False)
    for module in modules:
        for fault in faults(loader.modules_collection[module]):
            log.warning("%s", fault)


def on_post_page(output: str, page: Any, config: Any) -> str:  # noqa: ARG001  # MkDocs passes all
    """Warn of each address of another host that a page loads."""
    for address in _FOREIGN.findall(output):
        log.warning("%s loads %s", page.file.src_uri, address)
    return output


def faults(owner: Documented) -> Iterator[str]:
    """What is wrong with the public members of a module or class, nested ones too."""
    described = set(_attributes(owner))
    for member in owner.all_members.values():
        if not member.is_public or member.is_special or member.is_module:
            continue
        if not member.has_docstring and member.name not in described:
            yield f"{owner.path}.{member.name} has no docstring"
        elif member.is_class:
            yield from faults(member)
        elif member.is_function:
            yield from _unknown_parameters(member)


def _attributes(owner: Documented) -> Iterator[str]:
    """Fields that the ``Attributes`` section of a class, or of a base, describes."""
    if not owner.is_class:
        return
    for cls in (owner, *owner.mro()):
        for section in _sections(cls):
            if isinstance(section, griffe.DocstringSectionAttributes):
                yield from (attribute.name for attribute in section.value)


def _unknown_parameters(function: Documented) -> Iterator[str]:
    known = {parameter.name.lstrip("*") for parameter in function.parameters}
    for parameter in function.parameters:
        for name in _UNPACK.findall(str(parameter.annotation)):
            options = function.module[name]
            known |= set(options.all_members)
    for section in _sections(function):
        if isinstance(section, griffe.DocstringSectionParameters):
            for described in section.value:
                if described.name.lstrip("*") not in known:
                    yield f"{function.path} has no parameter {described.name}"


def _sections(owner: Documented) -> list[griffe.DocstringSection]:
    if owner.docstring is None:
        return []
    return owner.docstring.parse("google", **_QUIET)
