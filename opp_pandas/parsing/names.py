"""Names that people write with other blanks or another case than the list they are from."""

from __future__ import annotations

from collections.abc import Iterable


def fold_name(name: str) -> str:
    """Return a name without what people do not see or care about: blanks around and between words, and case.

    Examples
    --------
    >>> fold_name("Negotiation  / Review ") == fold_name("negotiation / review")
    True
    """
    return " ".join(name.split()).casefold()


def match_names(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Match names with the one known name that differs by case or blanks alone.

    Names that are known as they stand, or that several known ones could be, are left out.

    Examples
    --------
    >>> match_names(["Negotiation ", "won", "Lost"], ["Negotiation", "Won", "WON", "Lost"])
    {'Negotiation ': 'Negotiation'}
    """
    exact = set(known)
    folded: dict[str, list[str]] = {}
    for name in exact:
        folded.setdefault(fold_name(name), []).append(name)
    fits = {name: folded.get(fold_name(name), []) for name in names if name not in exact}
    return {name: found[0] for name, found in fits.items() if len(found) == 1}
