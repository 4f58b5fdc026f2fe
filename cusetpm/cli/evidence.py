"""Files of evidence: a request to the manager and its response, and public keys as PEM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hwtpm.errors import StateError

if TYPE_CHECKING:
    from manager.quote import Meaning

FLAGS = {"uuid": 1, "measurements": 2, "group": 4, "key": 8}
"""VTPM_QUOTE_FLAGS_ by the names that the command line has for them."""


class Evidence(NamedTuple):
    """What was asked and answered, in octets, and by what kind of manager.  It is not secret.

    *kind* is quote, group-quote, deep-quote, binding, registration or recovery.  A deep quote has beside that
    what it says of the *guest*: family, nonce, the structure quoted, and the values of its PCRs.
    """

    kind: str
    chip: str
    quote_pcrs: str
    extern_data: str
    request: str
    response: str
    guest: dict[str, str] | None = None

    @classmethod
    def of(cls, shown: dict[str, Any], kind: str, request: Any, response: Any) -> Evidence:
        """Return the evidence of a manager of which *shown* tells how it is set."""
        from hwtpm.wire import encode

        return cls(kind, shown["chip"].removeprefix("TPM "), shown["quote_pcrs"], shown["extern_data"],
                   encode(request).hex(), encode(response).hex())

    @classmethod
    def read(cls, path: Path, *kinds: str) -> Evidence:
        """Return the evidence in the file *path*; StateError if it is of none of *kinds*."""
        return cls.parse(path.read_text(errors="replace"), str(path), *kinds)

    @classmethod
    def parse(cls, text: str, name: str, *kinds: str) -> Evidence:
        """Return the evidence in *text*, which *name* is the name of."""
        try:
            found = cls(**json.loads(text))
            bytes.fromhex(found.request + found.response)
        except (ValueError, TypeError):
            raise StateError(f"{name}: not evidence of cusetpm manager") from None
        if found.kind not in kinds or found.chip not in ("1.2", "2.0"):
            raise StateError(f"{name}: evidence of another kind ({found.kind})")
        return found

    @property
    def meaning(self) -> Meaning:
        """What its quote means."""
        from manager.quote import Meaning

        return Meaning(self.quote_pcrs == "documented", self.extern_data == "documented")

    def messages(self, request: type[Any], response: type[Any]) -> tuple[Any, Any]:
        """Return request and response, of these classes; StateError if they are not."""
        from hwtpm.errors import TpmError
        from hwtpm.wire import decode

        try:
            return (decode(request, bytes.fromhex(self.request)),
                    decode(response, bytes.fromhex(self.response)))
        except TpmError:
            raise StateError("the evidence is damaged") from None

    def json(self) -> str:
        """Return the content of a file of evidence."""
        found = self._asdict()
        if self.guest is None:
            del found["guest"]
        return json.dumps(found, indent=1) + "\n"

    def write(self, path: Path) -> None:
        """The file *path* has the evidence."""
        path.write_text(self.json())


def read_key(path: Path) -> bytes:
    """Return the modulus, 256 octets, of the public RSA key in the file; StateError if it is no such key."""
    from hwtpm.crypto import pem
    from hwtpm.crypto.errors import BadKey, UnsupportedAlgorithm

    try:
        numbers = pem.public_numbers(path.read_bytes())
    except (BadKey, UnsupportedAlgorithm):
        numbers = (0, 0)
    if len(numbers) != 2 or numbers[0].bit_length() != 2048 or numbers[1] != 65537:
        raise StateError(f"{path}: not the public part of an RSA key of 2048 bits, in PEM or DER")
    return numbers[0].to_bytes(256, "big")


def write_key(path: Path, modulus: bytes) -> None:
    """The file *path* has the public key with *modulus*, as PEM."""
    from hwtpm.crypto import pem

    path.write_bytes(pem.rsa_public(modulus))
