"""Whether a firmware's event log fits itself and the PCRs that it was extended into."""

from __future__ import annotations

from collections.abc import Collection

from cusetpm.measure import BadLog, DoesNotFit, tcgevents, tcglog
from cusetpm.measure.pcr import COUNT, Pcr, Target, show, show_all
from cusetpm.measure.tcglog import EV_NO_ACTION, Event, Log


def verify(log: Log, target: Target, indices: Collection[int] = range(COUNT)) -> list[Pcr]:
    """Return the PCRs, of those in *indices*, that the log was compared with and leads to.

    Raises DoesNotFit, or BadLog when nothing can be compared.
    """
    check_events(log)
    values = tcglog.replay(log)
    used = {pcr for _, pcr in values} & set(indices)
    groups = [pcrs for pcrs in target.groups(used) if any(pcr in values for pcr in pcrs)]
    compared = [pcr for pcrs in groups for pcr in pcrs if pcr in values]
    if not compared:
        raise BadLog(f"{target.what} has nothing that the log, with {show_all(values)}, can be compared with")
    wrong = [pcr for pcr in target.wrong(values) if pcr[1] in used]
    if wrong:
        raise DoesNotFit(_disagreement(log, target, wrong))
    return compared


def describe(number: int, event: Event) -> str:
    """Return how messages name an event; *number* counts from 0, as in tpm2_eventlog."""
    what = tcgevents.describe(event)
    return f"event {number} ({tcgevents.name(event.type)} in PCR {event.pcr}{what and ': '}{what})"


def check_events(log: Log) -> None:
    """Every digest that can be checked is that of its event's data; else DoesNotFit names the first."""
    for number, event in enumerate(log.events):
        if why := tcgevents.fault(event):
            raise DoesNotFit(f"{describe(number, event)}: {why}")


def _disagreement(log: Log, target: Target, wrong: list[Pcr]) -> str:
    """Return in one line which PCR does not fit, and from which event on, if that can be said."""
    known = target.known()
    if wrong[0] not in known:
        return f"{show_all(wrong)} after the log are not what {target.what} has"
    pcr, value = wrong[0], known[wrong[0]]
    missing: int | None = None  # the first event after the PCR had that value
    final = b""
    for number, values in enumerate(tcglog.steps(log)):
        final = values[pcr]
        if final == value:
            missing = number
    also = f"; {show_all(wrong[1:])} do not fit either" if wrong[1:] else ""
    if missing is not None:
        number, event = next((n, e) for n, e in enumerate(log.events)
                             if n >= missing and e.pcr == pcr[1] and e.type != EV_NO_ACTION)
        return f"{describe(number, event)} is the first that is not in {show(pcr)} of {target.what}{also}"
    return (f"{show(pcr)} would be {final.hex()} after the log, and {target.what} has {value.hex()}: "
            f"an event was changed, added or left out, and each fits by itself{also}")
