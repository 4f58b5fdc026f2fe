"""A chip that is no part of cusetpm: a swtpm, or a device."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cusetpm.backup import backup, restore
from cusetpm.chips import OutsideChip, RegisterChip
from cusetpm.daemon import System
from hwtpm.errors import ProtocolError, StateError
from hwtpm.family import family
from hwtpm.tis.registers import TIS_BASE, TIS_SIZE
from tests.support.ports import free_pair

_STORE = "tpm2_nvdefine -Q 0x1500001 -s 4 && printf kept | tpm2_nvwrite 0x1500001 -i - && echo stored"
_GET_RANDOM = {"2.0": bytes.fromhex("8001 0000000c 0000017b 0004"),
               "1.2": bytes.fromhex("00c1 0000000e 00000046 00000004")}


@contextmanager
def swtpm(place: Path, tpm: str, server: str, ctrl: str) -> Iterator[None]:
    """A swtpm, manufactured, that serves whoever connects."""
    program = shutil.which("swtpm")
    if program is None:
        pytest.skip("swtpm is not installed")
    place.mkdir(exist_ok=True)
    if tpm == "1.2":
        # Without this there is no endorsement key, and the TPM is not enabled.
        subprocess.run(["swtpm_setup", "--tpmstate", place, "--createek", "--not-overwrite"], check=True,
                       capture_output=True)
    with subprocess.Popen([program, "socket", *(["--tpm2"] if tpm == "2.0" else []), "--server", server,
                           "--ctrl", ctrl, "--tpmstate", f"dir={place}", "--flags", "not-need-init",
                           "--pid", f"file={place}/pid"]) as process:
        try:
            while not (place / "pid").exists():
                assert process.poll() is None
            yield
        finally:
            process.kill()


@pytest.fixture(params=["2.0", "1.2"])
def tpm(request: pytest.FixtureRequest) -> str:
    family_name: str = request.param
    return family_name


@pytest.fixture
def by_path(tmp_path: Path, tpm: str) -> Iterator[str]:
    data = tmp_path / "chip.sock"
    with swtpm(tmp_path / "chip", tpm, f"type=unixio,path={data}", f"type=unixio,path={data}.ctrl"):
        yield f"swtpm:{data}"


def settings(place: Path, **values: str | int) -> None:
    place.mkdir(exist_ok=True)
    (place / "format").write_text("cusetpm state 1\n")
    (place / "manager.toml").write_text("".join(
        f"{name} = {value}\n" if isinstance(value, int) else f'{name} = "{value}"\n'
        for name, value in values.items()))


def start(place: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "cusetpm", "run", "-v", "--front-end", "socket",
                             "--state-dir", str(place), "--", *command],
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(place: Path, *command: str, expect: int = 0) -> tuple[str, str]:
    process = start(place, *command)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == expect, (output, errors)
    return output, errors


def kill(process: subprocess.Popen[str]) -> None:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    process.communicate()


def test_what_was_stored_is_read_after_a_kill(tmp_path: Path, tpm: str, by_path: str) -> None:
    place = tmp_path / "s"
    settings(place, chip=tpm, driver=by_path)
    first = start(place, "sh", "-c", f"{_STORE}; exec sleep 600")
    assert first.stdout is not None
    assert first.stdout.readline() == "stored\n"
    kill(first)
    output, errors = run(place, "tpm2_nvread", "0x1500001")
    assert output == "kept"
    assert int(errors.split(" chip commands")[0].rsplit(" ", 1)[1]) > 0
    assert not list(place.glob("chip.*"))


def test_a_backup_goes_to_a_new_directory_with_the_same_chip(tmp_path: Path, tpm: str, by_path: str) -> None:
    settings(tmp_path / "s", chip=tpm, driver=by_path)
    run(tmp_path / "s", "sh", "-c", _STORE)
    with closing(System(tmp_path / "s")) as system:
        system.release()
        assert backup(system, tmp_path / "backup") == 1
    assert restore(tmp_path / "new", tmp_path / "backup") == []
    output, _ = run(tmp_path / "new", "tpm2_nvread", "0x1500001")
    assert output == "kept"


def test_an_old_copy_of_the_store_is_refused(tmp_path: Path, tpm: str, by_path: str) -> None:
    place = tmp_path / "s"
    settings(place, chip=tpm, driver=by_path)
    run(place, "sh", "-c", _STORE)
    old = (place / "manager.db").read_bytes()
    run(place, "sh", "-c", "printf 2222 | tpm2_nvwrite 0x1500001 -i -")
    (place / "manager.db").write_bytes(old)
    _, errors = run(place, "true", expect=125)
    assert "an old copy of the store was put back" in errors


def test_a_chip_over_tcp(tmp_path: Path, tpm: str) -> None:
    data = free_pair()
    place = tmp_path / "s"
    with swtpm(tmp_path / "chip", tpm, f"type=tcp,port={data}", f"type=tcp,port={data + 1}"):
        settings(place, chip=tpm, driver=f"swtpm:127.0.0.1:{data}")
        run(place, "sh", "-c", _STORE)
        assert run(place, "tpm2_nvread", "0x1500001")[0] == "kept"


def test_a_device_is_a_chip(tmp_path: Path) -> None:
    """The chip of one is the vTPM of another, whose resource manager's device it uses."""
    place, inner = tmp_path / "chip", tmp_path / "s"
    for part in (_STORE, "tpm2_nvread 0x1500001"):
        script = (f'mkdir -p {inner}; echo "cusetpm state 1" > {inner}/format; '
                  f'printf "locality = 0\\ndriver = \\"device:$CUSETPM_RM_DEVICE\\"\\n" '
                  f'> {inner}/manager.toml; '
                  f'exec "$0" -m cusetpm run --front-end socket --state-dir {inner} -- sh -c "$1"')
        done = subprocess.run([sys.executable, "-m", "cusetpm", "run", "--front-end", "fuse", "--state-dir",
                               str(place), "--", "sh", "-c", script, sys.executable, part],
                              text=True, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr
    assert done.stdout == "kept"


def test_the_other_family_is_refused(tmp_path: Path, tpm: str, by_path: str) -> None:
    other = "1.2" if tpm == "2.0" else "2.0"
    settings(tmp_path / "s", chip=other, driver=by_path)
    _, errors = run(tmp_path / "s", "true", expect=125)
    assert errors == f"cusetpm: {by_path}: this is a TPM {tpm}, not {other}\n"


def test_an_option_that_is_not_as_the_manager_is_set_is_refused(tmp_path: Path) -> None:
    settings(tmp_path / "s", chip="1.2")
    done = subprocess.run([sys.executable, "-m", "cusetpm", "run", "--chip", "2.0", "--state-dir",
                           str(tmp_path / "s"), "--", "true"], text=True, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        125, f"cusetpm: {tmp_path}/s/manager.toml: the chip is a TPM 1.2, not 2.0\n")


@pytest.mark.parametrize(("driver", "told"), [
    ("swtpm:{0}/none", "No such file or directory"),
    ("swtpm:127.0.0.1:1", "Connection refused"),
    ("device:{0}/none", "No such file or directory"),
])
def test_no_chip_is_one_line(tmp_path: Path, driver: str, told: str) -> None:
    driver = driver.format(tmp_path)
    settings(tmp_path / "s", driver=driver, locality=0)
    _, errors = run(tmp_path / "s", "true", expect=125)
    assert errors == f"cusetpm: {driver}: {told}; start the TPM there, or set another driver\n"


@pytest.mark.parametrize(("octets", "told"), [
    (b"\xff", "TPM_DID_VID reads 0xffffffff: no TPM answers"),
    (b"\0", "TPM_DID_VID reads 0x00000000: no TPM answers"),
    (b"\x01", "TPM_ACCESS: no tpmRegValidSts within 750 ms"),
    (b"", "no memory at 0xfed40000; set another driver"),
])
def test_memory_without_a_tpm_is_one_line(tmp_path: Path, octets: bytes, told: str) -> None:
    memory = tmp_path / "mem"
    with open(memory, "wb") as file:
        file.seek(TIS_BASE)
        file.write(octets * TIS_SIZE)
    settings(tmp_path / "s", driver=f"tis:{memory}")
    _, errors = run(tmp_path / "s", "true", expect=125)
    assert errors == f"cusetpm: tis:{memory}: {told}\n"
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["format", "manager.toml"]


def test_memory_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    memory = tmp_path / "mem"
    memory.mkdir()
    for place, told in ((memory, "Is a directory"), (memory / "none", "No such file or directory")):
        with pytest.raises(StateError, match=f"^tis:{place}: {told}; set another driver$"):
            RegisterChip(f"tis:{place}", family("2.0"), 2)


def test_a_chip_that_is_silent_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        deaf.listen()
        with pytest.raises(StateError, match=r"no response within 0\.1 s"):
            OutsideChip(f"swtpm:{tmp_path}/deaf", family("2.0"), 0, timeout=0.1)


def test_a_connection_that_broke_is_made_again(tmp_path: Path, tpm: str) -> None:
    data = tmp_path / "chip.sock"

    def once(use: Callable[[], None]) -> None:
        with swtpm(tmp_path / "chip", tpm, f"type=unixio,path={data}", f"type=unixio,path={data}.ctrl"):
            use()
        (tmp_path / "chip" / "pid").unlink(missing_ok=True)

    chips: list[OutsideChip] = []
    once(lambda: chips.append(OutsideChip(f"swtpm:{data}", family(tpm), 2)))
    (chip,) = chips
    with pytest.raises((ProtocolError, OSError)):
        chip.execute(_GET_RANDOM[tpm], 2)

    def again() -> None:
        response = chip.execute(_GET_RANDOM[tpm], 2)
        assert response[6:10] == bytes(4)
        assert len(response) > 12

    once(again)
    chip.close()
    chip.close()


def test_commands_come_from_the_locality_that_is_set_only(by_path: str, tpm: str) -> None:
    chip = OutsideChip(by_path, family(tpm), 2)
    with pytest.raises(ProtocolError, match="from locality 2 only"):
        chip.execute(_GET_RANDOM[tpm], 0)
    chip.close()
