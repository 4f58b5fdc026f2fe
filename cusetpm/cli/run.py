"""`cusetpm run`: a TPM for one command."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import click

from cusetpm.cli.failure import Failure, NotExecutable, NotFound
from cusetpm.cli.hexadecimal import Hex
from cusetpm.cli.logs import OneLine
from cusetpm.cli.pcrlist import Pcrs
from cusetpm.command import CannotExecute
from cusetpm.trouble import line
from hwtpm.errors import MissingPrimitive, ProtocolError, StateError


class _Directory(click.Path):
    """A directory; what the shell makes of a variable that is not set is not the current one."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None,
                ctx: click.Context | None) -> str | bytes | os.PathLike[str]:
        if not os.fspath(value):
            self.fail("an empty path", param, ctx)
        return super().convert(value, param, ctx)


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.option("--tpm", type=click.Choice(["2.0", "1.2"]), default="2.0", show_default=True,
              help="TPM family.")
@click.option("--chip", type=click.Choice(["2.0", "1.2"]), show_default="2.0, or as the manager is set",
              help="Family of the hardware TPM that guards the TPM's state.")
@click.option("--front-end", type=click.Choice(["auto", "cuse", "fuse", "socket", "vtpmx"]),
              default="auto", show_default=True,
              help="How COMMAND reaches the TPM; auto takes the first of cuse, fuse and socket that works.  "
                   "vtpmx makes it a chip of the kernel's own, which IMA and trusted keys use, too.")
@click.option("--startup", type=click.Choice(["clear", "state", "none"]), default="clear", show_default=True,
              help="The TPM2_Startup that is sent first, as firmware would.  After none, the kernel sends "
                   "one to a chip of its own (vtpmx).")
@click.option("--state-dir", type=_Directory(file_okay=False, readable=False, path_type=Path),
              help="Keep the TPM's state here; without it the TPM is gone with COMMAND.")
@click.option("--seed", type=Hex("seed"), metavar="HEX",
              help="Make a new TPM's primary seeds from this, so that its keys can be repeated.  A TPM that "
                   "is there already has to have been made from the same.")
@click.option("--private-dev/--no-private-dev", default=True, show_default=True,
              help="Have COMMAND find the device files as /dev/tpm0 and /dev/tpmrm0 in a /dev of its own, "
                   "where the system allows it.  An ordinary user's COMMAND runs in a user namespace then, "
                   "where sudo and other programs that change the user do not work.")
@click.option("--endorsement-key/--no-endorsement-key", default=True, show_default=True,
              help="A new TPM 1.2 comes with an endorsement key, and NV storage that is locked.")
@click.option("--hwinitpcr", type=Pcrs(), default="none", show_default=True, metavar="PCRS",
              help="PCRs that begin with the values they have in the hardware TPM: all, none, or a list such "
                   "as 5,12-16.")
@click.option("--label", default="",
              help="Tells the vTPM manager what COMMAND is: a group may allow certain labels only.")
@click.option("--boot-hash", is_flag=True,
              help="PCR 0 begins with the hash that the vTPM manager has for this TPM's guest.")
@click.option("--tcsd", is_flag=True,
              help="Start trousers' tcsd for this TPM 1.2, which its tools talk to.")
@click.option("-v", "--verbose", is_flag=True, help="Say on standard error what is done and why.")
@click.argument("command", metavar="COMMAND [ARG]...", nargs=-1, required=True, type=click.UNPROCESSED)
def command(tpm: str, chip: str | None, front_end: str, startup: str, state_dir: Path | None,
            seed: bytes | None, private_dev: bool, endorsement_key: bool, hwinitpcr: bytes, boot_hash: bool,
            label: str, tcsd: bool, verbose: bool, command: tuple[str, ...]) -> int:
    """Run COMMAND with a TPM of its own; the exit status is COMMAND's.

    COMMAND finds the TPM through CUSETPM_DEVICE (a device file) and CUSETPM_SOCKET (a unix socket with raw
    commands), and where it can as /dev/tpm0; a TPM 2.0's resource manager through CUSETPM_RM_DEVICE and
    CUSETPM_RM_SOCKET, and as /dev/tpmrm0.  With the FUSE front end, CUSETPM_SYSFS is a directory that stands
    for /sys.  tpm2-tools, tpm2-openssl, tpm2-pkcs11, IBM's TSS and systemd find the one that they need by
    themselves.  Status 125 means that cusetpm itself failed, 126 that COMMAND cannot be executed, 127 that
    there is none.
    """
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="cusetpm: %(message)s")
    if not verbose:
        logging.getLogger().handlers[0].setFormatter(OneLine("cusetpm: %(message)s"))
    if not endorsement_key and tpm != "1.2":
        raise click.UsageError("--no-endorsement-key is for --tpm 1.2: a TPM 2.0 derives its keys")
    if tcsd and tpm != "1.2":
        raise click.UsageError("--tcsd is for --tpm 1.2: tcsd knows no TPM 2.0")
    # What cannot be executed is refused before a TPM is made for it.
    _check_executable(command[0])
    from cusetpm import job  # the engine is imported for this verb only

    try:
        return job.run(command, front_end=front_end, startup=startup, state_dir=state_dir, seed=seed,
                       tpm=tpm, chip=chip, private_dev=private_dev, tcsd=tcsd,
                       bare=not endorsement_key, hwinitpcr=hwinitpcr, boot_hash=boot_hash,
                       label=label)
    except CannotExecute as error:
        raise NotExecutable(str(error)) from error
    except (StateError, ProtocolError, MissingPrimitive) as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(line(error)) from error


def _check_executable(name: str) -> None:
    if shutil.which(name) is not None:
        return
    if os.sep in name and os.path.lexists(name):
        why = "is a directory" if os.path.isdir(name) else "cannot be executed"
        raise NotExecutable(f"{name}: {why}")
    raise NotFound(f"{name}: command not found")
