"""Dictionary attack functions (Part 3, 25)."""

from __future__ import annotations

from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.dictionary_attack import DictionaryAttackLockReset, DictionaryAttackParameters


@handles
def dictionary_attack_lock_reset(tpm: Tpm, cmd: DictionaryAttackLockReset) -> Empty:
    """No failures are counted.  Part 3, 25.2."""
    # Internal Data Update
    tpm.lockout.reset()
    # Command Output
    return Empty()


@handles
def dictionary_attack_parameters(tpm: Tpm, cmd: DictionaryAttackParameters) -> Empty:
    """The limits are set; the count of failures stays.  Part 3, 25.3."""
    # Internal Data Update
    tpm.lockout.set_parameters(cmd.new_max_tries, cmd.new_recovery_time, cmd.lockout_recovery)
    # Command Output
    return Empty()
