"""In real containers of podman, as a user of CI starts them: with /dev/fuse and the default capabilities.

The root file system is this machine's /usr and what the checkout needs, read-only.  Options that are not in
`docs/clients.md` are there because the machine that runs the tests may be a container itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="starts containers, which needs root"),
    pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed"),
    pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="no /dev/fuse"),
]

Run = Callable[..., "subprocess.CompletedProcess[str]"]

FUSE = ("--device", "/dev/fuse")
ADMIN = ("--cap-add", "SYS_ADMIN")
NOBODY = ("--user", "65534:65534")
CUSETPM = [sys.executable, "-I", "-m", "cusetpm"]
FRONT_END = CHECKOUT / "tests" / "conformance" / "front_end.py"
SHOWN_FILES = CHECKOUT / "tests" / "conformance" / "shown_files.py"
# What a machine that lends its kernel to containers already does not allow a second time.
_MACHINE = ("--cgroups=disabled", "--network=none", "--ulimit", "nofile=1024:1024",
            "--ulimit", "nproc=4096:4096")
_NAMESPACE = ("unshare", "-m", "--propagation", "private", "sh", "-c",
              'mount -t cgroup2 none /sys/fs/cgroup; exec "$@"', "sh")
_LINKS = ("bin", "sbin", "lib", "lib64")


@pytest.fixture(scope="module")
def contain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Give a function that runs a command in a new container with *options* of podman."""
    root = tmp_path_factory.mktemp("root")
    for name in ("dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var/tmp"):
        (root / name).mkdir(parents=True)
    for name in _LINKS:
        (root / name).symlink_to(f"usr/{name}")
    root.chmod(0o755)
    (root / "tmp").chmod(0o1777)
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    shared = {"/usr", str(CHECKOUT), sys.prefix, sys.base_prefix}
    volumes = [word for path in sorted(shared) if path == "/usr" or not path.startswith("/usr/")
               for word in ("-v", f"{path}:{path}:ro")]

    def run(*command: str | Path, options: tuple[str, ...] = FUSE) -> subprocess.CompletedProcess[str]:
        words = [*_NAMESPACE, "podman", "run", "--rm", *_MACHINE, *options, *volumes, "--rootfs", str(root),
                 *map(str, command)]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=240)

    tried = run("true", options=())
    if tried.returncode:
        pytest.skip(f"podman runs no container here: {tried.stderr.strip().splitlines()[-1]}")
    return run


def test_it_is_a_default_container(contain: Run) -> None:
    """Otherwise the other tests would prove nothing."""
    script = "grep -E '^(CapEff|Seccomp):' /proc/self/status; mount -t tmpfs none /tmp; ls /dev/fuse"
    done = contain("sh", "-c", script)
    capabilities, seccomp, device = done.stdout.splitlines()
    assert not int(capabilities.split()[1], 16) >> 21 & 1  # CAP_SYS_ADMIN
    assert seccomp.split()[1] == "2"
    assert device == "/dev/fuse"
    assert "permission denied" in done.stderr


@pytest.mark.parametrize("user", [(), NOBODY], ids=["root", "ordinary user"])
def test_dev_fuse_is_enough_for_a_device_file(contain: Run, user: tuple[str, ...]) -> None:
    python = f"{sys.executable} -I"
    script = (f'{python} {FRONT_END} device "$CUSETPM_DEVICE" && '
              f'{python} {FRONT_END} managed "$CUSETPM_RM_DEVICE" "$CUSETPM_DEVICE" && '
              f'{python} {SHOWN_FILES} 1 >/dev/null && id -u')
    done = contain(*CUSETPM, "run", "-v", "--", "sh", "-c", script, options=(*FUSE, *user))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "front end: fuse /proc/" in done.stderr
    assert done.stdout.splitlines()[-1] == ("65534" if user else "0")


def test_tools_find_it(contain: Run) -> None:
    if shutil.which("tpm2_getrandom") is None:
        pytest.skip("tpm2-tools are not installed")
    script = "tpm2_getrandom --hex 8; chown 1:1 /tmp && echo; cat $CUSETPM_SYSFS/class/tpm/tpm0/pcr-sha256/0"
    done = contain(*CUSETPM, "run", "--front-end", "fuse", "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    random, pcr = done.stdout.split()
    assert (len(random), int(pcr, 16)) == (16, 0)


def test_a_killed_run_leaves_nothing_mounted(contain: Run) -> None:
    script = (f'{" ".join(CUSETPM)} run -- sh -c \'echo $CUSETPM_DEVICE; kill -9 $PPID\'; '
              f'{" ".join(CUSETPM)} run -- sh -c \'echo $CUSETPM_DEVICE; ls -d /dev/shm/cusetpm-*\'')
    done = contain("sh", "-c", script)
    killed, device, left = done.stdout.splitlines()
    assert killed != device
    assert device.startswith("/proc/")
    assert device.endswith(f"/root{left}/dev/tpm0")


def test_with_the_capability_command_has_a_dev_of_its_own(contain: Run) -> None:
    done = contain(*CUSETPM, "run", "-v", "--", "sh", "-c", "test /dev/tpm0 -ef $CUSETPM_DEVICE && echo same",
                   options=(*FUSE, *ADMIN))
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr
    assert "front end: fuse /dev/shm/" in done.stderr


def test_where_the_profile_refuses_namespaces_it_is_the_socket_and_says_why(
        contain: Run, tmp_path: Path) -> None:
    """Docker's default seccomp profile lets only CAP_SYS_ADMIN call these."""
    profile = tmp_path / "profile.json"
    refused = {"names": ["mount", "unshare", "setns"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]}))
    options = (*FUSE, "--security-opt", f"seccomp={profile}")
    done = contain(*CUSETPM, "run", "-v", "--", "sh", "-c", "echo [$CUSETPM_DEVICE]; test -S $CUSETPM_SOCKET",
                   options=options)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    (why,) = [line for line in done.stderr.splitlines() if "front end: " in line]
    assert why.startswith("cusetpm: front end: socket ")
    assert why.endswith("nor in a user namespace: unshare: Operation not permitted)")
    done = contain(*CUSETPM, "run", "--front-end", "fuse", "--", "true", options=options)
    assert done.returncode == 125
    (line,) = done.stderr.splitlines()
    assert line.startswith("cusetpm: ")
    assert "cannot mount a FUSE file system" in line


def test_without_the_device_it_is_the_socket(contain: Run) -> None:
    done = contain(*CUSETPM, "run", "-v", "--", "sh", "-c", "echo [$CUSETPM_DEVICE]", options=())
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert "no FUSE on this machine" in done.stderr


def test_the_doctor_says_so(contain: Run) -> None:
    done = contain(*CUSETPM, "doctor")
    assert "only a user namespace may mount here" in done.stdout
