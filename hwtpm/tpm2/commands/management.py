"""Miscellaneous management functions (Part 3, 26)."""

from __future__ import annotations

from hwtpm.tpm2.context import COMMANDS, Tpm, handles
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.management import PPCommands, SetAlgorithmSet


@handles
def pp_commands(tpm: Tpm, cmd: PPCommands) -> Empty:
    """Other commands need physical presence besides Platform Authorization.  Part 3, 26.2.

    Commands that are not implemented or cannot be gated are ignored.
    """
    # Internal Data Update
    tpm.platform.gate(COMMANDS.keys() & set(cmd.set_list), cmd.clear_list)
    # Command Output
    return Empty()


@handles
def set_algorithm_set(tpm: Tpm, cmd: SetAlgorithmSet) -> Empty:
    """The number is kept and reported; this TPM has all its algorithms in every set.  Part 3, 26.3."""
    # Internal Data Update
    tpm.platform.select_algorithms(cmd.algorithm_set)
    if tpm.power.saved:
        tpm.power.nullify()  # The next Startup cannot be one of type STATE.
    # Command Output
    return Empty()
