"""Failures that a user can do something about: one line, and a status."""

from __future__ import annotations

import click

from cusetpm.cli import FAILURE, NOT_EXECUTABLE, NOT_FOUND


class Failure(click.ClickException):
    """cusetpm itself failed; the message is one line on standard error."""

    exit_code = FAILURE


class NotFound(Failure):
    """There is no such COMMAND."""

    exit_code = NOT_FOUND


class NotExecutable(Failure):
    """COMMAND is there and cannot be executed."""

    exit_code = NOT_EXECUTABLE
