"""The door of the write-back: plan, guards, sending, taking the answers in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opp_pandas.carrier import Loaded, require_loaded
from opp_pandas.errors import ConfigurationError, ConfirmationNeededError, ReadOnlyError, named
from opp_pandas.loading import read_lookup
from opp_pandas.resource import ACCOUNT, EDITABLE_NAMES, STAGE, USER
from opp_pandas.service.collecting import lookup_frame
from opp_pandas.writeback.changes import find_changes
from opp_pandas.writeback.effect import forecast_effect
from opp_pandas.writeback.merge import POLICIES, Policy
from opp_pandas.writeback.names import NameBook, resolve_names, wanted_names
from opp_pandas.writeback.report import WriteReport, build_requests, most_reads
from opp_pandas.writeback.taking import take_outcomes
from opp_pandas.writeback.writer import Writer, planned

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

    from opp_pandas.service.client import Client
    from opp_pandas.writeback.plan import ChangeSet

_RESOURCE_OF = {"stage_name": STAGE, "owner_name": USER, "account_name": ACCOUNT}


def write_back(
    frame: pd.DataFrame,
    client: Client | None = None,
    *,
    dry_run: bool = False,
    on_conflict: Policy = "skip",
    delete: Iterable[int] = (),
    allow_delete: bool = False,
    confirm: int | None = None,
    progress: bool | None = None,
) -> WriteReport:
    """Send what was edited, and nothing else, to the service.

    Every changed row is read again just before it is written and merged
    attribute by attribute: what only the service changed is kept, what only you
    changed is sent, the same change on both sides is nothing to do, different
    changes are a conflict.

    Parameters
    ----------
    frame : DataFrame
        An edited frame from `read_opportunities` or `adopt`. The service's
        values (new ids too) are written into it, index and order are kept.
    client : Client, optional
        Where to; default the client of the load.
    dry_run : bool
        Show what would be sent and send nothing. Names of new deals are looked
        up at the service, which takes a few reading requests.
    on_conflict : {"skip", "ask", "mine", "theirs"}
        Where both sides changed a cell: leave the row and report it ("skip";
        "ask" the same, for an editor to ask), send mine, or keep theirs.
    delete : iterable of int
        Ids of deals to delete; nothing else is ever deleted.
    allow_delete : bool
        The switch that ``delete`` needs.
    confirm : int, optional
        The number of rows in the plan, to confirm a large one: above 50 rows,
        above 10 % of the load and more than 10 rows, any deletion, one value
        put into 10 rows or more.
    progress : bool, optional
        Show a progress bar; default: only where somebody watches.

    Returns
    -------
    WriteReport
        ``rows`` has one row per intended change. The function does not raise
        for single rows; ``report.raise_for_status()`` does.

    Raises
    ------
    ConfirmationNeededError
        If the plan is large and ``confirm`` is not its number of rows; nothing
        was sent.
    ConfigurationError
        If there is no client, or an argument cannot be used.
    ReadOnlyError
        If the client was opened with ``read_only=True``.
    """
    if on_conflict not in POLICIES:
        raise ConfigurationError(f"on_conflict is one of {named(POLICIES)}, not {on_conflict!r}")
    loaded = require_loaded(frame, "write_back()")
    plan = find_changes(frame, delete=delete, allow_delete=allow_delete)
    if not len(plan):
        return WriteReport(plan, (), frame, dry_run)
    client = client if client is not None else loaded.client
    if client is None:
        raise ConfigurationError("these rows were not loaded from a service: say where to, write_back(client)")
    _refuse_other_service(client, loaded)
    plan, lookups, reads = _resolved(plan, client)
    requests = build_requests(plan)
    if dry_run:
        outcomes = [planned(entry) for entry in (*plan.updates, *plan.creations, *plan.deletions)]
        return WriteReport(
            plan, outcomes, frame, True, requests, reads + most_reads(plan), forecast_effect(plan, loaded)
        )
    if client.read_only:
        raise ReadOnlyError("the client was opened with read_only=True; nothing was sent")
    reason = plan.confirmation_reason()
    if reason is not None and confirm != len(plan):
        raise ConfirmationNeededError(len(plan), reason, plan)
    outcomes = _carry_out(plan, client, on_conflict, progress)
    take_outcomes(frame, loaded, outcomes, lookups)
    return WriteReport(plan, outcomes, frame, False, requests, reads + most_reads(plan))


def _carry_out(plan: ChangeSet, client: Client, on_conflict: Policy, progress: bool | None) -> list[Any]:
    from tqdm.auto import tqdm

    hidden = None if progress is None else not progress
    with tqdm(desc="write back", unit="row", total=len(plan), disable=hidden, delay=1.0, leave=False) as bar:
        return Writer(client, on_conflict).carry_out(plan, lambda: bar.update(1))


def _refuse_other_service(client: Client, loaded: Loaded) -> None:
    """Ids of one service mean nothing at another."""
    if loaded.kind == "read" and loaded.client is not None and loaded.client.url != client.url:
        raise ConfigurationError(
            f"these rows were loaded from {loaded.client.url}; their ids mean nothing at {client.url}: "
            "adopt() the frame to create them there"
        )


def _resolved(plan: ChangeSet, client: Client) -> tuple[ChangeSet, dict[str, pd.DataFrame], int]:
    """Ask the service about names of new deals; give the plan with ids, the look-ups and the requests made."""
    wanted = wanted_names(plan.creations)
    before = client.calls
    lookups: dict[str, pd.DataFrame] = {}
    names: dict[str, Mapping[int, str]] = {}
    for column, texts in wanted.items():
        resource = _RESOURCE_OF[column]
        lookup = _accounts(client, texts) if resource is ACCOUNT else read_lookup(client, resource)
        if lookup is not None:
            lookups[resource.type] = lookup
            names[EDITABLE_NAMES[column]] = {
                int(k): n for k, n in zip(lookup["id"], lookup["name"], strict=True) if isinstance(n, str)
            }
    return (resolve_names(plan, NameBook(names)) if wanted else plan), lookups, client.calls - before


def _accounts(client: Client, names: Iterable[str]) -> pd.DataFrame:
    """Read accounts by name: there can be too many to read them all."""
    ordered = sorted(names)
    found = []
    for start in range(0, len(ordered), 50):
        pages = client.iter_pages(resource=ACCOUNT, filter={"name": ordered[start : start + 50]})
        found += [entry for page in pages for entry in page.document["data"]]
    return lookup_frame(found)
