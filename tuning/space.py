"""Search spaces: which keys of a run's configuration a sweep changes, and what each may be."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, model_validator

from restore_dit.config import RunConfig, Section
from restore_dit.config.loading import build, merge
from restore_dit.errors import UserError

Scalar = bool | int | float | str | None
Values = dict[str, Any]
"""Parameter → its value in a trial; parameters that a trial does not have are absent."""

MOST_COMBINATIONS = 20_000
"""So many are all tried on the configuration before a sweep begins; of larger spaces every pair of parameters."""


class Chooser(Protocol):
    """Whoever picks values: Optuna's trial."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of the choices."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number."""


class _Parameter(Section):
    when: dict[str, list[Scalar]] = Field(
        default_factory=dict,
        description="only in trials whose configuration has one of these values at each of these keys",
    )


class Choice(_Parameter):
    """One of several values of a key."""

    values: tuple[Scalar | tuple[Scalar, ...], ...] = Field(min_length=1)

    def suggest(self, name: str, chooser: Chooser) -> Any:
        """A trial's value."""
        return self.values[chooser.suggest_categorical(name, range(len(self.values)))]

    def every(self) -> Iterator[Any]:
        """All values."""
        yield from self.values

    def near(self, value: Any, dice: random.Random) -> Any:
        """The value before or after it."""
        return _beside(self.values, value, dice)

    def changes(self, name: str, value: Any) -> Values:
        """The keys of the configuration that a value sets."""
        return {name: value}


class Bundle(_Parameter):
    """One of several named sets of values that go together, such as a schedule with what it may predict."""

    bundles: dict[str, dict[str, Scalar]] = Field(min_length=1)

    def suggest(self, name: str, chooser: Chooser) -> Any:
        """A trial's value: the name of a set."""
        names = tuple(self.bundles)
        return names[chooser.suggest_categorical(name, range(len(names)))]

    def every(self) -> Iterator[Any]:
        """All names."""
        yield from self.bundles

    def near(self, value: Any, dice: random.Random) -> Any:
        """The name before or after it."""
        return _beside(tuple(self.bundles), value, dice)

    def changes(self, name: str, value: Any) -> Values:
        """The keys of the configuration that a value sets."""
        return dict(self.bundles[value])


class Range(_Parameter):
    """A number between two others, both included."""

    low: float
    high: float
    kind: Literal["float", "int"] = "float"
    step: float | None = Field(None, gt=0)
    log: bool = Field(False, description="every factor is as likely as any other")

    @model_validator(mode="after")
    def _orderly(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.log and (self.low <= 0 or self.step):
            raise ValueError("log goes with a low above 0 and without step")
        if self.kind == "int" and not all(v is None or float(v).is_integer() for v in (self.low, self.high, self.step)):
            raise ValueError("low, high and step of an int are whole numbers")
        return self

    def suggest(self, name: str, chooser: Chooser) -> Any:
        """A trial's value."""
        if self.kind == "int":
            return chooser.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return chooser.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    @property
    def is_discrete(self) -> bool:
        """Whether a grid can have it."""
        return self.kind == "int" or self.step is not None

    def every(self) -> Iterator[Any]:
        """Its ends: what lies between is refused by no rule that lets both pass."""
        as_kind = int if self.kind == "int" else float
        yield from (as_kind(self.low), as_kind(self.high))

    def grid(self) -> Iterator[Any]:
        """Every value that a grid has of it."""
        step = self.step or 1
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        as_kind = int if self.kind == "int" else float
        yield from (as_kind(self.low + index * step) for index in range(count))

    def near(self, value: Any, dice: random.Random) -> Any:
        """A number a tenth of the range lower or higher, on a logarithmic scale where it is one; a step of it, at
        least."""
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
        """The keys of the configuration that a value sets."""
        return {name: value}


Parameter = Annotated[Choice | Bundle | Range, Field(union_mode="smart")]
Space = dict[str, Parameter]
"""By key of the configuration (`diffusion.beta_end`); a bundle by any name."""


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
"""How the keys begin that may change while a network trains: its weights mean the same before and after."""


def keys_of(name: str, parameter: Choice | Bundle | Range) -> set[str]:
    """The keys of the configuration that a parameter sets."""
    return {key for value in parameter.every() for key in parameter.changes(name, value)}


def may_change(name: str, parameter: Choice | Bundle | Range) -> bool:
    """Whether all that a parameter sets may change while a trial trains."""
    return all(key.startswith(CHANGEABLE) for key in keys_of(name, parameter))


def values_by(
    pick: Callable[[str, Choice | Bundle | Range], Any],
    space: Mapping[str, Choice | Bundle | Range],
    base: RunConfig,
) -> Values:
    """The values of a trial, one parameter after the other in the space's order; `pick` has one for each parameter
    that the trial has."""
    values: Values = {}
    tree = base.model_dump(mode="json")
    for name, parameter in space.items():
        if _holds(parameter.when, tree):
            values[name] = pick(name, parameter)
            tree = merge(tree, _nested(parameter.changes(name, values[name])))
    return values


def suggest(space: Mapping[str, Choice | Bundle | Range], base: RunConfig, chooser: Chooser) -> Values:
    """The values of a new trial."""
    return values_by(lambda name, parameter: parameter.suggest(name, chooser), space, base)


def configuration(space: Mapping[str, Choice | Bundle | Range], base: RunConfig, values: Values) -> RunConfig:
    """The run of a trial.

    Raises:
        UserError: the configuration refuses these values.
    """
    tree = base.model_dump(mode="json")
    for name, value in values.items():
        tree = merge(tree, _nested(space[name].changes(name, value)))
    shown = ", ".join(f"{name}={value}" for name, value in values.items())
    return build(RunConfig, tree, f"space: {shown or 'no parameter'}")


def require_valid(space: Mapping[str, Choice | Bundle | Range], base: RunConfig) -> int:
    """Tries what the space can give on the configuration; how many combinations it tried.

    Raises:
        UserError: the first that the configuration would refuse, a `when` that names no key, an empty space.
    """
    if not space:
        raise UserError("space is empty: name at least one parameter", status=2)
    tree = base.model_dump(mode="json")
    for name, parameter in space.items():
        for key in parameter.when:
            if _at(tree, key) is _NOTHING:
                raise UserError(f"space.{name}.when: no key '{key}' in the configuration", status=2)
    options = {name: list(parameter.every()) for name, parameter in space.items()}
    count = 0
    if math.prod(map(len, options.values())) <= MOST_COMBINATIONS:
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
    """Every combination of a space of discrete parameters, once."""
    options = {
        name: list(parameter.grid() if isinstance(parameter, Range) else parameter.every())
        for name, parameter in space.items()
    }
    yield from _combinations(space, base, options)


def _combinations(
    space: Mapping[str, Choice | Bundle | Range], base: RunConfig, options: Mapping[str, list[Any]]
) -> Iterator[Values]:
    """Trials' values from all combinations of options, each once; without what a trial does not have."""
    seen: set[tuple[tuple[str, Any], ...]] = set()
    for picked in itertools.product(*options.values()):
        chosen = dict(zip(options, picked, strict=True))
        values = values_by(lambda name, _, chosen=chosen: chosen[name], space, base)  # type: ignore[misc]
        combination = tuple(values.items())
        if combination not in seen:
            seen.add(combination)
            yield values


_NOTHING = object()


def _at(tree: Mapping[str, Any], key: str) -> Any:
    value: Any = tree
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _NOTHING
        value = value[part]
    return value


def _beside(values: Sequence[Any], value: Any, dice: random.Random) -> Any:
    """The one before or after it; at either end it may stay as it is."""
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
