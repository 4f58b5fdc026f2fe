"""Checks CuseDevice against a real kernel: a plain script for root on a machine with /dev/cuse.

Serves a fake TPM, and a resource manager, and has front_end.py check them from another process; then what
happens to clients that are killed, that handle a signal, and that outlive the device.  Exits with 0 if all
of it held.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import select
import stat
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import patch

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from cusetpm.devices.cuse.device import CuseDevice  # noqa: E402
from cusetpm.devices.node import free_number  # noqa: E402
from cusetpm.devices.session import Device, SharedDevice  # noqa: E402
from tests.conformance.fake_tpm import CREATE_PRIMARY, GET_RANDOM, FakeTpm, message  # noqa: E402
from tests.support.managed import Managed  # noqa: E402
from tests.support.tpm2 import started  # noqa: E402

NUMBERS = (60, 224)  # of the majors for local use

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


def conforms(kind: str, *paths: str) -> None:
    script = Path(__file__).with_name("front_end.py")
    subprocess.run([sys.executable, "-I", str(script), kind, *paths], check=True)


def passes_the_conformance_suite() -> None:
    device = CuseDevice("tpm0", Device(FakeTpm(key_s=0.3)), NUMBERS)
    assert free_number() == 0
    device.start()
    found = os.stat(device.path)
    assert stat.S_ISCHR(found.st_mode)
    assert found.st_rdev == os.makedev(*NUMBERS)
    assert free_number() == 1
    conforms("device", device.path)
    device.stop()
    device.stop()
    assert not os.path.exists(device.path)


def passes_it_as_a_resource_manager_too() -> None:
    manager = Managed(started().execute).manager
    devices = CuseDevice("tpm0", Device(manager)), CuseDevice("tpmrm0", SharedDevice(manager))
    for device in devices:
        device.start()
    conforms("managed", "/dev/tpmrm0", "/dev/tpm0")
    for device in devices:
        device.stop()


def numbers_that_are_taken_are_refused() -> None:
    refusal = ""
    try:
        CuseDevice("tpm0", Device(FakeTpm()), (10, 224)).start()  # The major of all miscellaneous devices.
    except FileExistsError as error:
        refusal = str(error)
    assert "the kernel refused" in refusal
    assert not os.path.exists("/dev/tpm0")


def the_devices_are_owned_as_udev_s_rules_say() -> None:
    try:
        user, group = pwd.getpwnam("tss").pw_uid, grp.getgrnam("tss").gr_gid
    except KeyError:
        user = group = 0
    for name, owner in ("tpm0", (user, 0)), ("tpmrm0", (user, group)):
        device = CuseDevice(name, Device(FakeTpm()))
        device.start()
        found = os.stat(device.path)
        assert (found.st_uid, found.st_gid) == owner
        assert stat.S_IMODE(found.st_mode) == 0o660
        device.stop()


def signals_cancel_only_if_they_kill() -> None:
    tpm = FakeTpm(key_s=GIVE_UP_S)
    device = CuseDevice("tpm0", Device(tpm))
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
    device = CuseDevice("tpm0", Device(FakeTpm()))
    device.start()
    program = (
        "p = select.poll(); p.register(fd, select.POLLIN); print('polling', flush=True); print(p.poll())"
    )
    with client(device.path, program) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "polling\n"
        device.stop()
        assert f", {select.POLLERR})" in waiting.communicate()[0]


def one_process_has_many_devices() -> None:
    devices = [CuseDevice(f"tpm{number}", Device(FakeTpm())) for number in range(8)]
    for device in devices:
        device.start()
    program = f"os.write(fd, {message(GET_RANDOM, bytes([0, 16]))!r}); print(len(os.read(fd, 4096)))"
    clients = [client(device.path, program) for device in devices]
    assert [each.communicate()[0] for each in clients] == ["28\n"] * len(devices)
    for device in devices:
        device.stop()


def a_killed_server_leaves_its_clients_an_error() -> None:
    program = (
        "import sys, signal\n"
        f"sys.path.insert(0, {str(CHECKOUT)!r})\n"
        "from cusetpm.devices.cuse.device import CuseDevice\n"
        "from cusetpm.devices.session import Device\n"
        "from tests.conformance.fake_tpm import FakeTpm\n"
        "CuseDevice('tpm0', Device(FakeTpm(key_s=60))).start()\n"
        "print('serves', flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"serves\n"
        waiting = client("/dev/tpm0", f"print('open', flush=True)\n"
                         f"try: os.write(fd, {CREATE!r})\nexcept OSError as error: print(error.errno)")
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "open\n"
        server.kill()
    assert int(waiting.communicate()[0]) in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENODEV)
    assert not os.path.exists("/dev/tpm0")


def a_name_that_another_process_was_faster_to_take_is_refused() -> None:
    """What the kernel then has by this name is not taken for one's own."""
    first, second = CuseDevice("tpm0", Device(FakeTpm())), CuseDevice("tpm0", Device(FakeTpm()))
    first.start()
    refusal = ""
    with patch("cusetpm.devices.cuse.device.taken", lambda name: False):
        try:
            second.start()
        except FileExistsError as error:
            refusal = str(error)
    assert "the kernel refused" in refusal
    conforms("device", "/dev/tpm0")
    first.stop()


def a_device_that_is_there_is_not_replaced() -> None:
    refusal = ""
    try:
        CuseDevice("null", Device(FakeTpm())).start()
    except OSError as error:
        refusal = str(error)
    assert "exists already" in refusal


if __name__ == "__main__":
    for check in (
        passes_the_conformance_suite,
        passes_it_as_a_resource_manager_too,
        numbers_that_are_taken_are_refused,
        the_devices_are_owned_as_udev_s_rules_say,
        signals_cancel_only_if_they_kill,
        a_client_that_polls_hears_of_the_end,
        one_process_has_many_devices,
        a_killed_server_leaves_its_clients_an_error,
        a_name_that_another_process_was_faster_to_take_is_refused,
        a_device_that_is_there_is_not_replaced,
    ):
        check()
        print("held:", check.__name__.replace("_", " "), flush=True)
    assert threading.enumerate() == [threading.main_thread()]
