"""Configs are frozen dataclasses; this file overrides, records and fingerprints them.

- :func:`override` sets one dotted name from text, as ``--set train.steps=200`` does
- :func:`replace` sets dotted names to values
- :func:`to_json`, :func:`from_json` and :func:`digest` are the record beside a run
- :func:`check_numbers` is for the ``__post_init__`` of a config

A name that is not there fails with the nearest one; text that does not fit a field's type
fails with the type, and so does a float that is not finite. The part that a field is in may be left
out where one part alone has such a field: ``streams.text.path`` is ``data.streams.text.path``.

An element of a tuple of configs is addressed by its ``name`` field, and one of a new name is added
with an object of its other fields::

    --set 'streams.mine={"path": "shards", "sequences_per_step": 4, "tokens_per_sequence": 60}'

A config whose module has a table ``PRESETS`` with such configs may be given by the name it has
there: ``--set model=micro``.
"""

import dataclasses
import difflib
import math
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from kosmos.errors import ConfigError, DataError
from kosmos.files import Json, parse_json, sha256_json

Config = TypeVar("Config")

FREE_ON_RESUME: Mapping[str, str] = {"on_resume": "free"}
"""Metadata of a field that may differ when a run goes on: no weight depends on it, or what it
means is compared in another way (data by its digest, not its path)."""
MORE_ON_RESUME: Mapping[str, str] = {"on_resume": "more"}
"""Metadata of a number that may grow when a run goes on, and not shrink."""
_MAX_SHOWN_CHARS = 60


def replace(config: Config, values: Mapping[str, object]) -> Config:
    """A copy of a config with dotted names set to new values.

    Args:
        config: A frozen dataclass.
        values: ``{"train.steps": 200, "streams.text.sequences_per_step": 4}``.

    Raises:
        ConfigError: If a name does not exist or a value is refused.
    """
    for name, value in values.items():
        config = _change(config, name, lambda _, value=value: value)
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
    return _change(config, name, lambda kind: _parse(kind, text, name))


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


def may_differ(config: object, kind: Mapping[str, str]) -> Iterator[str]:
    """Dotted names of the fields that have such metadata; all below such a field may differ.

    Elements of a tuple are called by their ``name`` field.
    """
    if isinstance(config, tuple):
        for item in config:
            if hasattr(item, "name"):
                yield from (f"{item.name}.{name}" for name in may_differ(item, kind))
    elif dataclasses.is_dataclass(config):
        for part in dataclasses.fields(config):
            if kind.items() <= part.metadata.items():
                yield part.name
            else:
                below = may_differ(getattr(config, part.name), kind)
                yield from (f"{part.name}.{name}" for name in below)


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


class _UnknownError(ConfigError):
    """A name that is not there."""

    def __init__(self, whole: str, owner: str, name: str, known: Sequence[str]) -> None:
        super().__init__(f"{whole}: {owner} has no field {name!r}", hint=_nearest(name, known))
        self.name = name
        self.known = known


def _change(config: Config, name: str, make: Any) -> Config:  # noqa: ANN401
    try:
        changed: Config = _set(config, name.split("."), name, make)
    except _UnknownError as error:
        # a name in another part, if it is nearer than all in this one
        ends = {other.rpartition(".")[2]: other for other in reversed([*_names(config)])}
        near = difflib.get_close_matches(error.name, [*error.known, *ends], n=1)
        parts = name.split(".")
        if near and near[0] not in error.known and error.name in parts:
            behind = parts[parts.index(error.name) + 1 :]
            error.hint = f"did you mean {'.'.join([ends[near[0]], *behind])!r}?"
        raise
    return changed


def _set(config: Any, names: list[str], whole: str, make: Any, kind: Any = None) -> Any:  # noqa: ANN401
    """Rebuild the path from the root to the named field around the new value."""
    head, *rest = names
    if isinstance(config, tuple):
        return _set_element(config, names, whole, make, kind)
    if not dataclasses.is_dataclass(config):
        raise ConfigError(f"{whole}: {head!r} lies inside a value that has no fields")
    fields = [field.name for field in dataclasses.fields(config)]
    if head not in fields:
        part = _part_with(config, head)
        if part is None:
            raise _UnknownError(whole, type(config).__name__, head, fields)
        head, *rest = part, *names
    kind = typing.get_type_hints(type(config))[head]
    value = _set(getattr(config, head), rest, whole, make, kind) if rest else make(kind)
    try:
        return dataclasses.replace(typing.cast(Any, config), **{head: value})
    except TypeError as error:
        raise ConfigError(f"{whole}: {error}") from error


def _set_element(items: Any, names: list[str], whole: str, make: Any, kind: Any) -> Any:  # noqa: ANN401
    """A list of named configs with one of them changed, or with one more."""
    head, *rest = names
    by_name = {item.name: index for index, item in enumerate(items)}
    if head in by_name:
        if not rest:
            raise ConfigError(f"{whole}: expected the name of a field of {head!r}")
        index = by_name[head]
        return (*items[:index], _set(items[index], rest, whole, make), *items[index + 1 :])
    if rest:
        raise _UnknownError(whole, "this list", head, list(by_name))
    return (*items, _build(typing.get_args(kind)[0], {**make(dict), "name": head}, whole))


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


def _names(config: Any) -> Iterator[str]:  # noqa: ANN401
    """The dotted names of all fields."""
    inner: dict[str, Any] = {}
    if isinstance(config, tuple):
        inner = {item.name: item for item in config if hasattr(item, "name")}
    elif dataclasses.is_dataclass(config):
        inner = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    for name, value in inner.items():
        yield from (name, *(f"{name}.{deeper}" for deeper in _names(value)))


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _shown(value: object) -> str:
    """A value in a message; of one that is long, its beginning."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}..."


def _parse(kind: Any, text: str, where: str) -> Any:  # noqa: ANN401
    """Read text as a value of a field's type; JSON where the type is not a plain word."""
    if kind is str or (typing.get_origin(kind) is typing.Literal and text in typing.get_args(kind)):
        return text
    value: Json
    try:
        value = parse_json(text, where=where)
    except DataError:
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
                f"{where}: expected one of {', '.join(map(repr, args))}, found {_shown(value)}"
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
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ConfigError(f"{where}: expected a finite number, found {value}")
        return float(value)
    is_bool_as_number = isinstance(value, bool) and kind is not bool
    if isinstance(kind, type) and isinstance(value, kind) and not is_bool_as_number:
        return value
    name = kind.__name__ if isinstance(kind, type) and origin is None else str(kind)
    name = "an object" if kind is dict else name
    raise ConfigError(f"{where}: expected {name}, found {_shown(value)}")


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
    presets = {
        name: preset
        for name, preset in getattr(sys.modules[kind.__module__], "PRESETS", {}).items()
        if isinstance(preset, kind)
    }
    if isinstance(value, str) and presets:
        if value not in presets:
            raise ConfigError(
                f"{where}: expected a {kind.__name__} or the name of one, found {_shown(value)}",
                hint=_nearest(value, list(presets)),
            )
        return presets[value]
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected the fields of {kind.__name__}, found {_shown(value)}")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in value:
        if name not in fields:
            raise _UnknownError(f"{where}.{name}", kind.__name__, name, list(fields))
    missing = [n for n, f in fields.items() if n not in value and f.default is f.default_factory]
    if missing:
        raise ConfigError(f"{where}: expected a value for {', '.join(missing)}, found none")
    built = {name: _build(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    try:
        return kind(**built)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error
