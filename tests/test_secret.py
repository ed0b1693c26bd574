"""A secret shows itself nowhere."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from typing import Any

import pytest

from opp_pandas.api.auth.bearer import BearerAuth, FixedToken
from opp_pandas.api.auth.secret import HeaderText, Secret
from opp_pandas.errors import ConfigurationError

VALUE = "canary-0123456789"


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        lambda secret: f"{secret}",
        lambda secret: f"{secret!r}",
        lambda secret: f"{secret!s:>40}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031  # this way too
        lambda secret: str([secret, {"token": secret}]),
        lambda secret: json.dumps(secret, default=str),
        lambda secret: str(dir(secret)),
        lambda secret: repr(FixedToken(secret)),
        lambda secret: repr(vars(FixedToken(secret))),
        lambda secret: repr(BearerAuth(secret)),
        lambda secret: repr(vars(BearerAuth(secret))),
        lambda secret: repr({"Authorization": HeaderText(f"Bearer {secret.reveal()}")}),
    ],
)
def test_secret__shows_a_mask(show: Any) -> None:
    """No way of making text of it gives the value."""
    assert VALUE not in show(Secret(VALUE))


def test_secret__has_no_dict() -> None:
    """`vars` of it raises, since there is nothing to list."""
    with pytest.raises(TypeError):
        vars(Secret(VALUE))


def test_secret__is_given_away_by_reveal_only() -> None:
    """The value is there, without the white space that files leave around it."""
    assert Secret(f" {VALUE}\n").reveal() == VALUE
    assert Secret(Secret(VALUE)).reveal() == VALUE


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_secret__is_not_pickled(protocol: int) -> None:
    """Pickling raises with every protocol, alone and inside of something."""
    for thing in (Secret(VALUE), [Secret(VALUE)], FixedToken(VALUE), BearerAuth(Secret(VALUE))):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(thing, protocol)


def test_secret__copies_as_itself() -> None:
    """Copying makes no second place where the value stands."""
    secret = Secret(VALUE)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


def test_secret__equals_by_value() -> None:
    """Two of the same value are equal and hash alike; text is never equal."""
    assert Secret(VALUE) == Secret(VALUE)
    assert hash(Secret(VALUE)) == hash(Secret(VALUE))
    assert Secret(VALUE) != Secret("another")
    assert Secret(VALUE) != VALUE


def test_secret__is_masked_in_logs_and_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    """Log records and tracebacks with local variables show the mask."""
    caplog.set_level(logging.DEBUG)
    secret = Secret(VALUE)
    logging.getLogger("x").debug("the token is %s %r", secret, secret)
    try:
        raise RuntimeError(secret)
    except RuntimeError as error:
        text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert VALUE not in caplog.text + text
    assert "***" in caplog.text


@pytest.mark.parametrize(
    "value", ["", "  ", "a\nb", "a\r\nX-Other: b", "a b", "a\x00b", "tökén", "a\u202eb", 5, None, b"x"]
)
def test_secret__refuses_what_no_header_can_carry(value: Any) -> None:
    """Line breaks, blanks and foreign letters are refused, without showing the value."""
    with pytest.raises(ConfigurationError) as caught:
        Secret(value, name="token in X")
    assert "token in X" in str(caught.value)
    if isinstance(value, str) and value.strip():
        assert repr(value)[1:-1] not in str(caught.value)
        assert value not in str(caught.value)


def test_scrub__takes_the_value_out_of_text() -> None:
    """Where the service repeats a token, it is masked; a token of few letters is left alone."""
    assert Secret(VALUE).scrub(f"bad token {VALUE}!") == "bad token ***!"
    assert Secret("t").scrub("a short token") == "a short token"
