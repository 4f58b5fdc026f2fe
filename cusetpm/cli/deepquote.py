"""`cusetpm deepquote`: from inside a guest, a quote of the chip that also vouches for the guest's PCRs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cusetpm.cli.evidence import FLAGS, Evidence
from cusetpm.cli.hexadecimal import Hex
from cusetpm.cli.pcrlist import Pcrs
from cusetpm.cli.pcrs import Source, raw, tpm_options
from cusetpm.settings import auth as auth_of
from hwtpm.errors import StateError

if TYPE_CHECKING:
    from manager.requests import GetQuote

Execute = Callable[[bytes], bytes]


class _Auth(click.ParamType[str]):
    """An AUTHSPEC of xen-vtpmmgr(7)."""

    name = "auth"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            auth_of(value)
        except StateError as error:
            self.fail(str(error), param, ctx)
        return value


@click.command("deepquote")
@tpm_options
@click.option("--nonce", required=True, type=Hex("nonce"), metavar="HEX",
              help="20 octets of who wants the quote, so that it cannot be an old one.")
@click.option("--pcrs", default="0-7", show_default=True, type=Pcrs(), metavar="PCRS",
              help="The PCRs of this TPM.")
@click.option("--chip-pcrs", default="0-7,20-23", show_default=True, type=Pcrs(), metavar="PCRS",
              help="The PCRs of the chip.")
@click.option("--with", "flags", multiple=True, type=click.Choice(list(FLAGS)),
              help="Also sign hashes of this TPM's UUID, its kernel, its group's list, its SAA's key.")
@click.option("--auth", default="well-known", show_default=True, type=_Auth(), metavar="AUTHSPEC",
              help="The secret of a TPM 1.2's owner: well-known, hash:40 hexadecimal digits, or "
                   "text:PASSWORD.  Of a TPM 2.0 it is that of the endorsement hierarchy, empty or a "
                   "password.")
@click.option("--evidence", required=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write the quote there, for cusetpm manager verify-quote.")
def command(device: str | None, socket: str | None, nonce: bytes, pcrs: bytes, chip_pcrs: bytes,
            flags: tuple[str, ...], auth: str, evidence: Path) -> None:
    """Have the chip under this guest's TPM sign its own PCRs and this TPM's.

    The TPM is that of a guest of cusetpm, and its group has an identity key (cusetpm manager group new).
    """
    if len(nonce) != 20:
        raise click.UsageError("--nonce: 20 octets, which are 40 hexadecimal digits")
    bits = sum(FLAGS[flag] for flag in flags)
    with raw(Source(device, socket)) as (execute, family):
        quote = _quote12 if family == "1.2" else _quote20
        found, request, response = quote(execute, nonce, pcrs, chip_pcrs, bits, auth)
    from hwtpm.wire import encode

    # A quote of a TPM 2.0 begins with the TPMS_ATTEST that it is about.
    chip = "2.0" if response[258:262] == b"\xffTCG" else "1.2"
    Evidence("deep-quote", chip, "documented", "documented", encode(request).hex(), response.hex(),
             {"family": family, "nonce": nonce.hex(), **found}).write(evidence)


def _quote12(execute: Execute, nonce: bytes, pcrs: bytes, chip_pcrs: bytes, flags: int,
             auth: str) -> tuple[dict[str, str], GetQuote, bytes]:
    """Return what a verifier needs to know of this TPM's PCRs, and GET_QUOTE's request and response."""
    from hwtpm.client12 import Client
    from hwtpm.tpm12.requests.integrity import PcrRead
    from hwtpm.tpm12.requests.parent import DeepQuote
    from hwtpm.tpm12.types.parent import deep_quote_digest
    from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT, TPM_PCR_SELECTION
    from hwtpm.wire import encode
    from manager.cfglist import platform_hash, selected
    from manager.requests import GetQuote

    client = Client(execute, os.urandom)
    session = client.oiap(auth_of(auth))
    session.continues = False
    selection = TPM_PCR_SELECTION(pcrs)
    response = client.run(DeepQuote(nonce, selection, TPM_PCR_SELECTION(chip_pcrs), flags), session).quote
    values = b"".join(client.run(PcrRead(index)).out_digest for index in selected(pcrs))
    info = TPM_PCR_INFO_SHORT(selection, 1, platform_hash("1.2", pcrs, values) if any(pcrs) else bytes(20))
    return ({"quoted": encode(info).hex(), "values": values.hex()},
            GetQuote(deep_quote_digest(nonce, info), chip_pcrs, flags), response)


def _quote20(execute: Execute, nonce: bytes, pcrs: bytes, chip_pcrs: bytes, flags: int,
             auth: str) -> tuple[dict[str, str], GetQuote, bytes]:
    from cusetpm.measure.tpm import Tpm20
    from hwtpm.client import Client, Password
    from hwtpm.tpm2.requests.parent import DeepQuote
    from hwtpm.tpm2.types.constants import TPM_ALG_SHA256
    from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT
    from hwtpm.tpm2.types.parent import deep_quote_digest
    from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION
    from hwtpm.wire import encode
    from manager.cfglist import selected
    from manager.requests import GetQuote

    client = Client(execute, os.urandom)
    text = auth.startswith("text:")
    password = auth.removeprefix("text:").encode() if text else auth_of(auth).rstrip(b"\0")
    selection = [TPMS_PCR_SELECTION(TPM_ALG_SHA256, pcrs)]
    found = client.run(DeepQuote(TPM_RH_ENDORSEMENT, nonce, selection, chip_pcrs, flags), Password(password))
    have = Tpm20(client).read(selected(pcrs))
    values: Any = b"".join(have[TPM_ALG_SHA256, index] for index in selected(pcrs))
    return ({"quoted": encode(found.quoted).hex(), "values": values.hex()},
            GetQuote(deep_quote_digest(nonce, found.quoted), chip_pcrs, flags), found.quote)
