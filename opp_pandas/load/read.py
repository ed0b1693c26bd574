"""From the service to a validated frame that knows what it was loaded from."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, cast, overload

import numpy as np
import pandas as pd

from opp_pandas.activity.read import ATTRS_KEY as ACTIVITY_KEY
from opp_pandas.activity.read import read_activity
from opp_pandas.activity.touches import add_touches
from opp_pandas.api.checkpoint import remove_checkpoint
from opp_pandas.api.decode import unknown_column
from opp_pandas.api.query import Query, settle_filter, sort_names
from opp_pandas.errors import (
    ConfigurationError,
    named,
)
from opp_pandas.figures.core.context import read_definitions
from opp_pandas.frame_state import Loaded, Rows, attach_loaded
from opp_pandas.load.arrival import columns_of, ignored_note, is_sorted, sort_rows
from opp_pandas.load.custom_fields import columns_by_label, fields_by_column
from opp_pandas.load.failures import row_failures, warn_of_load
from opp_pandas.load.fetch import Arrived, LoadPlan, read_all, select_rows
from opp_pandas.load.organisation import owners_in, read_organisation
from opp_pandas.load.partitions import check_partitions
from opp_pandas.load.prospects import add_prospect_ids
from opp_pandas.load.warm_start import go_on
from opp_pandas.load.where import Where, columns_needed, split_where, without_labels
from opp_pandas.load_report import LoadReport
from opp_pandas.organisation import NAMES
from opp_pandas.resource import INCLUDABLE
from opp_pandas.stages import StageMap, resolve_stages
from opp_pandas.timezones import check_zone

if TYPE_CHECKING:
    from opp_pandas.accessor import OpportunityFrame
    from opp_pandas.api.client import Client
    from opp_pandas.api.custom_field_types import CustomField
    from opp_pandas.choices import FiscalLabel, OnInvalid, ProbabilitySource
    from opp_pandas.figures.core.money import Rates
    from opp_pandas.figures.core.periods import WeekCalendar
    from opp_pandas.frame_state import Rows
    from opp_pandas.history import History
    from opp_pandas.scanning.scanner import Scan


P = ParamSpec("P")


class _Read(Protocol[P]):
    """What `read_opportunities` is to type checkers: with ``to=`` it gives a `Scan`."""

    @overload
    def __call__(self, *args: P.args, **options: P.kwargs) -> OpportunityFrame: ...
    @overload
    def __call__(self, client: Client | None = None, *, to: str | os.PathLike[str], **options: Any) -> Scan: ...


def _may_stream(function: Callable[P, OpportunityFrame]) -> _Read[P]:
    return cast("_Read[P]", function)


@_may_stream
def read_opportunities(
    client: Client | None = None,
    *,
    filter: Mapping[str, Any] | None = None,  # noqa: A002  # the service's own word, fixed by the interface
    where: Mapping[str, Any] | None = None,
    sort: str | Sequence[str] | None = None,
    fields: Iterable[str] | None = None,
    include: Iterable[str] = ("stage", "owner", "account"),
    stages: StageMap | None = None,
    timezone: str | None = None,
    limit: int | None = None,
    on_invalid: OnInvalid = "warn",
    progress: bool | None = None,
    authorization_meta: bool = False,
    data_connections: bool = False,
    prospects: bool = False,
    organisation: bool = False,
    touches: bool = False,
    page_size: int | None = None,
    partitions: int = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    history: History | None = None,
    to: None = None,
    fiscal_start: int | None = None,
    fiscal_label: FiscalLabel | None = None,
    calendar: WeekCalendar | None = None,
    rates: Rates | None = None,
    currency: str | None = None,
    probability: ProbabilitySource | None = None,
) -> OpportunityFrame:
    """Load opportunities into a frame.

    After the last page, what was changed while the pages came is read again (by
    the service's clock, from a minute before the start), so that the frame is
    not a mixture of before and after.

    Parameters
    ----------
    client : Client, optional
        Where to read; default ``opp.connect()`` with its environment variables.
    filter : mapping, optional
        What the service should select, in column or API names: a value, a list
        of values, a ``(from, to)`` pair with None for an open end, or None for
        missing. Days are days of `timezone`. What arrives is tested again: rows
        that do not fit are left out and listed in ``load_report.left_out``.
    where : mapping, optional
        The same words for any column, close date, amount, tags and custom
        fields too: what the service cannot test is tested here, after loading.
        A tag fits if it is among the deal's tags. Custom fields may be named by
        their label; texts in them are compared as numbers or days where the
        condition is one. ``load_report.notes`` says which part ran where.
    sort : str or sequence of str, optional
        Columns to sort by at the service, ``-`` in front for descending. The
        walk is most robust in its default order, by id. Not for filters of so
        many values that they take several requests.
    fields : str or iterable of str, optional
        The columns to load; stage, owner, account and ``updated_at`` always come,
        and so do the columns of ``filter=``, ``where=`` and ``sort=``.
    include : iterable of str
        Which names to join: stage, owner, account, creator, updater.
    stages : StageMap, optional
        Which stages are won and lost, their order and percentages; without it
        won and lost are guessed from the stages' names.
    timezone : str, optional
        Zone of calendar days, such as ``"America/New_York"``; default the
        client's. Without any, figures use UTC and say so.
    limit : int, optional
        Largest number of rows [opportunities].
    on_invalid : {"warn", "raise", "ignore"}
        What to do about values that break the schema; rows are never dropped.
    progress : bool, optional
        Show a progress bar; default: only on a terminal or in a notebook, and
        only when the load takes longer than a second.
    authorization_meta, data_connections : bool
        Ask for ``can_write`` and ``can_delete``, and for ``data_connections``.
    prospects : bool
        Add ``prospect_ids``, who stands on each deal, read through the
        prospects' roles at a request for every hundred deals. The column is for
        reading; `Client.link_prospect` puts somebody on a deal.
    organisation : bool
        Read roles, teams and users as well, at three requests and more for each
        thousand of them. They travel with the load: `rollup` goes up the tree of
        roles, figures take ``by="team"`` and ``by="role"``, and a history keeps
        them with each snapshot. ``where={"team": "EMEA"}`` and ``where={"role":
        ...}`` choose the deals of the people who are in it now, and read it too.
    touches : bool
        Add how often and when each deal was touched, and what is planned, as
        `add_touches` does, from the activity that `read_activity` reads. Nothing of
        it is asked for otherwise.
    page_size : int, optional
        Rows asked for at once; default the client's.
    partitions : int
        Requests under way at once, 1 to 4: ranges of ids are read side by side,
        which helps where the service takes long to answer. It costs two requests
        more, and some for ranges whose last page is not full. The rows are those
        of one walk by id, so it goes without ``sort=``, ``limit=`` and
        ``checkpoint=``.
    checkpoint : path, optional
        A file that keeps each page as it comes, readable by its owner only. A
        load that was stopped goes on from there when it is called again with
        the same arguments; the file is removed when the load is complete. A load
        that goes on from a history needs none, and leaves the file alone.
    history : History, optional
        Begin from the newest load in it that asked this service for the same
        deals, and fetch only what changed since: a handful of requests. See the
        notes. Nothing is recorded: ``history.record(df)`` does that.
    to : path, optional
        A new folder: the load goes into Parquet files there, page by page, and
        never stands in memory; see `opp.scan`. It takes its name when it is
        complete. For loads without ``sort=``, ``limit=`` and ``history=``.
    fiscal_start, fiscal_label, calendar, rates, currency, probability
        How time is cut and what amounts mean, as every figure takes them, said
        once: they travel with the load, and a figure's own arguments overrule them.

    Returns
    -------
    DataFrame, shape (n, k)
        One row per opportunity with a plain RangeIndex, dtypes as in
        `OpportunitySchema`. ``df.opp.load_report`` says how the load went.
        With ``to=`` a `Scan` of the folder.

    Raises
    ------
    ConfigurationError
        If no address or token is known, or an argument cannot be used.
    ServiceError
        If the service cannot be read.
    InvalidFrameError
        With ``on_invalid="raise"``, if values break the schema.

    Warns
    -----
    InvalidValuesWarning
        With ``on_invalid="warn"``, once, if values break the schema.
    IncompleteLoadWarning
        If fewer or more rows arrived than the service counted, or records had
        to be set aside.

    Notes
    -----
    A load from a history gives what a whole load would give. Changes are found
    by the service's ``updated_at``; a deletion leaves no trace there, so the
    deals are counted, and where the count differs the service's ids are listed
    (a thousand a request): deals that are gone leave, and
    ``load_report.notes`` says how many. What it cannot see are changes that
    leave ``updated_at`` as it was, and, in the same span, as many deals hidden
    from this user as shown to him anew. Everything is read, and
    ``load_report.notes`` says why, where the history holds no load with this
    filter and these fields, or ``sort=``, permissions or data connections are
    asked for; ``where=`` and ``limit=`` are applied to what the history has.

    Examples
    --------
    >>> deals = opp.read_opportunities(client, filter={"stage": [3, 4]}, stages=stages)
    >>> deals.opp.load_report.rows == len(deals)
    True
    >>> deals["stage_name"].unique().tolist()
    ['Negotiate', 'Propose']
    """
    if client is None:
        from opp_pandas.api.client import connect

        client = connect()
    _check_kinds(client, {"filter": filter, "where": where}, stages, checkpoint, history)
    wanted = _checked_include(include)
    if on_invalid not in ("warn", "raise", "ignore"):
        raise ConfigurationError(f"on_invalid is 'warn', 'raise' or 'ignore', not {on_invalid!r}")
    limit = _checked_limit(limit)
    stated = {"fiscal_start": fiscal_start, "fiscal_label": fiscal_label, "calendar": calendar, "rates": rates,
              "currency": currency, "probability": probability}  # fmt: skip
    definitions = read_definitions(
        **{**client.definitions, **{name: value for name, value in stated.items() if value is not None}}
    )
    started, calls_before = time.monotonic(), client.calls
    zone = timezone if timezone is not None else client.timezone
    if zone is not None:
        check_zone(zone)
    notes: list[str] = []
    custom_fields: dict[str, CustomField] = {}
    wanted_fields = _checked_fields(fields)
    where = dict(where or {})
    whole = read_organisation(client, notes) if organisation or any(name in where for name in NAMES) else None
    if whole is not None:
        where = owners_in(whole, where, asked=filter or {})
    conditions, condition = _settled_conditions(client, filter, where, zone, custom_fields)
    sent = {**conditions, **condition.service}
    if wanted_fields is not None:
        # What the service is asked to select and to sort by is tested here, so it has to come.
        sorting = [] if sort is None else sort_names(sort)
        wanted_fields += [*columns_needed(condition), *columns_of([*sent, *sorting])]
    plan = LoadPlan(
        client=client,
        query=Query(
            sent,
            sort=sort,
            fields=wanted_fields,
            include=tuple(name for name in wanted if name != "stage"),
            page_size=page_size,
            authorization_meta=authorization_meta,
            data_connections=data_connections,
        ),
        filter=conditions,
        condition=condition,
        include=wanted,
        zone=zone,
        limit=limit,
        progress=progress,
        checkpoint=checkpoint,
        partitions=partitions,
    )
    check_partitions(partitions, plan.query, limit=limit, checkpoint=checkpoint)
    if to is not None:
        _check_streamed(sort=sort, limit=limit, history=history, touches=touches or None)
        from opp_pandas.load.to_files import load_to_files
        from opp_pandas.scanning.scanner import scan

        folder, report = load_to_files(
            plan,
            to,
            stages=stages,
            definitions=definitions,
            prospects=prospects,
            organisation=whole,
            on_invalid=on_invalid,
        )
        if checkpoint is not None:
            remove_checkpoint(checkpoint)
        return cast("OpportunityFrame", scan(folder).of_load(report))
    if sort and len(Query(sent).texts(timezone=zone)) > 1:
        # Each request would be in order for itself, and limit= would take the first rows of the first one.
        raise ConfigurationError(
            "sort= needs a filter that fits into one request, and this one has too many values: "
            "load without sort= and sort in pandas, with df.sort_values(...)"
        )
    known = None if history is None else go_on(plan, history, notes)
    arrived = known if known is not None else read_all(plan, notes)
    rows, left_out = _as_asked(plan, arrived, notes)
    if known is None and plan.limit_of_walk is not None and (len(left_out) or not arrived.in_order):
        # The first rows of a service that selects or sorts in its own way are not the first ones that were asked for.
        notes[:] = ["the first rows that the service sent were not those asked for, so all were read"]
        arrived = read_all(replace(plan, limit=None, checkpoint=None), notes)
        rows, left_out = _as_asked(plan, arrived, notes)
    complete = arrived.complete
    if limit is not None and len(rows) > limit:
        rows, complete = rows.take(np.arange(limit)), None
    if prospects:
        rows = replace(rows, frame=add_prospect_ids(rows.frame, client, notes))
    as_of = arrived.moment if arrived.moment is not None else pd.Timestamp.now(tz="UTC")
    activity, beside = None, None if checkpoint is None else f"{os.fspath(checkpoint)}.activity"
    if touches:
        activity = read_activity(client, rows.frame, checkpoint=beside, progress=progress)
        notes += activity.attrs[ACTIVITY_KEY]["notes"]
        rows = replace(rows, frame=add_touches(rows.frame, activity, as_of=as_of))
    report = LoadReport(
        source=client.url,
        rows=len(rows),
        complete=complete,
        failures=row_failures(rows),
        quarantined=arrived.quarantined,
        left_out=left_out,
        duplicates=arrived.duplicates,
        unknown_attributes=tuple(
            name for name in arrived.unknown_attributes if unknown_column(name) in rows.frame.columns
        ),
        unknown_relationships=arrived.unknown_relationships,
        regular=arrived.regular,
        irregular=arrived.irregular,
        notes=tuple(notes),
        pages=arrived.pages,
        requests=client.calls - calls_before,
        elapsed_s=time.monotonic() - started,
    )
    loaded = Loaded(
        kind="read",
        baseline=rows.frozen(),
        stages=resolve_stages(stages, arrived.lookups.get("opportunityStage")),
        lookups=arrived.lookups,
        timezone=zone,
        as_of=as_of,
        client=client,
        report=report,
        query={
            "filter": plan.query.filter,
            "sort": sort,
            "fields": wanted_fields,
            "authorization_meta": authorization_meta,
            "data_connections": data_connections,
            "where": condition.local,
            "include": wanted,
            "limit": limit,
            "stages": stages,
        },
        watermark=arrived.moment,
        custom_fields=custom_fields,
        definitions=definitions,
        organisation=whole,
        activity=activity,
    )
    warn_of_load(report, on_invalid)
    # A load that went on from the history never opened the file: whatever is there is none of its own.
    if checkpoint is not None and known is None:
        remove_checkpoint(checkpoint)
    return cast("OpportunityFrame", attach_loaded(rows.frame, loaded))


def _check_kinds(
    client: object, conditions: Mapping[str, object], stages: object, checkpoint: object, history: object
) -> None:
    """Refuse arguments of a wrong kind before anything is asked for."""
    from opp_pandas.api.client import Client

    if not isinstance(client, Client):
        raise ConfigurationError(
            f"client is what opp.connect(...) or opp.sandbox().client() gives, not {type(client).__name__}"
        )
    for word, given in conditions.items():
        if given is not None and not isinstance(given, Mapping):
            raise ConfigurationError(f"{word}= is a mapping of columns to conditions, such as {{'owner': [7, 9]}}")
        if odd := [name for name in given or () if not isinstance(name, str)]:
            raise ConfigurationError(f"{word}= names columns in text, such as 'owner', not {named(odd)}")
    if stages is not None and not isinstance(stages, StageMap):
        raise ConfigurationError("stages= is a StageMap: StageMap(order=[...], won=[...], lost=[...])")
    if checkpoint is not None and not isinstance(checkpoint, str | os.PathLike):
        raise ConfigurationError(f"checkpoint is the path of a file, not {checkpoint!r}")
    if history is not None:
        from opp_pandas.history import History

        if not isinstance(history, History):
            raise ConfigurationError(f"history is an opp.History(path), not {type(history).__name__}")


def _checked_limit(limit: Any) -> int | None:
    if limit is None:
        return None
    number = isinstance(limit, int | float | np.number) and not isinstance(limit, bool)
    # No number but a whole one from 0 on is its own integer part; NaN and infinity are none.
    if not number or not (limit >= 0 and limit // 1 == limit):
        raise ConfigurationError(f"limit is a number of rows, 0 or more, not {limit!r}")
    return int(limit)


_INSTEAD = {
    "sort": "files have no order; sort what is read from them",
    "limit": "filter= or where= choose fewer deals",
    "history": "a history goes on from a frame; load without to=, or scan the history itself",
    "touches": "read_activity() gives what was done on the deals as a frame of its own",
}


def _check_streamed(**others: Any) -> None:
    """Refuse arguments that need the whole load in memory, and say what does the same."""
    if given := [f"without {name}= ({_INSTEAD[name]})" for name, value in others.items() if value is not None]:
        raise ConfigurationError(f"to= writes rows as they come, so it goes {' and '.join(given)}")


def _settled_conditions(
    client: Client,
    filter: Mapping[str, Any] | None,  # noqa: A002  # the service's own word
    where: Mapping[str, Any] | None,
    zone: str | None,
    custom_fields: dict[str, CustomField],
) -> tuple[dict[str, Any], Where]:
    """Return the filter and the condition beside it: columns for labels, instants for days."""

    def labels() -> Mapping[str, str]:
        if not custom_fields:
            custom_fields.update(fields_by_column(client))
        return columns_by_label(custom_fields)

    asked = without_labels(filter, labels)
    condition = split_where(without_labels(where, labels), asked, zone)
    return settle_filter(asked, zone), replace(condition, service=settle_filter(condition.service, zone))


def _as_asked(plan: LoadPlan, arrived: Arrived, notes: list[str]) -> tuple[Rows, pd.DataFrame]:
    """Return the rows that were asked for, with names and in their order, and those that came beside them."""
    rows, left_out, judged = select_rows(plan, arrived.rows, arrived.lookups, notes)
    notes += [ignored_note(left_out)] if len(left_out) else []
    notes += [plan.condition.note(len(rows), len(judged))] if plan.condition else []
    absent = [column for column in ("stage_id", "owner_id") if column not in columns_of(plan.query.filter)]
    if absent := [column for column in absent if column in rows.frame.columns and rows.frame[column].isna().all()]:
        notes += [f"no deal came with {named(absent)}: the service does not say them"] if len(rows) else []
    if not arrived.in_order:
        notes.append(f"the service did not keep the order of sort={plan.query.sort or 'id'!r}: sorted here")
    # Deals that were changed while the pages came may belong elsewhere now.
    if not arrived.in_order or (plan.query.sort and not is_sorted(rows.frame, plan.query.sort)):
        rows = sort_rows(rows, plan.query.sort)
    return rows, left_out


def _checked_include(include: Iterable[str]) -> tuple[str, ...]:
    wanted = (include,) if isinstance(include, str) or not isinstance(include, Iterable) else tuple(include)
    unknown = [name for name in wanted if name not in INCLUDABLE]
    if unknown:
        raise ConfigurationError(f"include knows {named(INCLUDABLE)}; not {named(unknown)}")
    return wanted


def _checked_fields(fields: Iterable[str] | None) -> list[str] | None:
    """Return the names one by one; a text holds one or several, as in ``sort=``."""
    if fields is None:
        return None
    names = fields.split(",") if isinstance(fields, str) else list(fields) if isinstance(fields, Iterable) else [fields]
    if not all(isinstance(name, str) for name in names):
        raise ConfigurationError(f"fields= takes names of columns, such as ['name', 'amount'], not {named(names)}")
    return [name.strip() for name in names]
