"""The door of the write-back: plan, guards, sending, taking the answers in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from opp_pandas.api.frame_builder import lookup_frame
from opp_pandas.apply.executor import MOST_WORKERS, ApplyOptions, Ask, Progress, announce, carry_out, check_confirmation
from opp_pandas.apply.operation import batches, read_records
from opp_pandas.apply.report import WriteReport
from opp_pandas.apply.results import take_outcomes
from opp_pandas.changes.diff import find_changes
from opp_pandas.changes.name_lookup import NameBook, names_of, resolve_names, wanted_names
from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.core.figure import takes_definitions
from opp_pandas.frame_state import Loaded, require_loaded
from opp_pandas.load.fetch import read_lookup
from opp_pandas.resource import ACCOUNT, LOOKUP_COLUMNS, RESOURCES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pandas as pd

    from opp_pandas.accessor import OpportunityFrame
    from opp_pandas.api.client import Client
    from opp_pandas.changes.plan import ChangeSet
    from opp_pandas.choices import CustomIds, Policy, UnknownNames


@takes_definitions
def write_back(
    frame: pd.DataFrame,
    client: Client | None = None,
    *,
    dry_run: bool = False,
    on_conflict: Policy = "skip",
    ask: Ask | None = None,
    delete: Iterable[int] = (),
    allow_delete: bool = False,
    confirm: int | str | None = None,
    custom_ids: CustomIds = "auto",
    unknown_names: UnknownNames = "refuse",
    workers: int = MOST_WORKERS,
    journal: str | Path | None = None,
    quota: Any = None,
    progress: Progress | None = None,
    **definitions: Any,
) -> WriteReport:
    """Send what was edited, and nothing else, to the service.

    Every changed row is read again at most five seconds before it is written,
    and merged attribute by attribute: what only the service changed is kept,
    what only you changed is sent, the same change on both sides is nothing to
    do, different changes are a conflict. Whoever edits the row in those seconds
    is overwritten: the service has no way to prevent it.

    Every step stands in a journal before it is made, so that `opp.resume` can
    finish what a crash or Ctrl-C left, and `opp.undo` can take it back.

    Parameters
    ----------
    frame : DataFrame
        An edited frame from `read_opportunities` or `adopt`. The service's
        values (new ids too) are written into it, index and order are kept.
    client : Client, optional
        Where to; default the client of the load.
    dry_run : bool
        Show what would be sent, how many requests it takes and what it does to
        the forecast; send nothing. Names of new deals are looked up at the
        service, which takes a few reading requests.
    confirm : int or str, optional
        The number of rows in the plan, or its fingerprint, to confirm a large
        one: above 50 rows, above 10 % of the load and more than 10 rows, any
        deletion, one value put into 10 rows or more; or one whose edits look
        like values of other deals, as after ``groupby().last()``.
    quota : number, mapping or DataFrame, optional
        For the effect on the forecast that a dry run shows, as in
        `find_changes`; coverage by period needs a quota.

    Returns
    -------
    WriteReport
        ``rows`` has one row per intended change. The function does not raise
        for single rows; ``report.raise_for_status()`` does.

    Raises
    ------
    ConfirmationNeededError
        If the plan is large and not confirmed, or something else was
        confirmed; nothing was sent.
    ConfigurationError
        If there is no client, or an argument cannot be used.
    ReadOnlyError
        If the client was opened with ``read_only=True``.
    JournalError
        If no journal can be kept; what was sent until then is in the frame.

    Examples
    --------
    >>> df.loc[df["id"] == 176, "next_step"] = "Send order form"
    >>> df.opp.write_back(dry_run=True).rows[["id", "action", "status"]]
        id  action   status
    0  176  update  planned
    >>> report = df.opp.write_back()
    >>> report.rows["status"].tolist(), len(df.opp.changes())
    (['written'], 0)
    """
    loaded = require_loaded(frame, "write_back()")
    plan = find_changes(
        frame,
        delete=delete,
        allow_delete=allow_delete,
        custom_ids=custom_ids,
        unknown_names=unknown_names,
        quota=quota,
        **definitions,
    )
    if not len(plan):
        return WriteReport(plan, (), cast("OpportunityFrame", frame), dry_run)
    options = ApplyOptions(_client_for(client, loaded), on_conflict, ask, workers, journal, progress)
    needs_names = bool(wanted_names(plan.creations))
    if not dry_run:
        options.refuse_read_only()
        # Before any request, unless only the names that have to be asked for can tell.
        if not (needs_names and isinstance(confirm, str)):
            check_confirmation(plan, confirm)
    resolved, lookups, reads = resolve_at_service(plan, options.client)
    # A report that is kept must not keep all of the load alive.
    kept = resolved if dry_run else replace(resolved, figures=None)
    tasks, report = announce(kept, frame=cast("OpportunityFrame", frame), dry_run=dry_run, reads=reads)
    if dry_run:
        return report
    if needs_names and isinstance(confirm, str):
        check_confirmation(plan, confirm, resolved)
    with options.open_journal() as opened, options.begin(opened, kept) as begun:
        try:
            return carry_out(options, begun, tasks, report)
        finally:
            # Also after Ctrl-C: what was written is in the frame, and not written again.
            take_outcomes(frame, loaded, report.outcomes, lookups, options.client)


def _client_for(client: Client | None, loaded: Loaded) -> Client:
    """Return the client to write with; ids of one service mean nothing at another."""
    if client is None:
        client = loaded.client
    if client is None:
        whence = "were not loaded from a service" if loaded.service is None else "have no client, as after pickle"
        raise ConfigurationError(f"these rows {whence}: say where to, write_back(client)")
    if loaded.service not in (None, client.url):
        raise ConfigurationError(
            f"these rows were loaded from {loaded.service}; their ids mean nothing at {client.url}: "
            "adopt() the frame to create them there"
        )
    return client


def resolve_at_service(plan: ChangeSet, client: Client) -> tuple[ChangeSet, dict[str, pd.DataFrame], int]:
    """Ask the service about names of new deals; give the plan with ids, the look-ups and the requests made."""
    wanted = wanted_names(plan.creations)
    if not wanted:
        return plan, {}, 0
    before = client.calls
    lookups: dict[str, pd.DataFrame] = {}
    for column, texts in wanted.items():
        resource = RESOURCES[LOOKUP_COLUMNS[column].type]
        if resource is ACCOUNT:
            # There can be too many to read them all.
            found: dict[int, Any] = {}
            for batch in batches(sorted(texts), 50):
                found |= read_records(client, resource=ACCOUNT, filter={"name": batch})
        lookup = lookup_frame(found.values()) if resource is ACCOUNT else read_lookup(client, resource)
        if lookup is not None:
            lookups[resource.type] = lookup
    entries = [LOOKUP_COLUMNS[column] for column in wanted]
    # What this user may not read is not unknown to the service.
    names = {entry.id_column: names_of(lookups[entry.type]) for entry in entries if entry.type in lookups}
    return resolve_names(plan, NameBook(names)), lookups, client.calls - before
