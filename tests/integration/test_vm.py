"""Runs in a virtual machine with a stock Debian kernel, where /dev/cuse is (scripts/vm)."""

from __future__ import annotations

import pytest

from tests.conftest import CHECKOUT, RunInVm

pytestmark = [pytest.mark.vm, pytest.mark.slow]


def test_a_command_sees_the_devices_and_its_status_comes_back(run_in_vm: RunInVm) -> None:
    done = run_in_vm("sh", "-c", "uname -r; stat -c %t:%T /dev/cuse /dev/fuse; pwd >&2; exit 7")
    release, cuse, fuse = done.stdout.split()
    assert release.endswith("-amd64")
    assert (cuse, fuse) == ("a:cb", "a:e5")
    assert done.stderr == f"{CHECKOUT}\n"
    assert done.returncode == 7


def test_a_crash_of_the_kernel_is_not_the_status_of_the_command(run_in_vm: RunInVm) -> None:
    done = run_in_vm("sh", "-c", "echo c >/proc/sysrq-trigger")
    assert done.returncode == 125
    assert "Kernel panic" in done.stderr


def test_a_command_that_hangs_ends_with_the_timeout(run_in_vm: RunInVm) -> None:
    done = run_in_vm("sleep", "1000", timeout=10)
    assert done.returncode == 124
    assert "no result after 10 s" in done.stderr
