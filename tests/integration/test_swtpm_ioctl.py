"""swtpm_ioctl, with every option, against ours and against swtpm: what it prints and its status are equal."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path

import pytest

from hwtpm.client12 import Client
from hwtpm.tpm12.requests.integrity import Extend
from hwtpm.tpm12.requests.startup import Startup
from hwtpm.tpm12.types.constants import TPM_ST_CLEAR
from tests.support.emulator import OURS, THEIRS, Emulator, running

pytestmark = pytest.mark.skipif(shutil.which("swtpm_ioctl") is None, reason="swtpm-tools is not installed")


def ioctl(where: list[str], *words: str, data: str = "") -> tuple[int, str]:
    """Return the status of swtpm_ioctl and what it printed."""
    done = subprocess.run(["swtpm_ioctl", *where, *words], input=data, capture_output=True, text=True,
                          check=False, timeout=60)
    return done.returncode, (done.stdout + done.stderr).strip()


def unix(emulator: Emulator) -> list[str]:
    return ["--unix", str(emulator.ctrl)]


@contextmanager
def connected(emulator: Emulator) -> Iterator[Client]:
    """Give a client of the TPM 1.2, by its channel for commands."""
    with socket.socket(socket.AF_UNIX) as data:
        data.settimeout(60)
        data.connect(str(emulator.data))

        def execute(command: bytes) -> bytes:
            data.sendall(command)
            return data.recv(4096)

        yield Client(execute, os.urandom)


@pytest.fixture(scope="module", params=[OURS, THEIRS])
def emulator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


FILES = ("state", "running", "nothing", "garbage")

# In this order: each goes on from the state that those before have made.
CONVERSATION = [
    # Before the first INIT.
    (["-e"], 1, "TPM result from PTM_GET_TPMESTABLISHED: 0xa"),
    (["-r", "3"], 1, "TPM result from PTM_RESET_TPMESTABLISHED: 0xa"),
    (["-h", "abc"], 1, "TPM result from PTM_HASH_START: 0xa"),
    (["-C"], 1, "TPM result from PTM_CANCEL_TPM_CMD: 0xa"),
    (["-v"], 1, "TPM result from PTM_STORE_VOLATILE: 0xa"),
    (["--save", "permanent", "state"], 1, "TPM result from PTM_GET_STATEBLOB: 0xa"),
    (["-l", "2"], 0, ""),
    (["-g"], 0, "ptm configuration flags: 0x0"),
    (["-b", "4096"], 0, "TPM buffersize: 4096\nminimum size  : *\nmaximum size  : 4096"),
    (["-b", "100000"], 0, "TPM buffersize: 4096\nminimum size  : *\nmaximum size  : 4096"),
    (["--stop"], 0, ""),
    # With power.
    (["-i"], 0, ""),
    (["-e"], 0, "tpmEstablished is 0"),
    (["-h", "what is launched"], 0, ""),
    (["-h", "-"], 0, ""),
    (["-e"], 0, "tpmEstablished is 1"),
    (["-r", "2"], 1, "TPM result from PTM_RESET_TPMESTABLISHED: 0x3d"),
    (["-r", "3"], 0, ""),
    (["-e"], 0, "tpmEstablished is 0"),
    (["-C"], 0, ""),
    (["-b", "0"], 0, "TPM buffersize: 4096\nminimum size  : *\nmaximum size  : 4096"),
    (["-b", "4096"], 1, "TPM result from PTM_SET_BUFFERSIZE: 0xa"),
    (["-v"], 0, ""),
    (["--save", "permanent", "state"], 0, ""),
    (["--save", "volatile", "running"], 0, ""),
    (["--save", "savestate", "nothing"], 0, ""),
    (["--load", "permanent", "state"], 1, "TPM result from PTM_SET_STATEBLOB: 0xa"),
    # And without again.
    (["--stop"], 0, ""),
    (["-e"], 1, "TPM result from PTM_GET_TPMESTABLISHED: 0xa"),
    (["--load", "permanent", "garbage"], 1, "TPM result from PTM_SET_STATEBLOB: 0x3"),
    (["--load", "savestate", "nothing"], 0, ""),
    (["--load", "permanent", "state"], 0, ""),
    (["--load", "volatile", "garbage"], 1, "TPM result from PTM_SET_STATEBLOB: 0x3"),
    (["--load", "permanent", "state"], 0, ""),
    (["--load", "volatile", "running"], 0, ""),
    (["-i"], 0, ""),
    (["-e"], 0, "tpmEstablished is 0"),
    (["-v"], 0, ""),
    (["-s"], 0, ""),
]


def test_every_option_has_the_same_result(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "garbage").write_bytes(b"this is not the state of a TPM")
    for words, status, wanted in CONVERSATION:
        files = [str(tmp_path / word) if word in FILES else word for word in words]
        found, said = ioctl(unix(emulator), *files, data="what is launched" * 1000)
        pattern = re.escape(wanted).replace(r"\*", r"\d+")
        assert found == status, (words, said)
        assert re.fullmatch(pattern, said), (words, said)
    assert (tmp_path / "nothing").read_bytes() == b""
    assert emulator.has_ended()


@pytest.mark.parametrize("program", [OURS, THEIRS])
def test_a_tpm_1_2_says_so_and_goes_on_from_its_states(tmp_path: Path, program: str) -> None:
    with running(program, tmp_path / "state", family="1.2") as emulator:
        capabilities = {OURS: 0x17FFF, THEIRS: 0x7FFF}[program]  # swtpm 0.7.1 has no LOCK_STORAGE yet.
        assert ioctl(unix(emulator), "-c") == (0, f"ptm capability is 0x{capabilities:x}")
        assert ioctl(unix(emulator), "-b", "1") == (
            0, "TPM buffersize: 3072\nminimum size  : 3072\nmaximum size  : 4096")
        found = json.loads(ioctl(unix(emulator), "--info", "7")[1].strip("\0"))
        assert found["TPMSpecification"] == {"family": "1.2", "level": 2, "revision": 116}
        assert found["TPMAttributes"].keys() == {"manufacturer", "version", "model"}
        assert ioctl(unix(emulator), "-i")[0] == 0
        assert ioctl(unix(emulator), "-e")[0] == 0
        with connected(emulator) as tpm:
            tpm.run(Startup(TPM_ST_CLEAR))
            once = tpm.run(Extend(16, bytes(20))).out_digest
        kinds = ("permanent", "volatile")
        for step in (*(["--save", kind, f"{tmp_path}/{kind}"] for kind in kinds), ["--stop"],
                     *(["--load", kind, f"{tmp_path}/{kind}"] for kind in kinds), ["-i"]):
            assert ioctl(unix(emulator), *step)[0] == 0, step
        with connected(emulator) as tpm:
            assert tpm.run(Extend(16, bytes(20))).out_digest == sha1(once + bytes(20)).digest()
        assert ioctl(unix(emulator), "-s")[0] == 0


def test_over_tcp_it_is_the_same(tmp_path: Path) -> None:
    """The port is taken by a socket of ours first, so that it is free for sure."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.set_inheritable(True)
        port = listener.getsockname()[1]
        options = ["--ctrl", f"type=tcp,fd={listener.fileno()}"]
        with running(OURS, tmp_path / "state", *options, sockets=False) as emulator:
            listener.close()
            where = ["--tcp", f"127.0.0.1:{port}"]
            assert ioctl(where, "-c") == (0, "ptm capability is 0x1ffff")
            assert ioctl(where, "-i") == (0, "")
            assert ioctl(where, "-h", "x" * 5000) == (0, "")
            assert ioctl(where, "-e") == (0, "tpmEstablished is 1")
            assert ioctl(where, "-s") == (0, "")
            assert emulator.has_ended()


def test_a_client_that_keeps_its_connection_does_not_lock_others_out(tmp_path: Path) -> None:
    with running(OURS, tmp_path / "state") as emulator, socket.socket(socket.AF_UNIX) as keeper:
        keeper.connect(str(emulator.ctrl))
        assert ioctl(unix(emulator), "-i") == (0, "")
        assert ioctl(unix(emulator), "-c") == (0, "ptm capability is 0x1ffff")


def test_what_the_tpm_says_of_itself_has_the_form_of_libtpms(emulator: Emulator) -> None:
    with running(emulator.program, emulator.directory / "again") as again:
        status, said = ioctl(unix(again), "--info", "7")
        assert status == 0
        found = json.loads(said.strip("\0"))
        assert found.keys() == {"TPMSpecification", "TPMAttributes", "TPMFeatures"}
        assert found["TPMSpecification"].keys() == {"family", "level", "revision"}
        assert found["TPMSpecification"]["family"] == "2.0"
        assert re.fullmatch("id:[0-9A-F]{8}", found["TPMAttributes"]["manufacturer"])
        assert re.fullmatch("id:[0-9A-F]{8}", found["TPMAttributes"]["version"])
        assert 2048 in found["TPMFeatures"]["RSAKeySizes"]
        assert ioctl(unix(again), "--info", "0") == (0, "{}")


def test_the_state_of_the_one_is_refused_by_the_other_with_the_same_result(tmp_path: Path) -> None:
    with running(OURS, tmp_path / "ours") as ours, running(THEIRS, tmp_path / "theirs") as theirs:
        for emulator in (ours, theirs):
            assert ioctl(unix(emulator), "-i") == (0, "")
            assert ioctl(unix(emulator), "--save", "permanent", f"{emulator.directory}/blob") == (0, "")
            assert ioctl(unix(emulator), "--stop") == (0, "")
        for emulator, other in ((ours, theirs), (theirs, ours)):
            refusal = (1, "TPM result from PTM_SET_STATEBLOB: 0x1e")  # TPM_RC_BAD_TAG
            assert ioctl(unix(emulator), "--load", "permanent", f"{other.directory}/blob") == refusal
            assert ioctl(unix(emulator), "--load", "permanent", f"{emulator.directory}/blob") == (0, "")
            assert ioctl(unix(emulator), "-i") == (0, "")
