"""`cusetpm ima` and `cusetpm eventlog` as a user meets them: what they print, statuses, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import tpm12
from tests.support.served import served

VECTORS = Path(__file__).parents[1] / "vectors"
CUSETPM = [sys.executable, "-I", "-m", "cusetpm"]
LISTS = json.loads((VECTORS / "ima_linux.json").read_text())
EVENTS = VECTORS / "eventlog"
PCRS = json.loads((EVENTS / "pcrs.json").read_text())


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run cusetpm where no environment names a TPM, except *environment*."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CUSETPM_")}
    return subprocess.run([*CUSETPM, *map(str, arguments)], capture_output=True, text=True, check=False,
                          timeout=120, env=clean | environment)


def with_tpm(script: str, *arguments: str | Path,
             family: str = "2.0") -> subprocess.CompletedProcess[str]:
    """Run a shell script, in which $1 is the first of *arguments*, with a TPM of its own."""
    cusetpm = f'cusetpm() {{ {" ".join(CUSETPM)} "$@"; }}\n'
    return run("run", "--tpm", family, "--front-end", "socket", "--", "sh", "-ec", cusetpm + script, "sh",
               *arguments)


def refusal(done: subprocess.CompletedProcess[str], status: int = 125) -> str:
    """Return the one line that *done* said, having ended with *status*."""
    assert done.returncode == status, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("cusetpm: ")
    return line


def values(of: dict[str, str], *banks: str) -> list[str]:
    """Return the options that give the PCRs of *banks*."""
    return [f"--pcr={pcr}={value}" for pcr, value in of.items() if pcr.split(":")[0] in banks]


@pytest.fixture
def kernel_list(tmp_path: Path) -> Path:
    (tmp_path / "list").write_bytes(bytes.fromhex(LISTS["ima-ng"]["binary"]))
    return tmp_path / "list"


# ima

@pytest.mark.parametrize("form", ["binary", "ascii"])
@pytest.mark.parametrize(("family", "pcrs", "aggregated"), [
    ("2.0", "sha1:10 sha256:10 sha384:10 sha512:10", "sha256:0-9"), ("1.2", "sha1:10", "sha1:0-7")])
def test_measured_files_verify_and_a_damaged_list_does_not(
        tmp_path: Path, form: str, family: str, pcrs: str, aggregated: str) -> None:
    (tmp_path / "a file").write_text("content")
    done = with_tpm('''
        cd "$1"
        cusetpm ima measure --list list --format "$2" "a file" >lines
        cusetpm ima verify list
        echo changed >"a file"
        CUSETPM_IMA_LIST=list cusetpm ima measure "a file"
        CUSETPM_IMA_LIST=list cusetpm ima verify
        head -c -3 list >shorter
        ! cusetpm ima verify shorter
    ''', tmp_path, form, family=family)
    assert done.returncode == 0, done.stderr
    name = f"{tmp_path}/a_file"
    first, aggregate, new, second, _, changed = done.stdout.splitlines()
    assert first == f"list: 2 entries ({form}), of which 2 fit {pcrs} of the TPM"
    assert aggregate == f"boot_aggregate fits {aggregated}"
    assert new.startswith("10 ")
    assert new.endswith(name)
    assert second == f"list: 3 entries ({form}), of which 3 fit {pcrs} of the TPM"
    assert changed == f"changed: {name} was measured with two contents"
    lines = (tmp_path / "lines").read_text()
    assert lines.splitlines()[1].endswith(name)
    if form == "ascii":
        assert (tmp_path / "list").read_text() == lines + new + "\n"
    assert done.stderr.startswith("cusetpm: shorter: ")


@pytest.mark.parametrize("template", LISTS)
def test_a_kernels_list_verifies_with_values(tmp_path: Path, template: str) -> None:
    (tmp_path / "list").write_text(LISTS[template]["ascii"])
    pcrs = values(LISTS[template]["pcrs"], "sha1", "sha256", "sha384")
    done = run("ima", "verify", *pcrs, tmp_path / "list")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{tmp_path}/list: 39 entries (ascii), of which 39 fit sha1:10 sha256:10 sha384:10 of --pcr",
        "sha384:10 was extended with SHA-1 digests, by a kernel without its hash",
        f"boot_aggregate fits {'sha1:0-7' if template == 'ima' else 'sha256:0-9'}",
        "2 violations: files that were written while they were measured",
        "changed: /merged/root/viol was measured with two contents",
    ]


def test_the_first_entry_that_does_not_fit_is_named_with_status_1(kernel_list: Path) -> None:
    data = kernel_list.read_bytes()
    kernel_list.write_bytes(data.replace(b"/merged/root/a_file", b"/merged/root/b_file"))
    done = run("ima", "verify", *values(LISTS["ima-ng"]["pcrs"], "sha1"), kernel_list)
    assert f"{kernel_list}: entry 31 (/merged/root/b_file): its template digest is" in refusal(done, 1)


def test_a_longer_list_verifies_with_prefix_only(kernel_list: Path) -> None:
    found = LISTS["ima-ng"]
    (kernel_list.parent / "longer").write_bytes(kernel_list.read_bytes() * 2)
    longer = [*values(found["pcrs"], "sha256"), kernel_list.parent / "longer"]
    assert "entry 40 (boot_aggregate) is the first that is not in sha256:10 of --pcr" in refusal(
        run("ima", "verify", *longer), 1)
    done = run("ima", "verify", "--prefix", *longer)
    assert "78 entries (binary), of which 39 fit" in done.stdout


@pytest.mark.parametrize(("content", "why"), [
    (b"", "an empty list"), (b"garbage", "neither of IMA's list formats"), (None, "No such file")])
@pytest.mark.parametrize("verb", [["ima", "verify"], ["eventlog", "verify"], ["eventlog", "show"]])
def test_a_file_that_is_no_list_is_one_line(
        tmp_path: Path, verb: list[str], content: bytes | None, why: str) -> None:
    if content is not None:
        (tmp_path / "list").write_bytes(content)
    options = [f"--pcr=sha1:10={'0' * 40}"] if "verify" in verb else []
    line = refusal(run(*verb, *options, tmp_path / "list"))
    assert f"{tmp_path}/list: " in line
    if verb[0] == "ima" or content is None:
        assert why in line


@pytest.mark.parametrize(("arguments", "why"), [
    (["ima", "measure", "FILE"], "Missing option '--list'"),
    (["ima", "measure", "--list", "L"], "Missing argument 'FILE...'"),
    (["ima", "measure", "--list", "L", "--template", "ima-ngv2", "F"], "'ima-ngv2' is not one of"),
    (["ima", "measure", "--list", "L", "--template", "ima", "--hash", "sha256", "F"], "SHA-1 digest only"),
    (["ima", "measure", "--list", "L", "F"], "no TPM: give --device or --socket"),
    (["ima", "verify"], "Missing argument 'LIST'"),
    (["ima", "verify", "LIST"], "no TPM: give --device or --socket"),
    (["ima", "verify", "--pcr", "10=00", "LIST"], "'10=00' is not BANK:INDEX=HEX"),
    (["ima", "verify", "--pcr", "md5:10=00", "LIST"], "no hash algorithm 'md5'"),
    (["ima", "verify", "--pcr", "sha1:24=00", "LIST"], "no PCR '24'"),
    (["ima", "verify", "--pcr", "sha1:10=xy", "LIST"], "'xy' is not hexadecimal"),
    (["ima", "verify", "--pcr", "sha1:10=00", "LIST"], "1 octets for a PCR of 20"),
    (["ima", "verify", "--quote", "Q", "LIST"], "a quote needs --signature and --key"),
    (["ima", "verify", "--nonce", "00", "LIST"], "belong to --quote"),
    (["ima", "verify", "--nonce", "0", "LIST"], "'0' is not hexadecimal"),
    (["eventlog", "verify", "LOG"], "no TPM: give --device or --socket"),
    (["eventlog", "verify", "--only", "1-x", "LOG"], "'1-x' is neither a PCR nor a range"),
    (["eventlog", "verify", "--only", "24", "LOG"], "no PCR '24'"),
    (["eventlog", "show"], "Missing argument 'LOG'"),
])
def test_wrong_usage_is_one_line_and_status_2(tmp_path: Path, arguments: list[str], why: str) -> None:
    (tmp_path / "LIST").write_bytes(bytes.fromhex(LISTS["ima-ng"]["binary"]))
    (tmp_path / "LOG").write_bytes((EVENTS / "seabios.bin").read_bytes())
    placed = [str(tmp_path / a) if a in ("LIST", "LOG") else a for a in arguments]
    line = refusal(run(*placed), 2)
    assert why in line
    assert f"; see cusetpm {arguments[0]} {arguments[1]} --help" in line


def test_a_group_without_a_verb_shows_its_verbs() -> None:
    for group, verbs in (("ima", ("measure", "verify")), ("eventlog", ("show", "verify"))):
        done = run(group)
        assert done.returncode == 2
        assert all(f"\n  {verb} " in done.stderr for verb in verbs)


def test_a_tpm_that_is_not_there_or_does_not_answer_is_named(tmp_path: Path, kernel_list: Path) -> None:
    for option, file, why in (("--device", "/dev/no-such-tpm", "No such file"),
                              ("--socket", tmp_path, "Is a directory"),
                              ("--device", "/dev/null", "no response from the TPM")):
        assert f"{file}: {why}" in refusal(run("ima", "verify", option, file, kernel_list))
    started = run("run", "--front-end", "socket", "--startup", "none", "--", *CUSETPM, "ima", "verify",
                  kernel_list)
    assert "the TPM answers TPM_RC_INITIALIZE" in refusal(started)


def test_a_refusal_of_a_tpm_1_2_is_told_by_its_number(tmp_path: Path, kernel_list: Path) -> None:
    with served(tpm12.Machine().execute, tmp_path) as socket:
        done = run("ima", "verify", kernel_list, CUSETPM_SOCKET=socket)
    assert f"{socket}: the TPM answers code 38" in refusal(done)  # TPM_INVALID_POSTINIT


def test_the_command_line_goes_before_the_environment(kernel_list: Path) -> None:
    done = run("ima", "verify", "--device", "/dev/null", kernel_list, CUSETPM_SOCKET="/no/such/socket")
    assert "/dev/null: " in refusal(done)
    done = run("ima", "verify", kernel_list, CUSETPM_DEVICE="/dev/null", CUSETPM_SOCKET="/no/such/socket")
    assert "/no/such/socket: " in refusal(done)


def test_the_configuration_file_has_a_table_for_each_verb_of_a_group(
        tmp_path: Path, kernel_list: Path) -> None:
    config = tmp_path / "cusetpm" / "config.toml"
    config.parent.mkdir()
    config.write_text("[ima.verify]\ndevice = '/dev/null'\n")
    done = run("ima", "verify", kernel_list, XDG_CONFIG_HOME=str(tmp_path))
    assert "/dev/null: no response from the TPM" in refusal(done)
    for wrong, why in (("[ima]\nverify = 5", "'verify' is not a table"),
                       ("[ima.check]", "'check' is not a verb of 'ima'"),
                       ("[ima.verify]\nquick = 1", "'quick' is not an option of 'verify'")):
        config.write_text(wrong)
        assert why in refusal(run("ima", "verify", kernel_list, XDG_CONFIG_HOME=str(tmp_path)))


# eventlog

def test_events_are_shown_with_what_they_say() -> None:
    done = run("eventlog", "show", EVENTS / "ovmf.bin")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    variable = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    assert f"   4  PCR 7   EV_EFI_VARIABLE_DRIVER_CONFIG  {variable} = 00" in lines
    assert any(line.split() == ["sha256:7", PCRS["ovmf"]["sha256:7"]] for line in lines)


@pytest.mark.parametrize("name", ["ovmf", "seabios", "uefi-sha1"])
def test_all_of_a_log_is_there_as_json(name: str) -> None:
    found = json.loads(run("eventlog", "show", "--json", EVENTS / f"{name}.bin").stdout)
    assert [event["number"] for event in found["events"]] == list(range(len(found["events"])))
    assert not any(event["fault"] for event in found["events"])
    first = found["events"][0]
    assert first["pcr"] == 0
    assert first["type"] == ("EV_S_CRTM_VERSION" if name == "uefi-sha1" else "EV_NO_ACTION")
    if name in PCRS:
        ours = {f"{bank}:{pcr}": v for bank, pcrs in found["pcrs"].items() for pcr, v in pcrs.items()}
        assert ours.items() <= PCRS[name].items()


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_log_verifies_with_values(as_json: list[str]) -> None:
    done = run("eventlog", "verify", *as_json, *values(PCRS["ovmf"], "sha256"), EVENTS / "ovmf.bin")
    assert (done.returncode, done.stderr) == (0, "")
    if as_json:
        assert json.loads(done.stdout) == {"fits": True, "fault": "",
                                           "pcrs": [f"sha256:{index}" for index in (*range(8), 9)]}
    else:
        assert done.stdout == f"{EVENTS}/ovmf.bin: 25 events; they lead to sha256:0-7,9 of --pcr\n"


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_the_first_event_that_does_not_fit_is_named_with_status_1(tmp_path: Path, as_json: list[str]) -> None:
    data = (EVENTS / "seabios.bin").read_bytes()
    (tmp_path / "log").write_bytes(data.replace(b"Calling INT 19h", b"Calling INT 18h"))
    done = run("eventlog", "verify", *as_json, *values(PCRS["seabios"], "sha1"), tmp_path / "log")
    why = "event 5 (EV_ACTION in PCR 4: Calling INT 18h): its sha1 digest is"
    if as_json:
        found = json.loads(done.stdout)
        assert (done.returncode, done.stderr, found["fits"]) == (1, "", False)
        assert why in found["fault"]
    else:
        assert why in refusal(done, 1)
    shown = run("eventlog", "show", tmp_path / "log")
    assert "Calling INT 18h  DOES NOT FIT: its sha1 digest is" in shown.stdout


def test_a_log_of_another_tpm_does_not_verify() -> None:
    done = with_tpm('cusetpm eventlog verify "$1"', EVENTS / "seabios.bin")
    assert "event 6 (EV_SEPARATOR in PCR 0: " in refusal(done, 1)
    done = with_tpm('cusetpm eventlog verify --only 23 "$1"', EVENTS / "seabios.bin")
    assert "has nothing that the log" in refusal(done)
