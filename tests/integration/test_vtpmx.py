"""A chip of the kernel's own (vtpm-proxy) before a TPM of ours, under a stock Debian kernel.

tpm2-tools, IBM's utilities and systemd-creds on its devices are in test_tools.py, tcsd in test_tcsd.py; what
a device file does is in tests/conformance.
"""

from __future__ import annotations

import shutil

import pytest

from tests.conftest import CHECKOUT, RunInVm

pytestmark = [pytest.mark.vm, pytest.mark.slow]

HERE = CHECKOUT / "tests" / "integration"
RUN = [str(CHECKOUT / "scripts" / "cusetpm"), "run", "--front-end", "vtpmx"]


@pytest.mark.parametrize(("family", "pcrs", "files"), [("2.0", 24 * 4, 1 + 24 * 4), ("1.2", 24, 10 + 24)])
def test_sysfs_shows_the_tpm_as_it_is(run_in_vm: RunInVm, family: str, pcrs: int, files: int) -> None:
    compare = ["python", "-W", "error", str(HERE / "vtpmx_guest.py"), family]
    done = run_in_vm(*RUN, "--tpm", family, "--", *compare)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [f"{pcrs} PCRs are equal", f"{files} files are equal"]


def test_a_chip_whose_process_is_killed_goes_and_nothing_hangs(run_in_vm: RunInVm) -> None:
    if shutil.which("tpm2_getrandom") is None:
        pytest.skip("tpm2-tools is not installed")
    done = run_in_vm("env", "-C", "/root", str(HERE / "killed_chip.sh"), *RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == ["2 open files are refused", "then /dev/tpm0 answers 16"]


def test_a_chip_that_this_process_may_not_make_is_one_line(run_in_vm: RunInVm) -> None:
    done = run_in_vm("setpriv", "--bounding-set=-sys_admin", *RUN, "--", "true")
    assert done.returncode == 125
    assert done.stderr == ("cusetpm: /dev/vtpmx: vtpm-proxy cannot be used: Operation not permitted "
                           "(it takes root outside of user namespaces)\n")


@pytest.mark.parametrize("front_end", ["cuse", "vtpmx"])
def test_where_dev_is_not_the_kernels_nodes_are_made_and_removed(run_in_vm: RunInVm, front_end: str) -> None:
    """As in a container; it has no /dev/shm either."""
    if shutil.which("tpm2_getrandom") is None:
        pytest.skip("tpm2-tools is not installed")
    script = """
        mkdir /root/dev
        mount -t tmpfs none /root/dev
        cp -a /dev/null /dev/zero /dev/urandom /dev/fd /dev/cuse /dev/vtpmx /root/dev
        mount --move /root/dev /dev
        "$@" -- sh -euc 'stat -c "%n %F %a" /dev/tpm*; tpm2_getrandom --hex 8 | wc -c'
        ls /dev
    """
    run = [RUN[0], "run", "--front-end", front_end]
    done = run_in_vm("unshare", "-m", "--propagation", "private", "sh", "-euc", script, "sh", *run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "/dev/tpm0 character special file 660", "/dev/tpmrm0 character special file 660", "16",
        "cuse", "fd", "null", "urandom", "vtpmx", "zero"]


@pytest.mark.parametrize("program", ["cusetpm", "swtpm"])
def test_by_swtpms_command_line_it_is_what_swtpm_s_is(run_in_vm: RunInVm, program: str) -> None:
    missing = [package for name, package in {"tpm2_pcrreset": "tpm2-tools", "swtpm_ioctl": "swtpm-tools",
                                             "swtpm": "swtpm"}.items() if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    words = [RUN[0], "swtpm"] if program == "cusetpm" else ["swtpm"]
    script = 'script=$1; shift; "$script" 2.0 "$@"; "$script" 1.2 "$@"'
    done = run_in_vm("env", "-C", "/root", "sh", "-euc", script, "sh", str(HERE / "chardev.sh"), *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "version 2", "PCR 20 is FFFF...", "PCR 20 is 0000...", "gone", "version 1", "gone"]


TRUSTED_NEEDS = {"keyctl": "keyutils", "tpm2_createprimary": "tpm2-tools", "tsspolicypcr": "tss2",
                 "tpm_takeownership": "tpm-tools", "/usr/sbin/tcsd": "trousers"}


def test_only_the_same_tpm_unseals_trusted_keys_and_only_with_their_pcr(run_in_vm: RunInVm) -> None:
    """After the chip has come again, with a module of Debian's sources: its kernels are built without."""
    missing = [package for name, package in TRUSTED_NEEDS.items() if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    script = """
        trusted=$1; shift
        "$@" --state-dir state -- "$trusted" new
        "$@" --state-dir state -- "$trusted" load
        "$@" -- "$trusted" foreign
        "$@" --tpm 1.2 --tcsd -- sh -euc 'tpm_takeownership -y -z 2>/dev/null; exec "$1" 1.2' sh "$trusted"
    """
    done = run_in_vm("env", "-C", "/root", "sh", "-euc", script, "sh", str(HERE / "trusted.sh"), *RUN,
                     options=["--trusted"], timeout=400)
    if done.returncode == 125 and done.stderr.startswith("scripts/vm/run: ") and not done.stdout:
        pytest.skip(f"no module for trusted keys: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "sealed", "unsealed, one of them with its PCR", "refused with another PCR", "refused by another TPM",
        "unsealed with a TPM 1.2"]
