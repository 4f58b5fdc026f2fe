"""The FUSE directory as a whole: mount, files, and what can go wrong."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cusetpm.devices.files import File, Link
from cusetpm.devices.fusedir import FuseDirectory
from cusetpm.devices.fusemount import Mounter

pytestmark = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="no /dev/fuse for this user"
)

ENTRIES = {"version": File(lambda: b"2\n"), "other": Link("version")}


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[FuseDirectory]:
    made = FuseDirectory(tmp_path, ENTRIES, Mounter())
    made.start()
    yield made
    made.stop()


def test_the_directory_lists_its_entries(directory: FuseDirectory, tmp_path: Path) -> None:
    listed = subprocess.run(["stat", "-c", "%n %a %F", *sorted(os.listdir(tmp_path))], check=True,
                            capture_output=True, text=True, cwd=tmp_path)
    assert listed.stdout == "other 777 symbolic link\nversion 444 regular file\n"
    assert subprocess.run(["cat", tmp_path / "other"], check=True, capture_output=True).stdout == b"2\n"
    assert not (tmp_path / "missing").exists()
    with pytest.raises(OSError, match="missing"):
        (tmp_path / "missing").touch()


def test_an_open_file_does_not_keep_the_mount(directory: FuseDirectory, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-I", "-c", f"open({str(tmp_path / 'version')!r}).fileno(); "
                           f"f = open({str(tmp_path / 'version')!r}); print(flush=True); input()"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        directory.stop()
        directory.stop()
        assert not os.path.ismount(tmp_path)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("fuse")]
        process.communicate(b"\n", timeout=30)


def test_one_process_serves_one_directory_at_a_time(directory: FuseDirectory, tmp_path: Path) -> None:
    other = tmp_path.with_name("other")
    other.mkdir()
    second = FuseDirectory(other, ENTRIES, Mounter())
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
        "from cusetpm.devices.fusemount import Mounter\n"
        "FuseDirectory(sys.argv[1], {}, Mounter()).start()\n"
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
    made = FuseDirectory(tmp_path, {"version": ENTRIES["version"]}, Mounter())
    made.start()
    assert os.listdir(tmp_path) == ["version"]
    made.stop()
    assert os.listdir(tmp_path) == []


def test_a_place_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        FuseDirectory(tmp_path / "file", {}, Mounter()).start()
    with pytest.raises(FileNotFoundError):
        FuseDirectory(tmp_path / "missing", {}, Mounter()).start()
