"""Failures that a user can do something about: one line, and a status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from cusetpm.cli import FAILURE, NOT_EXECUTABLE, NOT_FOUND
from cusetpm.trouble import line


class Failure(click.ClickException):
    """cusetpm itself failed; the message is one line on standard error."""

    exit_code = FAILURE


class NotFound(Failure):
    """There is no such COMMAND."""

    exit_code = NOT_FOUND


class NotExecutable(Failure):
    """COMMAND is there and cannot be executed."""

    exit_code = NOT_EXECUTABLE


class Disagreement(click.ClickException):
    """What was to be verified does not verify; the message says why."""

    exit_code = 1


@contextmanager
def os_failures() -> Iterator[None]:
    """An OSError from inside is a Failure."""
    try:
        yield
    except OSError as error:
        raise Failure(line(error)) from error
