"""A guest whose manager seals to the TPM of its machine through /dev/mem, with our own driver."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, RunInVm
from tests.support.emulator import OURS, THEIRS
from tests.support.qemu import emulator

pytestmark = [pytest.mark.vm, pytest.mark.slow]

GUEST = CHECKOUT / "tests" / "integration" / "tis_guest.sh"
REFUSED = ("cusetpm: tis:/dev/mem: Operation not permitted; this takes root, and a kernel whose own driver "
           "has let go of the TPM")


@pytest.mark.parametrize(("program", "family"), [(OURS, "2.0"), (THEIRS, "1.2")])
def test_the_manager_seals_to_the_tpm_of_the_machine(
    tmp_path: Path, run_in_vm: RunInVm, program: str, family: str,
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    if family == "1.2":
        # Without this there is no endorsement key, and the TPM is not enabled.
        subprocess.run(["swtpm_setup", "--tpmstate", state, "--createek"], check=True, capture_output=True)
    with emulator(program, state, family=family) as tpm:
        done = run_in_vm(str(GUEST), family, options=["--tpm", f"tpm-tis:{tpm.ctrl}"])
    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert int(said[-2].removesuffix(" chip commands")) > 5
    assert said[:-2] + said[-1:] == [
        "status 125", REFUSED, "after unbind: none",
        f"probed 1014:0001 {family}", "burst count 4096", "random 4",
        "written", "status 137", "kept", "status 0", f"after bind: {family[0]}",
    ]


def test_a_machine_without_a_tpm_is_one_line(run_in_vm: RunInVm) -> None:
    script = ("mkdir /root/s && cd /root/s && echo cusetpm state 1 >format && "
              "echo 'driver = \"tis:/dev/mem\"' >manager.toml && "
              "exec python -m cusetpm run --front-end socket --state-dir /root/s -- true")
    done = run_in_vm("sh", "-c", script)
    assert done.returncode == 125
    assert done.stderr in [f"cusetpm: tis:/dev/mem: TPM_DID_VID reads 0x{value}: no TPM answers\n"
                           for value in ("ffffffff", "00000000")]
