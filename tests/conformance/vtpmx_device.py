"""Checks VtpmxDevice with a real kernel: a plain script for root on a machine with /dev/vtpmx.

The device files are the kernel's own, so that front_end.py, which judges ours, is judged here itself; and
our TPM has to be one that the kernel takes.  Then several chips, clients whose server ends, and one that is
killed.  Exits with 0 if all of it held.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from cusetpm.devices.cuse.device import CuseDevice  # noqa: E402
from cusetpm.devices.session import Device  # noqa: E402
from cusetpm.devices.swtpm.control import Control  # noqa: E402
from cusetpm.devices.vtpmx.device import VtpmxDevice, new_chip  # noqa: E402
from cusetpm.transport import Cancelled  # noqa: E402
from tests.conformance.cuse_device import GIVE_UP_S, client, conforms  # noqa: E402
from tests.conformance.fake_tpm import CREATE_PRIMARY, GET_RANDOM, FakeTpm, message  # noqa: E402
from tests.support.real_machine import RealMachine  # noqa: E402
from tests.support.tpm2 import make_engine  # noqa: E402

ASK = message(GET_RANDOM, bytes([0, 16]))
SET_LOCALITY = bytes.fromhex("80020000000b2000100003")
GONE = (errno.EPIPE, errno.ECANCELED)


class Machine(RealMachine):
    """A command with the code `lasting` lasts until it is asked to end."""

    lasting = b""

    def __init__(self, family: str = "2.0") -> None:
        super().__init__(family)
        self.begun = threading.Event()

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        if command[6:10] != self.lasting:
            return super().execute(command, locality)
        assert cancelled is not None
        self.begun.set()
        while not cancelled():
            pass
        return message(0x909)  # TPM_RC_CANCELED


@contextmanager
def shown(machine: Machine) -> Iterator[VtpmxDevice]:
    device = VtpmxDevice(Control(machine))
    try:
        device.create()
        device.start()
        yield device
    finally:
        device.stop()


def the_kernels_devices_are_what_ours_are_compared_with() -> None:
    with shown(Machine()) as device:
        assert device.paths == {"tpm": "/dev/tpm0", "tpmrm": "/dev/tpmrm0"}
        conforms("device", "/dev/tpm0")
        conforms("linux-managed", "/dev/tpmrm0", "/dev/tpm0")
    assert not os.path.exists("/dev/tpm0")
    assert not os.path.exists("/dev/tpmrm0")


def one_process_has_chips_of_both_families() -> None:
    families = ("2.0", "1.2", "2.0", "1.2")
    devices = [VtpmxDevice(Control(Machine(family))) for family in families]
    for device in devices:
        device.create()
    for device in devices:
        device.start()
    for number, family in enumerate(families):
        shows = Path(f"/sys/class/tpm/tpm{number}/tpm_version_major").read_text()
        assert shows == ("2\n" if family == "2.0" else "1\n")
        assert os.path.exists(f"/dev/tpmrm{number}") == (family == "2.0")
        assert stat.S_IMODE(os.stat(f"/dev/tpm{number}").st_mode) == 0o660
    ask = {"2.0": ASK, "1.2": bytes.fromhex("00c10000000e0000004600000010")}
    program = "os.write(fd, {!r}); print(len(os.read(fd, 4096)))"
    clients = [client(device.paths["tpm"], program.format(ask[family]))
               for device, family in zip(devices, families, strict=True)]
    assert [int(each.communicate()[0]) for each in clients] == [28, 30, 28, 30]
    # The one in the middle goes, and its number is the next that is free.
    devices[1].stop()
    again = VtpmxDevice(Control(Machine()))
    again.create()
    again.start()
    assert again.paths["tpm"] == "/dev/tpm1"
    for device in (*devices, again):
        device.stop()


def the_locality_is_the_kernels_to_set() -> None:
    for family in "2.0", "1.2":
        machine = Machine(family)
        control = Control(machine)
        control.locality = 2  # The first that the kernel sends is that it wants 0.
        device = VtpmxDevice(control)
        device.create()
        device.start()
        assert control.locality == 0
        tag = SET_LOCALITY[:2] if family == "2.0" else b"\0\xc1"
        program = (f"try: os.write(fd, {tag + SET_LOCALITY[2:]!r})\n"
                   "except OSError as error: print(error.errno)")
        assert client(device.paths["tpm"], program).communicate()[0] == f"{errno.EFAULT}\n"
        assert control.locality == 0
        device.stop()


def a_tpm_that_nobody_started_is_started_by_the_kernel() -> None:
    machine = Machine()
    machine.tpm = make_engine()
    with shown(machine):
        startup = message(0x144, bytes(2))
        assert machine.answered.count((startup, 0)) == 1


def numbers_of_other_devices_are_left_alone() -> None:
    other = CuseDevice("tpm0", Device(FakeTpm()))
    other.start()
    with shown(Machine()) as device:
        assert device.paths == {"tpm": "/dev/tpm1", "tpmrm": "/dev/tpmrm1"}
        with client("/dev/tpm1", f"os.write(fd, {ASK!r}); print(len(os.read(fd, 4096)))") as asks:
            assert asks.communicate()[0] == "28\n"
    other.stop()


def stopping_ends_a_command_and_its_client() -> None:
    machine = Machine()
    with shown(machine) as device:
        machine.lasting = CREATE_PRIMARY.to_bytes(4, "big")
        program = (f"try: os.write(fd, {message(CREATE_PRIMARY)!r}); print(os.read(fd, 4096)[6:].hex())\n"
                   "except OSError as error: print(error.errno)\n"
                   "sys.stdout.flush(); sys.stdin.read()\n"
                   f"try: os.write(fd, {ASK!r})\nexcept OSError as error: print(error.errno)")
        with client(device.paths["tpm"], f"import sys\n{program}") as waiting:
            assert machine.begun.wait(GIVE_UP_S)
            device.stop()
            assert waiting.stdout is not None
            assert waiting.stdout.readline() in ("00000909\n", *(f"{code}\n" for code in GONE))
            assert not os.path.exists("/dev/tpm0")
            assert waiting.communicate()[0] == f"{errno.EPIPE}\n"


def a_killed_server_leaves_its_clients_an_error() -> None:
    program = (
        "import sys, signal\n"
        f"sys.path.insert(0, {str(CHECKOUT)!r})\n"
        "from tests.conformance.vtpmx_device import *\n"
        "machine = Machine()\n"
        "device = VtpmxDevice(Control(machine))\n"
        "device.create(); device.start()\n"
        "machine.lasting = CREATE_PRIMARY.to_bytes(4, 'big')\n"
        "print('serves', flush=True)\n"
        "machine.begun.wait(); print('works', flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"serves\n"
        executes = client("/dev/tpm0", f"try: os.write(fd, {message(CREATE_PRIMARY)!r})\n"
                                       "except OSError as error: print(error.errno)")
        idles = client("/dev/tpmrm0", "print('open', flush=True); input()\n"
                                      f"try: os.write(fd, {ASK!r})\n"
                                      "except OSError as error: print(error.errno)\n"
                                      "print(select.poll().poll(0), os.read(fd, 10))")
        assert idles.stdout is not None
        assert idles.stdout.readline() == "open\n"
        assert server.stdout.readline() == b"works\n"
        server.kill()
    assert int(executes.communicate()[0]) in GONE
    assert idles.communicate("\n")[0] == f"{errno.EPIPE}\n[] b''\n"
    assert not os.path.exists("/dev/tpm0")
    assert not os.path.exists("/sys/class/tpm/tpm0")


def a_child_does_not_keep_a_chip() -> None:
    chip = new_chip(1)
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    poller = select.poll()
    poller.register(chip.fd, select.POLLIN)
    assert poller.poll(1000 * GIVE_UP_S)  # The kernel waits for an answer.
    os.close(chip.fd)
    assert new_chip(1).number == chip.number
    child.kill()
    child.wait()


if __name__ == "__main__":
    for check in (
        the_kernels_devices_are_what_ours_are_compared_with,
        one_process_has_chips_of_both_families,
        the_locality_is_the_kernels_to_set,
        a_tpm_that_nobody_started_is_started_by_the_kernel,
        numbers_of_other_devices_are_left_alone,
        stopping_ends_a_command_and_its_client,
        a_killed_server_leaves_its_clients_an_error,
        a_child_does_not_keep_a_chip,
    ):
        check()
        print("held:", check.__name__.replace("_", " "), flush=True)
    assert threading.enumerate() == [threading.main_thread()]
