"""A value that must not be seen: it prints, logs, formats and pickles as nothing.

Promise S1 of the package: a token stands in no text that anybody may read later.
"""

from __future__ import annotations

import hmac
import re
from typing import Any, NoReturn, SupportsIndex

from opp_pandas.errors import ConfigurationError

MASK = "***"
SHORTEST_SCRUBBED = 6

# What RFC 9110 allows in a header without folding or spaces. A line break in a
# token would end up in the text of the header error of every HTTP library.
_TOKEN = re.compile(r"[\x21-\x7e]+\Z")


class Secret:
    """Text that only `reveal` gives away; `name` is what error texts call it.

    White space around it, as files and shells leave it, is dropped. Nothing, or white space,
    control or non-ASCII characters within, is a ConfigurationError that does not hold the value.

    Examples
    --------
    >>> secret = Secret("s3cr3t")
    >>> secret, f"{secret}", secret.reveal()
    (Secret(***), '***', 's3cr3t')
    """

    __slots__ = ("__value",)

    def __init__(self, value: str | Secret, *, name: str = "token") -> None:
        if isinstance(value, Secret):
            value = value.reveal()
        if not isinstance(value, str):
            raise ConfigurationError(f"the {name} must be text, not {type(value).__name__}")
        value = value.strip()
        if not value:
            raise ConfigurationError(f"the {name} is empty")
        if _TOKEN.match(value) is None:
            raise ConfigurationError(
                f"the {name} holds a space, line break, control or non-ASCII character, so it was not copied whole or "
                "has something beside it; copy it again (the value is not shown here on purpose)"
            )
        self.__value = value

    def reveal(self) -> str:
        """Return the text itself; the only way to it."""
        return self.__value

    def scrub(self, text: str) -> str:
        """Replace the secret wherever it stands in `text`."""
        # A token of a few letters, as in a trial, is part of too many words.
        return text.replace(self.__value, MASK) if len(self.__value) >= SHORTEST_SCRUBBED else text

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        # In constant time, so that comparing tells nothing about the value.
        return isinstance(other, Secret) and hmac.compare_digest(self.__value, other.reveal())

    def __hash__(self) -> int:
        return hash((Secret, self.__value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a secret is not pickled; connect again where it is needed")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled; connect again where it is needed")

    def __dir__(self) -> list[str]:
        return ["reveal", "scrub"]


class HeaderText(str):
    """A header's value that shows itself masked in the dump of a headers dict."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK)
