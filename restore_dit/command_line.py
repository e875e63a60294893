"""The grammar of all commands: arguments, `key=value`, `--key value`, help, and errors of one line.

Click parses a command's own options, groups commands, prints help and completes words in shells. Settings are read
here: parsers that build options from pydantic models know neither `key=value`, nor keys without their section, nor the
order of presets, files and overrides.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import click
import yaml
from pydantic import BaseModel

from restore_dit.config.settings import Setting, argument_names, find_setting, keys_matching, settings_of
from restore_dit.program import exit_status

_OVERRIDE = re.compile(r"[\w.-]+=")
"""Start of an override where an argument is possible too; `s3://bucket/year=2019/site` is not an override."""

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


class Command(click.Command):
    """A command whose callback returns its exit status. `example` holds the words of an example after its name."""

    def __init__(self, *args: Any, example: str = "", **options: Any) -> None:
        super().__init__(*args, **{"context_settings": _CONTEXT, **options})
        self.example = example

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command and returns its exit status."""
        return exit_status(partial(super().invoke, ctx), ctx.command_path)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the example on one line, so that it can be copied."""
        formatter.write(f"\nExample: {ctx.command_path} {self.example}".rstrip() + "\n")


class Commands(click.Group):
    """Commands in the order in which they were added. Hyphens and underscores in their names are alike.

    Args:
        former: former name of a command, one or two words → the words that replace it, for the error message.
    """

    def __init__(self, *args: Any, former: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(*args, **{"no_args_is_help": False, "context_settings": _CONTEXT, **options})
        self.former = former or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which the commands were added."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands with their whole first sentences, which click would cut off after some words."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(limit=200)) for name, one in self.commands.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names, and the other words."""
        for old in (" ".join(args[:2]), args[0]):
            if old in self.former and not ctx.resilient_parsing:
                raise click.UsageError(f"'{old}' is now '{self.former[old]}'", ctx)
        return super().resolve_command(ctx, [args[0].replace("_", "-"), *args[1:]])


command = partial(click.command, cls=Command)
"""Decorator that turns a function into a `Command`: `@command("name", example="…")`."""


class SettingsCommand(Command):
    """A command that takes the settings of a configuration, in any form and order, besides its own options.

    Its callback gets `overrides`, the settings as a list of `key=value`. A word that is neither a setting nor an option
    is the value of the next of `arguments` that has none; if there are too few words, the first is left out if it has
    a default.

    Args:
        name: its name.
        model: type of the configuration.
        arguments: keys whose values may be given by position. A list takes all words.
        defaults: returns the configuration without any override, for `--help`.
        section: if given, only settings of this section are shown by `--help` and completed.
    """

    def __init__(
        self,
        name: str,
        model: type[BaseModel],
        arguments: Sequence[str] = (),
        *,
        defaults: Callable[[], BaseModel],
        section: str = "",
        **options: Any,
    ) -> None:
        super().__init__(name, **options)
        self.model, self.arguments, self.defaults = model, tuple(arguments), defaults
        self.shown = [setting for key, setting in settings_of(model).items() if key.startswith(section)]
        self.params.append(click.Argument(["words"], nargs=-1, type=click.Path()))

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own parameters, and an option for each setting, which shells complete, also without its sections."""
        own = super().get_params(ctx)
        taken = {name for param in own for name in param.opts}
        options = []
        for setting in self.shown:
            is_unique = setting.short not in taken and find_setting(self.model, setting.short[2:]) is setting
            options.append(_option_of(setting, setting.short if is_unique else setting.option))
        return [*own, *options]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Separates the settings from the words that click parses."""
        overrides, others = self._separate(ctx, args)
        rest = super().parse_args(ctx, others)
        words = ctx.params.pop("words") or ()
        if not ctx.resilient_parsing:
            ctx.params["overrides"] = [*self._by_position(ctx, words, overrides), *overrides]
        return rest

    def _separate(self, ctx: click.Context, args: list[str]) -> tuple[list[str], list[str]]:
        """The overrides among the words, and the others."""
        own = {name: param for param in super().get_params(ctx) for name in param.opts}
        overrides: list[str] = []
        others: list[str] = []
        words = deque(args)
        while words:
            word = words.popleft()
            name, equals, text = word.partition("=")
            option = own.get(name.replace("_", "-")) if name.startswith("-") else None
            if word == "--":
                others += [word, *words]
                break
            if isinstance(option, click.Option):
                others.append(name.replace("_", "-") + equals + text)
                if not (equals or option.is_flag) and words:
                    others.append(words.popleft())
            elif name.startswith("--"):
                overrides += self._override(ctx, name[2:], text if equals else None, words)
            elif _OVERRIDE.match(word) and (keys_matching(self.model, name) or not os.path.exists(word)):
                overrides.append(word)
            else:
                others.append(word)
        return overrides, others

    def _override(self, ctx: click.Context, name: str, text: str | None, words: deque[str]) -> list[str]:
        """The override that the option `--name` stands for, whose value may be the first of the `words` after it."""
        setting = find_setting(self.model, name)
        keys = keys_matching(self.model, name)
        negated = find_setting(self.model, name[3:]) if name.startswith(("no-", "no_")) and not keys else None
        if negated is not None and negated.is_flag and text is None:
            return [f"{negated.key}=false"]
        if len(keys) != 1 and not ctx.resilient_parsing:
            known = [option for param in self.get_params(ctx) for option in param.opts]
            near = difflib.get_close_matches(f"--{name}", known, n=1)
            hint = f": did you mean '{near[0]}'?" if near else ""
            problem = f"'--{name}' is ambiguous: {', '.join(keys)}" if keys else f"unknown option '--{name}'{hint}"
            raise click.UsageError(problem, ctx)
        if text is None and setting is not None and setting.is_flag and (not words or words[0].lower() not in _TRUTH):
            text = "true"
        if text is None and words and not words[0].startswith("--"):
            text = words.popleft()
        if text is None and not ctx.resilient_parsing:
            raise click.UsageError(f"--{name} requires a value", ctx)
        return [f"{name}={text}"]

    def _by_position(self, ctx: click.Context, words: Sequence[str], overrides: Sequence[str]) -> list[str]:
        """The overrides that the words given by position stand for."""
        given = {key for override in overrides for key in keys_matching(self.model, override.partition("=")[0])}
        free = [key for key in self.arguments if key not in given]
        settings = settings_of(self.model)
        if free and words and settings[free[0]].is_list:
            return [f"{free[0]}={json.dumps(words, ensure_ascii=False)}"]
        if len(words) < len(free) and settings[free[0]].default:
            free = free[1:]
        if len(words) > len(free):
            raise click.UsageError(f"unexpected argument: {words[len(free)]}", ctx)
        return [f"{key}={_literal(word)}" for key, word in zip(free, words, strict=False)]

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The usage line: arguments, then settings and options."""
        return [*(name for name, _ in self._argument_rows(ctx)), "[key=value | --key value]…", "[options]"]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the arguments, the options, and all settings by section, with type, description and default."""
        own = [param.get_help_record(ctx) for param in super().get_params(ctx) if isinstance(param, click.Option)]
        tables = {"Arguments": self._argument_rows(ctx), "Options": [record for record in own if record]}
        for title, rows in tables.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
        with formatter.section("Settings"):
            formatter.write_text(
                "Give them as key=value, --key value or --key=value; true or false also as --key or --no-key; a list "
                "as a,b. Hyphens and underscores are alike. A key may lack its sections if only one key ends in it."
            )
        defaults = self.defaults()
        sections: dict[str, list[tuple[str, str]]] = {}
        for setting in self.shown:
            names, description = _option_of(setting).get_help_record(ctx) or ("", "")
            row = (names, f"{description} {_default_text(setting, defaults)}".strip())
            sections.setdefault(setting.key.rpartition(".")[0], []).append(row)
        for section, rows in sections.items():
            with formatter.section(section or "general"):
                formatter.write_dl(rows, col_max=40)

    def _argument_rows(self, ctx: click.Context) -> list[tuple[str, str]]:
        """Name and description of each argument; one that may be left out is in brackets."""
        own = (
            param for param in super().get_params(ctx) if isinstance(param, click.Argument) and param.name != "words"
        )
        rows = [(param.make_metavar(ctx), param.help or "") for param in own]
        descriptions = [settings_of(self.model)[key].description for key in self.arguments]
        return [*rows, *zip(argument_names(self.model, self.arguments), descriptions, strict=True)]


_TRUTH = ("true", "false")


def _option_of(setting: Setting, *names: str) -> click.Option:
    """A setting as an option, with further names, that click shows and completes but never parses."""
    return click.Option(
        [setting.key.replace(".", "__"), *dict.fromkeys((setting.option, *names))],
        type=click.Choice(setting.choices) if setting.choices else setting.number,
        metavar="A,B" if setting.is_list and not setting.choices else None,
        is_flag=setting.is_flag,
        help=setting.description,
        expose_value=False,
    )


def run_program(program: click.Command, words: Sequence[str] | None, name: str) -> int:
    """Runs a command with these words, by default those of the process, and returns its exit status: 0, 1 (failed), 2
    (wrong usage) or 130 (interrupted)."""
    try:
        return program.main(words, name, standalone_mode=False) or 0
    except click.ClickException as error:
        path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else name
        print(f"{path}: error: {error.format_message().rstrip('.')}; see {path} --help", file=sys.stderr)
        return error.exit_code


def show(config: BaseModel) -> int:
    """Prints a resolved configuration, without credentials and signatures in addresses, and returns exit status 0."""
    print(yaml.safe_dump(_without_secrets(config.model_dump(mode="json")), sort_keys=False), end="")
    return 0


def _without_secrets(tree: Any) -> Any:
    from restore_dit.data.storage.addresses import scheme_of, without_secrets

    if isinstance(tree, dict):
        return {key: _without_secrets(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_without_secrets(value) for value in tree]
    return without_secrets(tree) if isinstance(tree, str) and scheme_of(tree) else tree


def _literal(text: str) -> str:
    """A word as a value that is taken as it is."""
    return json.dumps(text, ensure_ascii=False) if text.strip() != text or text[:1] in ("'", '"') else text


def _default_text(setting: Setting, defaults: BaseModel) -> str:
    """The value of a setting by default, in brackets; empty if it is unset."""
    value: Any = defaults
    for part in setting.key.split("."):
        value = getattr(value, part, setting.default)  # the default of its own section, if that is unset
    if value is None or value in ("", (), {}):
        return ""
    if isinstance(value, dict):
        return "[default: see --dry-run]"
    is_plain = setting.is_list and not any(isinstance(item, tuple | BaseModel) for item in value)
    text = ",".join(map(str, value)) if is_plain else str(value)
    return f"[default: {text.lower() if isinstance(value, bool) else text}]"
