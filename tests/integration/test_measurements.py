"""evmctl and tpm2-tools agree with what `cusetpm ima` measures and verifies."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPT = CHECKOUT / "tests" / "integration" / "measurements.sh"

needs_tools = pytest.mark.skipif(
    shutil.which("evmctl") is None or shutil.which("tpm2_quote") is None,
    reason="ima-evm-utils or tpm2-tools is not installed")


def agreement(entries: int) -> list[str]:
    """Return what evmctl says of a list that fits."""
    return [f"sha1 PCR-10: succeed at entry {entries}", f"sha256 PCR-10: succeed at entry {entries}",
            "Matched per TPM bank calculated digest(s)."]


@needs_tools
@pytest.mark.parametrize(("kind", "scheme", "templates"), [
    ("ecc", "ecdsa", ["ima-ng", "ima-sig"]),
    ("rsa", "rsassa", ["ima"]),  # which evmctl does not allow to be mixed with others
    ("rsa", "rsapss", ["ima-sig"]),
])
def test_other_programs_agree_with_lists_and_quotes(
        tmp_path: Path, kind: str, scheme: str, templates: list[str]) -> None:
    scripts = CHECKOUT / "scripts"
    done = subprocess.run(
        [scripts / "cusetpm", "run", "--front-end", "socket", "--", SCRIPT, kind, scheme, *templates],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}"})
    assert done.returncode == 0, done.stdout + done.stderr
    total = 1 + 2 * len(templates)
    aggregate = f"boot_aggregate fits {'sha1:0-7' if templates == ['ima'] else 'sha256:0-9'}"
    changed = f"changed: {tmp_path}/two was measured with two contents"

    def fits(entries: int, used: int, what: str) -> str:
        return f"list: {entries} entries (binary), of which {used} fit {what}"

    every, quoted = "sha1:10 sha256:10 sha384:10 sha512:10 of the TPM", "sha1:10 sha256:10 of the quote"
    assert done.stdout.splitlines() == [
        "== measured",
        *(line for count, _ in enumerate(templates) for line in agreement(3 + 2 * count)),
        fits(total, total, every), aggregate,
        "== changed",
        *agreement(total + 1),
        fits(total + 1, total + 1, every), aggregate, changed,
        "== quoted",
        fits(total + 1, total + 1, f"{quoted} over sha1:0,10 sha256:10,23"), changed,
        fits(total + 1, total + 1, quoted), changed,
        "== quoted with another PCR extended",
        "status 1",
        fits(total + 1, total + 1, quoted), changed,
        "== quoted before the last entry",
        "status 1",
        fits(total + 2, total + 1, quoted), changed,
    ]
    assert done.stderr.splitlines() == [
        f"cusetpm: list: sha1:10 sha256:10 after its {total + 1} entries are not what the quote over "
        "sha1:0,10 sha256:10,23 has: an entry was changed, added or left out, and each fits by itself",
        f"cusetpm: list: entry {total + 2} ({SCRIPT}) is the first that is not in sha1:10 of the quote",
    ]
