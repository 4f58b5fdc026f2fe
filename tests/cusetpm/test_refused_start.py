"""A start that is refused leaves its state directory as it was: names, contents, modes, times of files."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.other_user import cusetpm_as_nobody

CUSETPM = [sys.executable, "-I", "-m", "cusetpm"]

Entry = tuple[int, int, bytes]


def run(state: Path, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    words = [*CUSETPM, "run", "--front-end", "socket", "--state-dir", str(state), *options, "--", *command]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)


def contents(state: Path) -> dict[str, Entry]:
    """Return mode, time of the last change and octets of every file, and the mode of every directory."""
    found: dict[str, Entry] = {}
    for path in (state, *sorted(state.rglob("*"))):
        status, file = path.lstat(), path.is_file()
        found[str(path.relative_to(state))] = (
            status.st_mode, status.st_mtime_ns if file else 0, path.read_bytes() if file else b"")
    return found


def refused(state: Path, says: str, *, options: tuple[str, ...] = ()) -> None:
    """A start is refused with one line that says *says*, and changes nothing."""
    before = contents(state)
    done = run(state, "true", options=options)
    assert done.returncode == 125, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("cusetpm: ")
    assert says in line
    after = contents(state)
    assert {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)} == set()


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a state directory that was used twice; beside it `older`, as it was after the first time."""
    base = tmp_path_factory.mktemp("used")
    assert run(base / "state", "true").returncode == 0
    shutil.copytree(base / "state", base / "older")
    assert run(base / "state", "true").returncode == 0
    assert run(base / "other", "true").returncode == 0
    return base


@pytest.fixture
def state(used: Path, tmp_path: Path) -> Path:
    """Give a copy of it, to be spoilt."""
    return Path(shutil.copytree(used / "state", tmp_path / "state"))


def spoil(state: Path, pattern: str, at: int, octets: bytes = b"\xa5" * 16) -> None:
    files = list(state.glob(pattern))
    assert files
    for file in files:
        content = bytearray(file.read_bytes())
        start = at % len(content)
        content[start : start + len(octets)] = octets
        file.write_bytes(content)


def test_the_directory_itself_is_good(state: Path) -> None:
    assert run(state, "true").returncode == 0


@pytest.mark.parametrize("at", [0, 5, 40, 300])
@pytest.mark.parametrize("name", ["guests/tpm0/state.?", "chip.?"])
def test_garbage_in_a_slot_file(state: Path, name: str, at: int) -> None:
    spoil(state, name, at)
    refused(state, name.partition(".")[0])


@pytest.mark.parametrize("at", [0, 5, 40, 100])
def test_garbage_in_the_managers_store(state: Path, at: int) -> None:
    spoil(state, "manager.db", at, b"\xa5" * 64)
    refused(state, "manager.db: ")


@pytest.mark.parametrize("column", ["identity.store", "seal.parent", "seal.public", "seal.private",
                                    "grp.sealed", "mark.sealed", "vtpm.sealed"])
def test_one_octet_changed_in_the_managers_store(state: Path, column: str) -> None:
    table, _, name = column.partition(".")
    with closing(sqlite3.connect(state / "manager.db")) as db:
        value: bytes = db.execute(f"SELECT {name} FROM {table}").fetchone()[0]  # noqa: S608
    at = (state / "manager.db").read_bytes().index(value)
    spoil(state, "manager.db", at + len(value) // 2, bytes([value[len(value) // 2] ^ 1]))
    refused(state, "manager.db: ")


@pytest.mark.parametrize("size", [100, 4096, 9000])
def test_a_managers_store_that_is_cut_short(state: Path, size: int) -> None:
    os.truncate(state / "manager.db", size)
    refused(state, "manager.db: ")


@pytest.mark.parametrize("name", ["format", "guests/tpm0/state.?", "chip.?"])
def test_another_version(state: Path, name: str) -> None:
    if name == "format":
        (state / name).write_text("cusetpm state 99\n")
    else:
        spoil(state, name, 12, b"\0\x63")
    refused(state, "this version" if name == "format" else "written by another version of cusetpm (format 99")


def test_a_managers_store_of_another_version(state: Path) -> None:
    with closing(sqlite3.connect(state / "manager.db")) as db:
        db.execute("PRAGMA user_version = 99")
    refused(state, "written by another version of cusetpm (format 99")


def test_a_managers_store_of_something_else(state: Path) -> None:
    (state / "manager.db").unlink()
    with closing(sqlite3.connect(state / "manager.db")) as db:
        db.executescript("CREATE TABLE bookmarks (url TEXT); PRAGMA journal_mode = WAL")
    refused(state, "not a manager's store")


@pytest.mark.parametrize(("names", "says"), [
    (("manager.db",), "an old copy of the store was put back"),
    (("chip.0", "chip.1"), "an old copy of the chip's NV was put back"),
    (("guests/tpm0/state.0", "guests/tpm0/state.1"), "damaged, or an old copy was put back"),
])
def test_an_old_copy_put_back(used: Path, state: Path, names: tuple[str, ...], says: str) -> None:
    for name in names:
        if (used / "older" / name).exists():
            shutil.copyfile(used / "older" / name, state / name)
        else:
            (state / name).unlink()
    refused(state, says)


@pytest.mark.parametrize(("names", "says"), [
    (("manager.db",), "the root key is sealed to another chip"),
    (("chip.0", "chip.1"), "the root key is sealed to another chip"),
    (("guests/tpm0",), "the manager has no key for vTPM"),
    (("guests/tpm0/state.0", "guests/tpm0/state.1"), "neither file is the state that the manager knows"),
])
def test_a_part_of_another_directory(used: Path, state: Path, names: tuple[str, ...], says: str) -> None:
    for name in names:
        if (used / "other" / name).is_dir():
            shutil.rmtree(state / name)
            shutil.copytree(used / "other" / name, state / name)
        else:
            shutil.copyfile(used / "other" / name, state / name)
    if names == ("guests/tpm0",):
        shutil.copyfile(state / "guests/tpm0/state.0", state / "guests/tpm0/state.1")
    refused(state, says)


@pytest.mark.parametrize(("names", "says"), [
    (("format",), "not empty, and not a state directory of cusetpm"),
    (("chip.0", "chip.1"), "the chip's NV, are gone"),
    (("manager.db",), "the manager's store, is gone"),
    (("guests/tpm0/uuid",), "uuid is gone"),
    (("guests/tpm0/state.0", "guests/tpm0/state.1"), "neither file is the state that the manager knows"),
])
@pytest.mark.parametrize("lock", [False, True], ids=["without lock", "with lock"])
def test_a_missing_file(state: Path, names: tuple[str, ...], says: str, lock: bool) -> None:
    for name in names:
        (state / name).unlink(missing_ok=True)
    if not lock:
        (state / "lock").unlink()
    refused(state, says)


@pytest.mark.parametrize("content", [b"nonsense\n", b"", b"\xff\xfe"])
def test_a_damaged_uuid(state: Path, content: bytes) -> None:
    (state / "guests/tpm0/uuid").write_bytes(content)
    refused(state, "uuid: not a UUID")


@pytest.mark.parametrize("name", ["format", "lock", "chip.0", "manager.db", "guests/tpm0/uuid",
                                  "guests/tpm0/state.0"])
@pytest.mark.parametrize("kind", ["pipe", "directory", "dangling link"])
def test_something_else_in_the_place_of_a_file(state: Path, name: str, kind: str) -> None:
    """A pipe, above all, is not waited for."""
    (state / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(state / name)
    elif kind == "directory":
        (state / name).mkdir()
    else:
        (state / name).symlink_to("nothing/there")
    says = {("pipe", "manager.db"): "the manager's store, is gone",
            ("dangling link", "format"): "not empty, and not a state directory"}
    refused(state, says.get((kind, name), name))


def test_a_directory_without_the_right_to_write(state: Path) -> None:
    command = cusetpm_as_nobody("run", "--state-dir", str(state), "--", "true")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd="/")
    assert (done.returncode, done.stderr) == (125, f"cusetpm: {state}: Permission denied\n")


def test_a_directory_in_use(state: Path) -> None:
    inner = [*CUSETPM, "run", "--state-dir", str(state), "--", "true"]
    script = ('cd "$1"; shift; show() { find . -type f -printf "%p %T@\\n" -exec cat {} +; }; '
              'show; "$@"; test $? = 125 && show')
    outer = [*CUSETPM, "run", "--front-end", "socket", "--state-dir", str(state), "--", "sh", "-c", script]
    done = subprocess.run([*outer, "sh", str(state), *inner], capture_output=True, check=False, timeout=120)
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 1
    assert b"in use by process " in done.stderr
    before, after = done.stdout[: len(done.stdout) // 2], done.stdout[len(done.stdout) // 2 :]
    assert before == after


def test_a_managers_store_in_use_by_a_program_that_knows_no_lock(state: Path) -> None:
    script = ("import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None); "
              "db.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", script, str(state / "manager.db")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        refused(state, "manager.db: SQLite: database is locked")
        holder.communicate("")


def test_a_tpm_of_another_family(state: Path) -> None:
    refused(state, "this is not the state of a TPM 1.2", options=("--tpm", "1.2"))


def test_a_seed_that_did_not_make_this_tpm(state: Path) -> None:
    refused(state, "was not made from this seed", options=("--seed", "00"))


def test_nothing_to_resume(state: Path) -> None:
    assert run(state, "tpm2_shutdown", "-c").returncode == 0
    refused(state, "use --startup clear", options=("--startup", "state"))


@pytest.mark.skipif(os.path.exists("/dev/cuse"), reason="CUSE can be had here")
def test_a_front_end_that_cannot_be_had(state: Path) -> None:
    refused(state, "no CUSE on this machine", options=("--front-end", "cuse"))


@pytest.mark.skipif(os.path.exists("/dev/vtpmx"), reason="this machine has a /dev/vtpmx")
def test_a_chip_of_the_kernels_that_cannot_be_had(state: Path) -> None:
    refused(state, "/dev/vtpmx: no vtpm-proxy on this machine (modprobe tpm_vtpm_proxy)",
            options=("--front-end", "vtpmx"))


def test_a_signal_before_command(state: Path) -> None:
    """A signal that waits, blocked, still waits after exec."""
    pending = ("import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); "
               "os.kill(os.getpid(), signal.SIGTERM); os.execv(sys.argv[1], sys.argv[1:])")
    before = contents(state)
    done = subprocess.run([sys.executable, "-c", pending, *CUSETPM, "run", "--front-end", "socket",
                           "--state-dir", str(state), "--", "echo", "ran"], capture_output=True, check=False,
                          timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (143, b"", b"")
    assert contents(state) == before


def killed(state: Path) -> None:
    """A process that used the directory was killed, and has left the store's newest part in the WAL."""
    assert run(state, "sh", "-c", "tpm2_getrandom --hex 1; kill -9 $PPID").returncode == -9
    assert (state / "manager.db-wal").stat().st_size > 0


def test_the_managers_wal_is_not_merged_by_a_start_that_is_refused(state: Path) -> None:
    killed(state)
    good = shutil.copytree(state, state.with_name("good"))
    spoil(state, "guests/tpm0/state.?", 100)
    refused(state, "neither file is the state")
    assert run(good, "true").returncode == 0
    assert not (good / "manager.db-wal").exists()


def test_a_wal_of_an_old_copy(used: Path, state: Path) -> None:
    killed(state)
    (state / "manager.db-wal").unlink()
    refused(state, "an old copy of the store was put back")


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize(("options", "says"), [
    (("--startup", "state"), "use --startup clear"),
    pytest.param(("--front-end", "cuse"), "no CUSE on this machine", marks=pytest.mark.skipif(
        os.path.exists("/dev/cuse"), reason="CUSE can be had here")),
])
def test_a_new_directory_is_as_empty_as_before(
        tmp_path: Path, made: bool, options: tuple[str, ...], says: str) -> None:
    state = tmp_path / "new" / "state"
    if made:
        state.mkdir(parents=True)
    done = run(state, "true", options=options)
    assert done.returncode == 125
    assert says in done.stderr
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == (
        ["new", "new/state"] if made else [])
