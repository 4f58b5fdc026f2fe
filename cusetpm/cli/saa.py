"""`cusetpm saa`: what a System Approval Agent does, who says in which configurations vTPMs may run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cusetpm.cli.evidence import Evidence, read_key
from cusetpm.cli.failure import Disagreement
from cusetpm.cli.hexadecimal import Hex
from cusetpm.cli.managed import failures
from cusetpm.settings import pcr_bits
from hwtpm.errors import StateError

if TYPE_CHECKING:
    from hwtpm.crypto.dh import Exchange

_FILE = click.Path(dir_okay=False, path_type=Path)
_SECRET = 40  # octets of a secret of an exchange's file: more than any exchange takes


class _Platform(click.ParamType[tuple[bytes, bytes]]):
    """PCRS:HEX, as `cusetpm manager platform` prints it."""

    name = "platform"

    def convert(self, value: str | tuple[bytes, bytes], param: click.Parameter | None,
                ctx: click.Context | None) -> tuple[bytes, bytes]:
        if isinstance(value, tuple):
            return value
        pcrs, _, digest = value.rpartition(":")
        try:
            found = pcr_bits(pcrs), bytes.fromhex(digest)
        except (StateError, ValueError):
            found = b"", b""
        if len(found[1]) not in (20, 32):
            self.fail(f"{value!r} is not what cusetpm manager platform prints", param, ctx)
        return found


@click.group("saa")
def command() -> None:
    """What a System Approval Agent (SAA) does for groups of vTPMs; its key stays with openssl."""


@command.command("list")
@click.option("--sequence", required=True, type=click.IntRange(1), metavar="N",
              help="Its number: higher than that of every list before.")
@click.option("--platform", "platforms", multiple=True, required=True, type=_Platform(), metavar="PCRS:HEX",
              help="A configuration of the machine, as cusetpm manager platform prints it.")
@click.option("--kernel", "kernels", multiple=True, type=Hex("hash"), metavar="HEX",
              help="The hash, 20 octets, of what a vTPM may run.")
@click.option("--label", "labels", multiple=True, metavar="LABEL",
              help="The label of what a vTPM may run, of which the hash is taken.")
@click.argument("path", metavar="FILE", type=_FILE)
def cfg_list(sequence: int, platforms: tuple[tuple[bytes, bytes], ...], kernels: tuple[bytes, ...],
             labels: tuple[str, ...], path: Path) -> None:
    """Write a list of configurations to FILE, to be signed, and the PCRs in it to FILE.pcrs.

    A group whose chip is a TPM 2.0 wants the signature with SHA-256, one with a TPM 1.2 with SHA-1:
    `openssl dgst -sha256 -sign saa.pem -out FILE.sig FILE`.
    """
    from hwtpm.crypto import hashes, ids
    from manager.cfglist import NR_KERNS_PER_GROUP, NR_SEALS_PER_GROUP, CfgList, Update, update_octets

    listed = (*kernels, *(hashes.digest(ids.SHA1, label.encode()) for label in labels))
    if any(len(kernel) != 20 for kernel in listed):
        raise click.UsageError("--kernel: a hash of 20 octets")
    if len({len(digest) for _, digest in platforms}) != 1:
        raise click.UsageError("--platform: those of one family of chips")
    if len(platforms) > NR_SEALS_PER_GROUP or len(listed) > NR_KERNS_PER_GROUP:
        raise click.UsageError(f"a list has at most {NR_SEALS_PER_GROUP} platforms and {NR_KERNS_PER_GROUP} "
                               f"kernels")
    family = "1.2" if len(platforms[0][1]) == 20 else "2.0"
    made = CfgList(sequence, tuple(digest for _, digest in platforms), listed)
    octets = made.octets(family)
    whole = update_octets(Update(made, tuple(pcrs for pcrs, _ in platforms)), family)
    with failures():
        path.write_bytes(octets)
        path.with_name(f"{path.name}.pcrs").write_bytes(whole[len(octets) :])


@command.command("exchange")
@click.option("--secret", required=True, type=_FILE, metavar="FILE",
              help="Keep the SAA's secret of the exchange there, to recover the group one day.")
@click.argument("path", metavar="FILE", type=_FILE)
def exchange(secret: Path, path: Path) -> None:
    """Begin an exchange with a manager: write the half to FILE that it gets, to be signed as a list is."""
    with failures():
        kept = os.urandom(_SECRET)
        with open(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(kept)
        path.write_bytes(_exchange(kept).public)


@command.command("answer")
@click.option("--secret", required=True, type=_FILE, metavar="FILE", help="The secret of the exchange.")
@click.option("--registration", required=True, type=_FILE, metavar="FILE",
              help="The evidence that the manager gave when the group was registered.")
@click.option("--proxy-aik", type=_FILE, metavar="FILE",
              help="The only identity key that may ask; without, whoever asks is answered.")
@click.option("--platform", "platforms", multiple=True, type=_Platform(), metavar="PCRS:HEX",
              help="A configuration in which the group may be opened; without, every one will do.")
@click.argument("asked", metavar="[FILE]", type=click.File("r"), default="-")
def answer(secret: Path, registration: Path, proxy_aik: Path | None,
           platforms: tuple[tuple[bytes, bytes], ...], asked: Any) -> None:
    """Answer a manager that asks to recover a group: print the group's key, for that manager only.

    FILE, or standard input, is the evidence that the manager gives.  Status 1 means that it does not prove
    what it should, and nothing is printed.
    """
    from manager import requests, verify

    with failures():
        begun = Evidence.parse(asked.read(), getattr(asked, "name", "-"), "recovery")
        registered = Evidence.read(registration, "registration")
        kept = secret.read_bytes()
        if len(kept) != _SECRET:
            raise StateError(f"{secret}: not a secret of cusetpm saa exchange")
        old, given = registered.messages(requests.GroupRegister, requests.GroupRegisterResponse)
        kind = requests.GroupRecover1 if begun.chip == "1.2" else requests.GroupRecover1With20
        request, recovery = begun.messages(kind, requests.GroupRecover1Response)
        if old.dhkx_1 != _exchange(kept).public:
            raise StateError(f"{secret} is not the secret that {registration} was made with")
        key = _modulus(request.proxy_aik)
    try:
        if proxy_aik is not None and read_key(proxy_aik) != key:
            raise verify.NotProven("another identity key asks than the one that may")
        if platforms:
            verify.verify_recovery(begun.chip, key, request.nonce, request.quote_select, recovery,
                                   [digest for _, digest in platforms], begun.meaning)
    except verify.NotProven as error:
        raise Disagreement(str(error)) from None
    group_key = _xor(_exchange(kept).key(given.dhkx_2), given.recover_blob)
    ours = _exchange(os.urandom(_SECRET))
    click.echo((ours.public + _xor(ours.key(recovery.dhkx_1), group_key)).hex())


def _exchange(secret: bytes) -> Exchange:
    """Return the side of an exchange that *secret* gives, always the same one."""
    from hwtpm.crypto.dh import Exchange

    return Exchange(lambda size: secret[:size])


def _modulus(key: Any) -> bytes:
    """Return the modulus of a TPM_KEY, or of a TPM 2.0's key."""
    found: bytes = key.pub_key if hasattr(key, "pub_key") else key.public.unique
    return found


def _xor(one: bytes, two: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, two, strict=True))
