"""`cusetpm swtpm socket` as those meet it who write swtpm's command line: options, refusals, and its end."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cusetpm.devices.swtpm import abi
from tests.support.emulator import OURS, THEIRS, command, running
from tests.support.fake_machine import u32

CUSETPM = [sys.executable, "-I", "-m", "cusetpm", "swtpm"]
GET_RANDOM = bytes.fromhex("80010000000c0000017b0008")
READ_CLOCK = bytes.fromhex("80010000000a00000181")
FATAL = bytes.fromhex("80010000000a00000101")
INITIALIZE = bytes.fromhex("80010000000a00000100")
GIVE_UP_S = 60


def swtpm(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CUSETPM, *map(str, arguments)], capture_output=True, text=True, check=False,
                          timeout=120, env=os.environ | (env or {}))


def connected(path: Path) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.settimeout(GIVE_UP_S)
    found.connect(str(path))
    return found


def ask(path: Path, message: bytes) -> bytes:
    with connected(path) as connection:
        connection.sendall(message)
        return connection.recv(4096)


def test_capabilities_are_in_the_form_that_libvirt_reads() -> None:
    """What is named has to be there: libvirt passes the options that it finds."""
    found = json.loads(swtpm("socket", "--print-capabilities").stdout)
    assert found["type"] == "swtpm"
    assert {"tpm-2.0", "cmdarg-migration", "nvram-backend-dir", "flags-opt-startup"} <= set(found["features"])
    theirs = json.loads(subprocess.run([*command(THEIRS), "--print-capabilities"], capture_output=True,
                                       check=True).stdout)
    assert found.keys() >= theirs.keys()


def test_a_character_device_of_another_kind_is_refused_with_what_to_do(tmp_path: Path) -> None:
    done = swtpm("chardev", "--tpm2", "--tpmstate", f"dir={tmp_path}")
    assert done.returncode == 2
    assert "--vtpm-proxy is missing" in done.stderr
    assert "there is cusetpm run" in done.stderr


def test_the_options_of_sockets_are_not_those_of_a_character_device() -> None:
    for option in ("--server", "--port", "--fd", "--terminate"):
        assert "No such option" in swtpm("chardev", "--vtpm-proxy", option).stderr


@pytest.mark.skipif(os.path.exists("/dev/vtpmx"), reason="this machine has a /dev/vtpmx")
def test_a_chip_of_the_kernels_that_cannot_be_had_leaves_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = swtpm("chardev", "--vtpm-proxy", "--tpm2", "--tpmstate", f"dir={state}")
    assert (done.returncode, done.stderr) == (
        125, "cusetpm: /dev/vtpmx: no vtpm-proxy on this machine (modprobe tpm_vtpm_proxy)\n")
    assert not state.exists()


def test_the_version_is_told_as_swtpm_tells_it() -> None:
    assert re.match(r"TPM emulator cusetpm, version \d+\.\d+", swtpm("--version").stdout)


def test_states_are_named_once_there_are_some(tmp_path: Path) -> None:
    ask_for = ["socket", "--tpm2", "--tpmstate", f"dir={tmp_path / 'state'}", "--print-states"]
    assert json.loads(swtpm(*ask_for).stdout) == {"type": "swtpm", "states": []}
    assert not (tmp_path / "state").exists()
    with running(OURS, tmp_path / "state", "--flags", "not-need-init"):
        (state,) = json.loads(swtpm(*ask_for).stdout)["states"]
        assert state["name"] == "permall"
        assert state["size"] > 0


def test_information_is_printed_without_a_tpm() -> None:
    found = json.loads(swtpm("socket", "--tpm2", "--print-info", "1").stdout)
    assert found == {"TPMSpecification": {"family": "2.0", "level": 0, "revision": 185}}


@pytest.mark.parametrize(("flags", "response"), [
    ([], FATAL), (["--flags", "not-need-init"], INITIALIZE), (["--flags", "startup-none"], FATAL),
    (["--flags", "startup-clear"], None), (["--flags", "not-need-init,startup-clear"], None),
])
def test_flags_decide_how_far_the_tpm_has_come(
    tmp_path: Path, flags: list[str], response: bytes | None,
) -> None:
    with running(OURS, tmp_path / "state", *flags) as emulator:
        found = ask(emulator.data, GET_RANDOM)
        assert found == response if response else len(found) == 20


def test_a_startup_that_is_refused_is_an_error(tmp_path: Path) -> None:
    done = swtpm("socket", "--tpm2", "--tpmstate", f"dir={tmp_path / 'state'}", "--flags", "startup-state")
    assert done.returncode == 125
    assert done.stderr == "cusetpm: the TPM refuses Startup(STATE): TPM_RC_VALUE (parameter 1)\n"
    assert not (tmp_path / "state").exists() or not list((tmp_path / "state").iterdir())


@pytest.mark.parametrize("flags", ["not-need-init", "not-need-init,disable-auto-shutdown"])
def test_it_ends_in_an_orderly_way_unless_told_otherwise(tmp_path: Path, flags: str) -> None:
    with running(OURS, tmp_path / "state", "--flags", f"startup-clear,{flags}") as emulator:
        emulator.end()
    resumes = swtpm("socket", "--tpm2", "--tpmstate", f"dir={tmp_path / 'state'}", "--flags", "startup-state",
                    "--server", f"type=unixio,path={tmp_path / 'no' / 'such' / 'place'}")
    assert ("refuses Startup" in resumes.stderr) == ("disable" in flags)


def test_the_same_state_directory_is_that_of_run(tmp_path: Path) -> None:
    with running(OURS, tmp_path / "state", "--flags", "startup-clear") as emulator:
        name = ask(emulator.data, bytes.fromhex("80010000000e00000173 81000001"))
        emulator.end()
    assert len(name) == 10  # No such handle: an empty TPM.
    words = ["run", "--startup", "state", "--state-dir", str(tmp_path / "state"), "--", "true"]
    done = subprocess.run([*CUSETPM[:-1], *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_daemon_leaves_nothing_but_its_state(tmp_path: Path) -> None:
    with running(OURS, tmp_path / "state") as emulator:
        assert {"pid", "data", "data.ctrl"} <= {path.name for path in emulator.directory.iterdir()}
        emulator.end()
    assert not {"pid", "data", "data.ctrl", "log"} & {path.name for path in (tmp_path / "state").iterdir()}


def test_it_says_when_it_is_ready(tmp_path: Path) -> None:
    """To systemd, to who holds the pipe of --pid fd=, and, with --daemon, by its end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notice:
        notice.bind(str(tmp_path / "notify"))
        notice.settimeout(GIVE_UP_S)
        hear, tell = os.pipe()
        words = ["socket", "--tpm2", "--tpmstate", f"dir={tmp_path / 'state'}", "--pid", f"fd={tell}",
                 "--server", f"type=unixio,path={tmp_path / 'data'}"]
        with subprocess.Popen([*CUSETPM, *words], pass_fds=[tell],
                              env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}) as process:
            os.close(tell)
            assert notice.recv(100) == b"READY=1"
            assert ask(tmp_path / "data", READ_CLOCK) == FATAL
            assert os.read(hear, 100) == f"{process.pid}\n".encode()
            process.terminate()
            assert process.wait(GIVE_UP_S) == 0
        os.close(hear)


def test_clients_that_were_connected_beforehand(tmp_path: Path) -> None:
    """As swtpm_setup starts it: both channels are file descriptors, and the end of one is the end of all."""
    ctrl, its_ctrl = socket.socketpair()
    data, its_data = socket.socketpair()
    words = ["--ctrl", f"type=unixio,clientfd={its_ctrl.fileno()}",
             "--server", f"type=tcp,fd={its_data.fileno()}"]
    with ctrl, data:
        its_ctrl.set_inheritable(True)
        its_data.set_inheritable(True)
        with running(OURS, tmp_path / "state", "--flags", "startup-clear", *words, sockets=False) as emulator:
            its_ctrl.close()
            its_data.close()
            data.sendall(GET_RANDOM)
            assert len(data.recv(100)) == 20
            ctrl.sendall(u32(abi.CMD_GET_CAPABILITY))
            assert ctrl.recv(100) == u32(0, 0x1FFFF)
            data.close()
            assert emulator.has_ended()


@pytest.mark.parametrize(("words", "channel"), [
    (["--ctrl", "type=unixio,path=data.ctrl,terminate"], "data.ctrl"),
    (["--server", "type=unixio,path=data", "--terminate"], "data"),
])
def test_it_ends_with_its_client_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str],
                                           channel: str) -> None:
    (tmp_path / "state").mkdir()
    monkeypatch.chdir(tmp_path / "state")
    with running(OURS, tmp_path / "state", *words, sockets=False) as emulator:
        connected(tmp_path / "state" / channel).close()
        assert emulator.has_ended()


def test_a_tcp_port_of_the_environment_and_a_connection_for_each_command(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for words in (["--server", "type=tcp,disconnect"], ["-p", str(port)]):
        os.environ["TPM_PORT"] = str(port)
        try:
            with running(OURS, tmp_path / "state", *words, sockets=False) as emulator:
                for _ in range(2):
                    with socket.create_connection(("127.0.0.1", port), GIVE_UP_S) as client:
                        client.sendall(READ_CLOCK)
                        assert client.recv(100) == FATAL
                        assert client.recv(100) == b""
                emulator.end()
        finally:
            del os.environ["TPM_PORT"]


def test_localities_are_restricted_on_demand(tmp_path: Path) -> None:
    with running(OURS, tmp_path / "state", "--locality", "reject-locality-4,allow-set-locality", "--flags",
                 "startup-clear") as emulator:
        assert ask(emulator.ctrl, u32(abi.CMD_SET_LOCALITY) + b"\4") == u32(abi.TPM_BAD_LOCALITY)
        set_locality = bytes.fromhex("80010000000b20001000")
        assert ask(emulator.data, set_locality + b"\3") == bytes.fromhex("80010000000a00000000")
        assert ask(emulator.data, set_locality + b"\4") == bytes.fromhex("80010000000a00000907")


STATE = "--tpmstate=dir=state"


@pytest.mark.parametrize(("words", "why"), [
    (["--tpm2"], "--tpmstate dir=DIR is missing"),
    (["--tpm2", "--tpmstate=backend-uri=file://x"], "'file://x' is not dir://DIR"),
    (["--tpm2", "--tpmstate=backend-uri=x"], "'x' is not dir://DIR"),
    (["--tpm2", STATE, "--ctrl=type=unixio"], "--ctrl: needs type=unixio with path="),
    (["--tpm2", STATE, "--ctrl=type=usb,path=x"], "--ctrl: needs type=unixio with path="),
    (["--tpm2", STATE, "--ctrl=path"], "path needs a value"),
    (["--tpm2", STATE, "--ctrl=type=unixio,paht=x"], "'paht' is none of type, path, port,"),
    (["--tpm2", STATE, "--ctrl=type=unixio,path=x,mode=888"], "mode has to be permissions as an octal"),
    (["--tpm2", STATE, "--ctrl=type=unixio,path=x,mode=7777"], "mode has to be permissions as an octal"),
    (["--tpm2", STATE, "--ctrl=type=unixio,path=x,uid=nobody-there"], "uid has to be a user"),
    (["--tpm2", STATE, "--ctrl=type=tcp,port=70000"], "port has to be a port number, not '70000'"),
    (["--tpm2", STATE, "--ctrl=type=tcp,port=1,bindaddr=me.invalid"], "me.invalid:1: not an address"),
    (["--tpm2", STATE, "--ctrl=type=unixio,fd=77"], "file descriptor 77: Bad file descriptor"),
    (["--tpm2", STATE, "--server=type=tcp"], "--server: needs"),
    (["--tpm2", STATE, "--flags=startup-deactivated"], "startup-deactivated cannot be had"),
    (["--tpm2", STATE, "--flags=nonsense"], "'nonsense' is none of not-need-init,"),
    (["--tpm2", STATE, "--fd=1"], "1 is not in the range x>=3"),
    (["--tpm2", STATE, "--runas=nobody-there"], "--runas: there is no user 'nobody-there'"),
    (["--tpm2", STATE, "--profile=name=null"], "No such option '--profile'"),
    (["--tpm2", STATE, "--log=file=no/such/dir/log"], "no/such/dir/log: No such file or directory"),
    (["--tpm2", STATE, "--pid=file=no/such/dir/pid"], "no/such/dir/pid: No such file or directory"),
])
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                               words: list[str], why: str) -> None:
    monkeypatch.chdir(tmp_path)
    done = swtpm("socket", *words)
    assert done.returncode in (2, 125)
    (line,) = done.stderr.splitlines()
    assert line.startswith("cusetpm: ")
    assert why in line
    assert not list(tmp_path.glob("state/*"))


def test_a_directory_in_use_is_named_and_so_it_is_in_the_log(tmp_path: Path) -> None:
    with running(OURS, tmp_path / "state") as emulator:
        pid = (emulator.directory / "pid").read_text().strip()
        done = swtpm("socket", "--tpm2", "--tpmstate", f"dir={tmp_path / 'state'}", "--daemon",
                     "--log", f"file={tmp_path / 'log'},prefix=tpm: ")
        assert done.returncode == 125
        assert f"in use by process {pid}" in done.stderr
        assert (tmp_path / "log").read_text() == done.stderr.replace("cusetpm: ", "tpm: ")
        # The one that serves does not mind.
        assert ask(emulator.data, READ_CLOCK) == FATAL


def test_the_state_of_swtpm_is_refused_and_left_alone(tmp_path: Path) -> None:
    with running(THEIRS, tmp_path / "state", "--flags", "not-need-init") as emulator:
        emulator.end()
    before = {path.name: path.read_bytes() for path in (tmp_path / "state").iterdir()}
    done = swtpm("socket", "--tpm2", "--tpmstate", f"dir={tmp_path / 'state'}")
    assert done.returncode == 125
    assert f"{tmp_path / 'state'}: not empty, and not a state directory of cusetpm" in done.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "state").iterdir()} == before


# Keys.

HEX_KEY = "00112233445566778899aabbccddeeff"
KEYS = {
    "hex": HEX_KEY.encode() + b"\n", "0x": b"0x" + HEX_KEY.encode(), "binary": bytes(range(32)),
    "phrase": b"a passphrase of some length",
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    for name, content in KEYS.items():
        (tmp_path / f"{name}.key").write_bytes(content)
    return {name: str(tmp_path / f"{name}.key") for name in KEYS}


def permanent_blob(program: str, directory: Path, option: tuple[str, ...]) -> bytes:
    with running(program, directory, "--flags", "not-need-init", *option) as emulator:
        reply = ask(emulator.ctrl, u32(abi.CMD_GET_STATEBLOB, 0, abi.PTM_BLOB_TYPE_PERMANENT, 0))
        assert reply[:4] == u32(0)
        assert ask(emulator.ctrl, u32(abi.CMD_GET_CONFIG)) == u32(0, abi.PTM_CONFIG_FLAG_MIGRATION_KEY)
        return reply[16:]


def set_permanent_blob(program: str, directory: Path, option: tuple[str, ...], blob: bytes) -> bytes:
    with running(program, directory, *option) as emulator:
        message = u32(abi.CMD_SET_STATEBLOB, 0, abi.PTM_BLOB_TYPE_PERMANENT, len(blob)) + blob
        return ask(emulator.ctrl, message)


@pytest.mark.parametrize("form", [
    "file={0x}", "file={binary},format=binary,mode=aes-256-cbc", "pwdfile={phrase}",
    "pwdfile={phrase},kdf=sha512,mode=aes-256-cbc",
])
def test_a_migration_key_is_the_one_that_swtpm_makes_of_it(
    tmp_path: Path, files: dict[str, str], form: str,
) -> None:
    """A blob of swtpm's is decrypted by ours, and only then refused as no state of ours; and vice versa."""
    option = ("--migration-key", form.format(**files))
    for program, other in ((OURS, THEIRS), (THEIRS, OURS)):
        blob = permanent_blob(program, tmp_path / program, option)
        assert blob[4:6] == (b"\0\x16" if "256" in form else b"\0\x06")
        assert set_permanent_blob(other, tmp_path / other, option, blob) == u32(0x1E)  # TPM_RC_BAD_TAG


@pytest.mark.parametrize("program", [OURS, THEIRS])
@pytest.mark.parametrize(("option", "result"), [
    ((), abi.TPM_KEYNOTFOUND),
    (("--migration-key", "pwdfile={phrase}"), abi.TPM_DECRYPT_ERROR),
    (("--migration-key", "pwdfile={phrase},mode=aes-256-cbc"), abi.TPM_BAD_KEY_PROPERTY),
])
def test_a_blob_is_of_no_use_with_another_key_or_none(
    tmp_path: Path, files: dict[str, str], program: str, option: tuple[str, ...], result: int,
) -> None:
    blob = permanent_blob(OURS, tmp_path / "source", ("--migration-key", f"file={files['hex']}"))
    words = tuple(word.format(**files) for word in option)
    assert set_permanent_blob(program, tmp_path / "target", words, blob) == u32(result)


def test_a_key_encrypts_the_state_directory(tmp_path: Path, files: dict[str, str]) -> None:
    key = ("--key", f"file={files['hex']}")
    with running(OURS, tmp_path / "state", "--flags", "startup-clear", *key) as emulator:
        assert ask(emulator.ctrl, u32(abi.CMD_GET_CONFIG)) == u32(0, abi.PTM_CONFIG_FLAG_FILE_KEY)
        decrypted = ask(emulator.ctrl, u32(abi.CMD_GET_STATEBLOB, 1, abi.PTM_BLOB_TYPE_PERMANENT, 0))
        assert decrypted[4:8] == u32(0)
        encrypted = ask(emulator.ctrl, u32(abi.CMD_GET_STATEBLOB, 0, abi.PTM_BLOB_TYPE_PERMANENT, 0))
        assert encrypted[4:8] == u32(abi.PTM_STATE_FLAG_ENCRYPTED)
        emulator.end()
    assert all(b"cusetpm 2.0" not in path.read_bytes() for path in (tmp_path / "state").glob("chip.?"))
    with running(OURS, tmp_path / "state", "--flags", "startup-state", *key) as emulator:
        emulator.end()
    for words, why in (([], "encrypted with a key, which is needed"),
                       (["--key", f"pwdfile={files['phrase']}"], "encrypted with another key")):
        done = swtpm("socket", "--tpm2", "--tpmstate", f"dir={tmp_path / 'state'}", *words)
        assert done.returncode == 125
        assert done.stderr == f"cusetpm: {tmp_path}/state/chip.0: {why}\n"


def test_a_key_can_come_through_a_pipe_and_its_file_can_be_removed(
    tmp_path: Path, files: dict[str, str],
) -> None:
    hear, tell = os.pipe()
    os.set_inheritable(hear, True)
    os.write(tell, KEYS["phrase"])
    os.close(tell)
    words = ["--key", f"file={files['hex']},remove=true", "--migration-key", f"pwdfd={hear},mode=aes-256-cbc"]
    with running(OURS, tmp_path / "state", *words) as emulator:
        assert ask(emulator.ctrl, u32(abi.CMD_GET_CONFIG)) == u32(0, 3)
    os.close(hear)
    assert not Path(files["hex"]).exists()


@pytest.mark.parametrize(("form", "why"), [
    ("mode=aes-cbc", "--key: needs one of file=, fd=, pwdfile= and pwdfd="),
    ("file={hex},pwdfile={phrase}", "--key: needs one of"),
    ("file={hex},mode=des", "--key: mode has to be one of aes-cbc, aes-128-cbc, aes-256-cbc, not 'des'"),
    ("file={hex},format=base64", "--key: format has to be one of hex, binary, not 'base64'"),
    ("pwdfile={phrase},kdf=md5", "--key: kdf has to be one of pbkdf2, sha512, not 'md5'"),
    ("file={hex},mode=aes-256-cbc", "hex.key has not 32 octets"),
    ("file={phrase}", "phrase.key has not 16 octets"),
    ("file={binary},format=binary", "binary.key has not 16 octets"),
    ("file=/no/such/key", "/no/such/key: No such file or directory"),
    ("fd=77", "file descriptor 77: Bad file descriptor"),
])
def test_what_cannot_be_a_key_is_refused_in_one_line(tmp_path: Path, files: dict[str, str], form: str,
                                                     why: str) -> None:
    done = swtpm("socket", "--tpm2", "--tpmstate", f"dir={tmp_path / 'state'}", "--key", form.format(**files))
    assert done.returncode in (2, 125)
    (line,) = done.stderr.splitlines()
    assert why in line
    assert not (tmp_path / "state").exists()


def test_it_ends_when_a_channel_that_was_passed_is_left(tmp_path: Path) -> None:
    """As libvirt starts it, so that a QEMU that crashes leaves no TPM behind."""
    ctrl = tmp_path / "state" / "data.ctrl"
    words = ["--ctrl", f"type=unixio,path={ctrl}", "--terminate"]
    with running(OURS, tmp_path / "state", *words, sockets=False) as emulator, connected(ctrl) as control:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            socket.send_fds(control, [u32(abi.CMD_SET_DATAFD)], [theirs.fileno()])
            assert control.recv(100) == u32(0)
        assert emulator.has_ended()
