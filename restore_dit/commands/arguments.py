"""Building blocks with which a module declares its commands: `command`, `group` and `overrides`.

Commands that do work accept `key=value` anywhere among their arguments; `settle` assigns those that argparse leaves.
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
"""Start of an override where a store is possible too; `s3://bucket/year=2019/site` is not an override."""


def command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], description: str, example: str
) -> argparse.ArgumentParser:
    """Adds a command and returns its parser. `name` includes the name of its group, for example `ingest cube`."""
    parser = commands.add_parser(
        name.rpartition(" ")[2],
        help=description,
        description=description,
        epilog=f"example: restore-dit {example}",
    )
    parser.set_defaults(command=run, name=name)
    return parser


def group(commands: Commands, name: str, description: str, *, of: str = "command") -> Commands:
    """Adds a command that only has subcommands, for example `ingest`; `of` is what `--help` calls one of them."""
    return commands.add_parser(name, help=description).add_subparsers(title=f"{of}s", metavar=of.upper(), required=True)


def overrides(parser: argparse.ArgumentParser) -> None:
    """Adds `key=value` overrides of the configuration, and `--dry-run`."""
    parser.add_argument("overrides", nargs="*", metavar=OVERRIDES, help="configuration settings to override")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved configuration and exit")


def settle(parser: argparse.ArgumentParser, given: argparse.Namespace, rest: list[str]) -> None:
    """Collects overrides among the words that argparse did not assign. Any other such word ends the program."""
    # argparse accepts positional arguments only in one uninterrupted run, but key=value may stand between options.
    given.overrides = [*getattr(given, "overrides", ()), *(word for word in rest if _is_override(word))]
    _move_up(given)
    unknown = [word for word in rest if not _is_override(word) or "dry_run" not in given]
    if unknown:
        parser.error(f"unrecognised arguments: {' '.join(unknown)}; see restore-dit {given.name} --help")
    if isinstance(getattr(given, "stores", None), list):  # a list of stores also swallows the overrides after it
        taken = [word for word in given.stores if _OVERRIDE.match(word) and not Path(word).is_dir()]
        given.overrides += taken
        given.stores = [word for word in given.stores if word not in taken]


def _move_up(given: argparse.Namespace) -> None:
    """Shifts the positional arguments if the optional first one was omitted and an override took the last place."""
    names = getattr(given, "optional_first", ())
    if names and _OVERRIDE.match(getattr(given, names[-1])):
        first, *others = names
        given.overrides = [getattr(given, names[-1]), *given.overrides]
        for name, before in reversed(list(zip(others, names, strict=False))):
            setattr(given, name, getattr(given, before))
        setattr(given, first, given.default_first)


def _is_override(word: str) -> bool:
    return "=" in word and not word.startswith("-")
