"""The command line: one module per verb, imported only when the verb is used."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

_VERBS = ("run", "doctor")

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


def _defaults() -> dict[str, Any]:
    """Return the defaults of options, by verb, from the user's configuration file; {} without one.

    The file is TOML: a table for each verb, its keys the long options with underscores.
    """
    import tomllib

    from platformdirs import user_config_path

    path = user_config_path("cusetpm") / "config.toml"
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise click.ClickException(f"{path}: {error}") from None


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"],
                                           "auto_envvar_prefix": "CUSETPM"})
@click.version_option(package_name="cusetpm")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """A software TPM for every simulated guest."""
    ctx.default_map = _defaults()


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
