"""The commands in the README and the guides are commands of this version, with options and keys that exist."""

import re
import shlex
from pathlib import Path

import click
import pytest

from restore_dit.cli import program
from restore_dit.command_line import SettingsCommand
from restore_dit.config.settings import keys_matching

ROOT = Path(__file__).resolve().parent.parent
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^(?: {4}|\t.*/)restore-dit ((?:[^\n\\]|\\\n)+)", re.MULTILINE)
ABBREVIATED = re.compile(r"…|--help|\[--|[A-Z]{3,}(?= |$)|\$\(ARGS\)")
"""Marks of a command that is not given in full."""


def commands(guide: Path) -> list[list[str]]:
    """The words of each complete command after `restore-dit`."""
    found = (match.replace("\\\n", " ").partition(" #")[0] for match in COMMAND.findall(guide.read_text("utf-8")))
    return [shlex.split(text.replace("$", "")) for text in found if not ABBREVIATED.search(text)]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_the_commands_of_a_guide_parse(guide):
    for words in commands(guide):
        context = program.make_context("restore-dit", list(words))
        command: click.Command | None = program
        while isinstance(command, click.Group):
            name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            assert command is not None, words
            context = command.make_context(name, rest, parent=context)
        if isinstance(command, SettingsCommand):
            for override in context.params["overrides"]:
                assert len(keys_matching(command.model, override.partition("=")[0])) == 1, (words, override)


def test_the_guides_show_commands():
    assert sum(len(commands(guide)) for guide in GUIDES) > 50
