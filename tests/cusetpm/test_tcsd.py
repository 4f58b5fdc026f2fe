"""`cusetpm run --tpm 1.2 --tcsd`: Debian's trousers and tpm-tools, against a TPM of their own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="tcsd takes a configuration file of root's only")
_STATUS = "import os; print(os.environ['TSS_TCSD_HOSTNAME'], os.environ['TSS_TCSD_PORT'])"


def start(*arguments: str) -> subprocess.Popen[str]:
    # tpm_version writes octets to standard error that are no text.
    return subprocess.Popen([sys.executable, "-m", "cusetpm", "run", *arguments], errors="replace",
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(*arguments: str, expect: int = 0) -> str:
    """Return what was printed: by the command, or by cusetpm where that is expected to fail."""
    process = start(*arguments)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == expect, (output, errors)
    return output if expect == 0 else errors


@needs_root
def test_tpm_version_finds_it() -> None:
    output = run("--tpm", "1.2", "--tcsd", "--", "tpm_version")
    assert "Chip Version:        1.2." in output
    assert "TPM Vendor ID:       CTPM" in output


@needs_root
def test_two_at_a_time_have_a_tcsd_each() -> None:
    wait = ("--tpm", "1.2", "--tcsd", "--", "sh", "-c", "echo $TSS_TCSD_PORT; read _; tpm_version")
    first, second = start(*wait), start(*wait)
    assert first.stdout is not None
    assert second.stdout is not None
    ports = first.stdout.readline(), second.stdout.readline()
    assert ports[0] != ports[1]
    for process in first, second:
        output, errors = process.communicate("\n", timeout=30)
        assert process.returncode == 0, errors
        assert "Chip Version:        1.2." in output


@needs_root
def test_an_owner_and_registered_keys_last_as_long_as_the_directory(tmp_path: Path) -> None:
    options = ("--tpm", "1.2", "--tcsd", "--state-dir", str(tmp_path / "s"), "--")
    run(*options, "tpm_takeownership", "-y", "-z")
    assert "Public Endorsement Key" in run(*options, "tpm_getpubek", "-z")
    storage = tmp_path / "s/guests/tpm0/tcsd.data"
    assert storage.stat().st_mode & 0o777 == 0o600
    before = storage.read_bytes()
    run(*options, "tpm_version")
    assert storage.read_bytes() == before


@needs_root
def test_it_leaves_neither_process_nor_directory() -> None:
    show = ("sh", "-c", "pgrep -f \"$CUSETPM_SOCKET|tcsd.conf\" >/dev/null && dirname $CUSETPM_SOCKET")
    home = Path(run("--tpm", "1.2", "--tcsd", "--", *show).strip())
    assert not home.exists()
    assert subprocess.run(["pgrep", "-f", f"{home}/tcsd"], check=False, capture_output=True).stdout == b""


@needs_root
def test_it_ends_with_a_run_that_is_killed() -> None:
    process = start("--tpm", "1.2", "--tcsd", "--", "sh", "-c", "dirname $CUSETPM_SOCKET; exec sleep 600")
    assert process.stdout is not None
    home = process.stdout.readline().strip()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    keepers = [pid for pid in children if "tcsd" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(keepers) == 1
    ends = [os.pidfd_open(int(pid)) for pid in
            subprocess.check_output(["pgrep", "-f", f"{home}/tcsd/tcsd.conf"], text=True).split()]
    assert len(ends) == 2
    process.kill()
    for end in ends:
        assert select.select([end], [], [], 30)[0], "it still runs"
        os.close(end)
    for pid in set(children) - set(keepers):
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    process.communicate()


def test_a_tpm_20_has_none() -> None:
    assert "--tcsd is for --tpm 1.2" in run("--tcsd", "--", "true", expect=2)


def test_where_there_is_none_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cusetpm import tcsd
    from hwtpm.errors import StateError

    monkeypatch.setattr(tcsd.shutil, "which", lambda name, path: None)
    with pytest.raises(StateError, match="install trousers"), tcsd.running(tmp_path / "t", "/nowhere", None):
        pass


@needs_root
def test_what_tcsd_says_is_the_reason_it_does_not_start(tmp_path: Path) -> None:
    from cusetpm import tcsd
    from hwtpm.errors import StateError

    tmp_path.chmod(0o711)
    with pytest.raises(StateError, match=r"^--tcsd: tcsd does not start: TCSD"), \
            tcsd.running(tmp_path / "t", str(tmp_path / "no-such.sock"), None):
        pass
