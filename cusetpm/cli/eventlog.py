"""`cusetpm eventlog`: what the firmware measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cusetpm.cli.failure import Disagreement
from cusetpm.cli.pcrs import Source, failures, source_options, target

if TYPE_CHECKING:
    from cusetpm.measure.tcglog import Log

_LOG = click.argument("path", metavar="LOG", envvar="CUSETPM_EVENT_LOG",
                      type=click.Path(dir_okay=False, path_type=Path))


@click.group("eventlog")
def command() -> None:
    """Show and verify event logs of firmware (binary_bios_measurements)."""


def _read(path: Path) -> Log:
    from cusetpm.measure import tcglog

    with failures(str(path)):
        return tcglog.parse(path.read_bytes())


@command.command("show")
@click.option("--json", "as_json", is_flag=True, help="For programs: all that LOG says.")
@_LOG
def show(path: Path, as_json: bool) -> None:
    """Show the events in LOG, and the PCRs that they lead to.

    LOG is in one of the two formats of the TCG, with SHA-1 digests or crypto agile.
    """
    from cusetpm.measure import tcglog
    from cusetpm.measure.pcr import bank_name
    from cusetpm.measure.pcr import show as show_pcr

    log = _read(path)
    values = tcglog.replay(log)
    if as_json:
        pcrs: dict[str, dict[str, str]] = {}
        for (alg, index), value in values.items():
            pcrs.setdefault(bank_name(alg), {})[str(index)] = value.hex()
        click.echo(json.dumps({"events": _events(log), "pcrs": pcrs}, indent=1))
        return
    for number, event in enumerate(_events(log)):
        fault = f"  DOES NOT FIT: {event['fault']}" if event["fault"] else ""
        click.echo(f"{number:4}  PCR {event['pcr']:<2}  {event['type']}  {event['description']}{fault}")
    for pcr in sorted(values):
        click.echo(f"{show_pcr(pcr):>10}  {values[pcr].hex()}")


def _events(log: Log) -> list[dict[str, object]]:
    from cusetpm.measure import tcgevents
    from cusetpm.measure.pcr import bank_name

    return [{
        "number": number,
        "pcr": event.pcr,
        "type": tcgevents.name(event.type),
        "digests": {bank_name(alg): digest.hex() for alg, digest in event.digests.items()},
        "data": event.data.hex(),
        "description": tcgevents.describe(event),
        "fault": tcgevents.fault(event),
    } for number, event in enumerate(log.events)]


@command.command("verify")
@source_options
@click.option("--only", metavar="PCRS", help="Compare these, as 0-7,9; all that LOG extends, otherwise.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_LOG
def verify(device: str | None, socket: str | None, path: Path, only: str | None, as_json: bool,
           **options: object) -> int:
    """Verify LOG: each digest that its event's data determine, and the PCRs that it leads to.

    The PCRs are those of a TPM, or given with --pcr, or in a quote.  Status 1 means that LOG does not verify;
    the message names the first event that does not fit, where that can be known.
    """
    from cusetpm.measure import tcgverify
    from cusetpm.measure.pcr import COUNT, parse_indices, show_all
    from cusetpm.measure.pcr import show as show_pcr

    source = Source(device, socket, **options)  # type: ignore[arg-type]
    try:
        indices = range(COUNT) if only is None else parse_indices(only)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--only") from None
    log = _read(path)
    try:
        with failures(str(path)):
            tcgverify.check_events(log)
        against = target(source, indices)
        with failures(str(path)):
            compared = tcgverify.verify(log, against, indices)
    except Disagreement as error:
        if not as_json:
            raise
        click.echo(json.dumps({"fits": False, "fault": error.message, "pcrs": []}))
        return error.exit_code
    if as_json:
        click.echo(json.dumps({"fits": True, "fault": "", "pcrs": [show_pcr(pcr) for pcr in compared]}))
    else:
        click.echo(f"{path}: {len(log.events)} events; they lead to {show_all(compared)} of {against.what}")
    return 0
