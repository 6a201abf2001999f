"""What a confirmation knows of its search: the other confirmations of this search, and the seeds of the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tskd_tune.errors import TskdTuneError
from tskd_tune.records.protocols.confirmations import FOLDER, Confirmation, Ledger, ledger, search_of
from tskd_tune.records.protocols.protocol import Kept, Searched
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.frozen import REMEDY, Frozen, minute
from tskd_tune.reports.judge import power
from tskd_tune.reports.judge.words import runs_of
from tskd_tune.words import count


def confirmed(run: RunFolder, kept: Kept | None, seeds: Sequence[int], found: Frozen) -> Frozen:
    """Add what a confirmation knows of its search to what is said of its protocol.

    Args:
        run: the run; one that confirms no search, or of an earlier version, is left as it is.
        kept: what the run keeps of its protocol.
        seeds: the seeds of the run.
        found: what is said of the protocol.
    """
    known = next((line.confirms for line in kept.lines if line.confirms), None) if kept else None
    if known is None:
        return found
    return _with_used(replace(found, said=(*found.said, *_said(run, known, seeds))), known, seeds)


def _said(run: RunFolder, known: Searched, seeds: Sequence[int]) -> list[str]:
    """Return sentences on the other confirmations of a search, or why they are not known."""
    unknown = "other confirmations of it are not known."
    try:
        search = search_of(run, known)
        if search is None:
            return [f"The search '{known.name}' is no longer at {known.place}: {unknown}"]
        own, entries = run.state.id or run.state.created, ledger(search)
        return [*_torn_out(entries, search, own), *others(entries, known, own, seeds)]
    except TskdTuneError as error:  # a report needs no other run, whose storage may be out of reach
        return [f"The search '{known.name}' cannot be read ({error}): {unknown}"]


def _torn_out(found: Ledger, search: RunFolder, own: str) -> list[str]:
    """Say that the entry of this confirmation is gone, so that those of others may be gone too."""
    if own in found.entered or found.damage:
        return []
    return [
        f"{search.place}/{FOLDER} has no entry of this run, which made one when it began: files were removed there, and"
        f" further confirmations of the search '{search.name}' are not known for certain."
    ]


def others(found: Ledger, known: Searched, own: str, seeds: Sequence[int]) -> list[str]:
    """Return sentences on the other confirmations of a search.

    Args:
        found: the ledger of the search.
        known: the search.
        own: the id of the confirmation that asks.
        seeds: its seeds.
    """
    rest = [one for one in found.confirmations if one.id != own]
    damage = [f"{sentence}." for sentence in found.damage]
    if not rest:
        return damage
    named = "; ".join(_named(one, seeds) for one in rest)
    rate = f"Each has an error rate of {100 * power.ALPHA:g} % of its own"
    all_ = len(rest) + 1
    return [
        f"This is one of {count(all_, 'confirmation')} of the search '{known.name}'; the other"
        f" {'one is' if len(rest) == 1 else 'ones are'} {named}. {rate}: report all of them, not the best one.",
        *damage,
    ]


def _named(one: Confirmation, seeds: Sequence[int]) -> str:
    shared = sorted({*one.seeds} & {*seeds})
    again = f", of which {runs_of(shared)} {'is' if len(shared) == 1 else 'are'} also here" if shared else ""
    return f"'{one.run}' (seeds {runs_of(sorted(one.seeds))}{again}; begun {minute(one.time)})"


def _with_used(found: Frozen, known: Searched, seeds: Sequence[int]) -> Frozen:
    """Say where seeds of the confirmation chose the winners; then its verdicts are exploratory."""
    used = sorted({*known.seeds} & {*seeds})
    if not used:
        return found
    which = f"{'seed' if len(used) == 1 else 'seeds'} {runs_of(used)}"
    why = f"The verdicts are exploratory: the search '{known.name}' chose its winners with {which}. {REMEDY}"
    return replace(found, exploratory=" ".join(filter(None, [found.exploratory, why])))
