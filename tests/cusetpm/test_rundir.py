"""The private directory of a run: gone at its end, and mended by the next run if it was killed."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cusetpm import mounts, rundir
from cusetpm.rundir import RunDirectory, mend
from tests.support.other_user import CHECKOUT, NOBODY, cusetpm_as_nobody

CUSETPM = [sys.executable, "-I", "-m", "cusetpm"]
RUN = [*CUSETPM, "run", "--front-end", "fuse", "--"]
HOLD = """
import sys
from cusetpm.rundir import RunDirectory
with RunDirectory() as held:
    print(held.path, flush=True)
    sys.stdin.read()
"""

needs_fuse = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK),
                                reason="no /dev/fuse for this user")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes what belongs to somebody else: needs root")


@pytest.fixture(autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have the directories made and looked for in a place of this test alone."""
    made = Path("/tmp") / f"cusetpm-test-{os.getpid()}-{id(object())}"  # noqa: S108 - for a path that is short
    made.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(made))
    monkeypatch.setattr(rundir, "gettempdir", lambda: str(made))
    yield made
    for mount in mounts.below(made):
        mounts.unmount(mount)
    shutil.rmtree(made)


def holder() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True, cwd=CHECKOUT)


def left_by_a_killed_process() -> Path:
    """Return the directory of a process that was killed."""
    with holder() as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        process.kill()
    return path


def test_it_is_private_and_gone_at_the_end(place: Path) -> None:
    with RunDirectory() as made:
        assert made.path.parent == place
        assert stat.S_IMODE(made.path.stat().st_mode) == 0o700
        (made.path / "state").mkdir()
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_removed(place: Path) -> None:
    path = left_by_a_killed_process()
    (path / "state").mkdir()
    (path / "state" / "chip.0").touch()
    mend()
    assert list(place.iterdir()) == []


def test_what_a_living_process_holds_stays(place: Path) -> None:
    with holder() as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        mend()
        assert (path / "lock").exists()
        process.communicate("")
    assert list(place.iterdir()) == []


def test_this_process_does_not_take_its_own_for_a_dead_one() -> None:
    with RunDirectory() as made:
        mend()
        assert made.path.is_dir()


def no_lock(path: Path) -> None:
    (path / "lock").unlink()


def empty_lock(path: Path) -> None:
    """As between the steps in which a run makes its directory."""
    (path / "lock").write_bytes(b"")


def other_lock(path: Path) -> None:
    (path / "lock").write_bytes(b"cusetpm run 1\nand more")


def linked_lock(path: Path) -> None:
    (path / "lock").rename(path / "real")
    (path / "lock").symlink_to("real")


def other_name(path: Path) -> None:
    path.rename(path.with_name("cusetpm-notes"))


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def other_user(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)


@pytest.mark.parametrize("change", [no_lock, empty_lock, other_lock, linked_lock, other_name, a_link,
                                    pytest.param(other_user, marks=needs_root)])
def test_what_is_not_marked_as_a_run_of_this_user_stays(place: Path, change: Callable[[Path], None]) -> None:
    change(left_by_a_killed_process())
    before = sorted(place.rglob("*"))
    mend()
    assert sorted(place.rglob("*")) == before


@needs_root
def test_a_device_node_goes_with_the_run_that_made_it(tmp_path: Path) -> None:
    dead, alive = os.makedev(511, 77), os.stat("/dev/null").st_rdev
    assert not os.path.exists("/sys/dev/char/511:77")
    nodes = {name: tmp_path / name for name in ("gone", "living", "another", "file", "missing")}
    for name, path in nodes.items():
        if name == "file":
            path.touch()
        elif name != "missing":
            os.mknod(path, stat.S_IFCHR | 0o600, alive if name == "living" else dead)
    for name, path in nodes.items():
        directory = left_by_a_killed_process()
        device = {"living": alive, "another": os.makedev(511, 78)}.get(name, dead)
        noted = RunDirectory()
        noted.path = directory
        noted.note_node(str(path), device)
    mend()
    assert {path.name for path in tmp_path.iterdir()} == {"living", "another", "file"}


@needs_fuse
@pytest.mark.parametrize("ordinary", [False, True], ids=["this user", "ordinary user"])
def test_the_next_run_mends_what_a_killed_run_left_mounted(place: Path, ordinary: bool) -> None:
    words = ["run", "-v", "--front-end", "fuse", "--"]
    if ordinary:
        if shutil.which("fusermount3") is None:
            pytest.skip("an ordinary user mounts with fusermount3, which is not there")
        os.chown(place, NOBODY, NOBODY)
        words = cusetpm_as_nobody(*words, XDG_RUNTIME_DIR=str(place))
    else:
        words = [*CUSETPM, *words]

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*words, *command], capture_output=True, text=True, check=False, timeout=120,
                              cwd="/")

    killed = run("sh", "-c", 'echo "$CUSETPM_DEVICE"; kill -9 $PPID')
    assert killed.returncode == -9, killed.stderr
    device = Path(killed.stdout.strip())
    assert mounts.below(place) == [str(device), str(device.parent / "tpmrm0"), str(device.parent / "sys")]
    done = run("sh", "-c", 'tpm2_getrandom --hex 4; echo; ls "$0"', str(place))
    assert done.returncode == 0, done.stderr
    random, *there = done.stdout.split()
    assert len(random) == 8
    assert len(there) == 1
    assert there[0] != device.parent.parent.name
    assert f"{device.parent.parent}: removed, a killed run had left it" in done.stderr
    assert mounts.below(place) == []
    assert list(place.iterdir()) == []


@needs_fuse
def test_the_place_may_have_a_name_that_the_kernel_escapes(
        place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strange = place / "a b\\c\td"
    strange.mkdir()
    environment = os.environ | {"XDG_RUNTIME_DIR": str(strange)}
    script = 'echo "$CUSETPM_DEVICE"; kill -9 $PPID'
    subprocess.run([*RUN, "sh", "-c", script], capture_output=True, check=False, timeout=120, env=environment)
    assert len(mounts.below(strange)) == 3
    done = subprocess.run([*RUN, "true"], check=False, timeout=120, env=environment)
    assert done.returncode == 0
    assert mounts.below(place) == []
    assert list(strange.iterdir()) == []
