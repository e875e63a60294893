"""The program `restore-dit`. Each module of `restore_dit.commands` declares its commands in `add_to`."""

from __future__ import annotations

import argparse
import sys

from restore_dit import __version__
from restore_dit.commands import clouds, cluster, data, inspect, models, quickstart, serve, submit, tune
from restore_dit.commands.arguments import settle

MODULES = (data, inspect, clouds, models, tune, serve, cluster, submit, quickstart)
"""Modules with commands, in the order in which `--help` lists them."""


def main(argv: list[str] | None = None) -> int:
    """Entry point. Returns the exit status: 0, 1 (failed), 2 (wrong usage) or 130 (interrupted)."""
    from restore_dit.program import exit_status

    top = parser()
    given, rest = top.parse_known_args(argv)
    settle(top, given, rest)
    return exit_status(lambda: given.command(given), f"restore-dit {given.name}")


def parser() -> argparse.ArgumentParser:
    """The argument parser with all commands."""
    top = argparse.ArgumentParser(
        prog="restore-dit",
        description="Fill the gaps of Sentinel-2 time series from clear observations, Sentinel-1 radar and dates.",
        epilog="Run restore-dit COMMAND --help for the arguments of a command and an example.",
    )
    top.add_argument("--version", action="version", version=f"restore-dit {__version__}")
    top.set_defaults(main=main)  # quickstart runs other commands
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in MODULES:
        module.add_to(commands)
    return top


if __name__ == "__main__":
    sys.exit(main())
