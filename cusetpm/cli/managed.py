"""What the verbs of `cusetpm manager` have in common: the way to the manager, and how answers are shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cusetpm.cli.bar import bar
from cusetpm.cli.failure import Failure
from cusetpm.trouble import line
from hwtpm.errors import MissingPrimitive, ProtocolError, StateError

if TYPE_CHECKING:
    from cusetpm.administration import Administration
    from hwtpm.wire import Wire
    from manager.requests import Request

    R = TypeVar("R", bound=Wire)


@dataclass
class Choice:
    """What was said before the verb."""

    given: Path | None
    as_json: bool

    @property
    def state_dir(self) -> Path:
        """The state directory, which has to be given."""
        if self.given is None:
            raise click.UsageError("which state directory? cusetpm manager --state-dir DIR ...")
        return self.given

    @contextmanager
    def administration(self, **start: Any) -> Iterator[Administration]:
        """Give a way to the manager; what goes wrong is a Failure.

        *start* is how the directory is started if nobody uses it.
        """
        from cusetpm.administration import administer  # with the engines

        with failures():
            if not (self.state_dir / "format").exists():
                raise StateError(f"{self.state_dir}: not a state directory of cusetpm; cusetpm manager init "
                                 f"makes one")
            with administer(self.state_dir, **start) as administration:
                yield administration

    @contextmanager
    def patiently(self, doing: str) -> Iterator[Administration]:
        """Give a way to the manager for *doing* what may take long; who is at a terminal hears of it.

        Here that is a bar.  A process that uses the directory answers only when it is done.
        """
        with self.administration(progress=bar) as administration:
            if administration.elsewhere and sys.stderr.isatty():
                click.echo(f"{doing}, in the process that uses {self.state_dir} …", err=True)
            yield administration

    def table(self, rows: Sequence[dict[str, Any]], headers: dict[str, str], none: str) -> None:
        """Show *rows*: the columns of *headers* for people, everything for programs."""
        if self.as_json:
            click.echo(json.dumps(rows, indent=2))
        elif not rows:
            click.echo(none)
        else:
            from tabulate import tabulate

            cells = [[row[key] for key in headers] for row in rows]
            click.echo(tabulate(cells, list(headers.values()), tablefmt="plain", disable_numparse=True))

    def lines(self, found: Sequence[str]) -> None:
        """Show *found*, one a line."""
        click.echo(json.dumps(found, indent=2) if self.as_json else "\n".join(found))

    def facts(self, found: dict[str, Any], names: dict[str, str]) -> None:
        """Show *found*: what *names* has names for, one a line, for people; everything for programs."""
        if self.as_json:
            click.echo(json.dumps(found, indent=2))
            return
        width = max(map(len, names.values()))
        for key, name in names.items():
            for at, value in enumerate(found[key] if isinstance(found[key], list) else [found[key]]):
                shown = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
                click.echo(f"{'' if at else name:<{width}}  {shown}".rstrip())


def ask(administration: Administration, request: Request[R]) -> R:
    """Return the response to a request of Xen's protocol; Refusal, a ProtocolError, if there is none."""
    from manager.requests import pack_request, read_response

    return read_response(request, administration.execute(pack_request(request)))


@contextmanager
def failures() -> Iterator[None]:
    """What goes wrong inside is a Failure, one line."""
    try:
        yield
    except (StateError, ProtocolError, MissingPrimitive) as error:
        raise Failure(str(error)) from error
    except BrokenPipeError:
        raise  # Nobody reads what is printed any more.
    except OSError as error:
        raise Failure(line(error)) from error
