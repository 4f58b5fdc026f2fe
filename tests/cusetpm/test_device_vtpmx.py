"""The emulator's side of vtpm-proxy: what it answers, and its device with a socket where the kernel is.

What the kernel makes of it is seen in a virtual machine (tests/conformance, tests/integration/test_vtpmx.py).
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cusetpm.devices import node
from cusetpm.devices.swtpm.control import Control
from cusetpm.devices.vtpmx import abi, device
from cusetpm.devices.vtpmx.device import NewChip, VtpmxDevice
from cusetpm.devices.vtpmx.protocol import Emulator
from cusetpm.frontend import choose
from cusetpm.rundir import RunDirectory
from cusetpm.transport import Cancelled
from hwtpm.errors import StateError
from hwtpm.family import family, response_code
from tests.support.fake_machine import FakeMachine
from tests.support.real_machine import RealMachine

FAMILIES = ("2.0", "1.2")
TAGS = {"2.0": 0x8001, "1.2": 0x00C4}  # of a response that is only a header
GET_RANDOM = bytes.fromhex("80010000000c0000017b0008")
SELF_TEST = bytes.fromhex("80010000000b0000014300")
SUCCESS = bytes.fromhex("80010000000a00000000")
GIVE_UP_S = 30
WARM_UP = {
    "2.0": [SELF_TEST, bytes.fromhex("8001000000160000017a000000020000011f00000001")],  # TPM_CAP_COMMANDS
    "1.2": [bytes.fromhex("00c10000000a00000053")],  # TPM_ContinueSelfTest
}


def set_locality(family: str, locality: int) -> bytes:
    """Return the command as the kernel's driver makes it (vtpm_proxy_request_locality)."""
    return bytes.fromhex({"2.0": "8002", "1.2": "00c1"}[family] + "0000000b20001000") + bytes([locality])


def test_the_ioctl_and_its_structure_are_those_of_the_kernels_header() -> None:
    assert abi.VTPM_PROXY_IOC_NEW_DEV == 0xC014A100
    assert abi.VTPM_PROXY_NEW_DEV.size == 20


# -- what it answers


REAL = {family: RealMachine(family) for family in FAMILIES}


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Anything; or what begins like a command, and is cut off, too long, or says a wrong size."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=4096))
    tag = draw(st.sampled_from([0x8001, 0x8002, 0x00C1, 0x00C2]))
    code = draw(st.sampled_from([0x20001000, 0x17B, 0x143, 0x14, 0x46, 0]) | st.integers(0, 0xFFFFFFFF))
    rest = draw(st.binary(max_size=64))
    size = draw(st.just(10 + len(rest)) | st.integers(0, 0xFFFFFFFF))
    whole = tag.to_bytes(2, "big") + size.to_bytes(4, "big") + code.to_bytes(4, "big") + rest
    return whole[: draw(st.just(len(whole)) | st.integers(0, len(whole)))]


@pytest.mark.parametrize("family", FAMILIES)
@given(request=requests())
@example(request=b"")
@example(request=bytes.fromhex("800100000006"))
def test_every_request_gets_one_well_formed_response(family: str, request: bytes) -> None:
    machine = REAL[family]
    control, before = Control(machine), len(machine.answered)
    response = Emulator(control).answer(request)
    for_the_tpm = [] if request[6:10] == bytes.fromhex("20001000") else [(request, 0)]
    assert machine.answered[before:] == for_the_tpm  # A response of the TPM's, not for an error of ours.
    assert 10 <= len(response) <= 4096
    assert int.from_bytes(response[2:6], "big") == len(response)
    assert control.locality in range(5)
    assert control.locality == 0 or request[6:11] == set_locality(family, control.locality)[6:]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_locality_that_the_kernel_sets_is_that_of_the_commands_after_it(family: str) -> None:
    machine = FakeMachine(family)
    control = Control(machine)
    emulator = Emulator(control)
    done = TAGS[family].to_bytes(2, "big") + bytes.fromhex("0000000a00000000")
    for locality in range(5):
        assert emulator.answer(set_locality(family, locality)) == done
        emulator.answer(GET_RANDOM)
        assert control.locality == locality
    assert machine.commands == [(GET_RANDOM, locality) for locality in range(5)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("request_of", "code"), [
    (lambda whole: whole[:10] + b"\5", {"2.0": 0x907, "1.2": 61}),  # TPM_RC_LOCALITY, TPM_BAD_LOCALITY
    (lambda whole: whole[:10], {"2.0": 0x9A, "1.2": 25}),  # TPM_RC_INSUFFICIENT, TPM_BAD_PARAM_SIZE
], ids=["there is none", "without one"])
def test_a_locality_that_cannot_be_is_refused_and_the_old_one_stays(family: str, request_of, code) -> None:  # type: ignore[no-untyped-def]
    control = Control(FakeMachine(family))
    emulator = Emulator(control)
    emulator.answer(set_locality(family, 2))
    refusal = TAGS[family].to_bytes(2, "big") + bytes.fromhex("0000000a") + code[family].to_bytes(4, "big")
    assert emulator.answer(request_of(set_locality(family, 3))) == refusal
    assert control.locality == 2


def test_a_client_of_a_socket_cannot_set_what_the_kernel_can() -> None:
    control = Control(FakeMachine())
    assert control.execute(set_locality("2.0", 3))[6:] == bytes.fromhex("00000101")
    assert control.locality == 0


def test_an_error_of_ours_is_a_failure_of_the_tpm(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeMachine):
        def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
            raise ZeroDivisionError

    assert Emulator(Control(Broken())).answer(GET_RANDOM) == bytes.fromhex("80010000000a00000101")
    assert "a command failed" in caplog.text


# -- its device


class FakeNode:
    """A node that is there at once, as the kernel's may be."""

    ready = True

    def __init__(self, name: str, kind: str, note: object) -> None:
        self.path = f"/dev/{name}"

    def is_ready(self) -> bool:
        return self.ready

    def find(self) -> None: ...

    def remove(self) -> None: ...


class Slow(FakeMachine):
    """Commands other than those it is warmed up with last until they are asked to end."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        assert cancelled is not None
        if command not in WARM_UP["2.0"]:
            self.begun.set()
            while not cancelled():
                pass
        return super().execute(command, locality)


class Kernel:
    """What the kernel does, over a socket that keeps the bounds of messages as its file does."""

    def __init__(self) -> None:
        self.flags: list[int] = []
        self.ends: list[socket.socket] = []

    def new_chip(self, flags: int) -> NewChip:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(GIVE_UP_S)
        self.flags.append(flags)
        self.ends.append(ours)
        return NewChip(len(self.ends) - 1, theirs.detach(), (10, 224))

    def transact(self, request: bytes) -> bytes:
        self.ends[-1].send(request)
        return self.ends[-1].recv(4096)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kernel]:
    """Give a kernel without other devices; `tmp_path` is /dev as far as names are concerned."""
    made = Kernel()
    monkeypatch.setattr(device, "new_chip", made.new_chip)
    monkeypatch.setattr(device, "Node", FakeNode)
    monkeypatch.setattr(node, "_IN_USE", (str(tmp_path),))
    yield made
    for end in made.ends:
        end.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_it_has_done_what_takes_long_when_the_kernel_begins_to_ask(kernel: Kernel, family: str) -> None:
    machine = FakeMachine(family)
    served = VtpmxDevice(Control(machine))
    served.create()
    assert machine.commands == []
    served.start()
    assert kernel.flags == [1 if family == "2.0" else 0]
    assert served.paths == ({"tpm": "/dev/tpm0", "tpmrm": "/dev/tpmrm0"} if family == "2.0" else
                            {"tpm": "/dev/tpm0"})
    assert machine.commands == [(command, 0) for command in WARM_UP[family]]
    for request in (GET_RANDOM, b"\x80", GET_RANDOM):
        assert kernel.transact(request) == SUCCESS
    served.stop()
    served.stop()
    assert kernel.ends[0].recv(1) == b""


def test_what_warms_a_tpm_up_succeeds_and_changes_nothing() -> None:
    for family_name, machine in REAL.items():
        for command in family(family_name).warm_up:
            assert response_code(machine.execute(command)) == 0
            assert not machine.tpm.engine.dirty


def test_a_start_that_cannot_be_stored_is_told_and_asks_the_tpm_nothing(kernel: Kernel) -> None:
    """The kernel has made the chip by then, and takes it away again."""
    machine = FakeMachine()

    def accept() -> None:
        assert len(kernel.ends) == 1
        raise StateError("the disk is full")

    with RunDirectory() as home, pytest.raises(StateError, match="the disk is full"), \
            choose("vtpmx", machine, None, Control(machine), home, "", dict, accept):
        pass
    assert kernel.ends[0].recv(1) == b""
    assert machine.commands == []


def test_a_number_of_a_device_that_is_not_the_kernels_is_passed_over(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "tpm0").touch()
    (tmp_path / "tpmrm1").touch()
    served = VtpmxDevice(Control(FakeMachine()))
    served.create()
    assert served.paths["tpm"] == "/dev/tpm2"
    assert [end.recv(1) for end in kernel.ends[:2]] == [b"", b""]
    served.stop()


def test_all_numbers_taken_is_an_error(
        kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "MAX_DEVICES", 3)
    for number in range(3):
        (tmp_path / f"tpm{number}").touch()
    with pytest.raises(OSError, match="all names from tpm0 to tpm255 are taken"):
        VtpmxDevice(Control(FakeMachine())).create()
    assert [end.recv(1) for end in kernel.ends] == [b""] * 3


def test_a_command_that_the_kernel_gives_up_ends_and_the_next_is_answered(kernel: Kernel) -> None:
    machine = Slow()
    served = VtpmxDevice(Control(machine))
    served.create()
    served.start()
    kernel.ends[0].send(GET_RANDOM)
    assert machine.begun.wait(GIVE_UP_S)
    kernel.ends[0].send(SELF_TEST)
    assert [kernel.ends[0].recv(100) for _ in range(2)] == [SUCCESS] * 2
    served.stop()


def test_stopping_ends_a_command(kernel: Kernel) -> None:
    machine = Slow()
    served = VtpmxDevice(Control(machine))
    served.create()
    served.start()
    kernel.ends[0].send(GET_RANDOM)
    assert machine.begun.wait(GIVE_UP_S)
    served.stop()
    assert machine.log == ["cancel"]


def test_a_tpm_that_the_kernel_does_not_take_is_an_error(
        kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeNode, "ready", False)
    served = VtpmxDevice(Control(FakeMachine()))
    served.create()
    kernel.ends[0].close()
    with pytest.raises(OSError, match="the kernel does not take this TPM") as caught:
        served.start()
    assert caught.value.errno == errno.EIO
    served.stop()


def test_a_machine_without_vtpm_proxy_is_told_clearly(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device, "VTPMX", str(tmp_path / "vtpmx"))
    served = VtpmxDevice(Control(FakeMachine()))
    with pytest.raises(OSError, match=r"no vtpm-proxy on this machine \(modprobe tpm_vtpm_proxy\)") as caught:
        served.create()
    assert caught.value.errno == errno.ENODEV
    served.stop()


def test_a_file_that_is_no_vtpm_proxy_is_told_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "VTPMX", os.devnull)
    with pytest.raises(OSError, match="vtpm-proxy cannot be used: Inappropriate ioctl for device") as caught:
        VtpmxDevice(Control(FakeMachine())).create()
    assert caught.value.filename == os.devnull
