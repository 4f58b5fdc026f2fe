"""A device file that is a mount of its own: mount, attributes, cancellation, and what can go wrong."""

from __future__ import annotations

import errno
import os
import select
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cusetpm.devices import fusemount
from cusetpm.devices.cuse import abi
from cusetpm.devices.fusefile import FuseFile, MountProtocol
from cusetpm.devices.fusemount import Mounter
from cusetpm.devices.session import Device, SharedDevice
from cusetpm.transport import Cancelled
from hwtpm.errors import ProtocolError
from tests.conformance.fake_tpm import (
    CREATE_PRIMARY,
    GET_RANDOM,
    UNKNOWN_OBJECT,
    FakeManager,
    FakeTpm,
    message,
)

needs_fuse = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="no /dev/fuse for this user"
)

needs_user_namespaces = pytest.mark.skipif(
    subprocess.run(["unshare", "-U", "-r", "true"], check=False, capture_output=True).returncode != 0,
    reason="no user namespaces for this user",
)

CREATE = message(CREATE_PRIMARY)
_HEADER = struct.Struct("=IIQQIIIHH")
"""fuse_in_header: len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding."""


def request(opcode: int, body: bytes = b"", unique: int = 7) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), opcode, unique, 1, 0, 0, 0, 0, 0) + body


def begun() -> MountProtocol:
    protocol = MountProtocol(Device(FakeTpm()), 0o640)
    protocol.receive(request(abi.FUSE_INIT, abi.INIT_IN.pack(7, 38, 0, 0xFFFFFFFF)))
    return protocol


@pytest.fixture
def tpm() -> FakeTpm:
    return FakeTpm(key_s=60)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "tpm0").touch()
    return tmp_path / "tpm0"


@pytest.fixture
def file(path: Path, tpm: FakeTpm) -> Iterator[FuseFile]:
    made = FuseFile(path, Device(tpm), Mounter())
    made.start()
    yield made
    made.stop()


def client(program: str, path: Path, flags: int = 0) -> subprocess.Popen[str]:
    """A process with the file open as `fd`."""
    program = f"import os, sys; fd = os.open({str(path)!r}, os.O_RDWR | {flags})\n" + program
    return subprocess.Popen([sys.executable, "-I", "-c", program], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=30)
    return out + errors


# The conversation.


def test_the_kernel_s_first_message_is_answered_with_what_is_known_of_it() -> None:
    protocol = MountProtocol(Device(FakeTpm()), 0o600)
    (answer,) = protocol.receive(request(abi.FUSE_INIT, abi.INIT_IN.pack(7, 38, 0, 1 << 5 | 1 << 0)))
    assert isinstance(answer, bytes)
    assert len(answer) == abi.OUT_HEADER.size + 64  # sizeof(struct fuse_init_out)
    major, minor, _, flags, _, _, max_write, *_ = abi.INIT_OUT.unpack_from(answer, abi.OUT_HEADER.size)
    assert (major, minor, flags, max_write) == (7, 31, abi.FUSE_BIG_WRITES, 8192)


@pytest.mark.parametrize("first", [
    request(abi.FUSE_OPEN, bytes(8)), request(abi.FUSE_INIT), request(abi.CUSE_INIT, bytes(16)),
    request(abi.FUSE_INIT, abi.INIT_IN.pack(7, 30, 0, 0)),
    request(abi.FUSE_INIT, abi.INIT_IN.pack(8, 31, 0, 0))])
def test_a_kernel_that_cannot_be_understood_is_a_protocol_error(first: bytes) -> None:
    with pytest.raises(ProtocolError):
        MountProtocol(Device(FakeTpm()), 0o600).receive(first)


def test_attributes_are_as_the_kernel_lays_them_out() -> None:
    (answer,) = begun().receive(request(abi.FUSE_GETATTR, bytes(16)))
    assert isinstance(answer, bytes)
    assert len(answer) == abi.OUT_HEADER.size + 104  # sizeof(struct fuse_attr_out)
    mode, nlink, uid, gid = struct.unpack_from("=IIII", answer, abi.OUT_HEADER.size + 16 + 60)
    assert (mode, nlink, uid, gid) == (0o100640, 1, os.geteuid(), os.getegid())


def test_only_mode_and_owner_can_be_set() -> None:
    protocol = begun()
    body = abi.SETATTR_IN.pack(abi.FATTR_MODE | abi.FATTR_UID | abi.FATTR_GID | 1 << 3, 0o140666, 5, 6)
    assert len(body) == 88  # sizeof(struct fuse_setattr_in)
    (answer,) = protocol.receive(request(abi.FUSE_SETATTR, body))
    assert isinstance(answer, bytes)
    assert struct.unpack_from("=IIII", answer, abi.OUT_HEADER.size + 76) == (0o100666, 1, 5, 6)
    (refused,) = protocol.receive(request(abi.FUSE_SETATTR, body[:-1]))
    assert isinstance(refused, bytes)
    assert abi.OUT_HEADER.unpack(refused) == (16, -errno.EINVAL, 7)


@given(st.integers(0, 60), st.binary(max_size=120))
def test_any_message_is_answered_or_says_that_it_is_none(opcode: int, body: bytes) -> None:
    for action in begun().receive(request(opcode, body)):
        assert isinstance(action, bytes)
        size, code, unique = abi.OUT_HEADER.unpack_from(action)
        assert size == len(action)
        assert -4096 < code <= 0
        assert unique == 7


# With the kernel.


@needs_fuse
def test_it_looks_like_an_empty_file(file: FuseFile, path: Path) -> None:
    looked = subprocess.run(["stat", "-c", "%a %s %F", path], check=True, capture_output=True, text=True)
    assert looked.stdout == "600 0 regular empty file\n"
    kind = subprocess.run(["stat", "-f", "-c", "%T", path], check=True, capture_output=True, text=True)
    assert kind.stdout == "fuseblk\n"  # what stat calls every FUSE


@needs_fuse
def test_the_mode_is_the_caller_s_and_chmod_changes_it(path: Path) -> None:
    made = FuseFile(path, Device(FakeTpm()), Mounter(), mode=0o660)
    made.start()
    try:
        assert path.stat().st_mode & 0o777 == 0o660
        path.chmod(0o600)
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        made.stop()


@needs_fuse
def test_opening_with_a_truncation_is_opening(file: FuseFile, path: Path) -> None:
    program = f"os.write(fd, {message(0x17B, bytes([0, 8]))!r}); print(len(os.read(fd, 4096)))"
    assert int(end(client(program, path, os.O_TRUNC | os.O_CREAT))) > 10


@needs_fuse
def test_a_client_killed_in_a_blocking_write_has_its_command_cancelled(
    file: FuseFile, path: Path, tpm: FakeTpm
) -> None:
    process = client(f"os.write(fd, {CREATE!r})", path)
    assert tpm.creating.wait(30)
    process.kill()
    assert end(process) == ""
    assert tpm.cancels >= 1


@needs_fuse
def test_a_handled_signal_does_not_cancel(file: FuseFile, path: Path, tpm: FakeTpm) -> None:
    program = "import signal; signal.signal(signal.SIGURG, lambda *_: None)\n"
    program += f"os.write(fd, {CREATE!r}); print(os.read(fd, 4096)[6:].hex())"
    process = client(program, path)
    assert tpm.creating.wait(30)
    process.send_signal(23)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    assert tpm.cancels == 0
    tpm.cancel()
    assert end(process) == "00000909\n"


@needs_fuse
def test_closing_cancels_a_queued_command(file: FuseFile, path: Path, tpm: FakeTpm) -> None:
    program = f"os.write(fd, {CREATE!r}); sys.stdin.read()"
    process = client(program, path, os.O_NONBLOCK)
    assert tpm.creating.wait(30)
    assert end(process) == ""
    assert tpm.cancelled.wait(30)


@needs_fuse
def test_stop_cancels_commands_and_answers_their_clients(file: FuseFile, path: Path, tpm: FakeTpm) -> None:
    process = client(f"print(os.write(fd, {CREATE!r}))", path)
    assert tpm.creating.wait(30)
    file.stop()
    file.stop()
    assert end(process) == "10\n"
    assert not os.path.ismount(path)
    assert not [thread for thread in threading.enumerate() if "fuse" in thread.name]


@needs_fuse
def test_an_open_file_does_not_keep_the_mount(file: FuseFile, path: Path) -> None:
    program = "print('open', flush=True); sys.stdin.read()\n"
    program += f"try: os.write(fd, {CREATE!r})\nexcept OSError as e: print(e.errno)"
    process = client(program, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    file.stop()
    assert not os.path.ismount(path)
    assert end(process) in (f"{errno.ENOTCONN}\n", f"{errno.ECONNABORTED}\n")


@needs_fuse
def test_a_tpm_that_fails_breaks_the_pipe_and_nothing_else(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(FakeTpm):
        def execute(self, command: bytes, locality: int = 0, cancelled=None) -> bytes:
            raise RuntimeError("gone")

    made = FuseFile(path, Device(Broken()), Mounter())
    made.start()
    try:
        for asked in (CREATE, message(0x17B, b"\0\x08")):
            program = f"try: os.write(fd, {asked!r})\nexcept OSError as e: print(e.errno)"
            assert end(client(program, path)) == f"{errno.EPIPE}\n"
    finally:
        made.stop()
    assert "a command failed" in caplog.text


@needs_fuse
def test_a_command_that_is_not_executed_ends_the_write_or_the_read(path: Path) -> None:
    made = FuseFile(path, SharedDevice(FakeManager()), Mounter())
    made.start()
    try:
        for asked in (message(0x165, UNKNOWN_OBJECT), message(CREATE_PRIMARY, UNKNOWN_OBJECT)):
            program = f"try: os.write(fd, {asked!r})\nexcept OSError as e: print(e.errno)"
            assert end(client(program, path)) == f"{errno.EINVAL}\n"
        program = f"os.write(fd, {asked!r}); import select; p = select.poll(); p.register(fd, 1); p.poll()\n"
        program += "try: os.read(fd, 4096)\nexcept OSError as e: print(e.errno)"
        assert end(client(program, path, os.O_NONBLOCK)) == f"{errno.EINVAL}\n"
    finally:
        made.stop()


@needs_fuse
def test_the_mount_of_a_killed_process_is_replaced(path: Path) -> None:
    program = (
        "import sys; from cusetpm.devices.fusefile import FuseFile\n"
        "from cusetpm.devices.session import Device\n"
        "from tests.conformance.fake_tpm import FakeTpm\n"
        "from cusetpm.devices.fusemount import Mounter\n"
        "FuseFile(sys.argv[1], Device(FakeTpm()), Mounter()).start()\n"
        "print('up', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"up\n"
        killed.kill()
    made = FuseFile(path, Device(FakeTpm()), Mounter())
    try:
        with pytest.raises(OSError, match="not connected"):
            path.read_bytes()
    finally:
        made.start()
    assert path.stat().st_size == 0
    made.stop()
    assert not os.path.ismount(path)


def test_a_place_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not a file to mount on"):
        FuseFile(tmp_path, Device(FakeTpm()), Mounter()).start()
    with pytest.raises(FileNotFoundError):
        FuseFile(tmp_path / "missing", Device(FakeTpm()), Mounter()).start()


def test_a_machine_without_fuse_is_told_apart(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusemount, "DEVICE", str(path.parent / "no-fuse"))
    with pytest.raises(OSError, match="no FUSE on this machine") as caught:
        FuseFile(path, Device(FakeTpm()), Mounter()).start()
    assert caught.value.errno == errno.ENODEV


@needs_user_namespaces
def test_a_refused_mount_is_one_clear_line(path: Path) -> None:
    program = (
        "import sys; from cusetpm.devices.fusefile import FuseFile\n"
        "from cusetpm.devices.fusemount import Mounter\n"
        "try: FuseFile(sys.argv[1], None, Mounter()).start()\n"
        "except OSError as e: print(e)"
    )
    # On the machine's mounts, root of a user namespace may not mount; and here it may not make another one.
    limit = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"'
    done = subprocess.run(
        ["unshare", "-U", "-r", "sh", "-c", limit, "sh", sys.executable, "-c", program, str(path)],
        check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=60)
    assert done.stderr == ""
    assert done.stdout.startswith("[Errno 1] cannot mount a FUSE file system: fusermount3: ")
    assert done.stdout.count("\n") == 1
    assert "; nor in a user namespace: unshare: No space left on device: " in done.stdout


@needs_user_namespaces
def test_where_nobody_may_mount_it_is_mounted_in_a_namespace(tmp_path: Path) -> None:
    """Others see it by the path that is given then; it is gone when its server is, even if that is killed."""
    program = (
        "import sys; from cusetpm.devices.files import File\n"
        "from cusetpm.devices.fusedir import FuseDirectory\n"
        "from cusetpm.devices.fusefile import FuseFile\n"
        "from cusetpm.devices.fusemount import Mounter\n"
        "from cusetpm.devices.session import Device\n"
        "from tests.conformance.fake_tpm import FakeTpm\n"
        "mounter = Mounter()\n"
        "made = [FuseFile(sys.argv[1] + '/tpm0', Device(FakeTpm()), mounter),\n"
        "        FuseDirectory(sys.argv[1] + '/sys', {'version': File(lambda: b'2')}, mounter)]\n"
        "for each in made: each.start(); each.stop(); each.start()\n"
        "print(*(each.shown for each in made), flush=True); sys.stdin.read()\n"
        "if sys.argv[2] == 'stop':\n"
        "    for each in made: each.stop()\n"
        "    mounter.close()"
    )
    (tmp_path / "tpm0").touch()
    (tmp_path / "sys").mkdir()
    for end_by in ("stop", "kill"):
        server = subprocess.Popen(
            ["unshare", "-U", "-r", sys.executable, "-c", program, str(tmp_path), end_by],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        with server:
            assert server.stdout is not None
            shown, sys_shown = map(Path, server.stdout.readline().split())
            holder = os.pidfd_open(int(shown.parts[2]))
            assert shown == Path(f"/proc/{shown.parts[2]}/root{tmp_path}/tpm0")
            asked = message(GET_RANDOM, b"\0\x08")
            done = client(f"os.write(fd, {asked!r}); print(os.read(fd, 4096)[6:12].hex())", shown)
            assert end(done) == "000000000008\n"
            assert subprocess.run(["cat", sys_shown / "version"], capture_output=True,
                                  check=True).stdout == b"2"
            assert (tmp_path / "tpm0").read_bytes() == b""
            assert os.listdir(tmp_path / "sys") == []
            if end_by == "kill":
                server.kill()
            else:
                server.communicate("")
        assert select.select([holder], [], [], 30)[0]
        os.close(holder)
        assert not shown.exists()


@needs_fuse
def test_what_was_closed_before_a_command_is_closed_for_it(path: Path) -> None:
    """The kernel tells of the end of an open file when close() has returned; nobody can notice."""
    manager = FakeManager()
    left: list[int] = []

    class Raw(FakeTpm):
        def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
            left.append(len(manager.spaces))
            return super().execute(command, locality, cancelled)

    managed_path = path.with_name("tpmrm0")
    managed_path.touch()
    raw = FuseFile(path, Device(Raw()), Mounter())
    managed = FuseFile(managed_path, SharedDevice(manager), Mounter())
    raw.heeds = managed
    raw.start()
    managed.start()
    try:
        asked = message(GET_RANDOM, b"\0\x08")
        program = (f"for _ in range(300): os.close(os.open({str(managed_path)!r}, os.O_RDWR)); "
                   f"os.write(fd, {asked!r}); os.read(fd, 4096)")
        assert end(client(program, path)) == ""
    finally:
        managed.stop()
        raw.stop()
    assert left == [0] * 300
