"""`cusetpm manager`: the vTPM manager of a state directory."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import click

from cusetpm import settings
from cusetpm.cli.bar import bar
from cusetpm.cli.failure import Failure
from cusetpm.cli.hexadecimal import Hex
from cusetpm.cli.logs import OneLine
from cusetpm.cli.managed import Choice, failures
from cusetpm.cli.manager_evidence import quote, verify_quote
from cusetpm.cli.manager_group import group, platform

_HASH = re.compile(r"[0-9a-fA-F]{40}")


@click.group("manager", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--state-dir", metavar="DIR", envvar="CUSETPM_STATE_DIR",
              type=click.Path(file_okay=False, path_type=Path), help="The state directory.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option("-v", "--verbose", is_flag=True, help="Say on standard error what is done and why.")
@click.pass_context
def command(ctx: click.Context, state_dir: Path | None, as_json: bool, verbose: bool) -> None:
    """The vTPM manager of a state directory: its vTPMs, their groups, and the chip that guards them."""
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="cusetpm: %(message)s")
    if not verbose:
        logging.getLogger().handlers[0].setFormatter(OneLine("cusetpm: %(message)s"))
    ctx.obj = Choice(state_dir, as_json)


@command.command("init")
@click.option("--chip", type=click.Choice(["2.0", "1.2"]), default="2.0", show_default=True,
              help="Family of the chip.")
@click.option("--driver", default="model", show_default=True, metavar="DRIVER",
              help="The way to the chip: model for our own, device:/dev/tpmrm0, swtpm:PATH, "
                   "swtpm:HOST:PORT or tis:/dev/mem.")
@click.option("--locality", type=int, metavar="N", show_default="2, with a device 0",
              help="The locality that the manager has at the chip.")
@click.option("--owner-auth", default="well-known", show_default=True, metavar="AUTHSPEC",
              help="The chip owner's secret: well-known, hash:40 hexadecimal digits, or text:PASSWORD.")
@click.option("--srk-auth", default="well-known", show_default=True, metavar="AUTHSPEC",
              help="The secret of the chip's storage root key.")
@click.option("--srk-handle", default="0", metavar="HANDLE",
              help="A persistent storage key of a TPM 2.0 to use, such as 0x81000001.")
@click.option("--pcrs", default="0-7", show_default=True, metavar="PCRS",
              help="PCRs of the chip that the store is sealed to.")
@click.option("--auto-create/--no-auto-create", default=True, show_default=True,
              help="Make a vTPM in group 0 when one that nobody has made first saves.")
@click.option("--administrator", type=click.Choice(["first", "none"]), default="first", show_default=True,
              help="Which vTPM may manage.")
@click.option("--quote-pcrs", type=click.Choice(["documented", "xen"]), default="documented",
              show_default=True, help="Give PCRs 20 to 23 their documented values in quotes, or leave them.")
@click.option("--extern-data", type=click.Choice(["documented", "xen"]), default="documented",
              show_default=True, help="What quotes sign: as Xen documents it, or as its code has it.")
@click.pass_obj
def init(choice: Choice, /, locality: int | None, driver: str, srk_handle: str, **values: Any) -> None:
    """Make a state directory with a manager, and take possession of its chip."""
    if locality is None:
        locality = 0 if driver.startswith("device:") else 2
    try:
        handle = int(srk_handle, 0)
    except ValueError:
        raise click.UsageError(f"--srk-handle: {srk_handle!r} is not a handle") from None
    with failures():
        chosen = settings.Settings(driver=driver, locality=locality, srk_handle=handle, **values)
        from cusetpm.administration import initialise

        initialise(choice.state_dir, chosen)
    click.get_current_context().invoke(show)


@command.command("show")
@click.pass_obj
def show(choice: Choice) -> None:
    """Say what the manager has, and how it is set."""
    with choice.administration() as manager:
        choice.facts(manager.ask("show"), {
            "store": "store", "chip": "chip", "driver": "driver", "locality": "locality",
            "pcrs": "sealed to PCRs", "groups": "groups", "vtpms": "vTPMs", "address": "address"})


@command.command("check")
@click.pass_obj
def check(choice: Choice) -> int:
    """Look at everything that the manager and its vTPMs have stored; status 1 if anything is damaged."""
    try:
        with choice.patiently("checking") as manager:
            found = manager.ask("check")
    except Failure:
        from cusetpm.backup import damages

        # A start tells only what is in its way.
        with failures():
            found = damages(choice.state_dir) if (choice.state_dir / "format").exists() else []
        if not found:
            raise
    if choice.as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo("\n".join(found) or "everything is as it has to be")
    return 1 if found else 0


@command.command("backup")
@click.argument("target", metavar="BACKUP", type=click.Path(path_type=Path))
@click.pass_obj
def backup(choice: Choice, target: Path) -> None:
    """Make a backup of store and vTPMs in the new directory BACKUP, also while they are used.

    It is of use with the same chip only, and until a vTPM is deleted or exported, or another key destroyed.
    """
    with choice.patiently("copying") as manager:
        count = manager.ask("backup", target=os.path.abspath(target))
    if not choice.as_json:
        click.echo(f"{target}: {count} vTPMs")


@command.command("restore")
@click.argument("source", metavar="BACKUP", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def restore(choice: Choice, source: Path, yes: bool) -> None:
    """Put BACKUP back: what the vTPMs have done since is undone, which the log of this command tells.

    What was there is kept beside it, in the state directory.
    """
    if not yes:
        click.confirm(f"Take all vTPMs in {choice.state_dir} back to what they were in {source}?", abort=True)
    with failures():
        from cusetpm.backup import restore as put_back

        accepted = put_back(choice.state_dir, source, bar)
    choice.lines(accepted)


@command.command("accept-rollback")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def accept_rollback(choice: Choice, yes: bool) -> None:
    """Take an old copy of the store, or of a part of it or of the chip's NV, that was put back.

    Whoever put it back has undone what vTPMs did since: counters of theirs have gone back, keys that were
    replaced are there again.  For the state of one vTPM there is vtpm accept-rollback.
    """
    if not yes:
        click.confirm("Take what was put back, although vTPMs go back in time by that?", abort=True)
    with choice.administration(accept_rollback=True) as manager:
        choice.lines(manager.ask("show")["accepted"])


@command.group("vtpm")
def vtpm() -> None:
    """The vTPMs of the manager; NAME is that of a guest in the state directory, or a UUID."""


_VTPM = {"uuid": "UUID", "name": "guest", "group": "group", "state": "state", "admin": "may manage",
         "kernel": "kernel hash"}


@vtpm.command("list")
@click.option("--group", type=int, metavar="N", help="Only those of group N.")
@click.pass_obj
def vtpm_list(choice: Choice, group: int | None) -> None:
    """List vTPMs in the order in which they were made."""
    with choice.administration() as manager:
        choice.table(manager.ask("vtpms", group=group), {
            "uuid": "UUID", "name": "NAME", "group": "GROUP", "state": "STATE"}, "no vTPMs")


@vtpm.command("show")
@click.argument("name", metavar="NAME")
@click.pass_obj
def vtpm_show(choice: Choice, name: str) -> None:
    """Say what the manager has of the vTPM NAME."""
    with choice.administration() as manager:
        choice.facts(manager.ask("vtpm", name=name), _VTPM)


@vtpm.command("new")
@click.option("--group", type=int, default=0, show_default=True, metavar="N", help="The group it belongs to.")
@click.option("--uuid", metavar="UUID", help="Its UUID; random without.")
@click.pass_obj
def vtpm_new(choice: Choice, group: int, uuid: str | None) -> None:
    """Make a vTPM."""
    with choice.administration() as manager:
        choice.facts(manager.ask("new", group=group, uuid=uuid), _VTPM)


@vtpm.command("edit")
@click.argument("name", metavar="NAME")
@click.option("--group", type=int, metavar="N", help="Move it to group N.")
@click.option("--admin/--no-admin", default=None, help="Let it manage, or not.")
@click.option("--kernel", metavar="HASH", help="The hash of the only kernel that opens it; none for any.")
@click.pass_obj
def vtpm_edit(choice: Choice, name: str, group: int | None, admin: bool | None, kernel: str | None) -> None:
    """Change the vTPM NAME."""
    if kernel == "none":
        kernel = "00" * 20
    elif kernel is not None and not _HASH.fullmatch(kernel):
        raise click.UsageError("--kernel: 40 hexadecimal digits, or none")
    with choice.administration() as manager:
        choice.facts(manager.ask("edit", name=name, group=group, admin=admin, kernel=kernel), _VTPM)


@vtpm.command("export")
@click.argument("name", metavar="NAME")
@click.option("--to", "target", required=True, type=Hex("address"), metavar="ADDRESS",
              help="The address of the manager that gets it, as cusetpm manager show prints it there.")
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def vtpm_export(choice: Choice, name: str, target: bytes, path: Path) -> None:
    """Write the vTPM NAME to FILE, for one other manager; it does not start here any more.

    Backups from before are of no use then, as after a deletion: they would have it in two places.
    """
    with choice.administration() as manager:
        manager.ask("export", name=name, target=target.hex(), path=os.path.abspath(path))


@vtpm.command("import")
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", metavar="NAME", help="Its name here; the one it had without.")
@click.option("--group", type=int, default=0, show_default=True, metavar="N", help="The group it gets into.")
@click.option("--from", "sender", type=Hex("address"), metavar="ADDRESS",
              help="Take it from the manager with this address only.")
@click.pass_obj
def vtpm_import(choice: Choice, path: Path, name: str | None, group: int, sender: bytes | None) -> None:
    """Take the vTPM in FILE, which another manager has exported for this one."""
    with choice.administration() as manager:
        choice.facts(manager.ask("receive", path=os.path.abspath(path), name=name, group=group,
                                 sender=sender.hex() if sender else None), _VTPM)


@vtpm.command("accept-rollback")
@click.argument("name", metavar="NAME")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def vtpm_accept_rollback(choice: Choice, name: str, yes: bool) -> None:
    """Take an old copy of the state of the vTPM NAME that was put back.

    What the vTPM did since is undone: counters of its have gone back, keys that were deleted are there again.
    """
    if not yes:
        click.confirm(f"Take what was put back of the vTPM {name}, so that it goes back in time?", abort=True)
    with choice.administration() as manager:
        choice.lines([manager.ask("accept", name=name)])


@vtpm.command("delete")
@click.argument("name", metavar="NAME")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def vtpm_delete(choice: Choice, name: str, yes: bool) -> None:
    """Delete the vTPM NAME; its key is destroyed, in every copy of the store."""
    if not yes:
        click.confirm(f"Delete the vTPM {name}, and everything that its keys protect, for good?", abort=True)
    with choice.administration() as manager:
        manager.ask("delete", name=name)


command.add_command(group)
command.add_command(platform)
command.add_command(quote)
command.add_command(verify_quote)
