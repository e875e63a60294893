"""Search spaces: the keys of a run's configuration that a sweep varies, and their possible values."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, model_validator

from restore_dit.config import RunConfig, Section
from restore_dit.config.loading import build
from restore_dit.config.settings import merge
from restore_dit.errors import UserError

Scalar = bool | int | float | str | None
Values = dict[str, Any]
"""Parameter → its value in a trial. Parameters that do not apply to the trial are absent."""

MAX_COMBINATIONS = 20_000
"""Up to this many combinations are all validated before a sweep starts; in larger spaces, every pair of parameters."""


class Chooser(Protocol):
    """What picks values, for example an Optuna trial."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of the choices."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number in [low, high]."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """An integer in [low, high]."""


class _Parameter(Section):
    when: dict[str, list[Scalar]] = Field(
        default_factory=dict,
        description="key → values: the parameter only applies if the configuration has one of them at each key",
    )


class Choice(_Parameter):
    """A key with a list of possible values."""

    values: tuple[Scalar | tuple[Scalar, ...], ...] = Field(min_length=1)

    def suggest(self, name: str, chooser: Chooser) -> Any:
        """A value for a new trial."""
        return self.values[chooser.suggest_categorical(name, range(len(self.values)))]

    def every(self) -> Iterator[Any]:
        """All possible values."""
        yield from self.values

    def near(self, value: Any, dice: random.Random) -> Any:
        """The neighbouring value in the list, before or after."""
        return _beside(self.values, value, dice)

    def changes(self, name: str, value: Any) -> Values:
        """The configuration keys that this value sets, with their values."""
        return {name: value}


class Bundle(_Parameter):
    """Named sets of keys and values that belong together, for example a noise schedule and a prediction."""

    bundles: dict[str, dict[str, Scalar]] = Field(min_length=1)

    def suggest(self, name: str, chooser: Chooser) -> Any:
        """The name of a set, for a new trial."""
        names = tuple(self.bundles)
        return names[chooser.suggest_categorical(name, range(len(names)))]

    def every(self) -> Iterator[Any]:
        """The names of all sets."""
        yield from self.bundles

    def near(self, value: Any, dice: random.Random) -> Any:
        """The neighbouring name, before or after."""
        return _beside(tuple(self.bundles), value, dice)

    def changes(self, name: str, value: Any) -> Values:
        """The configuration keys that this value sets, with their values."""
        return dict(self.bundles[value])


class Range(_Parameter):
    """A number between two limits, inclusive."""

    low: float
    high: float
    kind: Literal["float", "int"] = "float"
    step: float | None = Field(None, gt=0)
    log: bool = Field(False, description="sample on a logarithmic scale")

    @model_validator(mode="after")
    def _orderly(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.log and (self.low <= 0 or self.step):
            raise ValueError("log requires a low above 0 and no step")
        if self.kind == "int" and not all(v is None or float(v).is_integer() for v in (self.low, self.high, self.step)):
            raise ValueError("low, high and step must be integers if kind is int")
        return self

    def suggest(self, name: str, chooser: Chooser) -> Any:
        """A value for a new trial."""
        if self.kind == "int":
            return chooser.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return chooser.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    @property
    def is_discrete(self) -> bool:
        """Whether the range has a finite number of values, as a grid requires."""
        return self.kind == "int" or self.step is not None

    def every(self) -> Iterator[Any]:
        """Both limits. They suffice for validation: no rule refuses a value between two valid limits."""
        as_kind = int if self.kind == "int" else float
        yield from (as_kind(self.low), as_kind(self.high))

    def grid(self) -> Iterator[Any]:
        """All values in a grid."""
        step = self.step or 1
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        as_kind = int if self.kind == "int" else float
        yield from (as_kind(self.low + index * step) for index in range(count))

    def near(self, value: Any, dice: random.Random) -> Any:
        """A value a tenth of the range lower or higher (on a logarithmic scale if `log`), or one step if that is
        more."""
        way = dice.choice((-1, 1))
        if self.log:
            moved = value * (self.high / self.low) ** (way / 10)
        else:
            moved = value + way * max((self.high - self.low) / 10, self.step or 0)
        if self.kind == "int" and round(moved) == value:
            moved = value + way
        if self.is_discrete:
            step = self.step or 1
            moved = self.low + round((moved - self.low) / step) * step
            top = self.low + math.floor((self.high - self.low) / step + 1e-9) * step
        else:
            top = self.high
        moved = min(max(moved, self.low), top)
        return int(moved) if self.kind == "int" else float(moved)

    def changes(self, name: str, value: Any) -> Values:
        """The configuration keys that this value sets, with their values."""
        return {name: value}


Parameter = Annotated[Choice | Bundle | Range, Field(union_mode="smart")]
Space = dict[str, Parameter]
"""Parameters by configuration key (for example `diffusion.beta_end`); a bundle may have any name."""


CHANGEABLE = (
    "training.optimiser.",
    "data.gaps.",
    "data.flips",
    "data.date_shift",
    "diffusion.loss_over",
    "diffusion.loss_weighting",
    "diffusion.min_snr_gamma",
    "diffusion.timestep_sampling",
    "diffusion.logit_",
    "diffusion.sampled_share",
    "diffusion.sampler",
    "diffusion.sampling_steps",
)
"""Prefixes of the keys that may change during training, because the weights keep their meaning."""


def keys_of(name: str, parameter: Choice | Bundle | Range) -> set[str]:
    """The configuration keys that a parameter sets."""
    return {key for value in parameter.every() for key in parameter.changes(name, value)}


def may_change(name: str, parameter: Choice | Bundle | Range) -> bool:
    """Whether all keys that a parameter sets may change during training."""
    return all(key.startswith(CHANGEABLE) for key in keys_of(name, parameter))


def values_by(
    pick: Callable[[str, Choice | Bundle | Range], Any],
    space: Mapping[str, Choice | Bundle | Range],
    base: RunConfig,
) -> Values:
    """The values of a trial. `pick` is called for each parameter that applies, in the order of the space."""
    values: Values = {}
    tree = base.model_dump(mode="json")
    for name, parameter in space.items():
        if _holds(parameter.when, tree):
            values[name] = pick(name, parameter)
            tree = merge(tree, _nested(parameter.changes(name, values[name])))
    return values


def suggest(space: Mapping[str, Choice | Bundle | Range], base: RunConfig, chooser: Chooser) -> Values:
    """Values for a new trial, picked by `chooser`."""
    return values_by(lambda name, parameter: parameter.suggest(name, chooser), space, base)


def configuration(space: Mapping[str, Choice | Bundle | Range], base: RunConfig, values: Values) -> RunConfig:
    """The configuration of a trial's run.

    Raises:
        UserError: these values are not a valid configuration.
    """
    tree = base.model_dump(mode="json")
    for name, value in values.items():
        tree = merge(tree, _nested(space[name].changes(name, value)))
    shown = ", ".join(f"{name}={value}" for name, value in values.items())
    return build(RunConfig, tree, f"space: {shown or 'no parameter'}")


def require_valid(space: Mapping[str, Choice | Bundle | Range], base: RunConfig) -> int:
    """Validates the combinations of a space, and returns how many were validated.

    Raises:
        UserError: an invalid combination (the first one), a `when` with an unknown key, or an empty space.
    """
    if not space:
        raise UserError("space is empty: name at least one parameter", status=2)
    tree = base.model_dump(mode="json")
    for name, parameter in space.items():
        for key in parameter.when:
            if _at(tree, key) is _ABSENT:
                raise UserError(f"space.{name}.when: the configuration has no key '{key}'", status=2)
    options = {name: list(parameter.every()) for name, parameter in space.items()}
    count = 0
    if math.prod(map(len, options.values())) <= MAX_COMBINATIONS:
        varied = [options]
    else:
        pairs = itertools.combinations(options, 2)
        varied = [{name: all_ if name in pair else all_[:1] for name, all_ in options.items()} for pair in pairs]
    for part in varied:
        for values in _combinations(space, base, part):
            configuration(space, base, values)
            count += 1
    return count


def grid(space: Mapping[str, Choice | Bundle | Range], base: RunConfig) -> Iterator[Values]:
    """All combinations of a space of discrete parameters, each once."""
    options = {
        name: list(parameter.grid() if isinstance(parameter, Range) else parameter.every())
        for name, parameter in space.items()
    }
    yield from _combinations(space, base, options)


def _combinations(
    space: Mapping[str, Choice | Bundle | Range], base: RunConfig, options: Mapping[str, list[Any]]
) -> Iterator[Values]:
    """All distinct combinations of the options, without parameters that do not apply."""
    seen: set[tuple[tuple[str, Any], ...]] = set()
    for picked in itertools.product(*options.values()):
        chosen = dict(zip(options, picked, strict=True))
        values = values_by(lambda name, _, chosen=chosen: chosen[name], space, base)  # type: ignore[misc]
        combination = tuple(values.items())
        if combination not in seen:
            seen.add(combination)
            yield values


_ABSENT = object()


def _at(tree: Mapping[str, Any], key: str) -> Any:
    value: Any = tree
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _beside(values: Sequence[Any], value: Any, dice: random.Random) -> Any:
    """The value before or after this one, chosen at random. At either end, it may stay the same."""
    place = values.index(value) + dice.choice((-1, 1))
    return values[min(max(place, 0), len(values) - 1)]


def _holds(when: Mapping[str, list[Scalar]], tree: Mapping[str, Any]) -> bool:
    return all(_at(tree, key) in accepted for key, accepted in when.items())


def _nested(changes: Values) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in changes.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        tree = merge(tree, value)
    return tree
