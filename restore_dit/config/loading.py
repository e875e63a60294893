"""Loads a configuration from YAML and `key=value`; errors name the key and the closest valid one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from restore_dit.config.presets import PRESETS
from restore_dit.config.settings import changes_of, merge, settings_of
from restore_dit.config.tree import RunConfig
from restore_dit.errors import UserError

ModelT = TypeVar("ModelT", bound=BaseModel)


def shipped() -> dict[str, Path]:
    """The configurations that come with the package, by name."""
    folder = Path(str(resources.files("restore_dit.config") / "shipped"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(config: str | Path, overrides: Iterable[str] = ()) -> RunConfig:
    """The run configuration from a YAML file (or the name of a shipped one) and `key=value` overrides.

    A file may begin with `preset: NAME`; its other keys then override that preset.

    Raises:
        UserError: no such file, bad YAML, unknown key, bad value.
    """
    path = Path(config)
    if not path.is_file():
        if str(config) not in shipped():
            raise UserError(f"{config}: no such file; shipped configurations: {', '.join(shipped())}", status=2)
        path = shipped()[str(config)]
    tree = read_yaml(path)
    preset = tree.pop("preset", None)
    if preset is not None:
        if preset not in PRESETS:
            raise UserError(f"{path}: unknown preset '{preset}'; presets: {', '.join(PRESETS)}", status=2)
        tree = merge(PRESETS[preset]().model_dump(mode="json"), tree)
    return build(RunConfig, merge(tree, changes_of(RunConfig, overrides)), str(config))


def load_section(
    section: type[ModelT], overrides: Iterable[str] = (), path: Path | None = None, **values: Any
) -> ModelT:
    """A configuration other than a run's: its defaults, overridden by a file, by `values`, then by `key=value`.

    Raises:
        UserError: no such file, bad YAML, unknown key, bad value.
    """
    tree = merge({} if path is None else read_yaml(path), values)
    return build(section, merge(tree, changes_of(section, overrides)), str(path or "command line"))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, empty for an empty file.

    Raises:
        UserError: the file cannot be read, is not valid YAML, or is not a mapping.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}", status=2) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"{path}: must contain a mapping of keys to values, not a {type(tree).__name__}", status=2)
    return tree


def build(model: type[ModelT], tree: dict[str, Any], origin: str) -> ModelT:
    """The validated configuration, or a one-line `UserError` that names the key, the problem and the remedy."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise UserError(f"{origin}: {_explain(model, first)}{more}", status=2) from None


def dump(config: BaseModel) -> str:
    """The resolved tree as YAML that `load` accepts."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _explain(model: type[BaseModel], error: Any) -> str:
    location = [str(part) for part in error["loc"]]
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        section = _section(model, location[:-1])
        below = {key.rpartition(".")[2]: key for key in settings_of(section)}
        near = difflib.get_close_matches(location[-1], section.model_fields, n=1) or [
            ".".join([*location[:-1], below[name]]) for name in difflib.get_close_matches(location[-1], below, n=1)
        ]
        hint = f"did you mean '{near[0]}'?" if near else f"valid keys: {', '.join(section.model_fields)}"
        return f"unknown key '{key}': {hint}"
    if error["type"] == "model_type":
        keys = ", ".join(_section(model, location).model_fields)
        return f"{key}: must be a section with keys such as {keys}, not {error['input']!r}"
    message = error["msg"].removeprefix("Value error, ")
    return (
        f"{key}: {message} (got {error['input']!r})"
        if key and not isinstance(error["input"], dict)
        else (f"{key}: {message}" if key else message)
    )


def _section(model: type[BaseModel], location: list[str]) -> type[BaseModel]:
    for part in location:
        if part.isdigit():
            continue  # an index into a list
        annotation = model.model_fields[part].annotation
        for candidate in (annotation, *get_args(annotation)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
    return model


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings in which two configurations, as trees, differ: the key with its sections → the value in each, None
    where it is missing. Sorted by key."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found |= {f"{key}.{name}": values for name, values in differences(before, after).items()}
        elif before != after:
            found[key] = before, after
    return found
