"""Compares what the kernel shows of its chip with the TPM behind it: COMMAND of `cusetpm run`.

Usage: vtpmx_guest.py 2.0|1.2, with `--front-end vtpmx`.  Measures into PCRs through our socket, and reads
them where the kernel shows them; then compares everything else in sysfs.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from tests.integration import sysfs_guest  # noqa: E402

CHIP = Path(os.environ["CUSETPM_SYSFS"], "class/tpm", Path(os.environ["CUSETPM_DEVICE"]).name)
HASHES = {"sha1": 0x4, "sha256": 0xB, "sha384": 0xC, "sha512": 0xD}


def run(command: str) -> bytes:
    """Return the response to *command*, whose size is filled in; it has succeeded."""
    octets = bytes.fromhex(command)
    octets = octets[:2] + len(octets).to_bytes(4, "big") + octets[6:]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["CUSETPM_SOCKET"])
        connection.sendall(octets)
        response = connection.recv(4096)
    assert response[6:10] == bytes(4), response.hex()
    return response[10:]


def extend(family: str, index: int, digests: dict[str, bytes]) -> None:
    if family == "1.2":
        run(f"00c1 00000000 00000014 {index:08x} {digests['sha1'].hex()}")
        return
    values = "".join(f"{HASHES[name]:04x}{digest.hex()}" for name, digest in digests.items())
    run(f"8002 00000000 00000182 {index:08x} 00000009 40000009 0000 00 0000 {len(digests):08x} {values}")


def read(family: str, index: int, name: str) -> bytes:
    if family == "1.2":
        return run(f"00c1 00000000 00000015 {index:08x}")
    selection = (1 << index).to_bytes(3, "little").hex()
    size = hashlib.new(name).digest_size
    return run(f"8001 00000000 0000017e 00000001 {HASHES[name]:04x} 03 {selection}")[-size:]


def main(family: str) -> None:
    names = list(HASHES) if family == "2.0" else ["sha1"]
    for index in range(17):
        extend(family, index, {name: hashlib.new(name, bytes([index])).digest() for name in names})
    for name in names:
        for index in range(24):
            shown = (CHIP / f"pcr-{name}" / str(index)).read_text().strip()
            assert shown == read(family, index, name).hex().upper(), (name, index, shown)
    print(f"{24 * len(names)} PCRs are equal")
    sysfs_guest.main(family)


if __name__ == "__main__":
    main(sys.argv[1])
