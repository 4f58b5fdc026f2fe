"""Backups that are made and put back, and what has to be there when that is cut short (`cut_short`)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cusetpm import questions
from cusetpm.backup import restore
from cusetpm.settings import Settings
from cusetpm.settings import read as read_settings
from hwtpm.errors import StateError
from tests.support.directories import (
    auth,
    change,
    good,
    made,
    manage,
    released,
    set_auth,
    start,
    two_vtpms,
    why_not,
)

Ack = Callable[[str], None]


def backup(base: Path, family: str, ack: Ack) -> None:
    with closing(released(base / "s")) as system:
        assert questions.backup(system, str(base / "backup")) == 2
        ack("made")
        change(start(system, "one"), "1", "2")


def look_backup(base: Path, told: set[str], family: str) -> str:
    path, found = base / "s", "there"
    auth(path, "one", "1", "2")
    if not (base / "backup").exists():
        assert "made" not in told
        found = "none"
        set_auth(path, "one", "1", "1")
        backup(base, family, lambda what: None)
    restore(path, base / "backup")
    assert [auth(path, name, "1") for name in ("one", "two")] == ["1", "1"]
    good(path)
    return found


def one_backup(base: Path, family: str) -> None:
    two_vtpms(base, family)
    backup(base, family, lambda what: None)


def put_back(base: Path, family: str, ack: Ack) -> None:
    restore(base / "s", base / "backup")
    ack("restored")


def look_restore(base: Path, told: set[str], family: str) -> str:
    path, found = base / "s", "restored"
    why = why_not(path, "one")
    if why:
        assert re.search("a backup was being put back when that was cut short; restore it once more", why)
        assert not told
        found = "once more"
        # If that cannot be done, the directory is what it was, or what the backup was.
        copy, bad = base / "copy", base / "bad"
        shutil.copytree(path, copy)
        shutil.copytree(base / "backup", bad)
        (bad / "manager.db").write_bytes(b"x" * 9000)
        with pytest.raises(StateError, match="not a manager's store"):
            restore(copy, bad)
        auth(copy, "one", "1", "2")
        good(copy)
        restore(path, base / "backup")
    elif auth(path, "one", "1", "2") == "2":
        found = "as before"
        assert not told
        restore(path, base / "backup")
    assert [auth(path, name, "1") for name in ("one", "two")] == ["1", "1"]
    good(path)
    return found


def backup_and_old_chip(base: Path, family: str) -> None:
    """The chip's NV is older than the backup, so it counts again what it has counted before."""
    made(base / "s", family)
    set_auth(base / "s", "one", "", "0")
    for slot in "01":
        shutil.copy(base / "s" / f"chip.{slot}", base.with_name(f"chip.{slot}"))
    set_auth(base / "s", "one", "0", "1")
    set_auth(base / "s", "two", "", "1")
    backup(base, family, lambda what: None)
    for slot in "01":
        shutil.copy(base.with_name(f"chip.{slot}"), base / "s" / f"chip.{slot}")


def look_restore_with_old_chip(base: Path, told: set[str], family: str) -> str:
    path, found = base / "s", "restored"
    why = why_not(path, "one")
    if why:
        assert "restored" not in told
        assert re.search("restore it once more|an old copy of the chip's NV was put back", why)
        found = "once more"
        try:
            restore(path, base / "backup")
        except StateError as error:
            # It was accepted before, and no copy of before that is good any more.
            assert "the key that opens it has been destroyed since" in str(error) or (  # noqa: PT017
                "its mark cannot be decrypted" in str(error)), error
            found = "there"
    assert [auth(path, name, "1") for name in ("one", "two")] == ["1", "1"]
    good(path)
    return found


def backup_and_nothing_else(base: Path, family: str) -> None:
    """Only the chip is left of the directory, and its format."""
    one_backup(base, family)
    shutil.rmtree(base / "s" / "guests")
    for name in "manager.db", "manager.toml":
        (base / "s" / name).unlink()


def look_restore_of_all(base: Path, told: set[str], family: str) -> str:
    path, found = base / "s", "restored"
    if "restored" not in told:
        if not (path / "restoring").exists() and (path / "manager.db").exists():
            found = "there"
        else:
            found = "once more"
            restore(path, base / "backup")
    assert read_settings(path) == Settings(chip=family, administrator="none")
    assert [auth(path, name, "1") for name in ("one", "two")] == ["1", "1"]
    good(path)
    return found


def to_restore(base: Path, family: str) -> dict[str, list[str]]:
    return {"restored": manage(base / "s", "restore", "--yes", base / "backup")}
