"""The FUSE directory as a whole: mount, files, cancellation, and what can go wrong."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cusetpm.devices import fusedir
from cusetpm.devices.fusedir import FuseDirectory
from cusetpm.devices.session import Device, SharedDevice
from tests.conformance.fake_tpm import (
    CREATE_PRIMARY,
    GET_RANDOM,
    UNKNOWN_OBJECT,
    FakeManager,
    FakeTpm,
    message,
)

pytestmark = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="no /dev/fuse for this user"
)

needs_user_namespaces = pytest.mark.skipif(
    subprocess.run(["unshare", "-U", "-r", "true"], check=False, capture_output=True).returncode != 0,
    reason="no user namespaces for this user",
)

CREATE = message(CREATE_PRIMARY)


@pytest.fixture
def tpm() -> FakeTpm:
    return FakeTpm(key_s=60)


@pytest.fixture
def directory(tmp_path: Path, tpm: FakeTpm) -> Iterator[FuseDirectory]:
    made = FuseDirectory(tmp_path, {"tpm0": Device(tpm), "web1": Device(FakeTpm())})
    made.start()
    yield made
    made.stop()


def client(program: str, path: Path, flags: int = 0) -> subprocess.Popen[str]:
    """A process with the file open as `fd`."""
    program = f"import os, sys; fd = os.open({str(path)!r}, os.O_RDWR | {flags})\n" + program
    return subprocess.Popen(
        [sys.executable, "-I", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=30)
    return out + errors


def test_the_directory_lists_its_devices(directory: FuseDirectory, tmp_path: Path) -> None:
    listed = subprocess.run(
        ["stat", "-c", "%n %a %s %F", *sorted(os.listdir(tmp_path))],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert listed.stdout == "tpm0 600 0 regular empty file\nweb1 600 0 regular empty file\n"
    assert not (tmp_path / "tpm1").exists()
    with pytest.raises(OSError, match="tpm1"):
        (tmp_path / "tpm1").touch()


def test_the_mode_is_the_caller_s_and_chmod_changes_it(tmp_path: Path) -> None:
    made = FuseDirectory(tmp_path, {"tpm0": Device(FakeTpm())}, mode=0o660)
    made.start()
    try:
        assert (tmp_path / "tpm0").stat().st_mode & 0o777 == 0o660
        (tmp_path / "tpm0").chmod(0o600)
        assert (tmp_path / "tpm0").stat().st_mode & 0o777 == 0o600
    finally:
        made.stop()


def test_a_client_killed_in_a_blocking_write_has_its_command_cancelled(
    directory: FuseDirectory, tmp_path: Path, tpm: FakeTpm
) -> None:
    process = client(f"os.write(fd, {CREATE!r})", tmp_path / "tpm0")
    assert tpm.creating.wait(30)
    process.kill()
    assert end(process) == ""
    assert tpm.cancels >= 1


def test_a_handled_signal_does_not_cancel(directory: FuseDirectory, tmp_path: Path, tpm: FakeTpm) -> None:
    program = "import signal; signal.signal(signal.SIGURG, lambda *_: None)\n"
    program += f"os.write(fd, {CREATE!r}); print(os.read(fd, 4096)[6:].hex())"
    process = client(program, tmp_path / "tpm0")
    assert tpm.creating.wait(30)
    process.send_signal(23)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    assert tpm.cancels == 0
    tpm.cancel()
    assert end(process) == "00000909\n"


def test_closing_cancels_a_queued_command(directory: FuseDirectory, tmp_path: Path, tpm: FakeTpm) -> None:
    program = f"os.write(fd, {CREATE!r}); sys.stdin.read()"
    process = client(program, tmp_path / "tpm0", os.O_NONBLOCK)
    assert tpm.creating.wait(30)
    assert end(process) == ""
    assert tpm.cancelled.wait(30)


def test_stop_cancels_commands_and_answers_their_clients(
    directory: FuseDirectory, tmp_path: Path, tpm: FakeTpm
) -> None:
    process = client(f"print(os.write(fd, {CREATE!r}))", tmp_path / "tpm0")
    assert tpm.creating.wait(30)
    directory.stop()
    directory.stop()
    assert end(process) == "10\n"
    assert not os.path.ismount(tmp_path)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fuse")]


def test_an_open_file_does_not_keep_the_mount(directory: FuseDirectory, tmp_path: Path) -> None:
    program = "print('open', flush=True); sys.stdin.read()\n"
    program += f"try: os.write(fd, {CREATE!r})\nexcept OSError as e: print(e.errno)"
    process = client(program, tmp_path / "web1")
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    directory.stop()
    assert not os.path.ismount(tmp_path)
    assert end(process) in (f"{errno.ENOTCONN}\n", f"{errno.ECONNABORTED}\n")


def test_a_tpm_that_fails_breaks_the_pipe_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(FakeTpm):
        def execute(self, command: bytes, locality: int = 0, cancelled=None) -> bytes:
            raise RuntimeError("gone")

    made = FuseDirectory(tmp_path, {"tpm0": Device(Broken())})
    made.start()
    try:
        for asked in (CREATE, message(0x17B, b"\0\x08")):
            program = f"try: os.write(fd, {asked!r})\nexcept OSError as e: print(e.errno)"
            assert end(client(program, tmp_path / "tpm0")) == f"{errno.EPIPE}\n"
    finally:
        made.stop()
    assert "a command failed" in caplog.text


def test_a_command_that_is_not_executed_ends_the_write_or_the_read(tmp_path: Path) -> None:
    made = FuseDirectory(tmp_path, {"tpmrm0": SharedDevice(FakeManager())})
    made.start()
    try:
        for asked in (message(0x165, UNKNOWN_OBJECT), message(CREATE_PRIMARY, UNKNOWN_OBJECT)):
            program = f"try: os.write(fd, {asked!r})\nexcept OSError as e: print(e.errno)"
            assert end(client(program, tmp_path / "tpmrm0")) == f"{errno.EINVAL}\n"
        program = f"os.write(fd, {asked!r}); import select; p = select.poll(); p.register(fd, 1); p.poll()\n"
        program += "try: os.read(fd, 4096)\nexcept OSError as e: print(e.errno)"
        assert end(client(program, tmp_path / "tpmrm0", os.O_NONBLOCK)) == f"{errno.EINVAL}\n"
    finally:
        made.stop()


def test_one_process_serves_one_directory_at_a_time(directory: FuseDirectory, tmp_path: Path) -> None:
    other = tmp_path.with_name("other")
    other.mkdir()
    second = FuseDirectory(other, {"tpm0": Device(FakeTpm())})
    with pytest.raises(OSError, match="already serves") as caught:
        second.start()
    assert caught.value.errno == errno.EBUSY
    second.stop()
    directory.stop()
    second.start()
    second.stop()


def test_the_mount_of_a_killed_process_is_replaced(tmp_path: Path) -> None:
    program = (
        "import sys; from cusetpm.devices.fusedir import FuseDirectory\n"
        "from cusetpm.devices.session import Device\n"
        "from tests.conformance.fake_tpm import FakeTpm\n"
        "FuseDirectory(sys.argv[1], {'tpm0': Device(FakeTpm())}).start()\n"
        "print('up', flush=True); sys.stdin.read()"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"up\n"
        killed.kill()
    with pytest.raises(OSError, match="not connected"):
        os.listdir(tmp_path)
    made = FuseDirectory(tmp_path, {"tpm0": Device(FakeTpm())})
    made.start()
    assert os.listdir(tmp_path) == ["tpm0"]
    made.stop()
    assert os.listdir(tmp_path) == []


def test_a_place_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        FuseDirectory(tmp_path / "file", {}).start()
    with pytest.raises(FileNotFoundError):
        FuseDirectory(tmp_path / "missing", {}).start()


def test_a_machine_without_fuse_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusedir, "DEVICE", str(tmp_path / "no-fuse"))
    with pytest.raises(OSError, match="no FUSE on this machine") as caught:
        FuseDirectory(tmp_path, {}).start()
    assert caught.value.errno == errno.ENODEV


@needs_user_namespaces
def test_a_refused_mount_is_one_clear_line(tmp_path: Path) -> None:
    program = (
        "import sys; from cusetpm.devices.fusedir import FuseDirectory\n"
        "try: FuseDirectory(sys.argv[1], {}).start()\n"
        "except OSError as e: print(e)"
    )
    # On the machine's mounts, root of a user namespace may not mount; and here it may not make another one.
    limit = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"'
    done = subprocess.run(
        ["unshare", "-U", "-r", "sh", "-c", limit, "sh", sys.executable, "-c", program, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("[Errno 1] cannot mount a FUSE directory: fusermount3: ")
    assert done.stdout.count("\n") == 1
    assert "; nor in a user namespace: unshare: No space left on device: " in done.stdout


@needs_user_namespaces
def test_where_nobody_may_mount_it_is_mounted_in_a_namespace(tmp_path: Path) -> None:
    """Others see it by the path that is given then; it is gone when its server is, even if that is killed."""
    program = (
        "import sys; from cusetpm.devices.fusedir import FuseDirectory\n"
        "from cusetpm.devices.session import Device\n"
        "from tests.conformance.fake_tpm import FakeTpm\n"
        "made = FuseDirectory(sys.argv[1], {'tpm0': Device(FakeTpm())})\n"
        "made.start(); made.stop(); made.start()\n"
        "print(made.shown, flush=True); sys.stdin.read()\n"
        "if sys.argv[2] == 'stop': made.stop()"
    )
    for end_by in ("stop", "kill"):
        server = subprocess.Popen(
            ["unshare", "-U", "-r", sys.executable, "-c", program, str(tmp_path), end_by],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        with server:
            assert server.stdout is not None
            shown = Path(server.stdout.readline().strip())
            holder = os.pidfd_open(int(shown.parts[2]))
            assert shown == Path(f"/proc/{shown.parts[2]}/root{tmp_path}")
            asked = message(GET_RANDOM, b"\0\x08")
            done = client(f"os.write(fd, {asked!r}); print(os.read(fd, 4096)[6:12].hex())", shown / "tpm0")
            assert end(done) == "000000000008\n"
            assert os.listdir(tmp_path) == []
            if end_by == "kill":
                server.kill()
            else:
                server.communicate("")
        assert select.select([holder], [], [], 30)[0]
        os.close(holder)
        assert not shown.exists()
