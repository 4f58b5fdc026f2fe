"""`cusetpm manager group`: who approves in which configurations of the machine vTPMs run."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from cusetpm.cli.evidence import Evidence, read_key, write_key
from cusetpm.cli.failure import Failure
from cusetpm.cli.managed import Choice, ask, failures
from cusetpm.cli.pcrlist import Pcrs
from cusetpm.settings import pcr_bits
from hwtpm.errors import ProtocolError, StateError

if TYPE_CHECKING:
    from cusetpm.administration import Administration

_FILE = click.Path(dir_okay=False, path_type=Path)
_GROUP = {"group": "group", "uuid": "UUID", "state": "state", "vtpms": "vTPMs",
          "registered": "can be recovered", "sequence": "list number", "platforms": "platforms",
          "kernels": "kernels"}


@click.group("group")
def group() -> None:
    """The groups of vTPMs; N is a group's place in the list, the first is 0.

    A group belongs to a System Approval Agent (SAA), who signs the list of configurations in which its vTPMs
    may run.  `cusetpm saa` is what an SAA needs.
    """


@group.command("list")
@click.pass_obj
def list_groups(choice: Choice) -> None:
    """List groups."""
    with choice.administration() as manager:
        choice.table(manager.ask("groups"), {
            "group": "GROUP", "uuid": "UUID", "vtpms": "VTPMS", "sequence": "LIST", "state": "STATE"},
            "no groups")


@group.command("show")
@click.argument("index", metavar="N", type=int)
@click.pass_obj
def show(choice: Choice, index: int) -> None:
    """Say what the manager has of group N."""
    with choice.administration() as manager:
        found = manager.ask("group", index=index)
        choice.facts(found, _GROUP)
        if found["why"] and not choice.as_json:
            click.echo(found["why"])


@group.command("new")
@click.option("--saa", required=True, type=_FILE, metavar="FILE",
              help="The SAA's public key, RSA 2048, PEM or DER.")
@click.option("--label", default="cusetpm", show_default=True,
              help="Names the identity key to a privacy CA, which is given its hash.")
@click.option("--aik", type=_FILE, metavar="FILE", help="Write the identity key's public part there, as PEM.")
@click.option("--evidence", type=_FILE, metavar="FILE",
              help="Write there what shows how the identity key was made.")
@click.option("--exchange", type=_FILE, metavar="FILE",
              help="Register it at once: the SAA's half of an exchange, made by cusetpm saa exchange.")
@click.option("--signature", type=_FILE, metavar="FILE", help="The SAA's signature of that half.")
@click.option("--registration", type=_FILE, metavar="FILE",
              help="Write there what the SAA needs to recover the group.")
@click.pass_obj
def new(choice: Choice, saa: Path, label: str, aik: Path | None, evidence: Path | None,
        exchange: Path | None, signature: Path | None, registration: Path | None) -> None:
    """Make a group, with an identity key of its own in the chip; the first time, group 0 gets its SAA.

    A group can be registered, so that its SAA can recover it, before the chip is reset only, and our own chip
    is reset whenever the state directory is used: --exchange, --signature and --registration do both at once.
    """
    if len({option is None for option in (exchange, signature, registration)}) > 1:
        raise click.UsageError("--exchange, --signature and --registration belong together")
    with failures():
        modulus = read_key(saa)
        half = _signed_half(exchange, signature) if exchange and signature else None
    with choice.administration() as manager:
        from hwtpm.crypto import hashes, ids
        from manager.requests import GroupNew

        request = GroupNew(hashes.digest(ids.SHA1, label.encode()), modulus)
        made = ask(manager, request)
        if aik is not None:
            write_key(aik, made.aik_pub_key)
        if evidence is not None:
            Evidence.of(manager.ask("show"), "binding", request, made).write(evidence)
        uuid = str(UUID(bytes=made.group_uuid))
        index = next(row["group"] for row in manager.ask("groups") if row["uuid"] == uuid)
        if half is not None and registration is not None:
            _register(manager, index, half, pcr_bits("0-7"), registration)
        choice.facts(manager.ask("group", index=index), _GROUP)


@group.command("delete")
@click.argument("index", metavar="N", type=int)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete(choice: Choice, index: int, yes: bool) -> None:
    """Delete group N with its vTPMs; their keys are destroyed, and the groups behind it move down."""
    if not yes:
        click.confirm(f"Delete group {index} and all its vTPMs for good?", abort=True)
    with choice.administration() as manager:
        from manager.requests import GroupDel

        ask(manager, GroupDel(index))


@group.command("activate")
@click.argument("index", metavar="N", type=int)
@click.argument("blob", metavar="FILE", type=click.File("rb"))
@click.pass_obj
def activate(choice: Choice, index: int, blob: Any) -> None:
    """Print what a privacy CA has encrypted for the identity key of group N, in hexadecimal.

    FILE is what the CA sent: the blob of TPM_ActivateIdentity, or a TPM2B_ID_OBJECT and a
    TPM2B_ENCRYPTED_SECRET.
    """
    with choice.administration() as manager:
        from manager.requests import GroupActivate

        click.echo(ask(manager, GroupActivate(index, blob.read())).key.hex())


@group.command("update")
@click.argument("index", metavar="N", type=int)
@click.option("--list", "cfg_list", required=True, type=_FILE, metavar="FILE",
              help="The list, made by cusetpm saa list; its PCRs are in FILE.pcrs.")
@click.option("--signature", required=True, type=_FILE, metavar="FILE",
              help="The SAA's signature of the list.")
@click.pass_obj
def update(choice: Choice, index: int, cfg_list: Path, signature: Path) -> None:
    """Give group N the list of configurations that its SAA has signed."""
    with failures():
        signed = signature.read_bytes()
        if len(signed) != 256:
            raise StateError(f"{signature}: not a signature of an RSA 2048 key")
        octets = cfg_list.read_bytes() + cfg_list.with_name(f"{cfg_list.name}.pcrs").read_bytes()
    with choice.administration() as manager:
        from manager.requests import GroupUpdate

        ask(manager, GroupUpdate(index, signed, octets))
        choice.facts(manager.ask("group", index=index), _GROUP)


@group.command("register")
@click.argument("index", metavar="N", type=int)
@click.option("--exchange", required=True, type=_FILE, metavar="FILE",
              help="The SAA's half of the exchange, made by cusetpm saa exchange.")
@click.option("--signature", required=True, type=_FILE, metavar="FILE", help="The SAA's signature of it.")
@click.option("--pcrs", default="0-7", show_default=True, type=Pcrs(), metavar="PCRS",
              help="PCRs that the proof is about.")
@click.option("--evidence", required=True, type=_FILE, metavar="FILE",
              help="Write there what the SAA needs to recover the group.")
@click.pass_obj
def register(choice: Choice, index: int, exchange: Path, signature: Path, pcrs: bytes,
             evidence: Path) -> None:
    """Let the SAA recover group N, should it be closed one day; once, before the machine restarts.

    Our own chip is reset whenever the state directory is used: group new --exchange makes a group and
    registers it at once.
    """
    with failures():
        half = _signed_half(exchange, signature)
    with choice.administration() as manager:
        _register(manager, index, half, pcrs, evidence)


def _signed_half(exchange: Path, signature: Path) -> tuple[bytes, bytes]:
    """Return the SAA's half of an exchange and its signature."""
    half = exchange.read_bytes(), signature.read_bytes()
    if [len(part) for part in half] != [256, 256]:
        raise StateError(f"{exchange} and {signature} have to be of 256 octets")
    return half


def _register(manager: Administration, index: int, half: tuple[bytes, bytes], bits: bytes,
              evidence: Path) -> None:
    from manager.requests import GroupRegister

    request = GroupRegister(index, *half, bits)
    Evidence.of(manager.ask("show"), "registration", request, ask(manager, request)).write(evidence)


@group.command("recover")
@click.argument("index", metavar="N", type=int)
@click.option("--saa", required=True, metavar="COMMAND",
              help="A command that hands what it reads to the SAA, and prints what cusetpm saa answer says.")
@click.option("--pcrs", default="0-7", show_default=True, type=Pcrs(), metavar="PCRS",
              help="PCRs that the proof is about.")
@click.pass_obj
def recover(choice: Choice, index: int, saa: str, pcrs: bytes) -> None:
    """Open group N, which is closed, with the help of its SAA.

    COMMAND is given, on its standard input, a quote of the chip by a new identity key, which shows the SAA
    who asks.  The group is sealed to the machine as it is, too.  While group 0 is closed, nothing else can be
    done with the directory, but to print its platform.
    """
    # Group 0 opens the store, so that the directory has to be opened once more when it is recovered.
    with choice.administration(recovering=index == 0) as manager:
        from manager.requests import GroupRecover2

        request, begun = _begin_recovery(manager, index, pcrs)
        evidence = Evidence.of(manager.ask("meaning"), "recovery", request, begun)
        answer = _answer(saa, evidence.json())
        ask(manager, GroupRecover2(index, answer[:256], answer[256:]))
    with choice.administration() as manager:
        choice.facts(manager.ask("group", index=index), _GROUP)


def _begin_recovery(manager: Administration, index: int, bits: bytes) -> tuple[Any, Any]:
    """Return the request of GROUP_RECOVER1, by a new identity key, and its response."""
    import os

    from manager import requests

    if manager.ask("meaning")["chip"] == "TPM 1.2":
        key: Any = ask(manager, requests.MakeIdentity(bytes(20))).id_key
        request: Any = requests.GroupRecover1(index, key, os.urandom(20), bits)
    else:
        key = ask(manager, requests.MakeIdentityWith20(bytes(20))).id_key
        request = requests.GroupRecover1With20(index, key, os.urandom(20), bits)
    return request, ask(manager, request)


def _answer(command: str, asked: str) -> bytes:
    """Return what the SAA's *command* answers: 256 octets of the exchange and 32 of the blob."""
    done = subprocess.run(shlex.split(command), input=asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"{command}: {done.stderr.strip() or f'ended with {done.returncode}'}")
    try:
        answer = bytes.fromhex(done.stdout)
    except ValueError:
        answer = b""
    if len(answer) != 288:
        raise ProtocolError(f"{command}: not an answer of cusetpm saa answer")
    return answer


@click.command("platform")
@click.option("--pcrs", default="0-7", show_default=True, type=Pcrs(), metavar="PCRS",
              help="The PCRs it consists of.")
@click.pass_obj
def platform(choice: Choice, pcrs: bytes) -> None:
    """Print the configuration of the machine as it is now, as cusetpm saa list takes it."""
    with choice.administration(recovering=True) as manager:
        found = manager.ask("platform", pcrs=pcrs.hex())
        if choice.as_json:
            choice.facts(found, {})
        else:
            click.echo(f"{found['pcrs']}:{found['digest']}")
