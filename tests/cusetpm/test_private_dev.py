"""COMMAND finds its device as /dev/tpm0 in a /dev of its own, and is else what it would be without."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from cusetpm.command import CannotExecute, spawn
from tests.conftest import RunInVm
from tests.support.other_user import CHECKOUT, NOBODY, as_nobody, cusetpm_as_nobody

CUSETPM = [sys.executable, "-I", "-m", "cusetpm"]

# Prints what COMMAND can see of itself and of /dev.
ABOUT = """
import json, os, signal, stat
print(json.dumps({
    "ids": [os.getresuid(), os.getresgid()], "parent": os.getppid(), "group": os.getpgrp(),
    "session": os.getsid(0), "directory": os.getcwd(),
    "files": sorted(int(n) for n in os.listdir("/proc/self/fd"))[:-1],
    "environment": {k: v for k, v in os.environ.items() if not k.startswith("TPM")},
    "signals": [line for line in open("/proc/self/status").read().splitlines()
                if line.startswith(("SigBlk", "SigIgn", "CapEff", "NoNewPrivs"))],
    "dev": {name: [stat.S_IFMT(s.st_mode), s.st_rdev, os.readlink(p) if os.path.islink(p) else ""]
            for name in os.listdir("/dev") for p in ["/dev/" + name] for s in [os.lstat(p)]}}))
"""

needs_fuse = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK),
                                reason="no /dev/fuse for this user")
users = pytest.mark.parametrize("ordinary", [False, True], ids=["this user", "ordinary user"])


def possible(ordinary: bool) -> None:
    """Skip where the system lets nobody have a /dev of its own."""
    if shutil.which("unshare") is None:
        pytest.skip("tells with unshare what the system allows, which is not there")
    root = ["unshare", "-m", "true"]
    user = ["unshare", "-U", "-m", "true"]
    tried = as_nobody(*user) if ordinary else root if os.geteuid() == 0 else user
    done = subprocess.run(tried, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the system allows no mount namespace here: {done.stderr.strip()}")


def run(*command: str, ordinary: bool = False, options: tuple[str, ...] = (), cwd: str = "/",
        ) -> subprocess.CompletedProcess[str]:
    arguments = ["run", "--front-end", "fuse", *options, "--", *command]
    words = cusetpm_as_nobody(*arguments) if ordinary else [*CUSETPM, *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, cwd=cwd)


@needs_fuse
@users
def test_a_tool_with_a_path_of_its_own_finds_the_device(ordinary: bool) -> None:
    possible(ordinary)
    there = os.path.lexists("/dev/tpm0")
    script = ('for device in /dev/tpm0 /dev/tpmrm0; do tpm2_getrandom -T device:$device --hex 8; echo; done; '
              'test "$CUSETPM_DEVICE" != /dev/tpm0 && test "$CUSETPM_DEVICE" -ef /dev/tpm0 && '
              'test "$CUSETPM_RM_DEVICE" -ef /dev/tpmrm0 && echo "$TPM2TOOLS_TCTI"')
    done = run("sh", "-c", script, ordinary=ordinary, options=("-v",))
    assert done.returncode == 0, done.stderr
    one, other, tcti = done.stdout.split()
    assert (len(one), len(other)) == (16, 16)
    assert tcti.startswith("device:/")
    assert not tcti.endswith(":/dev/tpmrm0")
    assert "COMMAND has a /dev of its own, with tpm0, tpmrm0" in done.stderr
    assert os.path.lexists("/dev/tpm0") == there


@needs_fuse
@users
def test_two_jobs_side_by_side_each_see_their_own(ordinary: bool) -> None:
    possible(ordinary)
    read = "tpm2_pcrread -T device:/dev/tpm0 sha256:16 | tail -1"
    extend = f"tpm2_pcrextend -T device:/dev/tpm0 16:sha256={'1':>064}"
    arguments = ["run", "--front-end", "fuse", "--", "sh", "-c", f"{extend}; {read}; read line; {read}"]
    words = cusetpm_as_nobody(*arguments) if ordinary else [*CUSETPM, *arguments]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as first:
        assert first.stdout is not None
        extended = first.stdout.readline().split()[-1]
        second = run("sh", "-c", read, ordinary=ordinary)
        rest, _ = first.communicate("go on\n", timeout=120)
        assert first.returncode == 0
    assert int(extended, 16) != 0
    assert rest.split()[-1] == extended
    assert int(second.stdout.split()[-1], 16) == 0


@needs_fuse
def test_a_run_inside_a_run_shows_the_inner_device() -> None:
    if os.geteuid() != 0:
        pytest.skip("an ordinary user's COMMAND cannot mount, so only root's can be a run with a device file")
    possible(ordinary=False)
    read = "tpm2_pcrread -T device:/dev/tpm0 sha256:16 | tail -1"
    extend = f"tpm2_pcrextend -T device:/dev/tpm0 16:sha256={'1':>064}"
    inner_run = [*CUSETPM, "run", "--front-end", "fuse", "--", "sh", "-c", read]
    done = run("sh", "-c", f'{extend}; "$@"; {read}', "sh", *inner_run)
    inner, outer = (int(line.split()[-1], 16) for line in done.stdout.splitlines())
    assert inner == 0
    assert outer != 0


@pytest.mark.vm
@pytest.mark.slow
@pytest.mark.parametrize("front_end", ["cuse", "vtpmx"])
def test_a_second_character_device_is_the_first_one_of_its_own_job(
        run_in_vm: RunInVm, front_end: str) -> None:
    read = "tpm2_pcrread -T device:/dev/tpm0 sha256:16 | tail -1"
    extend = f"tpm2_pcrextend -T device:/dev/tpm0 16:sha256={'1':>064}"
    inner = f'echo "$CUSETPM_DEVICE"; stat -c %F /dev/tpm0 /dev/tpmrm0; ls /dev | grep ^tpm; {read}'
    run = [str(CHECKOUT / "scripts" / "cusetpm"), "run", "--front-end", front_end, "--"]
    outer = ["sh", "-c", f'{extend}; "$@"; {read}', "sh", *run, "sh", "-c", inner]
    done = run_in_vm("env", "-C", "/root", *run, *outer)
    assert done.returncode == 0, done.stderr
    *told, inner_pcr, outer_pcr = done.stdout.splitlines()
    assert told == ["/dev/tpm1", "character special file", "character special file",
                    "tpm0", "tpm1", "tpmrm0", "tpmrm1"]
    assert int(inner_pcr.split()[-1], 16) == 0
    assert int(outer_pcr.split()[-1], 16) != 0


@needs_fuse
@users
def test_it_can_be_declined(ordinary: bool) -> None:
    done = run("sh", "-c", "! test /dev/tpm0 -ef $CUSETPM_DEVICE", ordinary=ordinary,
               options=("--no-private-dev",))
    assert (done.returncode, done.stderr) == (0, "")


@needs_fuse
@users
@pytest.mark.parametrize(("script", "status"), [
    ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("kill -PIPE $$; echo still there", 141)])
def test_the_status_is_that_of_the_command(ordinary: bool, script: str, status: int) -> None:
    done = run("sh", "-c", script, ordinary=ordinary)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@needs_fuse
def test_what_cannot_be_executed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "file").chmod(0o755)
    done = run(str(tmp_path / "file"))
    assert (done.returncode, done.stderr) == (126, f"cusetpm: {tmp_path}/file: Exec format error\n")


@needs_fuse
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_once(number: signal.Signals) -> None:
    script = 'trap "echo got it" INT TERM; echo "$CUSETPM_DEVICE"; read line; exit 9'
    command = [*CUSETPM, "run", "--front-end", "fuse", "--", "bash", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        device = Path(process.stdout.readline().strip())
        process.send_signal(number)
        assert process.stdout.readline() == "got it\n"
        rest, _ = process.communicate("\n", timeout=60)
        assert (process.returncode, rest) == (9, "")
    assert not device.parent.parent.exists()


def terminal_for(command: list[str]) -> tuple[int, str, subprocess.Popen[bytes]]:
    """Return a terminal, its name, and *command*, which has it as its controlling one."""
    ours, theirs = pty.openpty()
    name = os.ttyname(theirs)

    def take() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=take)
    os.close(theirs)
    return ours, name, process


def until(terminal: int, end: bytes) -> bytes:
    read = b""
    while end not in read:
        try:
            read += os.read(terminal, 1000)
        except OSError:  # Everybody has closed it.
            break
    return read


@needs_fuse
@pytest.mark.parametrize("option", ["--private-dev", "--no-private-dev"])
def test_the_terminal_is_that_of_the_caller_and_its_signals_come_once(option: str) -> None:
    script = 'trap "echo got it; exit 9" INT; tty; test -t 1; echo "up $?"; while :; do read -t 60 line; done'
    run = [*CUSETPM, "run", "--front-end", "fuse", option, "--", "bash", "-c", script]
    terminal, name, process = terminal_for(run)
    with process:
        assert until(terminal, b"up 0\r\n").splitlines()[0].decode() == name
        os.write(terminal, b"\x03")
        assert until(terminal, b"nothing").count(b"got it") == 1
        assert process.wait(60) == 9
    os.close(terminal)


@pytest.fixture
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Give files that stand for devices, by name, where everybody can reach them."""
    made = Path("/tmp") / f"cusetpm-devices-{os.getpid()}"  # noqa: S108 - other users cannot enter pytest's
    made.mkdir()
    names = ("tpm0", "tpmrm0")
    for name in names:
        (made / name).write_text(f"this is {name}\n")
    yield {name: str(made / name) for name in names}
    shutil.rmtree(made)


def spawned(command: list[str], devices: dict[str, str]) -> str:
    """Return what *command* prints, having been spawned with *devices*."""
    hear, tell = os.pipe()
    saved = os.dup(1)
    os.dup2(tell, 1)
    os.close(tell)
    try:
        pid = spawn(tuple(command), os.environ, devices)
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    with open(hear) as output:
        printed = output.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, printed
    return printed


def about(devices: dict[str, str]) -> dict[str, object]:
    printed = spawned([sys.executable, "-I", "-S", "-c", ABOUT], devices)
    found: dict[str, object] = json.loads(printed)
    return found


def test_nothing_else_is_different_from_a_command_without(
        files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    possible(ordinary=False)
    for directory in ("/", "/dev/shm", "/dev/pts"):  # noqa: S108 - nothing is made there
        monkeypatch.chdir(directory)
        plain, private = about({}), about(files)
        mine = private["dev"]
        assert isinstance(mine, dict)
        shown = {name: mine.pop(name) for name in ("tpm0", "tpmrm0")}
        assert all(kind == 0o100000 for kind, *_ in shown.values())
        assert private == plain


def test_what_is_in_dev_works_and_is_shared_with_others(files: dict[str, str]) -> None:
    possible(ordinary=False)
    shared = Path(f"/dev/shm/cusetpm-shared-{os.getpid()}")  # noqa: S108 - where else could it be shared
    script = (f'echo lost >/dev/null; head -c 8 /dev/zero | od -An -tx1; echo text >{shared}; '
              'cat /dev/tpm0 /dev/tpmrm0; test -c /dev/null && test -c /dev/urandom')
    try:
        assert spawned(["sh", "-c", script], files).split() == (
            ["00"] * 8 + ["this", "is", "tpm0", "this", "is", "tpmrm0"])
        assert shared.read_text() == "text\n"
    finally:
        shared.unlink()


def test_devices_of_somebody_else_are_not_shown(files: dict[str, str]) -> None:
    """What tools look for is ours or nobody's: here the outer /dev has both, and the inner job has one."""
    possible(ordinary=False)
    if os.geteuid() != 0:
        pytest.skip("has a /dev inside another, which needs root")
    inner = [sys.executable, str(Path(spawn.__code__.co_filename).with_name("privatedev.py")), "2", "tpm0",
             files["tpmrm0"], "--", "sh", "-c", "ls /dev | grep ^tpm; cat /dev/tpm0"]
    assert spawned(inner, files).split() == ["tpm0", "this", "is", "tpmrm0"]


def test_what_command_mounts_is_seen_as_it_would_be_without(files: dict[str, str], tmp_path: Path) -> None:
    """On most machines mounts are shared between namespaces; of all that is mounted, only /dev is not."""
    assert among_shared_mounts(f"mount -t tmpfs none {tmp_path} && cat /dev/tpm0 >{tmp_path}/file",
                               f"cat {tmp_path}/file", files) == "this is tpm0\n"


def test_a_dev_that_is_no_mount_of_its_own_is_not_covered_for_others(files: dict[str, str]) -> None:
    assert among_shared_mounts("cat /dev/tpm0", "echo not covered", files,
                               before="umount -R -l /dev") == "this is tpm0\nnot covered\n"


def among_shared_mounts(command: str, after: str, files: dict[str, str], before: str = "true") -> str:
    """Return what *command* prints, with a /dev of its own among shared mounts, and then *after* outside."""
    possible(ordinary=False)
    if os.geteuid() != 0:
        pytest.skip("mounts, which needs root")
    helper = [sys.executable, str(Path(spawn.__code__.co_filename).with_name("privatedev.py")), "2", "tpm0",
              files["tpm0"], "--", "sh", "-c", command]
    outer = f'{before} && mount --make-rshared / && "$@" && test ! -e /dev/tpm0 && {after}'
    done = subprocess.run(["unshare", "-m", "sh", "-c", outer, "sh", *helper], capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_an_ordinary_user_cannot_write_to_the_directory(files: dict[str, str]) -> None:
    possible(ordinary=True)
    helper = Path(spawn.__code__.co_filename).with_name("privatedev.py")
    script = "touch /dev/new 2>/dev/null || cat /dev/tpm0; id -u; id -g; cat /proc/self/uid_map"
    python = cusetpm_as_nobody()[:-2]
    words = [*python, "-I", "-S", str(helper), "2", "tpm0", files["tpm0"], "--", "sh", "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
    assert done.stdout.split() == ["this", "is", "tpm0", *[str(NOBODY)] * 4, "1"], done.stderr


@pytest.mark.parametrize("why", ["a device that is not there", "no Python"])
def test_where_it_is_not_possible_command_runs_as_without_and_the_log_says_why(
        files: dict[str, str], why: str, caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO)
    if why == "no Python":
        monkeypatch.setattr(sys, "executable", "/nonexistent/python")
        reason = "/nonexistent/python: No such file or directory"
    else:
        possible(ordinary=False)
        files["tpm0"] = "/nonexistent/tpm0"
        reason = "/nonexistent/tpm0: No such file or directory"
    assert spawned(["sh", "-c", "ls -d /dev/tpm0 2>/dev/null; echo ran"], files).split()[-1] == "ran"
    assert caplog.messages == [f"COMMAND has no /dev of its own: {reason}"]


def test_a_system_that_allows_no_namespace_is_such_a_place(files: dict[str, str]) -> None:
    possible(ordinary=True)
    helper = Path(spawn.__code__.co_filename).with_name("privatedev.py")
    none = "echo 0 >/proc/sys/user/max_mnt_namespaces && exec \"$@\""
    python = cusetpm_as_nobody()
    split = python.index("env", python.index("--clear-groups") + 2)
    words = [*python[:split], "unshare", "-Ur", "sh", "-c", none, "sh", *python[split:-2], "-I", "-S",
             str(helper), "2", "tpm0", files["tpm0"], "--", "echo", "ran"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
    assert (done.stdout, done.stderr) == ("", "dev unshare: No space left on device")


def test_what_spawn_cannot_execute_says_so_either_way(files: dict[str, str]) -> None:
    for devices in ({}, files):
        with pytest.raises(CannotExecute, match="/nonexistent/program: No such file or directory"):
            spawn(("/nonexistent/program",), os.environ, devices)
