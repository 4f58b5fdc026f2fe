"""`cusetpm manager quote` and `verify-quote`: evidence of what runs under which manager."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import click

from cusetpm.cli.evidence import FLAGS, Evidence, read_key
from cusetpm.cli.failure import Disagreement
from cusetpm.cli.hexadecimal import Hex
from cusetpm.cli.managed import Choice, ask, failures
from cusetpm.cli.pcrlist import Pcrs
from hwtpm.errors import StateError

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("quote")
@click.option("--vtpm", metavar="NAME", help="A quote for the vTPM NAME.")
@click.option("--group", "index", type=int, metavar="N", help="A quote for group N.")
@click.option("--nonce", required=True, type=Hex("nonce"), metavar="HEX",
              help="20 octets of who wants the quote, so that it cannot be an old one.")
@click.option("--pcrs", default="0-7,20-23", show_default=True, type=Pcrs(), metavar="PCRS",
              help="The PCRs to quote.")
@click.option("--with", "flags", multiple=True, type=click.Choice(list(FLAGS)),
              help="Also sign hashes of the vTPM's UUID, its kernel, its group's list, its SAA's key.")
@click.option("--label", default="", help="What a vTPM runs that is started for this quote only.")
@click.option("--evidence", required=True, type=_FILE, metavar="FILE", help="Write the quote there.")
@click.pass_obj
def quote(choice: Choice, vtpm: str | None, index: int | None, nonce: bytes, pcrs: bytes,
          flags: tuple[str, ...], label: str, evidence: Path) -> None:
    """Have the chip sign in which configuration the manager runs, for a vTPM or a group."""
    if (vtpm is None) == (index is None):
        raise click.UsageError("a quote is for a --vtpm or for a --group")
    if len(nonce) != 20:
        raise click.UsageError("--nonce: 20 octets, which are 40 hexadecimal digits")
    with choice.administration() as manager:
        from hwtpm.wire import decode, encode
        from manager.requests import GetQuote, GetQuoteResponse, GroupQuote

        shown = manager.ask("show")
        if vtpm is not None:
            request: Any = GetQuote(nonce, pcrs, sum(FLAGS[flag] for flag in flags))
            response = decode(GetQuoteResponse, bytes.fromhex(
                manager.ask("quote", name=vtpm, request=encode(request).hex(), label=label)))
            Evidence.of(shown, "quote", request, response).write(evidence)
        elif index is not None:
            request = GroupQuote(index, nonce, pcrs)
            Evidence.of(shown, "group-quote", request, ask(manager, request)).write(evidence)


@click.command("verify-quote")
@click.argument("path", metavar="FILE", type=_FILE)
@click.option("--aik", required=True, type=_FILE, metavar="FILE",
              help="The group's identity key, of which a privacy CA has said whose it is.")
@click.option("--nonce", type=Hex("nonce"), metavar="HEX", help="The nonce that was asked for.")
@click.option("--saa", type=_FILE, metavar="FILE", help="The key of the SAA that the group should have.")
@click.option("--list", "cfg_list", type=_FILE, metavar="FILE", help="The list that it should have.")
@click.option("--group", type=click.UUID, metavar="UUID", help="The group's UUID.")
@click.option("--vtpm", type=click.UUID, metavar="UUID", help="The vTPM's UUID.")
@click.option("--kernel", type=Hex("hash"), metavar="HEX", help="The hash of what the vTPM runs.")
def verify_quote(path: Path, aik: Path, nonce: bytes | None, saa: Path | None, cfg_list: Path | None,
                 group: UUID | None, vtpm: UUID | None, kernel: bytes | None) -> None:
    """Verify the quote in FILE from public keys alone, and say what it proves.

    Whatever is given is compared; what is not given is shown.  Status 1 means that the quote does not verify.
    """
    with failures():
        evidence = Evidence.read(path, "quote", "group-quote", "deep-quote")
        modulus = read_key(aik)
        from manager import requests, verify

        known = verify.Known(
            group.bytes if group else None, read_key(saa) if saa else None,
            cfg_list.read_bytes() if cfg_list else None, vtpm.bytes if vtpm else None, kernel)
        of_vtpm = evidence.kind != "group-quote"
        request, response = evidence.messages(requests.GetQuote if of_vtpm else requests.GroupQuote,
                                              requests.GetQuoteResponse)
    asked = request.extern_data if of_vtpm else request.nonce
    guest: list[str] = []
    if evidence.kind == "deep-quote":
        with failures():
            asked, guest = _guest(evidence, request.extern_data)
    if nonce is not None and asked != nonce:
        raise Disagreement(f"{path}: the quote is for another nonce, {asked.hex()}")
    check = verify.verify_quote if of_vtpm else verify.verify_group_quote
    try:
        proof = check(evidence.chip, modulus, request, response, known, evidence.meaning)
    except verify.NotProven as error:
        raise Disagreement(f"{path}: {error}") from None
    for said in (*proof.says, *guest):
        click.echo(said)
    if nonce is None:
        click.echo(f"the nonce is {asked.hex()}: if it is not one of yours, this can be an old quote")
    for number, value in proof.pcrs.items():
        click.echo(f"PCR {number}: {value.hex()}")


def _guest(evidence: Evidence, extern: bytes) -> tuple[bytes, list[str]]:
    """Return the nonce of a deep quote, and lines that say what *extern*, which the chip signed, vouches for.

    Disagreement if the evidence says something else of the guest's PCRs than the chip signed.
    """
    from hwtpm.errors import TpmError
    from manager.verify import NotProven, guest_pcrs

    given = evidence.guest or {}
    try:
        nonce, quoted, values = (bytes.fromhex(given[name]) for name in ("nonce", "quoted", "values"))
        pcrs = guest_pcrs(given["family"], nonce, quoted, values, extern)
    except (KeyError, ValueError, TpmError):
        raise StateError("the evidence is damaged") from None
    except NotProven as error:
        raise Disagreement(str(error)) from None
    return nonce, [f"the guest's PCR {number}: {value.hex()}" for number, value in pcrs.items()]
