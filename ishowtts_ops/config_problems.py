"""What is wrong with a configuration file, in words: no types and no regular expressions."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ishowtts_ops.errors import Problem


class UniqueKeys(yaml.SafeLoader):
    """YAML in which no key is there twice: the first one would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for name, _ in node.value:
            if isinstance(name, yaml.ScalarNode) and name.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name.value!r} is there twice", name.start_mark
                )
            seen.add(name.value if isinstance(name, yaml.ScalarNode) else id(name))
        return super().construct_mapping(node, deep)


_WANTED = {
    "model_type": "must be a section with keys of its own",
    "dict_type": "must be a section with keys of its own",
    "tuple_type": "must be a list",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "missing": "must be given",
}
"""What pydantic finds, in the words of this file's readers."""

_FORMS = {
    r"^/": "must be an absolute path",
    r"^https?://": "must begin with http:// or https://",
    r"^(/|https?://)": "must begin with /, http:// or https://",
}
_FORMS_BY_KEY = {
    "version": "must be a version such as 1.1.22",
    "device": "must be auto, cpu, cuda or cuda:N",
    "hash": "must be as `ishowtts-ops config key` prints it",
    "id": "must be letters, digits, `_`, `.` and `-`, up to 64",
    "name": "must be letters, digits, `_`, `.` and `-`, up to 64",
    "user": "must be the name of a user of this box",
    "url": "must be an address such as http://127.0.0.1:8080, without a path",
    "method": "must be a method such as GET",
    "expect": "must be ok, json, audio or contains:TEXT",
}
"""What a text must look like, where pydantic would show the pattern."""

_KIND = re.compile(r"literal\[|constrained-|none$")


def told(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """What is wrong with a configuration, in the words of its readers and one problem a key.

    Args:
        model: what was validated; its keys are suggested for those that there are not.
    """
    by_key: dict[str, list[str]] = {}
    for item in error.errors():
        problem = _problem(item, model)
        by_key.setdefault(problem.where, []).append(problem.what)
    # What was found is behind the last of them.
    return [
        Problem(where, ", or ".join([*(what.split(" (found ")[0] for what in first), last]))
        for where, (*first, last) in by_key.items()
    ]


def _problem(item: Any, model: type[BaseModel]) -> Problem:
    # Where a value may be of several kinds, pydantic names the kind as if it were a key.
    where = ".".join(str(part) for part in item["loc"] if not _KIND.match(str(part)))
    kind = item["type"]
    if kind == "extra_forbidden":
        return Problem(where, f"there is no such key{_suggestion(item['loc'], model)}")
    given = repr(item.get("input"))
    what = _WANTED.get(kind, str(item["msg"]).removeprefix("Value error, "))
    what = re.sub(r"^(Input|String|List|Tuple) should", "must", what)
    if kind == "string_pattern_mismatch":
        what = _FORMS.get(item["ctx"]["pattern"], _FORMS_BY_KEY.get(where.rpartition(".")[2], what))
    short = given if len(given) <= 60 else given[:57] + "..."
    return Problem(where, f"{what[0].lower()}{what[1:]} (found {short})")


def _suggestion(where: Sequence[str | int], model: type[BaseModel]) -> str:
    """The key that may have been meant by one that there is not."""
    for part in where[:-1]:
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ""
        model = inner
    near = difflib.get_close_matches(str(where[-1]), model.model_fields, n=1)
    return f"; was `{near[0]}` meant?" if near else ""
