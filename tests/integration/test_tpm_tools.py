"""Debian's tpm-tools and tpm-quote-tools through tcsd, against a TPM 1.2 of their own.

Each test is a shell script that runs with `cusetpm run --tpm 1.2 --tcsd`; a machine that restarts is a second
run with the same state directory.
"""

from __future__ import annotations

import os
import shlex
import struct
import subprocess
import sys
from hashlib import sha1
from pathlib import Path

import pytest

from hwtpm.crypto import ids
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.tpm12.types.constants import TPM_ALG_RSA
from hwtpm.tpm12.types.key import TPM_PUBKEY
from hwtpm.wire import decode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="tcsd takes a configuration file of root's only")
_ANSWERING = Path(__file__).parents[1] / "support/answering.py"
_ANSWER = f"{shlex.quote(sys.executable)} {shlex.quote(str(_ANSWERING))}"
_FUNCTIONS = f"""
fails() {{ ! "$@" >failed 2>&1 || {{ echo "succeeds: $*" >&2; exit 1; }}; }}
says() {{
    text=$1; shift
    if "$@" >said 2>&1 && grep -q -- "$text" said; then return; fi
    echo "$* does not say $text:" >&2; cat said >&2; exit 1
}}
answer() {{ {_ANSWER} "$@"; }}
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# Somebody is there, as far as tcsd is concerned, if utmp(5) says that the machine is in single-user mode.
_SINGLE_USER = struct.pack("<hxxi32s4s32s260xiII36x", 1, ord("S"), b"~", b"~~", b"runlevel", 0, 1, 0)
_ALONE = """
if [ -e /run/utmp ]; then mount --bind "$1" /run/utmp; else mount -t tmpfs none /run && cp "$1" /run/utmp; fi
shift; exec "$@"
"""


class Machine:
    """A TPM 1.2 that keeps its state from one `run` to the next."""

    def __init__(self, place: Path) -> None:
        self.place = place / "work"
        self.place.mkdir()
        self.state = place / "state"
        self.utmp = place / "utmp"
        self.utmp.write_bytes(_SINGLE_USER)

    def run(self, script: str, *options: str) -> str:
        """Return what *script* prints; it fails with its first command that fails."""
        done = subprocess.run(
            ["unshare", "-m", "sh", "-euc", _ALONE, "sh", str(self.utmp),
             sys.executable, "-m", "cusetpm", "run", "--tpm", "1.2", "--tcsd", "--front-end", "socket",
             "--state-dir", str(self.state), *options, "--", "sh", "-euc", _FUNCTIONS + script],
            cwd=self.place, stdin=subprocess.DEVNULL, capture_output=True, errors="replace", timeout=240,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]),
                              "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout


def test_version_and_self_test(machine: Machine) -> None:
    machine.run("""
        says 'Chip Version:        1.2' tpm_version
        says 'TPM Test Results' tpm_selftest
        says 'TPM Test Results' tpm_selftest -r
    """)


def test_ownership_with_well_known_secrets(machine: Machine) -> None:
    machine.run("""
        says 'Public Endorsement Key' tpm_getpubek
        tpm_takeownership -y -z
        fails tpm_takeownership -y -z
        says 'Public Endorsement Key' tpm_getpubek -z
        says 'readable by: owner' tpm_restrictpubek -s -z
        tpm_restrictpubek -r -z
        says 'Public Endorsement Key' tpm_getpubek -z
        tpm_restrictsrk -a -z
        tpm_restrictsrk -r -z
        tpm_resetdalock -z
        tpm_clear -z
    """)
    machine.run("fails tpm_takeownership -y -z; grep 'TPM is disabled' failed")


def test_ownership_with_passwords(machine: Machine) -> None:
    machine.run("""
        answer owner owner srk srk -- tpm_takeownership
        answer owner -- tpm_getpubek
        fails answer wrong -- tpm_getpubek
        answer owner new new -- tpm_changeownerauth -o
        answer new srk2 srk2 -- tpm_changeownerauth -s
        answer new -- tpm_getpubek
        fails answer owner -- tpm_getpubek
        answer new -- tpm_resetdalock
        answer new -- tpm_changeownerauth -o -r
        says 'Public Endorsement Key' tpm_getpubek -z
        answer third third -- tpm_changeownerauth -o -z
        answer third -- tpm_clear
    """)


def test_enabling_and_activating(machine: Machine) -> None:
    machine.run("""
        tpm_takeownership -y -z
        says 'Disabled status: false' tpm_setenable -s -z
        tpm_setenable -d -z
        fails tpm_setenable -s -z
        grep 'TPM is disabled' failed
        tpm_setenable -e -z
        says 'Disabled status: false' tpm_setenable -s -z
        tpm_setpresence -a
        fails tpm_setenable -d -f  # Debian's tcsd itself cannot make a TPM_PhysicalDisable
        grep tddl failed
        tpm_setenable -d -z
        tpm_setenable -e -f
        tpm_setactive -i
    """)
    machine.run("""
        fails tpm_setactive -s -z
        grep 'TPM is deactivated' failed
        tpm_setpresence -a
        tpm_setactive -a
    """)
    machine.run("""
        says 'Persistent Deactivated Status: false' tpm_setactive -s -z
        says 'Volatile Deactivated Status: false' tpm_setactive -s -z
        tpm_setpresence -a
        tpm_setactive -i -t -z
        fails tpm_setactive -s -z
        grep 'TPM is deactivated' failed
    """)


def test_who_may_own_and_clear(machine: Machine) -> None:
    machine.run("""
        tpm_setpresence -a
        tpm_setownable -p
        fails tpm_takeownership -y -z
        tpm_setownable -a
        tpm_takeownership -y -z
        says 'Ownable status: true' tpm_setownable -s -z
        says 'Owner Clear Disabled: false' tpm_setclearable -s -z
        tpm_setclearable -f
        fails tpm_clear -f
        tpm_setclearable -o -z
        says 'Owner Clear Disabled: true' tpm_setclearable -s -z
        fails tpm_clear -z
    """)
    machine.run("""
        tpm_setpresence -a
        tpm_clear -f
    """)


def test_physical_presence(machine: Machine) -> None:
    machine.run("""
        tpm_setpresence -a
        tpm_setpresence -c
        fails tpm_clear -f
        tpm_takeownership -y -z
        answer '' -- tpm_setpresence -s || true
        tpm_setpresence --lock
        fails tpm_setpresence -a
    """)


def test_nv_areas(machine: Machine) -> None:
    machine.run("""
        tpm_takeownership -y -z
        tpm_nvdefine -y -i 0x1000 -s 32 -p 'OWNERREAD|OWNERWRITE'
        printf 'kept in the TPM' >data
        tpm_nvwrite -z -i 0x1000 -f data
        tpm_nvread -z -i 0x1000 -s 15 -f back
        cmp data back
        tpm_nvdefine -y --pwda=area -i 0x1001 -s 8 -p 'AUTHREAD|AUTHWRITE'
        tpm_nvwrite --password=area -i 0x1001 -d 12345678
        tpm_nvread --password=area -i 0x1001 -s 8 -f back
        printf 12345678 | cmp - back
        fails tpm_nvread --password=wrong -i 0x1001 -s 8 -f back
        says '00001000' tpm_nvinfo -n
        says 'Size *: 32' tpm_nvinfo -i 0x1000
    """)
    machine.run("""
        tpm_nvread -z -i 0x1000 -s 15 -f back
        cmp data back
        tpm_nvrelease -y -i 0x1000
        fails tpm_nvread -z -i 0x1000 -s 15 -f back
    """)


def test_sealed_data_and_a_pcr_that_changes(machine: Machine) -> None:
    machine.run(f"""
        tpm_takeownership -y -z
        printf 'sealed' >secret
        tpm_sealdata -z -i secret -o blob
        tpm_unsealdata -z -i blob -o back
        cmp secret back
        tpm_sealdata -z -p 7 -p 16 -i secret -o bound
        tpm_unsealdata -z -i bound -o back
        cmp secret back
        {shlex.quote(sys.executable)} -c '
import os, socket
link = socket.socket(socket.AF_UNIX)
link.connect(os.environ["CUSETPM_SOCKET"])
link.sendall(bytes.fromhex("00c10000002200000014" "00000010") + bytes(20))
assert link.recv(4096)[6:10] == bytes(4)
'
        fails tpm_unsealdata -z -i bound -o back
        tpm_unsealdata -z -i blob -o back
    """)
    machine.run("tpm_unsealdata -z -i bound -o back; cmp secret back")


def test_endorsement_keys_that_can_be_revoked(machine: Machine) -> None:
    machine.run("""
        fails tpm_getpubek
        tpm_createek -r -g -o secret
        says 'Public Endorsement Key' tpm_getpubek
        head -c 20 /dev/zero >wrong
        tpm_setpresence -a
        fails tpm_revokeek -i wrong
        tpm_revokeek -i secret
    """, "--no-endorsement-key")
    machine.run("""
        tpm_setpresence -a
        tpm_setenable -e -f
        tpm_setactive -a
    """)
    machine.run("""
        fails tpm_getpubek
        tpm_createek
        says 'Public Endorsement Key' tpm_getpubek
        fails tpm_createek
    """)


def test_quotes(machine: Machine) -> None:
    machine.run("""
        tpm_takeownership -y -z
        tpm_mkuuid uuid
        tpm_mkaik -z blob pubkey
        tpm_loadkey blob uuid
        head -c 20 /dev/urandom >nonce
        tpm_getpcrhash uuid hash values 0 1 2 10
        tpm_getquote -p quoted uuid nonce quote 0 1 2 10
        cmp values quoted
        tpm_updatepcrhash hash values updated
        cmp hash updated
    """)
    machine.run("""
        tpm_getquote uuid nonce quote 0 1 2 10
        tpm_unloadkey uuid
        fails tpm_getquote uuid nonce quote 0 1 2 10
    """)
    # Debian's tpm_verifyquote cannot read the key that Debian's tpm_mkaik writes, with any TPM.
    machine.run("fails tpm_verifyquote pubkey hash nonce quote; grep 'decoding public key' failed")
    verify(machine.place)


def verify(place: Path) -> None:
    """The quote is the AIK's signature over the nonce and the PCRs (Part 2, 11.4: TPM_QUOTE_INFO2)."""
    blob = (place / "pubkey").read_bytes()
    # A TPM_PUBKEY at the end of a TssBlob in DER (TSS 1.2, 2.3.2.39).
    public = decode(TPM_PUBKEY, blob[blob.index(TPM_ALG_RSA.to_bytes(4, "big")) :])
    info = (place / "hash").read_bytes()
    info = info[:6] + (place / "nonce").read_bytes() + info[26:]
    signature = (place / "quote").read_bytes()
    RsaPublic(public.pub_key).verify_pkcs1(ids.SHA1, sha1(info).digest(), signature[-256:])
