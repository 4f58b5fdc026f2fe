"""`cusetpm run` as a user meets it: statuses, signals, refusals in one line, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CUSETPM = [sys.executable, "-I", "-m", "cusetpm"]

needs_fuse = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK),
                                reason="no /dev/fuse for this user")
needs_root = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None,
                                reason="makes a mount namespace, which needs root and unshare")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CUSETPM, "run", *map(str, arguments)], capture_output=True, text=True,
                          check=False, timeout=120)


def refusal(done: subprocess.CompletedProcess[str], status: int = 125) -> str:
    """Return the one line that *done* said, having ended with *status*."""
    assert done.returncode == status, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("cusetpm: ")
    return line


@pytest.mark.parametrize("front_end", ["auto", "socket", pytest.param("fuse", marks=needs_fuse)])
@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)])
def test_the_status_is_that_of_the_command(front_end: str, script: str, status: int) -> None:
    done = run("--front-end", front_end, "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (status, "")


def configured(home: Path, config: bytes) -> subprocess.CompletedProcess[str]:
    """Run a command with *config* as the configuration of a user whose home is *home*."""
    (home / "cusetpm").mkdir(exist_ok=True)
    (home / "cusetpm" / "config.toml").write_bytes(config)
    return subprocess.run([*CUSETPM, "run", "-v", "--", "true"], capture_output=True, text=True, check=False,
                          timeout=120, env=os.environ | {"XDG_CONFIG_HOME": str(home)})


@pytest.mark.parametrize("key", ["front-end", "front_end"])
def test_defaults_come_from_the_configuration_file(tmp_path: Path, key: str) -> None:
    done = configured(tmp_path, f'[run]\n{key} = "socket"\n'.encode())
    assert done.returncode == 0
    assert "front end: socket" in done.stderr


@pytest.mark.parametrize(("config", "why"), [
    (b"garbage[", "Expected '='"),
    (b"\xff\xfe", "codec can't decode"),
    (b"run = 5", "'run' is not a table"),
    (b"[rnu]", "'rnu' is not a verb"),
    (b"[run]\nfrontend = 'socket'", "'frontend' is not an option of 'run'"),
    (b"[run]\ncommand = ['id']", "'command' is not an option of 'run'"),
])
def test_a_wrong_configuration_file_is_named_in_one_line(tmp_path: Path, config: bytes, why: str) -> None:
    line = refusal(configured(tmp_path, config))
    assert f"{tmp_path}/cusetpm/config.toml: " in line
    assert why in line


def test_a_command_that_is_not_there_or_not_executable(tmp_path: Path) -> None:
    assert "no-such-program: command not found" in refusal(run("--", "no-such-program"), 127)
    (tmp_path / "file").write_text("text")
    assert "file: cannot be executed" in refusal(run("--", tmp_path / "file"), 126)
    (tmp_path / "file").chmod(0o755)
    assert "Exec format error" in refusal(run("--front-end", "socket", "--", tmp_path / "file"), 126)


@pytest.mark.parametrize("arguments", [[], ["--seed", "xyz", "true"], ["--front-end", "usb", "true"],
                                       ["--state-dir", "", "true"], ["--tpm", "3", "true"],
                                       ["--statedir", "s", "true"]])
def test_wrong_usage_is_one_line_and_status_2(arguments: list[str]) -> None:
    assert "; see cusetpm run --help" in refusal(run(*arguments), 2)


LISTS = ["CUSETPM_IMA_LIST", "CUSETPM_EVENT_LOG"]
TCTIS = ["TPM2TOOLS_TCTI", "TPM2OPENSSL_TCTI", "TPM2_PKCS11_TCTI"]


def environment(front_end: str) -> dict[str, str]:
    """Return what a command finds in its environment about TPMs."""
    done = run("--front-end", front_end, "--", "env", "-0")
    assert done.returncode == 0, done.stderr
    found = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
    return {name: value for name, value in found.items() if "TPM" in name}


def test_sockets_of_the_tpm_and_of_its_resource_manager_are_named() -> None:
    found = environment("socket")
    assert found["CUSETPM_SOCKET"].endswith("/tpm0.sock")
    assert found["CUSETPM_CTRL"] == found["CUSETPM_SOCKET"] + ".ctrl"
    assert found["CUSETPM_RM_SOCKET"].endswith("/tpmrm0.sock")
    for name in TCTIS:
        assert found[name].startswith("cmd:")
        assert found[name].endswith(found["CUSETPM_RM_SOCKET"])
    assert found.keys() == {"CUSETPM_SOCKET", "CUSETPM_CTRL", "CUSETPM_RM_SOCKET", *LISTS, *TCTIS}


@needs_fuse
def test_devices_are_named_to_every_usual_tool() -> None:
    """Tools that on Linux take /dev/tpmrm0 before /dev/tpm0 get its like here."""
    found = environment("fuse")
    device, managed = found["CUSETPM_DEVICE"], found["CUSETPM_RM_DEVICE"]
    assert (Path(device).name, Path(managed).name) == ("tpm0", "tpmrm0")
    assert Path(device).parent == Path(managed).parent
    assert {found[name] for name in TCTIS} == {f"device:{managed}"}
    assert found["SYSTEMD_TPM2_DEVICE"] == managed
    assert (found["TPM_INTERFACE_TYPE"], found["TPM_DEVICE"]) == ("dev", device)
    script = 'test -w "$CUSETPM_DEVICE" -a -w "$CUSETPM_RM_DEVICE" -a -S "$CUSETPM_SOCKET"'
    assert run("--front-end", "fuse", "--", "sh", "-c", script).returncode == 0


@pytest.mark.parametrize("front_end", ["socket", pytest.param("fuse", marks=needs_fuse)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_command_and_leaves_nothing_behind(
        front_end: str, number: signal.Signals) -> None:
    script = 'trap "exit 9" INT TERM; echo "$CUSETPM_SOCKET"; while :; do :; done'
    command = [*CUSETPM, "run", "--front-end", front_end, "--", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        socket = Path(process.stdout.readline().strip())
        assert socket.is_socket()
        process.send_signal(number)
        assert process.wait(30) == 9
    assert not socket.parent.exists()
    assert str(socket.parent) not in Path("/proc/self/mounts").read_text()


def test_command_ignores_no_signal_that_its_parent_did_not() -> None:
    done = run("--front-end", "socket", "--", "sh", "-c", "kill -PIPE $$; echo still there")
    assert (done.returncode, done.stdout) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_files_stay_closed_for_command_and_disturb_nothing(closed: str) -> None:
    number = {"<": 0, ">": 1, "2": 2}[closed[0]]
    command = [*CUSETPM, "run", "--front-end", "socket", "--", "sh", "-c", f"! test -e /proc/$$/fd/{number}"]
    done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *command], capture_output=True, text=True,
                          check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_signal_during_start_up_ends_the_run_before_command() -> None:
    # A signal that waits, blocked, still waits after exec.
    pending = ("import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); "
               "os.kill(os.getpid(), signal.SIGTERM); os.execv(sys.argv[1], sys.argv[1:])")
    done = subprocess.run([sys.executable, "-c", pending, *CUSETPM, "run", "--front-end", "socket", "--",
                           "echo", "ran"], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, "", "")


@pytest.mark.parametrize("arguments", [["doctor"], ["--help"], ["run", "--help"]])
def test_output_that_cannot_be_written_is_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*CUSETPM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True,
                              check=False, timeout=120)
    assert "standard output: No space left on device" in refusal(done)


def test_a_state_directory_in_use_names_its_holder(tmp_path: Path) -> None:
    inner = [*CUSETPM, "run", "--state-dir", str(tmp_path / "s"), "--", "true"]
    done = run("--front-end", "socket", "--state-dir", tmp_path / "s", "--",
               "sh", "-c", 'echo $PPID; exec "$@"', "sh", *inner)
    assert f"in use by process {done.stdout.strip()};" in refusal(done)


def test_state_of_another_version_or_kind_is_refused_unchanged(tmp_path: Path) -> None:
    (tmp_path / "format").write_text("cusetpm state 99\n")
    assert "its format is 'cusetpm state 99'" in refusal(run("--state-dir", tmp_path, "--", "true"))
    assert os.listdir(tmp_path) == ["format"]


def test_nothing_to_resume_is_said_with_what_to_do(tmp_path: Path) -> None:
    line = refusal(run("--startup", "state", "--state-dir", tmp_path / "s", "--", "true"))
    assert "use --startup clear" in line
    assert run("--state-dir", tmp_path / "s", "--", "true").returncode == 0
    assert run("--startup", "state", "--state-dir", tmp_path / "s", "--", "true").returncode == 0


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refusal(run("--state-dir", tmp_path / "file" / "s", "--", "true"))
    assert "/dev/null: Not a directory" in refusal(run("--state-dir", "/dev/null", "--", "true"))


@pytest.mark.parametrize("name", ["XDG_RUNTIME_DIR", "TMPDIR"])
def test_files_of_the_run_lie_where_a_socket_can_and_are_named_by_absolute_paths(
        tmp_path: Path, name: str) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    show = ["sh", "-c", 'echo "$CUSETPM_SOCKET"']
    for value in ("", ".", str(long)):
        environment = {k: v for k, v in os.environ.items() if k not in ("XDG_RUNTIME_DIR", "TMPDIR")}
        done = subprocess.run([*CUSETPM, "run", "--front-end", "socket", "--", *show], cwd=tmp_path,
                              env=environment | {name: value}, capture_output=True, text=True, check=False,
                              timeout=120)
        assert (done.returncode, done.stdout[:1], done.stderr) == (0, "/", "")


@needs_root
def test_without_dev_fuse_auto_takes_the_socket_and_says_why(tmp_path: Path) -> None:
    def without(*arguments: str) -> subprocess.CompletedProcess[str]:
        # In a mount namespace of its own, with a /dev that has no fuse.
        script = (f"mount -t tmpfs none {tmp_path} && cp -a /dev/null /dev/zero /dev/urandom {tmp_path} "
                  f'&& mount --move {tmp_path} /dev && exec "$@"')
        return subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", *CUSETPM, "run", *arguments],
                              capture_output=True, text=True, check=False, timeout=120)

    done = without("-v", "--", "sh", "-c", 'echo "$CUSETPM_DEVICE"')
    assert done.returncode == 0, done.stderr
    assert done.stdout == "\n"
    assert "front end: socket" in done.stderr
    assert "/dev/fuse" in done.stderr
    assert "/dev/fuse" in refusal(without("--front-end", "fuse", "--", "true"))
