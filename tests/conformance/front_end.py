"""What every front end must do, checked from outside: `front_end.py KIND PATH`.

KIND is "device" or "socket".  For the front end of a resource manager it is "managed" or "managed-socket",
for that of Linux itself "linux-managed", and the path of the TPM as it is follows.

A plain script with nothing but the standard library, so that it runs against a served file or socket
from another process (a process that polls a file it serves itself can deadlock), in a virtual machine,
or against a kernel's own /dev/tpm0.  The TPM behind is a started TPM 2.0.  Prints a line for each check;
the exit status is the number of checks that failed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import inspect
import os
import select
import signal
import socket
import stat
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

HEADER = struct.Struct(">HII")
TPM_BUFSIZE = 4096
GIVE_UP_S = 60.0
READABLE = select.POLLIN | select.POLLRDNORM
WRITABLE = select.POLLOUT | select.POLLWRNORM
ALL_EVENTS = READABLE | WRITABLE


def command(code: int, parameters: bytes = b"", tag: int = 0x8001) -> bytes:
    return HEADER.pack(tag, HEADER.size + len(parameters), code) + parameters


def get_random(octets: int) -> bytes:
    return command(0x17B, octets.to_bytes(2, "big"))


UNKNOWN = command(0x1FFF)
LARGEST = command(0x1FFF, bytes(TPM_BUFSIZE - HEADER.size))
# TPM2_CreatePrimary of an RSA 2048 storage key under the null hierarchy, empty password: tens of ms.
_TEMPLATE = bytes.fromhex("0001000b00030072000000060080004300100800000000000000")
LONG = command(
    0x131,
    bytes.fromhex("40000007 00000009 40000009 0000 00 0000 0004 0000 0000")
    + len(_TEMPLATE).to_bytes(2, "big")
    + _TEMPLATE
    + bytes(6),
    0x8002,
)


def check_response(response: bytes, code: int | None = 0) -> bytes:
    """Return *response*, which is well-formed and has response code *code* (None: any)."""
    assert len(response) >= HEADER.size, f"{len(response)} octets"
    _, size, got = HEADER.unpack_from(response)
    assert size == len(response), f"{len(response)} octets say they are {size}"
    assert code is None or got == code, f"response code {got:#x}"
    return response


def check_random(response: bytes, octets: int) -> None:
    check_response(response)
    assert len(response) == HEADER.size + 2 + octets
    assert response[HEADER.size : HEADER.size + 2] == octets.to_bytes(2, "big")


@contextlib.contextmanager
def raises(code: int) -> Iterator[None]:
    got = 0
    try:
        yield
    except OSError as error:
        got = error.errno or -1
    assert got == code, f"{errno.errorcode.get(got, 'success')} instead of {errno.errorcode[code]}"


@contextlib.contextmanager
def opened(path: str, flags: int = 0) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | flags)
    try:
        yield fd
    finally:
        os.close(fd)


def flush(transact: Callable[[bytes], bytes], created: bytes) -> None:
    """Flush what LONG created."""
    check_response(created)
    check_response(transact(command(0x165, created[HEADER.size : HEADER.size + 4])))


def events(fd: int, mask: int = ALL_EVENTS, timeout_s: float = 0) -> int:
    poller = select.poll()
    poller.register(fd, mask)
    found = poller.poll(timeout_s * 1000)
    return found[0][1] if found else 0


# -- a device file


def a_command_is_answered(path: str) -> None:
    with opened(path) as fd:
        for octets in (1, 16, 32):
            asked = get_random(octets)
            assert os.write(fd, asked) == len(asked)
            check_random(os.read(fd, TPM_BUFSIZE), octets)


def an_error_of_the_tpm_is_a_response(path: str) -> None:
    with opened(path) as fd:
        for asked in (UNKNOWN, LARGEST):
            assert os.write(fd, asked) == len(asked)
            response = check_response(os.read(fd, TPM_BUFSIZE), None)
            assert HEADER.unpack(response)[2] != 0


def a_second_open_is_busy(path: str) -> None:
    with opened(path):
        with raises(errno.EBUSY):
            os.open(path, os.O_RDWR)
        with raises(errno.EBUSY):
            os.open(path, os.O_RDWR | os.O_NONBLOCK)


def close_lets_the_next_one_open_at_once(path: str) -> None:
    for _ in range(50):
        with opened(path) as fd:
            os.write(fd, get_random(8))  # The response is dropped with the file.


def truncation_at_open_is_accepted(path: str) -> None:
    with opened(path, os.O_TRUNC) as fd:
        os.write(fd, get_random(8))
        check_random(os.read(fd, TPM_BUFSIZE), 8)


def too_much_is_refused_whole(path: str) -> None:
    with opened(path) as fd:
        for size in (TPM_BUFSIZE + 1, 5000, 10000):
            with raises(errno.E2BIG):
                os.write(fd, LARGEST + bytes(size - TPM_BUFSIZE))
        assert os.read(fd, TPM_BUFSIZE) == b""


def too_little_is_invalid(path: str) -> None:
    with opened(path) as fd:
        asked = get_random(8)
        for size in (1, 5, 6, 10, len(asked) - 1):
            with raises(errno.EINVAL):
                os.write(fd, asked[:size])
        assert os.read(fd, TPM_BUFSIZE) == b""


def trailing_octets_are_dropped(path: str) -> None:
    with opened(path) as fd:
        asked = get_random(8) + b"trailing"
        assert os.write(fd, asked) == len(asked)
        check_random(os.read(fd, TPM_BUFSIZE), 8)


def an_unread_response_makes_a_write_busy(path: str) -> None:
    with opened(path) as fd:
        os.write(fd, get_random(8))
        with raises(errno.EBUSY):
            os.write(fd, get_random(16))
        check_random(os.read(fd, TPM_BUFSIZE), 8)


def a_response_is_read_in_parts(path: str) -> None:
    with opened(path) as fd:
        os.write(fd, get_random(16))
        response = b"".join(os.read(fd, size) for size in (1, 9, 5, TPM_BUFSIZE))
        check_random(response, 16)
        assert os.read(fd, TPM_BUFSIZE) == b""


def a_write_discards_the_rest(path: str) -> None:
    with opened(path) as fd:
        os.write(fd, get_random(16))
        os.read(fd, 4)
        os.write(fd, get_random(8))
        check_random(os.read(fd, TPM_BUFSIZE), 8)


def a_read_without_a_response_is_empty(path: str) -> None:
    with opened(path) as fd:
        assert os.read(fd, TPM_BUFSIZE) == b""
        os.write(fd, get_random(8))
        os.read(fd, TPM_BUFSIZE)
        assert os.read(fd, TPM_BUFSIZE) == b""


def poll_tells_whether_a_response_waits(path: str) -> None:
    with opened(path) as fd:
        assert events(fd) == WRITABLE
        os.write(fd, get_random(8))
        assert events(fd) == READABLE
        assert events(fd, select.POLLIN) == select.POLLIN
        os.read(fd, 4)
        assert events(fd) == READABLE
        os.read(fd, TPM_BUFSIZE)
        assert events(fd) == WRITABLE
        assert events(fd, select.POLLIN) == 0


def a_nonblocking_write_is_answered_later(path: str) -> None:
    with opened(path, os.O_NONBLOCK) as fd:

        def transact(asked: bytes) -> bytes:
            assert os.write(fd, asked) == len(asked)
            # Queued or already answered: one command at a time.
            with raises(errno.EBUSY):
                os.write(fd, get_random(8))
            assert events(fd, select.POLLIN, GIVE_UP_S) == select.POLLIN
            return os.read(fd, TPM_BUFSIZE)

        check_random(transact(get_random(16)), 16)
        flush(transact, transact(LONG))
        assert os.read(fd, TPM_BUFSIZE) == b""


def a_blocking_write_runs_the_command(path: str) -> None:
    with opened(path) as fd:

        def transact(asked: bytes) -> bytes:
            os.write(fd, asked)
            return os.read(fd, TPM_BUFSIZE)

        flush(transact, transact(LONG))


def a_killed_client_frees_the_device(path: str) -> None:
    for flags in (0, os.O_NONBLOCK):
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(OSError):
                os.write(os.open(path, os.O_RDWR | flags), LONG)
                signal.pause()
            os._exit(0)
        # Killed at any moment: before the open, in the write, or after it.
        time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        deadline = time.monotonic() + GIVE_UP_S
        fd = -1
        while fd < 0:
            try:
                fd = os.open(path, os.O_RDWR)
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        try:
            # What the killed client created, if it came to that, is in nobody's hands: flush it.
            os.write(fd, command(0x17A, struct.pack(">III", 1, 0x80000000, 16)))
            found = check_response(os.read(fd, TPM_BUFSIZE))
            for at in range(HEADER.size + 9, len(found), 4):
                os.write(fd, command(0x165, found[at : at + 4]))
                check_response(os.read(fd, TPM_BUFSIZE))
        finally:
            os.close(fd)


def an_ioctl_is_not_for_this_device(path: str) -> None:
    with opened(path) as fd, raises(errno.ENOTTY):
        fcntl.ioctl(fd, 0x00005401)  # TCGETS


def the_file_has_no_size(path: str) -> None:
    found = os.stat(path)
    assert found.st_size == 0
    assert found.st_mode & 0o006 == 0, "others may use it"


def many_commands_in_a_row(path: str) -> None:
    with opened(path) as fd:
        for number in range(500):
            os.write(fd, get_random(1 + number % 32))
            check_random(os.read(fd, TPM_BUFSIZE), 1 + number % 32)


# -- the device of a resource manager

FIRST_NAME = 0x80FFFFFF
Transact = Callable[[bytes], bytes]


def handle_of(response: bytes) -> int:
    return int.from_bytes(check_response(response)[HEADER.size : HEADER.size + 4], "big")


def context_save(handle: int) -> bytes:
    return command(0x162, handle.to_bytes(4, "big"))


def context_load(saved: bytes) -> bytes:
    return command(0x161, check_response(saved)[HEADER.size :])


def read_public(handle: int) -> bytes:
    return command(0x173, handle.to_bytes(4, "big"))


def start_session() -> bytes:
    """An unbound, unsalted policy session."""
    fixed = struct.pack(">IIH16sHBHH", 0x40000007, 0x40000007, 16, bytes(16), 0, 1, 0x10, 0xB)
    return command(0x176, fixed)


def handles(transact: Transact, first: int) -> list[int]:
    found = check_response(transact(command(0x17A, struct.pack(">III", 1, first, 254))))
    return [handle for (handle,) in struct.iter_unpack(">I", found[HEADER.size + 9 :])]


def held(transact: Transact) -> list[int]:
    """Return what is loaded, and the sessions that are saved."""
    return [handle for first in (0x80000000, 0x02000000, 0x03000000) for handle in handles(transact, first)]


@contextlib.contextmanager
def file_of(path: str) -> Iterator[Transact]:
    with opened(path) as fd:

        def transact(asked: bytes) -> bytes:
            assert os.write(fd, asked) == len(asked)
            return os.read(fd, TPM_BUFSIZE)

        yield transact


@contextlib.contextmanager
def connection_of(path: str) -> Iterator[Transact]:
    with connected(path) as connection:

        def transact(asked: bytes) -> bytes:
            connection.sendall(asked)
            return connection.recv(TPM_BUFSIZE)

        yield transact


def opener(path: str) -> contextlib.AbstractContextManager[Transact]:
    return connection_of(path) if stat.S_ISSOCK(os.stat(path).st_mode) else file_of(path)


def many_have_it_open_at_once(path: str, raw: str) -> None:
    fds = [os.open(path, os.O_RDWR) for _ in range(20)]
    for octets, fd in enumerate(fds, 1):
        os.write(fd, get_random(octets))
    for octets, fd in enumerate(fds, 1):
        check_random(os.read(fd, TPM_BUFSIZE), octets)
        os.close(fd)


def each_has_objects_of_its_own(path: str, raw: str) -> None:
    objects_of_its_own(path, 20)


def each_has_three_objects_of_its_own(path: str, raw: str) -> None:
    """What Linux gives an open file, which a fourth does not fit into."""
    objects_of_its_own(path, 3)
    with opener(path) as transact:
        saved = transact(context_save(handle_of(transact(LONG))))
        for _ in range(2):
            handle_of(transact(context_load(saved)))
        with raises(errno.ENOMEM):
            transact(context_load(saved))


def objects_of_its_own(path: str, number_of_objects: int) -> None:
    with opener(path) as first, opener(path) as second:
        name = handle_of(first(LONG))
        assert name == FIRST_NAME
        assert handles(first, 0x80000000) == [name]
        assert handles(second, 0x80000000) == []
        public = check_response(first(read_public(name)))
        saved = first(context_save(name))
        for number in range(1, number_of_objects):
            assert handle_of(first(context_load(saved))) == FIRST_NAME - number
        assert handle_of(second(context_load(saved))) == FIRST_NAME
        for number in range(number_of_objects):
            assert first(read_public(FIRST_NAME - number)) == public


def an_object_of_nobody_is_invalid(path: str, raw: str) -> None:
    asked = read_public(FIRST_NAME)
    for flags in (0, os.O_NONBLOCK):
        with opened(path, flags) as fd:
            if flags:
                os.write(fd, asked)
                assert events(fd, select.POLLIN, GIVE_UP_S) == select.POLLIN
                with raises(errno.EINVAL):
                    os.read(fd, TPM_BUFSIZE)
            else:
                with raises(errno.EINVAL):
                    os.write(fd, asked)
            assert os.read(fd, TPM_BUFSIZE) == b""
            assert events(fd) == WRITABLE


def an_object_of_nobody_is_answered(path: str, raw: str) -> None:
    with opener(path) as transact:
        check_response(transact(read_public(FIRST_NAME)), 0xB0910)


def an_unknown_command_is_answered_by_the_manager(path: str, raw: str) -> None:
    with opener(path) as transact:
        assert transact(UNKNOWN) == HEADER.pack(0x8001, HEADER.size, 0xB0143)


def the_tpm_as_it_is_shows_nothing_of_it(path: str, raw: str) -> None:
    with opener(path) as transact:
        name = handle_of(transact(LONG))
        session = handle_of(transact(start_session()))
        with opener(raw) as plain:
            assert handles(plain, 0x80000000) == handles(plain, 0x02000000) == []
        check_response(transact(read_public(name)))
        check_response(transact(command(0x189, session.to_bytes(4, "big"))))  # TPM2_PolicyGetDigest


def closing_flushes_everything(path: str, raw: str) -> None:
    with opener(path) as transact:
        handle_of(transact(LONG))
        handle_of(transact(start_session()))
        assert len(held(transact)) == 2
    with opener(raw) as plain:
        assert held(plain) == []


def a_saved_session_outlives_its_file(path: str, raw: str) -> None:
    with opener(path) as transact:
        session = handle_of(transact(start_session()))
        saved = transact(context_save(session))
    with opener(path) as transact:
        assert handle_of(transact(context_load(saved))) == session
    with opener(raw) as plain:
        assert held(plain) == []


def a_killed_client_leaves_nothing(path: str, raw: str) -> None:
    for blocking in (True, False):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(Exception), opener(path) as transact:
                handle_of(transact(LONG))
                handle_of(transact(start_session()))
                os.write(writing, b"x")
                while blocking:
                    transact(LONG)  # Killed in the middle of one of these.
                signal.pause()
            os._exit(0)
        assert os.read(reading, 1) == b"x"
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)
        deadline = time.monotonic() + GIVE_UP_S
        left = [0]
        while left and time.monotonic() < deadline:
            with opener(raw) as plain:
                left = held(plain)
        assert left == []


# -- a socket of raw commands


@contextlib.contextmanager
def connected(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(GIVE_UP_S)
        connection.connect(path)
        yield connection


def a_connection_for_each_command(path: str) -> None:
    for octets in (1, 16, 32):
        with connected(path) as connection:
            connection.sendall(get_random(octets))
            check_random(connection.recv(TPM_BUFSIZE), octets)


def many_commands_on_one_connection(path: str) -> None:
    with connected(path) as connection:
        for number in range(500):
            connection.sendall(get_random(1 + number % 32))
            check_random(connection.recv(TPM_BUFSIZE), 1 + number % 32)


def a_command_arrives_in_pieces(path: str) -> None:
    with connected(path) as connection:
        for octet in get_random(16):
            connection.sendall(bytes([octet]))
        check_random(connection.recv(TPM_BUFSIZE), 16)
        connection.sendall(LARGEST[:1000])
        connection.sendall(LARGEST[1000:])
        check_response(connection.recv(TPM_BUFSIZE), None)


def commands_are_sent_ahead(path: str) -> None:
    with connected(path) as connection:
        connection.sendall(get_random(8) * 3 + get_random(8)[:7])
        got = b""
        while len(got) < 60:
            got += connection.recv(60 - len(got))
        for at in range(0, 60, 20):
            check_random(got[at : at + 20], 8)
        connection.sendall(get_random(8)[7:])
        check_random(connection.recv(TPM_BUFSIZE), 8)


def a_size_that_cannot_be_ends_the_connection(path: str) -> None:
    for size in (0, 9, TPM_BUFSIZE + 1, 0xFFFFFFFF):
        with connected(path) as connection:
            connection.sendall(HEADER.pack(0x8001, size, 0x17B))
            check_response(connection.recv(TPM_BUFSIZE), 0x142)  # TPM_RC_COMMAND_SIZE
            assert connection.recv(TPM_BUFSIZE) == b""


def connections_live_side_by_side(path: str) -> None:
    failed: list[BaseException] = []

    def client(octets: int) -> None:
        try:
            with connected(path) as connection:
                for _ in range(100):
                    connection.sendall(get_random(octets))
                    check_random(connection.recv(TPM_BUFSIZE), octets)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=client, args=(octets,)) for octets in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


def a_client_that_leaves_harms_nobody(path: str) -> None:
    with connected(path) as stays:
        for asked in (get_random(8), get_random(8)[:3], LARGEST[:2000]):
            with connected(path) as leaves:
                leaves.sendall(asked)
        stays.sendall(get_random(16))
        check_random(stays.recv(TPM_BUFSIZE), 16)


def the_socket_is_for_its_owner(path: str) -> None:
    assert os.stat(path).st_mode & 0o077 == 0


FILE: list[Callable[[str], None]] = [
    a_command_is_answered,
    an_error_of_the_tpm_is_a_response,
    close_lets_the_next_one_open_at_once,
    truncation_at_open_is_accepted,
    too_much_is_refused_whole,
    too_little_is_invalid,
    trailing_octets_are_dropped,
    an_unread_response_makes_a_write_busy,
    a_response_is_read_in_parts,
    a_write_discards_the_rest,
    a_read_without_a_response_is_empty,
    poll_tells_whether_a_response_waits,
    a_nonblocking_write_is_answered_later,
    a_blocking_write_runs_the_command,
    an_ioctl_is_not_for_this_device,
    the_file_has_no_size,
    many_commands_in_a_row,
]
DEVICE = [*FILE, a_second_open_is_busy, a_killed_client_frees_the_device]
SOCKET: list[Callable[[str], None]] = [
    a_connection_for_each_command,
    many_commands_on_one_connection,
    a_command_arrives_in_pieces,
    commands_are_sent_ahead,
    a_size_that_cannot_be_ends_the_connection,
    connections_live_side_by_side,
    a_client_that_leaves_harms_nobody,
    the_socket_is_for_its_owner,
]


MANAGED: list[Callable[[str, str], None]] = [
    an_unknown_command_is_answered_by_the_manager,
    the_tpm_as_it_is_shows_nothing_of_it,
    closing_flushes_everything,
    a_saved_session_outlives_its_file,
    a_killed_client_leaves_nothing,
]
MANAGED_FILE: list[Callable[..., None]] = [
    *FILE, many_have_it_open_at_once, an_object_of_nobody_is_invalid, *MANAGED,
]
KINDS: dict[str, list[Callable[..., None]]] = {
    "device": [*DEVICE],
    "socket": [*SOCKET],
    "managed": [*MANAGED_FILE, each_has_objects_of_its_own],
    "linux-managed": [*MANAGED_FILE, each_has_three_objects_of_its_own],
    "managed-socket": [*SOCKET, an_object_of_nobody_is_answered, each_has_objects_of_its_own, *MANAGED],
}


def check_front_end(kind: str, path: str, raw: str) -> int:
    """Run the checks for a front end of *kind* at *path*; return how many failed."""
    failed = 0
    for check in KINDS[kind]:
        name = check.__name__.replace("_", " ")
        try:
            check(*(path, raw)[: len(inspect.signature(check).parameters)])
        except Exception:
            failed += 1
            print(f"FAILED {name}", flush=True)
            traceback.print_exc(file=sys.stdout)
        else:
            print(f"ok {name}", flush=True)
    return failed


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in KINDS:
        sys.exit(f"usage: front_end.py {'|'.join(KINDS)} PATH [RAW-PATH]")
    signal.alarm(10 * int(GIVE_UP_S))  # A front end that hangs is reported, not waited for.
    sys.exit(check_front_end(sys.argv[1], sys.argv[2], sys.argv[-1]))
