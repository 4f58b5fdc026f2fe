"""Runs tpm2-tools' own integration scripts, each on a fresh TPM of ours and on a fresh swtpm.

The scripts are those of the version that is installed.  They come from the distribution's source
package (or from --source DIR) and are kept, as is what passed on swtpm, in
$XDG_CACHE_HOME/cusetpm/tpm2-tools; none of their files is in this repository.  The exit status is 1
if a script that passes on swtpm does not pass on ours and EXPLAINED does not say why, and 125 if there
is nothing to run.

Both TPMs are behind tpm2-abrmd, as upstream runs the scripts: they leave more objects behind than the
three that swtpm holds, so without a resource manager half of them fail there and compare nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_pair

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPTS = Path("test/integration")

STATUS_NOTHING_RUN = 125
_SKIPPED = 77  # Automake's status of a test that does not apply; the scripts use it.
_TIMED_OUT = (124, 137)  # timeout(1) sent SIGTERM, or SIGKILL as well.
EXPLAINED = {
    "abrmd_policynv": "wants -127 > -126; signed operands are two's complement (Part 2, 6.8; errata 1.4 of "
                      "version 1.59, 2.5). Since tpm2-tools 5.6 the script follows them: it passes here and "
                      "skips on a TPM that does not, as libtpms 0.9",
}
"""Scripts that pass on swtpm and cannot pass on a TPM that follows the specification, and why."""
_NO_SHA3 = 1
ALGORITHM_SETS = {"create": _NO_SHA3, "createprimary": _NO_SHA3, "import": _NO_SHA3}
"""Scripts that run on a TPM of ours with this algorithm set (TPM2_SetAlgorithmSet; docs/supported-tpm.md).

They make a key with every hash that the TPM lists.  tpm2-tss before 4.0 refuses SHA-3 by itself, before it
sends anything; so here the platform has left SHA-3 out, and the TPM neither lists nor takes it.
"""
_KILL_SECONDS = 5
_START_SECONDS = 10

# What the scripts call, and its Debian package.
_PROGRAMS = {"tpm2": "tpm2-tools", "swtpm": "swtpm", "openssl": "openssl", "xxd": "xxd", "bc": "bc",
             "timeout": "coreutils"}
_MANAGER_PROGRAMS = {"tpm2-abrmd": "tpm2-abrmd", "dbus-run-session": "dbus-daemon", "dbus-send": "dbus-bin"}

# helpers.sh uses the TPM that TPM2TOOLS_TEST_TCTI names, and starts none of its own.
_DIRECT = 'export TPM2TOOLS_TEST_TCTI="$TPM2TOOLS_TCTI"; exec "$@"'
# What cusetpm names is its resource manager; the TPM as it is has another device or socket.
_AS_IT_IS = """
    managed=${CUSETPM_RM_DEVICE:-${CUSETPM_RM_SOCKET-}}
    export TPM2TOOLS_TCTI=${TPM2TOOLS_TCTI/"$managed"/${CUSETPM_DEVICE:-${CUSETPM_SOCKET-}}}
"""
_MANAGED = """
    options=(--session --tcti="$TPM2TOOLS_TCTI")
    ((EUID)) || options+=(--allow-root)
    tpm2-abrmd "${options[@]}" &
    owner=(--dest=org.freedesktop.DBus / org.freedesktop.DBus.GetNameOwner string:com.intel.tss2.Tabrmd)
    until dbus-send --session --print-reply "${owner[@]}" >/dev/null 2>&1; do
        kill -0 $! || exit 1
        sleep 0.02
    done
    export TPM2TOOLS_TEST_TCTI=tabrmd:bus_type=session
    "$@"
    status=$?
    kill -KILL $!  # It can hang in its own end, and has nothing to save.
    exit $status
"""

# TPM2_SetAlgorithmSet with the set $1 and the empty platformAuth; no tool of tpm2-tools sends it.
_SELECT = """
    printf '80020000001f0000013f4000000c00000009400000090000000000%08x' "$1" | xxd -r -p |
        tpm2 send | xxd -p | grep -q ^80020000001300000000 || { echo "no algorithm set $1"; exit 1; }
    shift
    exec "$@"
"""

PASS, FAIL, SKIP, TIMEOUT = "pass", "FAIL", "skip", "TIMEOUT"


class UnavailableError(Exception):
    """The scripts cannot be run on this machine; the message says why, in one line."""


@dataclass(frozen=True)
class Result:
    """How a script ended, after how many seconds; *log* has what it printed, None if it did not run now."""

    verdict: str
    seconds: float = 0.0
    log: Path | None = None


def main() -> int:
    """Return 0, or 1 if a script passes on swtpm and not on ours, or 125 if none could be run."""
    parser = argparse.ArgumentParser(prog="scripts/test --tpm2-tools", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the scripts and stop")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only this; repeatable")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="scripts at a time; default: 2")
    parser.add_argument("--timeout", type=float, default=120, metavar="SECONDS", help="per script (120)")
    parser.add_argument("--front-end", choices=("fuse", "socket"), help="default: fuse if there is /dev/fuse")
    parser.add_argument("--resource-manager", choices=("abrmd", "ours", "none"), default="abrmd",
                        help="between the scripts and both TPMs; ours: swtpm has abrmd (default: abrmd)")
    parser.add_argument("--source", type=Path, metavar="DIR",
                        help="an unpacked tree of the installed version, or a bare clone that has its tag, "
                             "instead of the source package")
    parser.add_argument("--swtpm-again", action="store_true", help="on swtpm, too, what passed there before")
    options = parser.parse_args()
    try:
        return _run_all(options)
    except UnavailableError as exc:
        print(f"{parser.prog}: {exc}", file=sys.stderr)
        return STATUS_NOTHING_RUN


def _run_all(options: argparse.Namespace) -> int:
    version = _package_version("tpm2-tools")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "cusetpm" / "tpm2-tools" / version
    home.mkdir(parents=True, exist_ok=True)
    source = _given(options.source.resolve(), home, version) if options.source else _source(home, version)
    names = sorted(path.stem for path in (source / SCRIPTS / "tests").glob("*.sh"))
    if not names:
        raise UnavailableError(f"{source} has no {SCRIPTS}/tests/*.sh")
    if unknown := sorted(set(options.only) - set(names)):
        raise UnavailableError(f"no such script: {', '.join(unknown)}; see --list")
    if options.list:
        print(*names, sep="\n")
        return 0
    manager = options.resource_manager
    managed = manager != "none"
    environment = _environment(source, managed)
    front_end = options.front_end or ("fuse" if os.access("/dev/fuse", os.R_OK | os.W_OK) else "socket")
    chosen = options.only or names
    logs = home / "logs" / manager
    known = _Known(home / f"swtpm-passes-{'abrmd' if managed else 'none'}.json", source)
    print(f"tpm2-tools {version}: {len(chosen)} scripts, {front_end} front end, "
          f"resource manager: {manager}; logs in {logs}", flush=True)
    print(f"{'script':32} {'ours':>8} {'swtpm':>8} {'seconds':>8}", flush=True)

    def both(name: str) -> tuple[str, Result, Result]:
        script = source / SCRIPTS / "tests" / f"{name}.sh"
        tpm = _Ours(front_end, manager, ALGORITHM_SETS.get(name, 0))
        ours = _run_script(script, tpm, environment, options.timeout, logs / "ours")
        theirs = Result(PASS)
        if options.swtpm_again or not known.passes(name):
            theirs = _run_script(script, _Swtpm(managed), environment, options.timeout, logs / "swtpm")
            known.record(name, theirs.verdict == PASS)
        return name, ours, theirs

    worse: list[str] = []
    explained: list[str] = []
    neither: list[str] = []
    counts: dict[str, Counter[str]] = {"ours": Counter(), "swtpm": Counter()}
    begin = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        for name, ours, theirs in pool.map(both, chosen):
            print(f"{name:32} {ours.verdict:>8} {theirs.verdict:>8} {ours.seconds:8.1f}", flush=True)
            counts["ours"][ours.verdict] += 1
            counts["swtpm"][theirs.verdict] += 1
            if theirs.verdict == PASS != ours.verdict:
                (explained if name in EXPLAINED else worse).append(name)
            elif name in EXPLAINED and ours.verdict == PASS and managed:
                worse.append(f"{name} (passes, so nothing is left to explain)")
            elif FAIL in (ours.verdict, theirs.verdict) or TIMEOUT in (ours.verdict, theirs.verdict):
                neither.append(f"{name} ({ours.verdict}/{theirs.verdict})")
    print(f"\n{len(chosen)} scripts in {time.monotonic() - begin:.0f} s")
    for who, found in counts.items():
        print(f"{who:6}", ", ".join(f"{found[verdict]} {verdict}" for verdict in (PASS, FAIL, TIMEOUT, SKIP)))
    print(f"not passed on swtpm, so nothing is compared: {len(neither)}", *neither)
    if limited := [name for name in chosen if name in ALGORITHM_SETS]:
        print("on a TPM of ours without SHA-3, which tpm2-tss before 4.0 refuses itself:", *limited)
    for name in explained:
        print(f"passes on swtpm and not on ours, explained: {name} {EXPLAINED[name]}")
    print(f"pass on swtpm and not on ours: {len(worse)}", *worse)
    found = counts["ours"]
    # What fails on both is not counted as passed: it failed on ours.
    print(f"{found[PASS]} passed, {found[FAIL] + found[TIMEOUT]} failed, {found[SKIP]} skipped")
    return 1 if worse else 0


# ---- where the scripts come from -------------------------------------------------------------


def _package_version(package: str) -> str:
    """Return the installed Debian version of *package*, as 5.4-1."""
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, check=False)
    if done.returncode or not done.stdout:
        raise UnavailableError(f"the Debian package {package} is not installed")
    return done.stdout.decode()


def _given(source: Path, home: Path, version: str) -> Path:
    """Return *source*, or the tree of the tag of *version* if it is a git repository without a work tree."""
    if (source / SCRIPTS).is_dir() or not (source / "objects").is_dir():
        return source
    tag = re.sub(r"^\d+:|-[^-]*$", "", version)
    target = home / f"tag-{tag}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=home) as work:
            tarball, tree = Path(work) / "tarball", Path(work) / "tree"
            done = subprocess.run(["git", "-C", source, "archive", "-o", tarball, "--format=tar", tag],
                                  capture_output=True, check=False)
            if done.returncode:
                raise UnavailableError(f"{source} has no tag {tag}, the installed version")
            with tarfile.open(tarball) as archive:
                archive.extractall(tree, filter="data")
            tree.rename(target)
    return target


def _source(home: Path, version: str) -> Path:
    """Return the unpacked source package of *version*, downloading it the first time."""
    target = home / "source"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=home) as work:
            tarball = _download(Path(work), version)
            with tarfile.open(tarball) as archive:
                archive.extractall(Path(work) / "tree", filter="data")
            (tree,) = (Path(work) / "tree").iterdir()
            tree.rename(target)
    return target


def _download(work: Path, version: str) -> Path:
    """Return the upstream tarball of the source package; apt checks its signature and hashes.

    Source packages are usually not among the configured sources, so copies of these are made that
    name them, with package lists of their own: nothing of the system's changes, and no root is needed.
    """
    parts, lists, archives = work / "parts", work / "lists", work / "archives"
    for directory in (parts, lists / "partial", archives):
        directory.mkdir(parents=True)
    for path in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        if path.suffix == ".sources":
            text = re.sub(r"(?m)^Types:.*$", "Types: deb-src", path.read_text())
        elif path.suffix == ".list" and path.exists():
            text = re.sub(r"(?m)^deb\s", "deb-src ", path.read_text())
        else:
            continue
        (parts / path.name).write_text(text)
    settings = {"Dir::Etc::SourceList": "/dev/null", "Dir::Etc::SourceParts": parts,
                "Dir::State::Lists": lists, "Dir::Cache": archives, "APT::Sandbox::User": "root"}
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    # A source without source packages makes update fail; whether what is wanted was found shows next.
    subprocess.run([*apt, "update"], capture_output=True, check=False)
    done = subprocess.run([*apt, "source", "--download-only", "--tar-only", f"tpm2-tools={version}"],
                          cwd=work, capture_output=True, check=False)
    found = list(work.glob("tpm2-tools_*.orig.tar.*"))
    if done.returncode or not found:
        error = re.search(r"(?m)^E: (.*)$", done.stderr.decode(errors="replace"))
        why = error[1] if error else "apt-get source brought no tarball"
        raise UnavailableError(f"no source of tpm2-tools {version}: {why}; --source DIR takes a copy")
    return found[0]


def _environment(source: Path, managed: bool) -> dict[str, str]:
    """Return what the scripts expect of their makefile; raises UnavailableError for a missing program."""
    wanted = _PROGRAMS | _MANAGER_PROGRAMS if managed else _PROGRAMS
    # The library has no program to look for.
    library = managed and find_library("tss2-tcti-tabrmd") is None
    missing = ["libtss2-tcti-tabrmd0"] if library else []
    missing += [package for program, package in wanted.items() if shutil.which(program) is None]
    # The virtual environment that this runs in has no yaml, and the system's Python may.
    pythons = ["/usr/bin/python3", *filter(None, [shutil.which("python3")]), sys.executable]
    for python in pythons:
        if subprocess.run([python, "-c", "import yaml"], capture_output=True, check=False).returncode == 0:
            break
    else:
        missing.append("python3-yaml")
    if missing:
        raise UnavailableError(f"missing Debian packages: {' '.join(missing)}")
    ours = ("TPM2", "CUSETPM", "TSS2")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {
        "LC_ALL": "C.UTF-8", "PYTHON": python, "TPM2_ABRMD": "", "TPM2_SIM": "",
        # The scripts say `source helpers.sh`, which looks along PATH.
        "PATH": f"{source / SCRIPTS}:{os.environ.get('PATH', os.defpath)}",
        "srcdir": str(source), "abs_srcdir": str(source), "abs_builddir": str(source),
        "TPM2_TOOLS_TEST_FIXTURES": str(source / SCRIPTS / "fixtures"), "TPM2TOOLS_TEST_PERSISTENT": "false",
    }


class _Known:
    """What passed on this swtpm before; anything else is run again, in case it was an accident."""

    def __init__(self, path: Path, source: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        digest = hashlib.sha256()
        for file in sorted(path for path in (source / SCRIPTS).rglob("*") if path.is_file()):
            digest.update(str(file.relative_to(source)).encode() + b"\0" + file.read_bytes())
        versions = [_package_version(package) for package in ("swtpm", "libtpms0")]
        self._key = "/".join([*versions, digest.hexdigest()[:16]])
        try:
            self._passes: set[str] = set(json.loads(path.read_text()).get(self._key, []))
        except (OSError, ValueError):
            self._passes = set()

    def passes(self, name: str) -> bool:
        return name in self._passes

    def record(self, name: str, passed: bool) -> None:
        with self._lock:
            (self._passes.add if passed else self._passes.discard)(name)
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps({self._key: sorted(self._passes)}))
            fresh.replace(self._path)


# ---- a script on a TPM -----------------------------------------------------------------------


def _run_script(script: Path, tpm: _Ours | _Swtpm, environment: dict[str, str], timeout: float,
                logs: Path) -> Result:
    """Return how *script* ended on a new TPM; it has a home and a temporary directory of its own."""
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{script.stem}.log"
    with tempfile.TemporaryDirectory(prefix="cusetpm-tools-") as work, log.open("wb") as output:
        own = environment | {"HOME": work, "TMPDIR": work}
        # helpers.sh takes the path for a relative one.
        path = os.path.relpath(script, os.path.realpath(work))
        command = ["timeout", "-k", str(_KILL_SECONDS), str(timeout), *tpm.reach, "bash", "--", path]
        begin = time.monotonic()
        with tpm.start(Path(work), own) as prefix:
            process = subprocess.Popen([*prefix, *command], cwd=work, env=own, stdin=subprocess.DEVNULL,
                                       stdout=output, stderr=subprocess.STDOUT)
            try:
                status = process.wait()
            except BaseException:
                process.send_signal(signal.SIGTERM)
                process.wait()
                raise
        seconds = time.monotonic() - begin
    verdict = {0: PASS, _SKIPPED: SKIP}.get(status, TIMEOUT if status in _TIMED_OUT else FAIL)
    return Result(verdict, seconds, log)


def _reach(manager: str) -> list[str]:
    """Return the words before a script that let it reach the TPM through *manager*."""
    if manager == "abrmd":
        return ["dbus-run-session", "--", "bash", "-c", _AS_IT_IS + _MANAGED, "bash"]
    return ["bash", "-c", (_AS_IT_IS if manager == "none" else "") + _DIRECT, "bash"]


class _Ours:
    """A new TPM of this checkout, with an algorithm set."""

    def __init__(self, front_end: str, manager: str, algorithm_set: int) -> None:
        self._front_end = front_end
        select = ["bash", "-c", _SELECT, "bash", str(algorithm_set)] if algorithm_set else []
        self.reach = [*select, *_reach(manager)]

    @contextmanager
    def start(self, work: Path, environment: dict[str, str]) -> Iterator[list[str]]:
        """Give the words that, put before a command, run it with the TPM."""
        yield [str(CHECKOUT / "scripts" / "cusetpm"), "run", "--front-end", self._front_end, "--"]


class _Swtpm:
    """A new swtpm on two TCP ports of the loopback interface, as its TCTI needs."""

    def __init__(self, managed: bool) -> None:
        self.reach = _reach("abrmd" if managed else "none")

    @contextmanager
    def start(self, work: Path, environment: dict[str, str]) -> Iterator[list[str]]:
        """Start it, started up; adds TPM2TOOLS_TCTI to *environment*.  Raises UnavailableError."""
        state = work / "swtpm"
        state.mkdir()
        for _ in range(10):
            port = free_pair()
            process = subprocess.Popen(
                ["swtpm", "socket", "--tpm2", "--server", f"type=tcp,port={port}",
                 "--ctrl", f"type=tcp,port={port + 1}", "--tpmstate", f"dir={state}",
                 "--flags", "not-need-init,startup-clear"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                if _listens(process, port + 1):
                    environment["TPM2TOOLS_TCTI"] = f"swtpm:host=127.0.0.1,port={port}"
                    yield []
                    return
            finally:
                process.kill()
                process.wait()
        raise UnavailableError("swtpm does not start")


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Return True once *port* takes connections; False when *process* has ended instead."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
