"""Configs are frozen dataclasses; this file overrides, records and fingerprints them.

- :func:`override` sets one dotted name from text, as ``--set train.steps=200`` does
- :func:`replace` sets dotted names to values
- :func:`to_json`, :func:`from_json` and :func:`digest` are the record beside a run
- :func:`check_numbers` is for the ``__post_init__`` of a config

A name that is not there fails with the nearest one; text that does not fit a field's type
fails with the type. The part that a field is in may be left out where one part alone has such a
field: ``streams.text.path`` is ``data.streams.text.path``. An element of a tuple of configs is
addressed by its ``name`` field.
"""

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from kosmos.errors import ConfigError
from kosmos.files import Json, sha256_json

Config = TypeVar("Config")


def replace(config: Config, values: Mapping[str, object]) -> Config:
    """A copy of a config with dotted names set to new values.

    Args:
        config: A frozen dataclass.
        values: ``{"train.steps": 200, "streams.text.sequences_per_step": 4}``.

    Raises:
        ConfigError: If a name does not exist or a value is refused.
    """
    for name, value in values.items():
        config = _set(config, name.split("."), name, lambda _, value=value: value)
    return config


def override(config: Config, assignment: str) -> Config:
    """Apply one ``name=text`` assignment, the text read by the field's type.

    Raises:
        ConfigError: If there is no ``=``, no such name, or the text does not fit.
    """
    name, equals, text = assignment.partition("=")
    if not equals:
        raise ConfigError(
            f"--set: expected name=value, found {assignment!r}", hint="for example train.steps=200"
        )
    changed: Config = _set(config, name.split("."), name, lambda kind: _parse(kind, text, name))
    return changed


def to_json(config: object) -> Json:
    """The config as plain JSON values, nested as it is."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, tuple | list):
        return [to_json(item) for item in config]
    if isinstance(config, Mapping):
        return {str(key): to_json(value) for key, value in config.items()}
    if config is None or isinstance(config, bool | int | float | str):
        return config
    return str(config)


def from_json(kind: type[Config], value: Json, where: str = "") -> Config:
    """Build a config from what :func:`to_json` wrote.

    Raises:
        ConfigError: If a field is unknown, missing or of the wrong type, naming it.
    """
    built: Config = _build(kind, value, where or kind.__name__)
    return built


def digest(config: object) -> str:
    """Hexadecimal SHA-256 of the config's canonical JSON."""
    return sha256_json(to_json(config))


def check_numbers(
    config: object,
    where: str,
    *,
    positive: Sequence[str] = (),
    not_negative: Sequence[str] = (),
    fractions: Sequence[str] = (),
) -> None:
    """Fail unless fields are finite numbers, or tuples of them, in their ranges.

    Args:
        config: Whose fields.
        where: Dotted name of the config, such as ``streams.text``.
        positive: Names of those above 0.
        not_negative: Of those from 0 on.
        fractions: Of those from 0 to 1.

    Raises:
        ConfigError: Naming the first that is not.
    """
    ranges = {"a positive number": positive, "0 or more": not_negative, "[0, 1]": fractions}
    for expected, names in ranges.items():
        most = 1.0 if expected == "[0, 1]" else math.inf
        for name in names:
            found = getattr(config, name)
            for number in found if isinstance(found, tuple) else (found,):
                # NaN is in no range
                is_inside = 0 <= number <= most and number != math.inf
                if not is_inside or (number == 0 and expected == "a positive number"):
                    raise ConfigError(f"{where}.{name}: expected {expected}, found {found}")


def _set(config: Any, names: list[str], whole: str, make: Any) -> Any:  # noqa: ANN401
    """Rebuild the path from the root to the named field around the new value."""
    head, *rest = names
    if isinstance(config, tuple):
        by_name = {item.name: index for index, item in enumerate(config)}
        if head not in by_name:
            raise _unknown(whole, "this list", head, list(by_name))
        if not rest:
            raise ConfigError(f"{whole}: expected the name of a field of {head!r}")
        index = by_name[head]
        return (*config[:index], _set(config[index], rest, whole, make), *config[index + 1 :])
    if not dataclasses.is_dataclass(config):
        raise ConfigError(f"{whole}: {head!r} lies inside a value that has no fields")
    fields = [field.name for field in dataclasses.fields(config)]
    if head not in fields:
        names = [part, *names] if (part := _part_with(config, head)) else names
        if part is None:
            raise _unknown(whole, type(config).__name__, head, fields)
        head, *rest = names
    if rest:
        value = _set(getattr(config, head), rest, whole, make)
    else:
        value = make(typing.get_type_hints(type(config))[head])
    try:
        return dataclasses.replace(typing.cast(Any, config), **{head: value})
    except TypeError as error:
        raise ConfigError(f"{whole}: {error}") from error


def _part_with(config: Any, name: str) -> str | None:  # noqa: ANN401
    """The one part of a config that has a field of a name; None if there is none, or several."""
    parts = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    having = [
        part
        for part, value in parts.items()
        if dataclasses.is_dataclass(value)
        and name in (field.name for field in dataclasses.fields(value))
    ]
    return having[0] if len(having) == 1 else None


def _unknown(whole: str, owner: str, name: str, known: list[str]) -> ConfigError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return ConfigError(f"{whole}: {owner} has no field {name!r}", hint=hint)


def _parse(kind: Any, text: str, where: str) -> Any:  # noqa: ANN401
    """Read text as a value of a field's type; JSON where the type is not a plain word."""
    if kind is str or (typing.get_origin(kind) is typing.Literal and text in typing.get_args(kind)):
        return text
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        # None and bare words are common on a command line; JSON knows neither
        value = {"None": None, "True": True, "False": False}.get(text, text)
    return _build(kind, value, where)


def _build(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    """Check a JSON value against a type and build it; bool is never taken for a number."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _build_union(args, value, where)
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(
                f"{where}: expected one of {', '.join(map(repr, args))}, found {value!r}"
            )
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _build_dataclass(kind, value, where)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [args[0]] * len(value) if args[-1:] == (...,) else list(args)
        if len(kinds) == len(value):
            pairs = enumerate(zip(kinds, value, strict=True))
            return tuple(_build(k, v, f"{where}[{i}]") for i, (k, v) in pairs)
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: _build(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    is_bool_as_number = isinstance(value, bool) and kind is not bool
    if isinstance(kind, type) and isinstance(value, kind) and not is_bool_as_number:
        return value
    name = kind.__name__ if isinstance(kind, type) and origin is None else str(kind)
    raise ConfigError(f"{where}: expected {name}, found {value!r}")


def _build_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:  # noqa: ANN401
    if value is None and type(None) in kinds:
        return None
    errors = []
    for kind in kinds:
        if kind is not type(None):
            try:
                return _build(kind, value, where)
            except ConfigError as error:
                errors.append(error)
    raise errors[0]


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    if isinstance(value, kind):
        return value
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected the fields of {kind.__name__}, found {value!r}")
    hints = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    for name in value:
        if name not in known:
            raise _unknown(f"{where}.{name}", kind.__name__, name, known)
    built = {name: _build(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    try:
        return kind(**built)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error
