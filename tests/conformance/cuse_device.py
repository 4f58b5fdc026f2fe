"""Checks CuseDevice against a real kernel: a plain script for root on a machine with /dev/cuse.

Serves a fake TPM and has front_end.py check it from another process; then what happens to clients that
are killed, that handle a signal, and that outlive the device.  Exits with 0 if all of it held.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import subprocess
import sys
import threading
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from cusetpm.devices.cuse.device import CuseDevice, free_name  # noqa: E402
from tests.conformance.fake_tpm import CREATE_PRIMARY, FakeTpm, message  # noqa: E402

CREATE = message(CREATE_PRIMARY)
GIVE_UP_S = 60


def client(path: str, program: str) -> subprocess.Popen[str]:
    opening = f"import os, select, signal; fd = os.open({path!r}, os.O_RDWR)\n"
    return subprocess.Popen(
        [sys.executable, "-I", "-c", opening + program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def passes_the_conformance_suite() -> None:
    expected = free_name()
    device = CuseDevice(None, FakeTpm(key_s=0.3))
    device.start()
    assert device.name == expected
    assert stat.S_ISCHR(os.stat(device.path).st_mode)
    assert free_name() != expected
    script = Path(__file__).with_name("front_end.py")
    done = subprocess.run([sys.executable, "-I", str(script), "device", device.path], check=False)
    device.stop()
    device.stop()
    assert done.returncode == 0
    assert not os.path.exists(device.path)


def signals_cancel_only_if_they_kill() -> None:
    tpm = FakeTpm(key_s=GIVE_UP_S)
    device = CuseDevice(None, tpm)
    device.start()
    with client(device.path, f"os.write(fd, {CREATE!r})") as killed:
        assert tpm.creating.wait(GIVE_UP_S)
        killed.kill()
    assert tpm.cancels == 1
    handles = "signal.signal(signal.SIGURG, lambda *_: None)\n"
    with client(device.path, handles + f"print(os.write(fd, {CREATE!r}))") as handled:
        assert tpm.creating.wait(GIVE_UP_S)
        handled.send_signal(23)
        with contextlib.suppress(subprocess.TimeoutExpired):
            handled.wait(2)
        assert handled.returncode is None
        assert tpm.cancels == 1
        device.stop()  # Ends the command, and answers the client first.
        assert handled.communicate()[0] == "10\n"
    assert tpm.cancels == 2


def a_client_that_polls_hears_of_the_end() -> None:
    device = CuseDevice(None, FakeTpm())
    device.start()
    program = (
        "p = select.poll(); p.register(fd, select.POLLIN); print('polling', flush=True); print(p.poll())"
    )
    with client(device.path, program) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "polling\n"
        device.stop()
        assert f", {select.POLLERR})" in waiting.communicate()[0]


def a_device_that_is_there_is_not_replaced() -> None:
    refusal = ""
    try:
        CuseDevice("null", FakeTpm()).start()
    except OSError as error:
        refusal = str(error)
    assert "exists already" in refusal


if __name__ == "__main__":
    for check in (
        passes_the_conformance_suite,
        signals_cancel_only_if_they_kill,
        a_client_that_polls_hears_of_the_end,
        a_device_that_is_there_is_not_replaced,
    ):
        check()
        print("held:", check.__name__.replace("_", " "), flush=True)
    assert threading.enumerate() == [threading.main_thread()]
