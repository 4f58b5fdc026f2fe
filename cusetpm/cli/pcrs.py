"""The options that say which PCRs a list is compared with; shared by `ima` and `eventlog`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from cusetpm.cli.failure import Disagreement, Failure, os_failures
from cusetpm.cli.hexadecimal import Hex

if TYPE_CHECKING:
    from cusetpm.measure.pcr import Pcr, Target
    from cusetpm.measure.tpm import Tpm

F = TypeVar("F", bound=Callable[..., object])


class _PcrValue(click.ParamType[tuple["Pcr", bytes]]):
    name = "pcr"

    def convert(self, value: str | tuple[Pcr, bytes], param: click.Parameter | None,
                ctx: click.Context | None) -> tuple[Pcr, bytes]:
        if isinstance(value, tuple):
            return value
        from cusetpm.measure.pcr import parse_value

        try:
            return parse_value(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Source(NamedTuple):
    """What the options of `tpm_options` and `source_options` said."""

    device: str | None
    socket: str | None
    pcr: tuple[tuple[Pcr, bytes], ...] = ()
    pcrs: Path | None = None
    quote: Path | None = None
    signature: Path | None = None
    key: Path | None = None
    nonce: bytes | None = None


_FILE = click.Path(dir_okay=False, path_type=Path)


def tpm_options(function: F) -> F:
    """The verb takes a TPM."""
    device = click.option("--device", envvar="CUSETPM_DEVICE", metavar="FILE",
                          help="The TPM's device file; in COMMAND of cusetpm run it is known.")
    socket = click.option("--socket", envvar="CUSETPM_SOCKET", metavar="FILE",
                          help="A unix socket that takes raw commands, instead.")
    return device(socket(function))


def source_options(function: F) -> F:
    """The verb takes PCRs from a TPM, by value, or from a quote."""
    for option in reversed((
        click.option("--pcr", type=_PcrValue(), multiple=True, metavar="BANK:N=HEX",
                     help="A PCR by value, as sha256:10=1f3d...; instead of a TPM's.  Can be repeated."),
        click.option("--quote", type=_FILE, metavar="FILE",
                     help="The message of a quote (tpm2_quote --message), instead of a TPM."),
        click.option("--signature", type=_FILE, metavar="FILE", help="The quote's signature."),
        click.option("--key", type=_FILE, metavar="FILE",
                     help="The public key of the quote: TPM2B_PUBLIC, PEM or DER."),
        click.option("--nonce", type=Hex(), metavar="HEX",
                     help="What the quote has to qualify (tpm2_quote --qualification)."),
        click.option("--pcrs", type=_FILE, metavar="FILE",
                     help="The values that were quoted (tpm2_quote --pcr), for a quote that is over more "
                          "than what is verified."),
    )):
        function = option(function)
    return tpm_options(function)


@contextmanager
def failures(subject: str) -> Iterator[None]:
    """What goes wrong inside is one line about the file *subject*, with the right status."""
    from cusetpm.measure import BadLog, DoesNotFit

    try:
        with os_failures():
            yield
    except BadLog as error:
        raise Failure(f"{subject}: {error}") from error
    except DoesNotFit as error:
        raise Disagreement(f"{subject}: {error}") from error


@contextmanager
def raw(source: Source) -> Iterator[tuple[Callable[[bytes], bytes], str]]:
    """Give what executes commands of the TPM that the options or the environment name, and its family."""
    from os import urandom

    from cusetpm.measure.tpm import Tpm12, connect
    from cusetpm.tpmfile import TpmFile
    from hwtpm.errors import ProtocolError, TpmError
    from hwtpm.family import family

    path, kind = _tpm(source), "2.0"
    try:
        with os_failures(), TpmFile(path) as file:
            kind = "1.2" if isinstance(connect(file.execute, urandom), Tpm12) else "2.0"
            yield file.execute, kind
    except TpmError as error:
        raise Failure(f"{path}: the TPM answers {family(kind).rc_name(error.rc)}") from error
    except ProtocolError as error:
        raise Failure(f"{path}: {error}") from error


@contextmanager
def connected(source: Source) -> Iterator[Tpm]:
    """Give the TPM that the options or the environment name."""
    from os import urandom

    from cusetpm.measure.tpm import Tpm12, connect
    from cusetpm.tpmfile import TpmFile
    from hwtpm.errors import ProtocolError, TpmError
    from hwtpm.tpm2.types.constants import rc_name

    path = _tpm(source)
    tpm: Tpm | None = None
    try:
        with os_failures(), TpmFile(path) as file:
            tpm = connect(file.execute, urandom)
            yield tpm
    except TpmError as error:
        name = f"code {error.rc}" if isinstance(tpm, Tpm12) else rc_name(error.rc)
        raise Failure(f"{path}: the TPM answers {name}") from error
    except ProtocolError as error:
        raise Failure(f"{path}: {error}") from error


def _tpm(source: Source) -> str:
    """Return the file that was chosen: what the command line says goes before what the environment does."""
    ctx = click.get_current_context()
    for name in ("device", "socket"):
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            return str(getattr(source, name))
    # A socket takes any number of clients, a device one at a time.
    found = source.socket or source.device
    if found is None:
        raise click.UsageError("no TPM: give --device or --socket, or use it in COMMAND of cusetpm run", ctx)
    return found


def target(source: Source, indices: Iterable[int]) -> Target:
    """Return what to compare with: a quote, values, or the PCRs *indices* of a TPM."""
    from cusetpm.measure.pcr import Given

    if source.quote is not None:
        return _quote(source)
    if source.signature or source.key or source.nonce or source.pcrs:
        raise click.UsageError("--signature, --key, --nonce and --pcrs belong to --quote")
    if source.pcr:
        return Given(dict(source.pcr), "--pcr")
    with connected(source) as tpm:
        return Given(tpm.read(indices), "the TPM")


def _quote(source: Source) -> Target:
    from cusetpm.measure import quote

    if source.quote is None or source.signature is None or source.key is None:
        raise click.UsageError("a quote needs --signature and --key")
    with failures(str(source.quote)):
        found = quote.read(source.quote.read_bytes(), source.signature.read_bytes(), source.key.read_bytes(),
                           source.nonce)
    values = dict(source.pcr)
    if source.pcrs is not None:
        with failures(str(source.pcrs)):
            values |= quote.pcr_values(source.pcrs.read_bytes(), found.selected)
    if not values:
        return found
    with failures(str(source.pcrs or "--pcr")):
        return found.with_values(values)
