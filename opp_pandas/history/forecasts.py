"""Named forecasts beside a history: what was foretold, by whom, and what came."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, printable
from opp_pandas.figures.core.basis import BASIS_KEY, counted, to_json
from opp_pandas.figures.core.context import DEFINITIONS, read_definitions, unpack_definitions
from opp_pandas.figures.core.days import parse_day
from opp_pandas.figures.core.deals import WON, Deals
from opp_pandas.figures.core.snapshots import context_from_load, keys_of
from opp_pandas.forecasting import Prediction, predict
from opp_pandas.forecasting.window_scores import QUANTILES, crps
from opp_pandas.frame_state import meaning_of, pack_definitions
from opp_pandas.history.versions import SavedVersion, Versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opp_pandas.history.event_import import ForecastCall
    from opp_pandas.organisation import Organisation


@dataclass(frozen=True, eq=False)
class SavedForecast(SavedVersion):
    """A forecast as it was saved, with the prediction that it was made of."""

    prediction: Prediction


_FACTS = ["target", "method", "first_day", "last_day", "mean", "sd", "low_80", "high_80"]


def save_forecast(
    versions: Versions,
    name: str,
    df: pd.DataFrame,
    *,
    newest: Callable[[], pd.DataFrame | None],
    author: str | None,
    comment: str,
    options: dict[str, Any],
) -> SavedForecast:
    """Make the prediction of a frame, and keep it with what its amounts mean."""
    versions.require_free(name)
    load = context_from_load(df)
    _refuse_part(df, newest)
    stated = read_definitions(**{key: options.pop(key) for key in DEFINITIONS if key in options})
    found = predict(df, context=load.with_definitions(**stated), **options)
    carried = meaning_of(df)
    definitions = {**unpack_definitions({} if carried is None else carried.definitions), **stated}
    saved = versions.append(
        name,
        found.deals.astype({"id": "str"}),
        author=author,
        comment=comment,
        saved_at=load.as_of,
        facts=_facts(found) | {"definitions": to_json(pack_definitions(definitions))},
    )
    return SavedForecast(**vars(saved), prediction=found)


def _refuse_part(df: pd.DataFrame, newest: Callable[[], pd.DataFrame | None]) -> None:
    """Raise if a frame was narrowed, and the history knows deals that it left out."""
    load = meaning_of(df)
    here = keys_of(df)
    if load is None or (load.all_deals and len(here) >= load.keys):
        return
    known = newest()
    if known is None:
        return
    others = int((~keys_of(known).isin(here)).sum())
    if others:
        raise ConfigurationError(
            f"this frame lacks {counted(others, 'deal')} that the history records, and what came of a forecast is "
            "looked up among all of them: save the forecast of the whole load, or keep a history of this part"
        )


def _facts(found: Prediction) -> dict[str, Any]:
    basis = found.attrs[BASIS_KEY]
    low, high = found.interval(0.8)
    own = {name: basis[name] for name in ("first_day", "last_day", "created_by")}
    facts: dict[str, Any] = to_json(
        {
            "target": found.target,
            "method": found.method,
            **own,
            "mean": found.mean,
            "sd": found.sd,
            "low_80": low,
            "high_80": high,
            "quantiles": [found.quantile(q) for q in QUANTILES],
            "record": found.record.iloc[0].to_dict(),
        }
    )
    return facts


def save_calls(
    versions: Versions,
    calls: Iterable[ForecastCall],
    *,
    organisation_at: Callable[[pd.Timestamp], Organisation | None],
    definitions: Mapping[str, Any],
) -> int:
    """Keep the calls that people made elsewhere beside our own forecasts; those that are here already stay."""
    empty = pd.DataFrame({"id": pd.Series(dtype="str")})
    given = []
    for call in calls:
        owners = _owners(call, organisation_at(call.at))
        more = f" and {counted(len(owners) - 1, 'user')} below" if call.user_id is not None and owners[1:] else ""
        of = "all deals" if call.whose is None else f"the deals of {call.whose}{more}"
        facts = {
            "target": f"won amount {call.first_day} to {call.last_day} of {of}",
            "method": f"call: {call.metric}",
            "first_day": call.first_day,
            "last_day": call.last_day,
            "created_by": None,
            "mean": call.amount,
            "owners": owners or None,
            "definitions": to_json(pack_definitions(unpack_definitions(definitions))),
        }
        common = {"name": call.name, "author": call.author, "comment": call.comment, "saved_at": call.at}
        given.append({**common, "frame": empty, "facts": facts})
    return versions.extend(given)


def _owners(call: ForecastCall, organisation: Organisation | None) -> list[int]:
    """Return whose deals a call is about, by the organisation of its day; empty: everybody's."""
    if call.team_id is not None:
        if organisation is None or not (members := organisation.users_in_team(call.team_id)):
            raise ConfigurationError(
                f"the call {printable(call.name)!r} is about a team, and this history does not know who was in it: "
                "record a load with organisation=True, or import team_memberships(...), first"
            )
        return members
    if call.user_id is None:
        return []
    return [call.user_id] if organisation is None else organisation.people_below(call.user_id)


def list_forecasts(versions: Versions) -> pd.DataFrame:
    """List the forecasts with what they foretold, oldest first."""
    facts = versions.facts()
    table = versions.table().sort_values("saved_at", kind="stable", ignore_index=True)
    told: dict[str, list[Any]] = {column: [facts[name].get(column) for name in table["name"]] for column in _FACTS}
    numbers = {column: np.array(told[column], dtype=float) for column in ("mean", "sd", "low_80", "high_80")}
    return table.assign(**(told | numbers))


def score_forecasts(versions: Versions, newest: pd.DataFrame) -> pd.DataFrame:
    """Set what came beside what was foretold, for every forecast whose last day is over."""
    table = list_forecasts(versions)
    actuals, scores = [], []
    known, load = versions.facts(), context_from_load(newest)
    by_definitions: dict[str, Deals] = {}
    for name in table["name"]:
        facts = known[name]
        # Amounts are added up as they were when the forecast was made.
        key = json.dumps(facts["definitions"], sort_keys=True)
        if key not in by_definitions:
            by_definitions[key] = Deals(newest, load.with_definitions(**unpack_definitions(facts["definitions"])))
        deals = by_definitions[key]
        first, last = parse_day(facts["first_day"]), parse_day(facts["last_day"])
        rows = (deals.status == WON) & (deals.close_day >= first) & (deals.close_day <= last)
        if facts["created_by"] is not None:
            rows &= deals.created_day <= parse_day(facts["created_by"])
        if (owners := facts.get("owners")) is not None:
            rows &= newest["owner_id"].isin(owners).to_numpy()
        over = last <= load.today
        actual = float(np.nansum(deals.amount[rows])) if over else np.nan
        actuals.append(actual)
        # One number without a spread is a distribution all the same: the score is then its absolute error.
        quantiles = facts.get("quantiles", [facts["mean"]])
        scores.append(float(crps(np.array([quantiles]), np.array([actual]))[0]) if over else np.nan)
    came = np.array(actuals)
    error = table["mean"].to_numpy(dtype=float) - came
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.abs(error) / np.abs(came)
    inside = (table["low_80"] <= came) & (came <= table["high_80"])
    return table.assign(
        actual=came,
        error=error,
        ape=share,
        crps=scores,
        inside_80=inside.astype("boolean").mask(np.isnan(came) | table["low_80"].isna()),
    )
