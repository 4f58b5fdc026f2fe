"""What runs in a guest on the registers of its TPM: our driver over /dev/mem, at four localities."""

from __future__ import annotations

import sys
import time

from hwtpm.tis.driver import Driver
from hwtpm.tis.memory import MemoryWindow
from hwtpm.tis.registers import STS_BURST_COUNT_SHIFT, TIS_BASE, TPM_STS

GET_RANDOM = {"2.0": bytes.fromhex("8001 0000000c 0000017b 0010"),
              "1.2": bytes.fromhex("00c1 0000000e 00000046 00000010")}
_HEADER = 10

window = MemoryWindow("/dev/mem")
driver = Driver(window, clock=time.monotonic, sleep=time.sleep)
chip = driver.probe()
print(f"probed {chip.vendor:04x}:{chip.device:04x} {'2.0' if chip.is_2_0 else '1.2'}")
driver.request_locality(0)
# QEMU tells who reads single octets of a burst count at most 255.
print("burst count", window.read32(TIS_BASE + TPM_STS) >> STS_BURST_COUNT_SHIFT & 0xFFFF)
found = {driver.execute(GET_RANDOM[sys.argv[1]], locality)[_HEADER:] for locality in (0, 3, 1, 2)}
print("random", len(found))
driver.release()
window.close()
