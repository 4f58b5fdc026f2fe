"""`cusetpm ima`: lists of measured files, as Linux' IMA keeps them."""

from __future__ import annotations

from pathlib import Path

import click

from cusetpm.cli.pcrs import Source, connected, failures, source_options, target, tpm_options

_FORMATS = click.Choice(["binary", "ascii"])


@click.group("ima")
def command() -> None:
    """Measure files as Linux' IMA does, and verify its measurement lists."""


@command.command("measure")
@tpm_options
@click.option("--list", "path", envvar="CUSETPM_IMA_LIST", required=True, metavar="LIST",
              type=click.Path(dir_okay=False, path_type=Path),
              help="The list to continue; it is made when it does not exist.")
@click.option("--template", type=click.Choice(["ima", "ima-ng", "ima-sig"]), default="ima-ng",
              show_default=True, help="What an entry consists of.")
@click.option("--hash", "hash_name", type=click.Choice(["sha1", "sha256", "sha384", "sha512"]),
              help="The hash of the files: sha256, for template ima sha1.")
@click.option("--format", "form", type=_FORMATS, help="The format of a new list: binary.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
def measure(device: str | None, socket: str | None, path: Path, template: str, hash_name: str | None,
            form: str | None, files: tuple[str, ...]) -> None:
    """Extend PCR 10 with the measurement of each FILE, and append it to LIST.

    LIST is in one of the kernel's formats, binary_runtime_measurements or ascii_runtime_measurements, and
    begins with boot_aggregate.  Printed is what is new in it, in the ASCII format: a FILE that LIST has
    already, unchanged, is not measured again.
    """
    if template == "ima" and hash_name not in (None, "sha1"):
        raise click.UsageError("template ima has room for a SHA-1 digest only")
    from cusetpm import imalog

    chosen = hash_name or ("sha1" if template == "ima" else "sha256")
    with connected(Source(device, socket)) as tpm, failures(str(path)):
        lines = imalog.measure(tpm, str(path), files, template=template, hash_name=chosen,
                               form=form)  # type: ignore[arg-type]
    click.echo(b"".join(lines), nl=False)


@command.command("verify")
@source_options
@click.option("--prefix", is_flag=True, help="LIST may go on after what the PCRs contain.")
@click.argument("path", metavar="LIST", envvar="CUSETPM_IMA_LIST",
                type=click.Path(dir_okay=False, path_type=Path))
def verify(device: str | None, socket: str | None, path: Path, prefix: bool, **options: object) -> None:
    """Verify LIST, a kernel's measurement list or one of cusetpm ima measure, against PCR 10.

    LIST may be binary or ASCII.  PCR 10 is that of a TPM, or given with --pcr, or in a quote.  Status 1 means
    that LIST does not verify; the message names the first entry that does not fit, where that can be known.
    """
    from cusetpm.measure import ima, imaverify
    from cusetpm.measure.pcr import show_all

    source = Source(device, socket, **options)  # type: ignore[arg-type]
    with failures(str(path)):
        measurements = ima.parse(path.read_bytes())
        imaverify.check_digests(measurements)
    entries = measurements.entries
    against = target(source, {*range(10), *(entry.pcr for entry in entries)})
    with failures(str(path)):
        found = imaverify.verify(measurements, against, prefix=prefix)
    click.echo(f"{path}: {len(entries)} entries ({measurements.format}), of which {found.used} fit "
               f"{show_all(found.compared)} of {against.what}")
    if found.padded:
        click.echo(f"{show_all(found.padded)} was extended with SHA-1 digests, by a kernel without its hash")
    if found.boot_aggregate:
        click.echo(f"boot_aggregate fits {found.boot_aggregate}")
    if violations := sum(entry.violation for entry in entries):
        click.echo(f"{violations} violations: files that were written while they were measured")
    for name in imaverify.changed(measurements):
        shown = name.decode("utf-8", "backslashreplace")
        click.echo(f"changed: {shown if shown.isprintable() else repr(shown)} was measured with two contents")
