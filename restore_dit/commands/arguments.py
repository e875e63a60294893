"""How a module of commands declares itself: `add_to(commands)` with `command`, `group` and `overrides`.

A command that does work takes `key=value` anywhere among its arguments: `settle` sorts out what argparse leaves.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

OVERRIDES = "key=value"
_OVERRIDE = re.compile(r"[\w.]+=")
"""How an override begins where a store might stand, too: `s3://bucket/year=2019/site` is none."""


def command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], description: str, example: str
) -> argparse.ArgumentParser:
    """A command's parser; `name` has its group's before it, as messages call it: `ingest cube`."""
    parser = commands.add_parser(
        name.rpartition(" ")[2],
        help=description,
        description=description,
        epilog=f"example: restore-dit {example}",
    )
    parser.set_defaults(command=run, name=name)
    return parser


def group(commands: Commands, name: str, description: str, *, of: str = "command") -> Commands:
    """A command that only holds others, such as `ingest`, whose commands are called sources."""
    return commands.add_parser(name, help=description).add_subparsers(title=f"{of}s", metavar=of.upper(), required=True)


def overrides(parser: argparse.ArgumentParser) -> None:
    """The changes to the configuration of a command that does work, and `--dry-run`."""
    parser.add_argument("overrides", nargs="*", metavar=OVERRIDES, help="changes to the configuration")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved configuration and stop")


def settle(parser: argparse.ArgumentParser, given: argparse.Namespace, rest: list[str]) -> None:
    """Takes the overrides among the words that argparse did not place, and ends the program on any other word."""
    # argparse takes positional arguments in one run only; key=value may stand between options too.
    given.overrides = [*getattr(given, "overrides", ()), *(word for word in rest if _is_override(word))]
    _move_up(given)
    unknown = [word for word in rest if not _is_override(word) or "dry_run" not in given]
    if unknown:
        parser.error(f"unrecognised: {' '.join(unknown)}; see restore-dit {given.name} --help")
    if isinstance(getattr(given, "stores", None), list):  # several stores take the words that follow them, too
        taken = [word for word in given.stores if _OVERRIDE.match(word) and not Path(word).is_dir()]
        given.overrides += taken
        given.stores = [word for word in given.stores if word not in taken]


def _move_up(given: argparse.Namespace) -> None:
    """Puts words to their places where the first was left out and argparse took an override for the last of them."""
    names = getattr(given, "optional_first", ())
    if names and _OVERRIDE.match(getattr(given, names[-1])):
        first, *others = names
        given.overrides = [getattr(given, names[-1]), *given.overrides]
        for name, before in reversed(list(zip(others, names, strict=False))):
            setattr(given, name, getattr(given, before))
        setattr(given, first, given.default_first)


def _is_override(word: str) -> bool:
    return "=" in word and not word.startswith("-")
