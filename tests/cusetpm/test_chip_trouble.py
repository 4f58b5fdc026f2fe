"""A chip that is busy, or does not answer: the daemon lives, other vTPMs go on, one line says what to do."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cusetpm.daemon import Device, System
from hwtpm.client import Client, Password
from hwtpm.errors import ProtocolError, TpmError
from hwtpm.tpm2.requests.hierarchy import HierarchyChangeAuth
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.types.constants import TPM_RC_NV_UNAVAILABLE, TPM_CC_NV_Increment
from hwtpm.tpm2.types.handles import TPM_RH_OWNER
from hwtpm.tpm12.types.ordinals import TPM_ORD_IncrementCounter
from manager import patience
from manager.patience import Patient

BUSY = {
    "2.0": {0x922: "TPM_RC_RETRY", 0x908: "TPM_RC_YIELDED", 0x90A: "TPM_RC_TESTING", 0x920: "TPM_RC_NV_RATE",
            0x903: "TPM_RC_SESSION_MEMORY"},
    "1.2": {0x800: "TPM_RETRY", 0x802: "TPM_DOING_SELFTEST"},
}
COUNTS = {"2.0": TPM_CC_NV_Increment, "1.2": TPM_ORD_IncrementCounter}
CODES = [(family, code) for family, codes in BUSY.items() for code in codes]


class Trouble:
    """A system with two vTPMs, whose chip answers as *answer* says to the command that counts."""

    def __init__(self, path: Path, family: str) -> None:
        self.system = System(path, chip=family)
        self.system.manager._ledger._interval = 0  # Every save is counted on its way.
        self.answer: Callable[[bytes], bytes | None] = lambda command: None
        self.asked = 0
        self._counts = COUNTS[family]
        self.one, self.other = self._guest("one"), self._guest("other")
        self.value = {device: "" for device in (self.one, self.other)}
        for device in self.one, self.other:
            self.write(device)
        real = self.system.chip.execute

        def execute(command: bytes, locality: int) -> bytes:
            if int.from_bytes(command[6:10], "big") == self._counts:
                self.asked += 1
                found = self.answer(command)
                if found is not None:
                    return found
            return real(command, locality)

        self.system.chip.execute = execute  # type: ignore[method-assign]

    def _guest(self, name: str) -> Device:
        device = self.system.add_guest(name)
        device.start_up("clear")
        return device

    def write(self, device: Device) -> None:
        """The owner's authorization value is another one, durably."""
        old = self.value[device]
        Client(device.execute, os.urandom).run(
            HierarchyChangeAuth(TPM_RH_OWNER, f"{old}x".encode()), Password(old.encode()))
        self.value[device] += "x"

    def works(self, device: Device) -> None:
        """What needs no save is answered."""
        assert len(Client(device.execute, os.urandom).run(GetRandom(8)).random_bytes) == 8


def busy(code: int, times: int = 1 << 30) -> Callable[[bytes], bytes | None]:
    """Answer the first *times* commands with *code*."""
    left = [times]

    def answer(command: bytes) -> bytes | None:
        left[0] -= 1
        tag = 0x00C4 if command[0] == 0 else 0x8001
        return tag.to_bytes(2, "big") + (10).to_bytes(4, "big") + code.to_bytes(4, "big") \
            if left[0] >= 0 else None

    return answer


@pytest.fixture
def made(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Trouble]:
    trouble = Trouble(tmp_path / "state", request.param)
    with closing(trouble.system):
        yield trouble
        trouble.answer = lambda command: None


@pytest.mark.parametrize(("made", "code"), CODES, indirect=["made"])
def test_a_chip_that_is_busy_for_a_moment_is_asked_again(made: Trouble, code: int) -> None:
    made.answer = busy(code, 3)
    made.write(made.one)
    assert made.asked == 4
    assert made.one.trouble.cause is None


@pytest.mark.parametrize(("made", "code"), CODES, indirect=["made"])
def test_a_chip_that_stays_busy_fails_saves_and_nothing_else(
        made: Trouble, code: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.02)
    made.answer = busy(code)
    for _ in range(3):
        with pytest.raises(TpmError) as caught:
            made.write(made.one)
        assert caught.value.rc == TPM_RC_NV_UNAVAILABLE
        made.works(made.other)
    (record,) = (r for r in caplog.records if r.levelno == logging.ERROR)
    name = BUSY["1.2" if code < 0x900 else "2.0"][code]
    assert f"({name}); what was not saved is saved when it answers again" in record.getMessage()
    assert record.getMessage().startswith("vTPM one: its state cannot be saved: ")
    made.answer = lambda command: None
    # The store had the first change that failed already: it is completed, and the vTPM goes on from there.
    made.value[made.one] += "x"
    made.write(made.one)
    made.write(made.other)


@pytest.mark.parametrize("made", BUSY, indirect=True)
@pytest.mark.parametrize("error", [
    ProtocolError("TPM_STS: no stsValid within 750 ms"), BrokenPipeError(32, "Broken pipe")])
def test_a_chip_that_does_not_answer_fails_saves_and_nothing_else(
        made: Trouble, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def answer(command: bytes) -> bytes | None:
        raise error

    made.answer = answer
    for _ in range(2):
        with pytest.raises(TpmError):
            made.write(made.one)
        made.works(made.other)
    with pytest.raises(TpmError):
        made.write(made.other)
    (record,) = (r for r in caplog.records if r.levelno == logging.ERROR)  # The second has the same cause.
    assert str(error).rpartition("] ")[2] in record.getMessage()
    made.answer = lambda command: None
    made.value[made.one] += "x"
    made.write(made.one)


@pytest.mark.parametrize("made", ["2.0"], indirect=True)
def test_while_a_chip_takes_its_time_the_others_go_on(made: Trouble) -> None:
    """A command of the chip hangs; what needs no save is answered, and the saves all are in the end."""
    here, go = threading.Event(), threading.Event()

    def answer(command: bytes) -> bytes | None:
        here.set()
        assert go.wait(60)
        return None

    made.answer = answer
    threads = [threading.Thread(target=made.write, args=(device,)) for device in (made.one, made.other)]
    threads[0].start()
    assert here.wait(60)
    made.works(made.other)
    threads[1].start()
    go.set()
    for thread in threads:
        thread.join()
    assert set(made.value.values()) == {"xx"}


def test_patience_has_an_end_and_grows_less_busy() -> None:
    now, pauses, asked = [0.0], [], [0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    def execute(command: bytes) -> bytes:
        asked[0] += 1
        return bytes.fromhex("80010000000a00000922")

    with pytest.raises(Exception, match=r"the chip is busy \(TPM_RC_RETRY\)"):
        Patient(execute, lambda: now[0], sleep)(b"")
    assert pauses == sorted(pauses)
    assert pauses[-1] == 0.5
    assert 5 < now[0] <= patience.PATIENCE
    assert asked[0] == len(pauses) + 1


def test_other_answers_are_not_asked_for_again() -> None:
    for answer in ("80010000000a00000000", "80010000000a0000099d", "80010000000c000009220000",
                   "00c40000000a00000003"):
        asked: list[bytes] = []

        def execute(command: bytes, answer: str = answer, asked: list[bytes] = asked) -> bytes:
            asked.append(command)
            return bytes.fromhex(answer)

        assert Patient(execute, lambda: 0.0, lambda seconds: None)(b"x") == bytes.fromhex(answer)
        assert asked == [b"x"]
