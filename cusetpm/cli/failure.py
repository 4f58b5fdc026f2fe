"""Failures that a user can do something about: one line, and a status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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


class Disagreement(click.ClickException):
    """What was to be verified does not verify; the message says why."""

    exit_code = 1


def os_error(error: OSError) -> str:
    """Return *error* in one line: the file, then what is wrong with it."""
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror or error}"


@contextmanager
def os_failures() -> Iterator[None]:
    """An OSError from inside is a Failure."""
    try:
        yield
    except OSError as error:
        raise Failure(os_error(error)) from error
