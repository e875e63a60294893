"""The settings of a configuration: their keys, types and descriptions, short forms of keys, and values from text."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from restore_dit.errors import UserError

NEEDS_SECTION = "needs_section"
"""In a field's `json_schema_extra`: see `Setting.needs_section`."""


@dataclass(frozen=True)
class Setting:
    """A key of a configuration that holds a value rather than a section."""

    key: str
    """With its sections, for example `training.epochs`."""
    annotation: Any
    description: str
    default: Any
    """The default of the section that declares it; None if it has none."""
    needs_section: bool = False
    """Whether the key's last part alone does not stand for it, because it would be misunderstood."""

    @property
    def option(self) -> str:
        """The key as an option of a command, for example `--training.batch-size`."""
        return "--" + self.key.replace("_", "-")

    @property
    def short(self) -> str:
        """The option without the sections, for example `--batch-size`."""
        return f"--{self.option.removeprefix('--').rpartition('.')[2]}"

    @property
    def is_flag(self) -> bool:
        """Whether the value is true or false."""
        return _alternatives(self.annotation) == [bool]

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return _item(_alternatives(self.annotation)) is not None

    @property
    def choices(self) -> tuple[str, ...]:
        """The possible values, if the type lists them."""
        return tuple(map(str, _literals(_alternatives(self.annotation))))

    @property
    def number(self) -> type[int] | type[float] | None:
        """The type of a number; None for anything else."""
        return next((kind for kind in (int, float) if _alternatives(self.annotation) == [kind]), None)


@cache
def settings_of(model: type[BaseModel]) -> dict[str, Setting]:
    """All settings of a configuration, by key."""
    return {key: item for key, item in _walk(model) if isinstance(item, Setting)}


def keys_matching(model: type[BaseModel], name: str) -> list[str]:
    """The keys that `name` may mean: itself if it is complete, otherwise every key that ends in it, without those that
    `needs_section` if it has none. Hyphens in it count as underscores. Empty if there is none."""
    name = name.replace("-", "_")
    keys, settings = _keys(model), settings_of(model)
    if name in keys:
        return [name]
    ending = [key for key in keys if key.endswith(f".{name}")]
    return [key for key in ending if "." in name or key not in settings or not settings[key].needs_section]


def find_setting(model: type[BaseModel], name: str) -> Setting | None:
    """The setting that `name` means; None if it means none, a section, or several."""
    keys = keys_matching(model, name)
    return settings_of(model).get(keys[0]) if len(keys) == 1 else None


def argument_names(model: type[BaseModel], keys: Iterable[str]) -> list[str]:
    """The keys that may be given by position, as a usage line shows them: `INPUT`, `[MODEL]` if it has a default,
    `STORES…` if it takes several words."""
    settings = [settings_of(model)[key] for key in keys]
    names = [f"{one.key.upper()}…" if one.is_list else one.key.upper() for one in settings]
    return [f"[{name}]" if one.default else name for one, name in zip(settings, names, strict=True)]


def changes_of(model: type[BaseModel], overrides: Iterable[str]) -> dict[str, Any]:
    """The tree of the values that `key=value` overrides set, the last one of each key.

    A key may lack its sections if only one key ends in it (`epochs` for `training.epochs`). Text is taken as it is, so
    that a path may contain ` #` or `: `; a list is `a,b` or `[a, b]`, and a mapping `{a: b}`.

    Raises:
        UserError: an override is not of the form `key=value`, its key is ambiguous, or its value is not valid YAML.
    """
    tree: dict[str, Any] = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals or not name:
            raise UserError(
                f"'{override}': an override must have the form key=value, such as training.epochs=10", status=2
            )
        keys = keys_matching(model, name) or [name.replace("-", "_")]
        if len(keys) > 1:
            raise UserError(f"'{name}' is ambiguous: {', '.join(keys)}", status=2)
        setting = settings_of(model).get(keys[0])
        try:
            value = _value(text.strip(), setting.annotation if setting else Any)
        except yaml.YAMLError:
            raise UserError(f"'{override}': the value is not valid YAML", status=2) from None
        for part in reversed(keys[0].split(".")):
            value = {part: value}
        tree = merge(tree, value)
    return tree


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`base` overridden by the values of `change`, section by section."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


@cache
def _keys(model: type[BaseModel]) -> dict[str, None]:
    """Every key, of sections too."""
    return {key: None for key, _ in _walk(model)}


def _walk(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Setting | type[BaseModel]]]:
    for name, field in model.model_fields.items():
        key = prefix + name
        section = next((part for part in _alternatives(field.annotation) if _is_section(part)), None)
        if section is None:
            default = None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})
            extra = field.json_schema_extra
            needs_section = isinstance(extra, dict) and bool(extra.get(NEEDS_SECTION))
            yield key, Setting(key, field.annotation, field.description or "", default, needs_section)
        else:
            yield key, section
            yield from _walk(section, f"{key}.")


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a union, without None and without metadata."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [part for member in get_args(annotation) for part in _alternatives(member)]
    return [] if annotation is type(None) else [annotation]


def _literals(alternatives: list[Any]) -> list[Any]:
    return [value for part in alternatives if get_origin(part) is Literal for value in get_args(part)]


def _item(alternatives: list[Any]) -> Any:
    """The type of a list's items; None if the values are not lists."""
    part = alternatives[0] if len(alternatives) == 1 else None
    return get_args(part)[0] if get_origin(part) in (tuple, list) else None


def _value(text: str, annotation: Any) -> Any:
    """`text` as a value for a setting of this type."""
    alternatives = _alternatives(annotation)
    item = _item(alternatives)
    is_text = str in alternatives or any(isinstance(value, str) for value in _literals(alternatives))
    if text[:1] in ("'", '"') or (text[:1] in ("[", "{") and not is_text):
        return yaml.safe_load(text)
    if text in ("null", "~") and type(None) in get_args(annotation):
        return None
    if item is not None:
        return [_value(part.strip(), item) for part in text.split(",") if part.strip()]
    return text if is_text else _scalar(text)


def _scalar(text: str) -> Any:
    """`text` as the number, boolean, date or null that YAML resolves it to, otherwise as a string."""
    loader = yaml.SafeLoader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))
    try:
        return loader.construct_object(yaml.ScalarNode(tag, text))
    except ValueError:  # not a valid date, such as 31 February
        return text
