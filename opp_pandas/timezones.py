"""Time zones by name: a calendar day exists only in one."""

from __future__ import annotations

import difflib
import zoneinfo

from opp_pandas.errors import ConfigurationError, named, printable


def check_zone(name: str) -> str:
    """Return the name of a time zone that exists.

    Parameters
    ----------
    name : str
        An IANA name, such as ``America/New_York``.

    Returns
    -------
    str
        The same name.

    Raises
    ------
    ConfigurationError
        If there is no such zone; the text names near ones.

    Examples
    --------
    >>> check_zone("Europe/Berlin")
    'Europe/Berlin'
    """
    if not isinstance(name, str):
        raise ConfigurationError(f"timezone= is the name of a zone, such as 'Europe/Berlin', not {type(name).__name__}")
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        problem = f"there is no time zone {printable(repr(name), 80)}{_near(name)}"
    else:
        return name
    raise ConfigurationError(problem)


def _near(name: str) -> str:
    zones = sorted(zoneinfo.available_timezones())
    wanted = name.strip().replace(" ", "_").lower()
    by_city = {zone.rsplit("/", 1)[-1].lower(): zone for zone in zones}
    by_name = {zone.lower(): zone for zone in zones}
    near = [by_name[match] for match in difflib.get_close_matches(wanted, by_name, 3, 0.75)]
    near += [by_city[match] for match in difflib.get_close_matches(wanted.rsplit("/", 1)[-1], by_city, 3, 0.75)]
    found = list(dict.fromkeys(near))[:3]
    return f"; did you mean {named(found)}?" if found else "; write it as 'Europe/Berlin' or 'America/New_York'"
