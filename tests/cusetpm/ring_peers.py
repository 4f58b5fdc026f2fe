"""Test peers of the ring: a front end and a back end that can misbehave, and TPMs that obey the test."""

from __future__ import annotations

import struct
import threading

from cusetpm.ring.back import TpmBack
from cusetpm.ring.front import TpmFront
from cusetpm.ring.link import Host
from cusetpm.ring.tpmif import Page, error_response

UUID = "6f1b2a30-0000-4000-8000-000000000001"
COMMAND = bytes.fromhex("80010000000c0000017b0008")


def respond(body: bytes) -> bytes:
    return struct.pack(">HII", 0x8001, 10 + len(body), 0) + body


class Echo:
    """A TPM whose response carries the command and the locality; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, int]] = []
        self.cancels = 0
        self.answer: bytes | None = None

    def execute(self, command: bytes, locality: int = 0, cancelled=None) -> bytes:
        self.asked.append((command, locality))
        return self.answer if self.answer is not None else respond(command + bytes([locality]))

    def cancel(self) -> None:
        self.cancels += 1

    def takes_long(self, command: bytes) -> bool:
        return command.endswith(b"long")


class Slow(Echo):
    """A TPM that is busy until `cancel` (answers CANCELED) or `release` (answers as Echo)."""

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Event()
        self.ended = threading.Event()

    def execute(self, command: bytes, locality: int = 0, cancelled=None) -> bytes:
        response = super().execute(command, locality)
        self.started.set()
        assert self.ended.wait(30)
        return error_response(0x909) if self.cancels else response

    def release(self) -> None:
        self.ended.set()

    def cancel(self) -> None:
        super().cancel()
        self.ended.set()


class RawFront:
    """A guest that writes to its page and its store as it likes; does what Linux does if asked to.  Its back
    end is in domain 0."""

    def __init__(self, host: Host, domid: int = 1) -> None:
        self.host = host
        self.domid = domid
        self.store = host.store.client(domid)
        self.directory = "device/vtpm/0"
        self.backend = f"/local/domain/0/backend/vtpm/{domid}/0"
        self.events = 0
        self.woken = threading.Event()

    def event(self) -> None:
        self.events += 1
        self.woken.set()

    def make_ring(self) -> None:
        self.ref, view = self.host.grants.grant(self.domid, 0)
        self.page = Page(view)
        self.port = self.host.events.alloc_unbound(self.domid, 0, self.event)

    def publish(self, state: str = "3", feature: str | None = "1") -> None:
        keys = {"ring-ref": str(self.ref), "event-channel": str(self.port.number), "state": state}
        if feature is not None:
            keys["feature-protocol-v2"] = feature

        def write(tx):
            for key, value in keys.items():
                self.store.write(f"{self.directory}/{key}", value, tx)

        self.store.transact(write)

    def connect(self) -> None:
        self.make_ring()
        self.publish()

    def set_state(self, state: int) -> None:
        self.store.write(f"{self.directory}/state", str(state))

    @property
    def back_state(self) -> str | None:
        return self.store.get(f"{self.backend}/state")

    def put(
        self, packet: bytes, length: int | None = None, state: int = 1, locality: int = 0, extra: int = 0
    ):
        view = self.page.view
        view[8 : 8 + len(packet)] = packet
        struct.pack_into(
            "<IBBBB", view, 0, len(packet) if length is None else length, state, locality, 0, extra
        )
        self.port.notify()

    def response(self, offset: int = 8) -> bytes:
        (length,) = struct.unpack_from("<I", self.page.view)
        return bytes(self.page.view[offset : offset + length])


class RawBack:
    """A back end in domain 0, for domain 1, that does nothing by itself."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.store = host.store.client(0)
        self.directory = f"{self.store.home}/backend/vtpm/1/0"
        self.frontend = "/local/domain/1/device/vtpm/0"
        self.on_event = lambda: None

    def write(self, **keys: str) -> None:
        def work(tx):
            for key, value in keys.items():
                self.store.write(f"{self.directory}/{key.replace('_', '-')}", value, tx)

        self.store.transact(work)

    def front(self, key: str) -> str | None:
        return self.store.get(f"{self.frontend}/{key}")

    def serve(self, feature: str | None = "1") -> None:
        """Offer, and connect as soon as the front end is Initialised."""
        if feature is not None:
            self.write(feature_protocol_v2=feature)
        self.write(state="2")
        self.store.watch(f"{self.frontend}/state", self._changed)

    def _changed(self, _path: str) -> None:
        if self.front("state") == "3":
            self.bind()
            self.write(ready="1", state="4")

    def bind(self) -> None:
        self.page = Page(self.host.grants.map(0, 1, int(self.front("ring-ref"))))
        port = int(self.front("event-channel"))
        self.port = self.host.events.bind_interdomain(0, 1, port, lambda: self.on_event())


def make_front(host: Host, **options) -> TpmFront:
    return TpmFront(host.store.client(1), host.grants, host.events, **options)


def make_back(host: Host, tpm) -> TpmBack:
    back = TpmBack(host.store.client(0), host.grants, host.events, {UUID: tpm}.__getitem__)
    back.start()
    return back


def in_thread(call):
    """Run *call* in a thread; the returned function joins it and gives its result or its exception."""
    box = {}

    def run():
        try:
            box["value"] = call()
        except Exception as exc:
            box["error"] = exc

    thread = threading.Thread(target=run)
    thread.start()

    def join():
        thread.join(30)
        assert not thread.is_alive()
        if "error" in box:
            raise box["error"]
        return box["value"]

    return join
