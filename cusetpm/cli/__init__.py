"""The command line: one module per verb, imported only when the verb is used."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pathlib import Path

_VERBS = ("run", "manager", "saa", "deepquote", "swtpm", "ima", "eventlog", "doctor")

FAILURE = 125  # cusetpm itself failed, as with env(1) and timeout(1); COMMAND's own statuses are below
NOT_EXECUTABLE = 126
NOT_FOUND = 127


class _Verbs(click.Group):
    """Finds a verb in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        command: Any = import_module(f"cusetpm.cli.{cmd_name}").command
        return command  # type: ignore[no-any-return]


def _defaults(verb: click.Command) -> dict[str, Any]:
    """Return the defaults of the options of *verb* from the user's configuration file; {} without one.

    The file is TOML: a table for each verb, its keys the long options without their dashes in front.  A verb
    with verbs of its own has a table for each of them, as [ima.verify].  Raises a Failure that names the file
    and what is wrong with it.
    """
    import tomllib

    from platformdirs import user_config_path

    from cusetpm.cli.failure import Failure

    path = user_config_path("cusetpm") / "config.toml"
    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise Failure(f"{path}: {error}") from None
    if strange := sorted(tables.keys() - set(_VERBS)):
        raise Failure(f"{path}: {strange[0]!r} is not a verb; it may have tables for {', '.join(_VERBS)}")
    return _checked(path, verb, tables.get(str(verb.name), {}))


def _checked(path: Path, verb: click.Command, table: object) -> dict[str, Any]:
    """Return *table* as the defaults of *verb*; those of a group are tables for its verbs."""
    from cusetpm.cli.failure import Failure

    if not isinstance(table, dict):
        raise Failure(f"{path}: {verb.name!r} is not a table")
    if isinstance(verb, click.Group):
        if strange := sorted(table.keys() - verb.commands.keys()):
            raise Failure(f"{path}: {strange[0]!r} is not a verb of {verb.name!r}")
        return {name: _checked(path, verb.commands[name], found) for name, found in table.items()}
    found = {key.replace("-", "_"): value for key, value in table.items()}
    if strange := sorted(found.keys() - {p.name for p in verb.params if isinstance(p, click.Option)}):
        raise Failure(f"{path}: {strange[0]!r} is not an option of {verb.name!r}")
    return found


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"],
                                           "auto_envvar_prefix": "CUSETPM"})
@click.version_option(package_name="cusetpm")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """A software TPM for every simulated guest."""
    verb = cli.get_command(ctx, str(ctx.invoked_subcommand))
    if verb is not None:
        ctx.default_map = {str(ctx.invoked_subcommand): _defaults(verb)}


def main() -> None:
    """Run the command line, and exit with its status."""
    try:
        sys.exit(cli.main(prog_name="cusetpm", standalone_mode=False) or 0)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            error.show()
        else:
            click.echo(f"cusetpm: {_line(error)}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        # Verbs turn what their work meets into a Failure; what is left is standard output.
        # Who reads no further, as head(1), wants to hear no more.
        if not isinstance(error, BrokenPipeError):
            click.echo(f"cusetpm: standard output: {error.strerror or error}", err=True)
        # Python would try to write the rest once more, and complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(FAILURE)


def _line(error: click.ClickException) -> str:
    """Return *error* in one line, whatever names it quotes."""
    line = " ".join(error.format_message().split())
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{line.removesuffix('.')}; see {error.ctx.command_path} --help"
    return line
