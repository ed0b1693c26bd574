"""The organisation behind the deals: roles as a tree, teams, and who is in them.

It is read once with the deals (`read_opportunities(organisation=True)`) and
travels with them; a history keeps it with every snapshot, so that an earlier
state has the tree of its day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from opp_pandas._html import as_page
from opp_pandas.errors import ConfigurationError, named

NAMES = ("team", "role")
"""What deals can be grouped by, and chosen by, through their owners."""
THEN = "_then"
"""What such a name ends with where it means, over a history, the teams or roles of each moment."""


@dataclass(frozen=True, eq=False)
class Organisation:
    """Roles, teams and users of an organisation at one moment.

    Parameters
    ----------
    roles : DataFrame, columns ``id, name, parent_id``
        One row per role; `parent_id` is the role above it.
    teams : DataFrame, columns ``id, name``
    users : DataFrame, columns ``id, name, role_id, team_ids``
        One row per user; `team_ids` holds tuples, since a user may be in several teams.

    Examples
    --------
    >>> import opp_pandas as opp
    >>> with opp.sandbox(opportunities=20) as box:
    ...     df = opp.read_opportunities(box.client(), organisation=True)
    >>> df.opp.organisation
    Organisation(11 roles, 5 teams, 13 users)
    >>> df.opp.organisation.teams["name"].tolist()
    ['EMEA', 'AMER', 'APAC', 'LATAM', 'Strategic accounts']
    """

    roles: pd.DataFrame
    teams: pd.DataFrame
    users: pd.DataFrame

    def __repr__(self) -> str:
        counts = (f"{len(getattr(self, name)):,} {name}" for name in ("roles", "teams", "users"))
        return f"Organisation({', '.join(counts)})"

    def _repr_html_(self) -> str:
        return as_page("\n  ".join([repr(self), *self.notes]), *((name, getattr(self, name)) for name in _DTYPES))

    @classmethod
    def from_records(
        cls,
        roles: Iterable[Mapping[str, Any]],
        teams: Iterable[Mapping[str, Any]],
        users: Iterable[Mapping[str, Any]],
    ) -> Organisation:
        """Read it from resource objects as the service sends them; either side of a membership tells of it."""
        teams, users = list(teams), list(users)
        inside: dict[int, dict[int, None]] = {int(one["id"]): dict.fromkeys(_many(one, "teams")) for one in users}
        for one in teams:
            for user in _many(one, "users"):
                inside.setdefault(user, {})[int(one["id"])] = None
        return cls(
            _table("roles", ((*_name(one), _one(one, "parentRole")) for one in roles)),
            _table("teams", map(_name, teams)),
            _table("users", ((*_name(one), _one(one, "role"), tuple(sorted(inside[int(one["id"])]))) for one in users)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Write it down; JSON keeps it."""
        return {
            name: [[None if value is pd.NA else value for value in row] for row in _rows(getattr(self, name))]
            for name in _DTYPES
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Organisation:
        """Read what `to_dict` wrote."""

        def rows(name: str) -> list[list[Any]]:
            return [[tuple(value) if isinstance(value, list) else value for value in row] for row in facts[name]]

        return cls(**{name: _table(name, rows(name)) for name in _DTYPES})

    @cached_property
    def reporting_lines(self) -> tuple[dict[Any, Any], dict[Any, str]]:
        """What stands directly below what, and the names: users by id, roles as ``role:ID``; roots are left out."""
        known = set(self.roles["id"])
        above: dict[Any, Any] = {
            _role_key(key): _role_key(parent) for key, _, parent in _rows(self.roles) if parent in known
        }
        above |= {key: _role_key(role) for key, _, role, _ in _rows(self.users) if role in known}
        names = {_role_key(key): name for key, name, _ in _rows(self.roles) if name is not None}
        return above, names | {key: name for key, name, *_ in _rows(self.users) if name is not None}

    @property
    def role_keys(self) -> list[str]:
        """The roles' keys in `reporting_lines`."""
        return [_role_key(key) for key in self.roles["id"]]

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the tree, in sentences; nothing of it is guessed away."""
        roles = {key: parent for key, _, parent in _rows(self.roles)}
        orphans = [key for key, parent in roles.items() if parent is not None and parent not in roles]
        without = [key for key, _, role, _ in _rows(self.users) if role is None]
        astray = [key for key, _, role, _ in _rows(self.users) if role is not None and role not in roles]
        teams = set(self.teams["id"])
        no_team = [key for key, *_, own in _rows(self.users) if set(own) - teams]
        found = []
        if circle := _circle(roles):
            found.append(f"roles run in a circle (ids {named(circle)}): rollup() refuses such a tree")
        if orphans:
            found.append(
                f"{_n(orphans, 'role')} below a role that is not there: at the top (role ids {named(orphans)})"
            )
        if without:
            found.append(f"{_n(without, 'user')} without a role: at the top of the tree (user ids {named(without)})")
        if astray:
            found.append(
                f"{_n(astray, 'user')} with a role that is not there: at the top of the tree (user ids {named(astray)})"
            )
        if no_team:
            found.append(f"{_n(no_team, 'user')} in a team that is not there (user ids {named(no_team)})")
        for word, table in (("roles", self.roles), ("teams", self.teams)):
            doubled = [name for name, n in Counter(table["name"].dropna()).items() if n > 1]
            if doubled:
                found.append(f"several {word} are called {named(doubled)}: told apart by their ids")
        return tuple(found)

    def with_teams_of(self, other: Organisation) -> Organisation:
        """Return it with the memberships of another one; who is not in that, and every role, stays as it is."""
        theirs = {key: (name, own) for key, name, _, own in _rows(other.users)}
        users = [
            (key, name or theirs.get(key, (None,))[0], role, theirs[key][1] if key in theirs else own)
            for key, name, role, own in _rows(self.users)
        ]
        users += [(key, name, None, own) for key, (name, own) in theirs.items() if key not in set(self.users["id"])]
        names = dict(_rows(self.teams))
        teams = {**names, **{key: name or names.get(key) for key, name in _rows(other.teams)}}
        return Organisation(self.roles, _table("teams", teams.items()), _table("users", users))

    @property
    def teams_by_label(self) -> dict[str, set[Any]]:
        """The ids of the users of each team, by the team's label."""
        members = [(key, set(own)) for key, *_, own in _rows(self.users)]
        return {label: {key for key, own in members if team in own} for team, label in self._names("team").items()}

    def labels_of(self, what: str) -> dict[Any, str]:
        """Return the team or role of each user by id, as a label: several teams of one user are one label."""
        names = self._names(what)
        if what == "role":
            return {key: names[role] for key, _, role, _ in _rows(self.users) if role in names}
        teams = ((key, [names[one] for one in own if one in names]) for key, *_, own in _rows(self.users))
        return {key: ", ".join(sorted(own)) for key, own in teams if own}

    def members(self, what: str, wanted: Any) -> list[int]:
        """Return the ids of the users in a team or role, or in any of several.

        Raises
        ------
        ConfigurationError
            If there is none of this name, more than one, or nobody in it.
        """
        names = self._names(what)
        chosen: set[Any] = set()
        for name in [wanted] if isinstance(wanted, str | int) else wanted:
            fitting = [key for key, label in names.items() if name in (key, label)]
            if not fitting:
                same = sorted(label for label in names.values() if label.startswith(f"{name} (id "))
                hint = f"; say which: {named(same)}" if same else f"; there are {named(sorted(names.values()), 20)}"
                raise ConfigurationError(f"no {what} is called {name!r}{hint}")
            chosen.update(fitting)
        inside = [key for key, _, role, own in _rows(self.users) if chosen & ({role} if what == "role" else set(own))]
        if not inside:
            raise ConfigurationError(f"nobody is in the {what} {wanted!r}, so no deal fits")
        return inside

    def users_in_team(self, team: int) -> list[int]:
        """Return the ids of the users in a team."""
        return [key for key, *_, own in _rows(self.users) if team in own]

    def people_below(self, user: int) -> list[int]:
        """Return a user's id, and those of everyone whose role stands below the user's."""
        above, _ = self.reporting_lines
        own = above.get(user)
        found = [user]
        for key, *_ in _rows(self.users):
            role, passed = above.get(above.get(key)), set()
            while role is not None and role not in passed and role != own:
                passed.add(role)
                role = above.get(role)
            if own is not None and role == own and key != user:
                found.append(key)
        return found

    def _names(self, what: str) -> dict[Any, str]:
        """Return the label of each team or role by id; names that several bear have the id beside them."""
        table = self.teams if what == "team" else self.roles
        counts = Counter(table["name"])
        rows = ((key, name) for key, name, *_ in _rows(table))
        return {k: f"(id {k})" if n is None else f"{n} (id {k})" if counts[n] > 1 else n for k, n in rows}


_DTYPES = {
    "roles": {"id": "Int64", "name": "str", "parent_id": "Int64"},
    "teams": {"id": "Int64", "name": "str"},
    "users": {"id": "Int64", "name": "str", "role_id": "Int64", "team_ids": "object"},
}


def _table(name: str, rows: Iterable[Iterable[Any]]) -> pd.DataFrame:
    dtypes = _DTYPES[name]
    return pd.DataFrame([*rows], columns=[*dtypes], dtype=object).astype(dtypes).sort_values("id", ignore_index=True)


def _rows(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Return the rows with None for what is missing."""
    plain = table.astype(object).where(table.notna(), None)
    return list(plain.itertuples(index=False, name=None))


def _role_key(key: Any) -> str:
    return f"role:{key}"


def _n(found: list[Any], word: str) -> str:
    return f"{len(found):,} {word}{'' if len(found) == 1 else 's'}"


def _circle(parents: Mapping[Any, Any]) -> list[Any]:
    """Find roles that stand above themselves."""
    fine: set[Any] = set()
    for start in parents:
        chain: list[Any] = []
        key = start
        while key in parents and key not in fine and key not in chain:
            chain.append(key)
            key = parents[key]
        if key in chain:
            return chain[chain.index(key) :]
        fine.update(chain)
    return []


def _name(record: Mapping[str, Any]) -> tuple[int, str | None]:
    attributes = record.get("attributes") or {}
    parts = (attributes.get("firstName"), attributes.get("lastName"))
    name = attributes.get("name") or " ".join(part for part in parts if isinstance(part, str))
    return int(record["id"]), name if isinstance(name, str) and name else None


def _many(record: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """Read where a relationship points; it may hold data, links, or nothing at all."""
    data = ((record.get("relationships") or {}).get(name) or {}).get("data") or []
    keys = (one.get("id") if isinstance(one, Mapping) else None for one in (data if isinstance(data, list) else [data]))
    return tuple(int(str(key)) for key in keys if str(key).isdecimal())


def _one(record: Mapping[str, Any], name: str) -> int | None:
    return next(iter(_many(record, name)), None)
