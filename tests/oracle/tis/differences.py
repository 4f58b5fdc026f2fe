"""Where our TIS model shows something else than QEMU's on purpose, each with the clause that it follows.

Clauses are those of the PC Client Platform TPM Profile for TPM 2.0 (PTP), version 1.05; the PC Client TIS
1.3 says the same of a TPM 1.2.  What QEMU does was read in hw/tpm/tpm_tis_common.c and tpm_emulator.c, and is
that of version 7.2.  A full run fails if an entry is not met.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Difference(NamedTuple):
    """Explains a difference whose access, place and values on both sides match these expressions."""

    step: str  # searched for in "access | state before it | state after it", the states being ours
    where: str
    ours: str
    theirs: str
    why: str
    apart: bool = True  # the two are in different states from then on

    def explains(self, step: str, where: str, ours: str, theirs: str) -> bool:
        return bool(re.fullmatch(self.where, where) and re.fullmatch(self.ours, ours)
                    and re.fullmatch(self.theirs, theirs) and re.search(self.step, step))


_ANY = ".*"
_WRITABLE = r"\b(active|beenSeized|seize|requestUse)\b"
_NUMBER = r"\d+"
_BEYOND_16_BITS = r"(6553[6-9]|655[4-9]\d|65[6-9]\d\d|6[6-9]\d{3}|[7-9]\d{4}|\d{6,})"

DIFFERENCES: tuple[Difference, ...] = (
    # Localities
    Difference(
        r"^write \S+ of 4 ", _ANY, _ANY, _ANY,
        "PTP, locality 4: the platform decides what reaches its page; QEMU lets no write through",
    ),
    Difference(
        rf"^write TPM_ACCESS\[0\] .*: .*{_WRITABLE}.*{_WRITABLE}.* \| .* \| ", _ANY, _ANY, _ANY,
        "PTP 6.5.2.4: more than one field set to 1 may be treated as vendor specific; ours ignores the write",
    ),
    Difference(
        r"^write TPM_ACCESS\[0\] .* \| Idle at \d$", r"(TPM_STS|burstCount) of \d", "none|4096", _ANY,
        "PTP 6.5.2.4: a change of locality ends what was under way, so the new one begins Idle with an "
        "empty FIFO; QEMU goes on where that locality was left, with what was in the FIFO",
    ),
    Difference(
        r"^write TPM_ACCESS\[0\] .*: active \| Execution at \d \| Idle at nobody$",
        "executing", "False", "True",
        "PTP 6.5.2.4: who gives the TPM back ends what was under way; QEMU does that if another one waits",
    ),
    Difference(
        "resetEstablishmentBit", r"TPM_ACCESS of \d", r"valid.*\+establishment",
        r"valid.*(?<!establishment)",
        "PTP 6.5.2.5, resetEstablishmentBit: localities 3 and 4 reset it; QEMU tells its TPM the locality of "
        "the last command instead of the one that writes, and its TPM refuses",
    ),
    # The command
    Difference(
        r"^write TPM_X?DATA_FIFO.* by [24]: .* complete at \d$", r"burstCount of \d", _NUMBER, _NUMBER,
        "PTP 6.5.2.5, Expect: the command ends where its size says; QEMU passes the rest of the access on",
    ),
    Difference(
        rf"^write .*Reception \d+ of {_BEYOND_16_BITS} at \d$", r"(TPM_STS|burstCount) of \d",
        rf"stsValid\+Expect|{_NUMBER}", rf"stsValid|{_NUMBER}",
        "PTP 6.5.2.5, Expect: the size of a command has 32 bits; QEMU looks at 16 of them",
    ),
    Difference(
        r"^write .*Reception 4096 of \d+ complete at \d$", r"TPM_STS of \d",
        "stsValid", r"stsValid\+Expect",
        "PTP 6.5.2.5, Expect and burstCount: a FIFO that takes nothing more expects nothing more; QEMU says "
        "so when the next octet is written",
    ),
    # TPM_STS
    Difference(
        r"\| (Completion|Execution) at \d$", r"burstCount of \d", "0", _NUMBER,
        "PTP 6.5.2.5, burstCount: what can be moved without waiting is nothing while a command executes, and "
        "after the whole response",
        apart=False,
    ),
    Difference(
        r"^read TPM_(STS|INTF_CAPABILITY\[[1-3]\]).*\| (Completion|Execution) at \d$", "result", _ANY, _ANY,
        "PTP 6.5.2.5: burstCount and stsValid, as they are above and below",
        apart=False,
    ),
    Difference(
        r"^read TPM_(STS\[[1-3]\]|INTF_CAPABILITY\[[2-3]\])", "result", _ANY, _ANY,
        "PTP 6.5.2.5, burstCount: one field of 16 bits; QEMU shows who reads single octets at most 255",
        apart=False,
    ),
    Difference(
        r"\| Execution at \d$", r"TPM_STS of \d", "none", "stsValid",
        "PTP 6.5.2.5, stsValid: neither Expect nor dataAvail can be relied on while a command executes",
        apart=False,
    ),
    # Interrupts
    Difference(
        r"(tpmGo|commandCancel|^end of the command) .*\| Completion at \d$", r"TPM_INT_STATUS of \d",
        "0x8?[1256]", "0x8?[37]",
        "PTP, TPM_INT_STATUS: what is not enabled is not latched; QEMU latches dataAvail with stsValid",
    ),
    Difference(
        r"^read .*\| Completion at \d \| Completion at \d$", r"TPM_INT_STATUS of \d|the interrupt line",
        "0x8?[0145]|False", "0x8?[2367]|True",
        "PTP, TPM_INT_STATUS.stsValidIntOccured: stsValid goes from 0 to 1; not with the last octet",
    ),
    Difference(
        r"^write .*\| Execution at \d \| (Idle|Ready) at", r"TPM_INT_STATUS of \d|the interrupt line",
        "0x8?[0-7]|False", "0x8?[37]|True",
        "PTP, TPM_INT_STATUS: a command that was aborted has no response to signal",
    ),
    Difference(
        r"^write TPM_INT_(ENABLE|STATUS)", "the interrupt line", "True|False", "True|False",
        "PTP, TPM_INT_ENABLE.globalIntEnable: the line is asserted as long as an enabled event is pending; "
        "QEMU changes it with an event, and when TPM_INT_STATUS of the active locality becomes 0",
    ),
    Difference(
        r"^write TPM_INT_(ENABLE\[[1-3]\] .* by [24]|VECTOR)", r"TPM_INT_VECTOR of \d|the interrupt line",
        _ANY, _ANY,
        "PTP 6.6.1.3, sirqVec: software chooses the vector, and 0 for none; QEMU's cannot be changed",
    ),
)
