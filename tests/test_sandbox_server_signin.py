"""The ways to a token, and what scopes allow."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from opp_pandas.errors import ConfigurationError
from opp_pandas.resource import RESOURCES
from opp_pandas.sandbox_handle import sandbox
from opp_pandas.sandbox_server.access import ALL_SCOPES, SCOPES
from opp_pandas.sandbox_server.apptokens import load_public_key
from sandbox_server_calls import Api, edit, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 9, 1, 8, tzinfo=UTC)
CALLBACK = "http://127.0.0.1:9/callback?kept=1"


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        """Return the moment."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The sandbox's clock."""
    return Clock()


@pytest.fixture
def api(clock: Clock) -> Iterator[Api]:
    """A small sandbox on that clock."""
    yield from opened(sandbox(opportunities=2, seed=4, now=clock))


def _authorize(api: Api, **changes: Any) -> requests.Response:
    asked = {
        "client_id": api.box.client_id,
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": "opportunities.read users.read",
        "state": "s t&te",
    } | changes
    given = {name: value for name, value in asked.items() if value is not None}
    return requests.get(f"{api.box.origin}/oauth/authorize", params=given, timeout=60, allow_redirects=False)


def _code(api: Api) -> str:
    return parse_qs(urlsplit(_authorize(api).headers["Location"]).query)["code"][0]


def _token(api: Api, as_json: bool = False, **given: Any) -> requests.Response:
    body = {"client_id": api.box.client_id, "client_secret": api.box.client_secret} | given
    options: dict[str, Any] = {"json": body} if as_json else {"data": body}
    # Published readers send their old bearer here too.
    headers = {"Authorization": "Bearer long-expired"}
    return requests.post(f"{api.box.origin}/oauth/token", timeout=60, headers=headers, **options)


def _status(api: Api, token: str, path: str = "/opportunities/1", method: str = "GET", document: Any = None) -> int:
    return api.call(method, path, document, headers={"Authorization": f"Bearer {token}"}).status_code


def test_authorize__leads_back_at_once_with_code_and_state(api: Api) -> None:
    """The redirect keeps its own query, echoes the state and carries a code."""
    answer = _authorize(api)
    assert answer.status_code == 302
    target = urlsplit(answer.headers["Location"])
    assert target.netloc == "127.0.0.1:9"
    query = parse_qs(target.query)
    assert query["kept"] == ["1"]
    assert query["state"] == ["s t&te"]
    assert len(query["code"][0]) >= 20


@pytest.mark.parametrize(
    "uri",
    ["https://evil.example/cb", "http://evil.example/cb", "//evil.example", "http://127.0.0.1@evil.example/", "", None],
)
def test_authorize__leads_nowhere_but_to_this_machine(api: Api, uri: str | None) -> None:
    """No open redirect."""
    answer = _authorize(api, redirect_uri=uri)
    assert answer.status_code == 400
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"scope": "opportunities.everything"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"response_type": "token"}, "unsupported_response_type"),
    ],
)
def test_authorize__sends_errors_back(api: Api, change: dict[str, Any], error: str) -> None:
    """What cannot be granted goes to the redirect as an error."""
    query = parse_qs(urlsplit(_authorize(api, **change).headers["Location"]).query)
    assert query["error"] == [error]
    assert "code" not in query


@pytest.mark.parametrize("as_json", [False, True])
def test_code__becomes_tokens_once(api: Api, as_json: bool) -> None:
    """The token answer has the documented members, as form or JSON; the code works once."""
    given = {"grant_type": "authorization_code", "code": _code(api), "redirect_uri": CALLBACK}
    answer = _token(api, as_json, **given)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert body.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "scope", "created_at"}
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 7200, "opportunities.read users.read")
    assert body["created_at"] == int(NOW.timestamp())
    assert _status(api, body["access_token"]) == 200
    again = _token(api, as_json, **given)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


def test_code__holds_for_its_redirect_and_ten_minutes(api: Api, clock: Clock) -> None:
    """Another redirect_uri, or a late code, is refused."""
    other = _token(api, grant_type="authorization_code", code=_code(api), redirect_uri="http://127.0.0.1:9/other")
    assert other.json()["error"] == "invalid_grant"
    late = _code(api)
    clock.now += timedelta(minutes=11)
    answer = _token(api, grant_type="authorization_code", code=late, redirect_uri=CALLBACK)
    assert answer.json()["error"] == "invalid_grant"


def test_refresh__rotates_and_kills_the_old_one_when_switched_on(api: Api) -> None:
    """Every refresh gives a new refresh token; the old one stays good, unless a switch makes it die at once."""
    first = api.box.issue_refresh_token()
    second = _token(api, grant_type="refresh_token", refresh_token=first).json()["refresh_token"]
    assert second != first
    assert _token(api, grant_type="refresh_token", refresh_token=first).status_code == 200
    api.box.switches.keep_old_refresh_tokens = False
    third = _token(api, grant_type="refresh_token", refresh_token=second).json()["refresh_token"]
    assert _token(api, grant_type="refresh_token", refresh_token=second).json()["error"] == "invalid_grant"
    assert _token(api, grant_type="refresh_token", refresh_token=third).status_code == 200


def test_tokens__expire(api: Api, clock: Clock) -> None:
    """An access token dies after two hours with the gateway's 401, a refresh token after fourteen days."""
    body = _token(api, grant_type="refresh_token", refresh_token=api.box.issue_refresh_token()).json()
    clock.now += timedelta(hours=2, seconds=-1)
    assert _status(api, body["access_token"]) == 200
    clock.now += timedelta(seconds=1)
    answer = api.call("GET", "/opportunities/1", headers={"Authorization": f"Bearer {body['access_token']}"})
    assert answer.status_code == 401
    assert answer.json().keys() == {"error", "description"}
    clock.now += timedelta(days=14)
    assert _token(api, grant_type="refresh_token", refresh_token=body["refresh_token"]).status_code == 400
    assert api.get("/opportunities/1"), "the sandbox's own token does not expire"


def test_lives__of_tokens_are_switches(api: Api, clock: Clock) -> None:
    """Both kinds of token live as long as they say."""
    api.box.switches.token_life_s, api.box.switches.refresh_life_s = 60, 120
    body = _token(api, grant_type="refresh_token", refresh_token=api.box.issue_refresh_token()).json()
    assert (body["expires_in"], _status(api, body["access_token"])) == (60, 200)
    clock.now += timedelta(seconds=60)
    assert _status(api, body["access_token"]) == 401
    clock.now += timedelta(seconds=60)
    assert _token(api, grant_type="refresh_token", refresh_token=body["refresh_token"]).status_code == 400


def test_refresh_tokens__beyond_a_hundred_push_out_the_oldest(api: Api) -> None:
    """At most 100 live refresh tokens."""
    tokens = [api.box.issue_refresh_token() for _ in range(101)]
    assert _token(api, grant_type="refresh_token", refresh_token=tokens[0]).status_code == 400
    assert _token(api, grant_type="refresh_token", refresh_token=tokens[1]).status_code == 200


def test_minting__is_throttled_by_a_switch(api: Api, clock: Clock) -> None:
    """One access token per 60 s, otherwise 429 with the seconds left; the grant is not used up."""
    api.box.switches.mint_interval_s = 60
    token = _token(api, grant_type="refresh_token", refresh_token=api.box.issue_refresh_token()).json()["refresh_token"]
    clock.now += timedelta(seconds=20)
    early = _token(api, grant_type="refresh_token", refresh_token=token)
    assert (early.status_code, early.headers["Retry-After"]) == (429, "40")
    clock.now += timedelta(seconds=40)
    assert _token(api, grant_type="refresh_token", refresh_token=token).status_code == 200


@pytest.mark.parametrize(
    ("given", "status", "error"),
    [
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({}, 400, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, 400, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, 400, "invalid_grant"),
        ({"grant_type": "refresh_token", "client_secret": "wrong"}, 401, "invalid_client"),
        ({"grant_type": "refresh_token", "client_id": "ä"}, 401, "invalid_client"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_token_request__that_is_wrong(api: Api, given: dict[str, str], status: int, error: str, as_json: bool) -> None:
    """Errors are those of OAuth 2.0."""
    answer = _token(api, as_json, **given)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


def test_token_request__that_is_no_json_or_no_post(api: Api) -> None:
    """Broken JSON is an OAuth error; other methods are refused."""
    url = f"{api.box.origin}/oauth/token"
    broken = requests.post(url, data=b"[1", headers={"Content-Type": "application/json"}, timeout=60)
    assert (broken.status_code, broken.json()["error"]) == (400, "invalid_request")
    assert requests.get(url, timeout=60).status_code == 405
    assert requests.get(f"{api.box.origin}/oauth/else", timeout=60).status_code == 404


def test_secrets__stay_out_of_log_and_repr(api: Api) -> None:
    """Sign-in bodies are not kept."""
    token = api.box.issue_refresh_token()
    body = _token(api, grant_type="refresh_token", refresh_token=token).json()
    shown = repr(api.box) + repr(api.box.requests)
    for secret in (token, api.box.client_secret, body["access_token"], body["refresh_token"]):
        assert secret not in shown


# Scopes.


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=lambda resource: resource.type)
def test_scope__allows_its_own_verb_on_its_own_resource(resource: Any) -> None:
    """Read, write and delete do not add up, and hold for one resource."""
    methods = {"GET": "read", "POST": "write", "PATCH": "write", "DELETE": "delete"}
    for scope in ("read", "write", "delete", "all"):
        for api in opened(sandbox(opportunities=0, scopes=frozenset({f"{resource.path}.{scope}"}))):
            for method, needed in methods.items():
                path = f"/{resource.path}" if method == "POST" else f"/{resource.path}/99999"
                answer = api.call(method, path, {})
                if answer.status_code == 405:
                    continue
                if scope in (needed, "all"):
                    assert answer.status_code in (404, 422)
                else:
                    error = answer.json()["errors"][0]
                    assert (answer.status_code, error["id"]) == (403, "unauthorizedOauthScope")
                    assert f"'{resource.path}.{needed}'" in error["detail"]


def test_include__needs_the_scope_of_what_it_includes() -> None:
    """403 names the resources that may not be read."""
    scopes = frozenset({"opportunities.read", "users.read"})
    for api in opened(sandbox(opportunities=1, scopes=scopes)):
        assert api.get("/opportunities?include=owner,creator")
        answer = api.call("GET", "/opportunities?include=owner,account,opportunityStage")
        assert answer.status_code == 403
        assert "read the following resources: account, opportunityStage." in answer.json()["errors"][0]["detail"]


def test_scopes__are_those_of_the_documents() -> None:
    """Each resource has read, write, delete and all."""
    assert "opportunityStages.read" in SCOPES
    assert "opportunityProspectRoles.delete" in SCOPES
    assert len(SCOPES) == 4 * len(ALL_SCOPES) == 4 * len(RESOURCES)


# An app's own token. The key was made for this test and signs nothing else.

PUBLIC = """-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA5MLx3Y9wU0INwazxMHB9
Mp/aH3BDohv8s/NCo1vb3cKzf0vvQHCiNE4YY47HrHIA16Pkz94WvrB4nkI7Xq7y
1vTv62DoZOKWRo7st4000Gy5ct1aDj6te+KkMZMYlWTe0tU8wUlKApBSOa6OyFJU
Goqpz8P/0nIBswtTWy0JemDah8V7LHCx6+CMq/HfLciego0qa/ncWxsouVlAwGyw
9ypWtHywCpjPWjpX1mKdGzUJFeDDjepmXMCZH5eC2+/7ndirwMZDJQ1o/ul255jO
JNAvoxhdaZq00e9nfJ5tQ41YZF1wjnQWBE2Y99/jtauJ5e5bS5uikeHSp+T2PC+V
4wIDAQAB
-----END PUBLIC KEY-----"""
PUBLIC_PKCS1 = """-----BEGIN RSA PUBLIC KEY-----
MIIBCgKCAQEA5MLx3Y9wU0INwazxMHB9Mp/aH3BDohv8s/NCo1vb3cKzf0vvQHCi
NE4YY47HrHIA16Pkz94WvrB4nkI7Xq7y1vTv62DoZOKWRo7st4000Gy5ct1aDj6t
e+KkMZMYlWTe0tU8wUlKApBSOa6OyFJUGoqpz8P/0nIBswtTWy0JemDah8V7LHCx
6+CMq/HfLciego0qa/ncWxsouVlAwGyw9ypWtHywCpjPWjpX1mKdGzUJFeDDjepm
XMCZH5eC2+/7ndirwMZDJQ1o/ul255jOJNAvoxhdaZq00e9nfJ5tQ41YZF1wjnQW
BE2Y99/jtauJ5e5bS5uikeHSp+T2PC+V4wIDAQAB
-----END RSA PUBLIC KEY-----"""
MODULUS = int(
    "e4c2f1dd8f7053420dc1acf130707d329fda1f7043a21bfcb3f342a35bdbddc2b37f4bef4070a2344e18638ec7ac7200d7a3"
    "e4cfde16beb0789e423b5eaef2d6f4efeb60e864e296468eecb78d34d06cb972dd5a0e3ead7be2a43193189564ded2d53cc1"
    "494a02905239ae8ec852541a8aa9cfc3ffd27201b30b535b2d097a60da87c57b2c70b1ebe08cabf1df2dc89e828d2a6bf9dc"
    "5b1b28b95940c06cb0f72a56b47cb00a98cf5a3a57d6629d1b350915e0c38dea665cc0991f9782dbeffb9dd8abc0c643250d"
    "68fee976e798ce24d02fa3185d699ab4d1ef677c9e6d438d58645d708e7416044d98f7dfe3b5ab89e5ee5b4b9ba291e1d2a7"
    "e4f63c2f95e3",
    16,
)
PRIVATE_EXPONENT = int(
    "437976c2bdb4c97201c1bf2393009305141e4fc89ac25d93ef761091439e79ee1c68af3a9e1cbad347b7ace1e7e666e7f5b2"
    "fb620ea551d0967b4398e46820eba36a82d85e23a7abe09af69a7b557926a09a8f4ca947f67ec48e5eaaff04cdb065aa8cd5"
    "8c2afecf97d938b217c724d48152ee1be740a8ecf465224c91dfaa4f0945709bcb664c42aa9cc04a9bf7caf5ba422bef8643"
    "f5538084aba34f854c526e4f4e939843a0dc4ac38327401ef54cd5e3d512d4343f9a31c2127f90e856fb8896a7a201610b4d"
    "67d084be7ae7683fa1cf549286eb197abc68903919c61edec035591dca9d2466042799bb91bc24fa9f6d01738c526596bc94"
    "ab6bb017e96d",
    16,
)


def _part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _sign(message: bytes) -> bytes:
    tail = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(message).digest()
    size = (MODULUS.bit_length() + 7) // 8
    padded = b"\x00\x01" + b"\xff" * (size - len(tail) - 3) + b"\x00" + tail
    return pow(int.from_bytes(padded), PRIVATE_EXPONENT, MODULUS).to_bytes(size)


def _app_token(header: dict[str, Any] | None = None, **changes: Any) -> str:
    issued = int(time.time())
    claims = {"iat": issued, "exp": issued + 3600, "iss": "app-guid"} | changes
    head = f"{_part(header or {'alg': 'RS256', 'typ': 'JWT'})}.{_part(claims)}"
    return f"{head}.{_part(_sign(head.encode()))}"


def _exchange(api: Api, token: str, install: object) -> requests.Response:
    url = f"{api.box.origin}/api/app/installs/{install}/actions/accessToken"
    return requests.post(url, headers={"Authorization": f"Bearer {token}"}, timeout=60)


@pytest.mark.parametrize("pem", [PUBLIC, PUBLIC_PKCS1])
def test_app_token__becomes_an_access_token_for_an_hour(api: Api, clock: Clock, pem: str) -> None:
    """The exchanged token reads and writes deals for an app without a user, but no stages or roles.

    The app signs by the machine's clock, and the access token ends by that of the sandbox, which shows another moment.
    """
    install = api.box.install_app("app-guid", pem)
    answer = _exchange(api, _app_token(), install)
    assert answer.status_code == 200
    token = answer.json()["data"]["meta"]["accessToken"]
    assert _status(api, token) == 200
    assert _status(api, token, "/users/1") == 200
    assert _status(api, token, "/opportunityStages") == 403
    assert _status(api, token, "/opportunityProspectRoles") == 403
    made = api.call(
        "POST", "/opportunities", edit("opportunity", {"name": "A"}), headers={"Authorization": f"Bearer {token}"}
    )
    assert made.json()["data"]["relationships"]["creator"] == {"data": None}
    clock.now += timedelta(hours=1)
    assert _status(api, token) == 401


@pytest.mark.parametrize(
    "token",
    [
        "nonsense",
        "a.b",
        "a.b.c",
        _app_token(iss="other"),
        _app_token(exp=int(time.time()) - 61),
        _app_token(exp=int(time.time()) + 7200),
        _app_token(iat=int(time.time()) + 6000, exp=int(time.time()) + 7200),
        _app_token(iat="x"),
        _app_token(exp=10**30),
        _app_token({"alg": "none"}),
        _app_token({"alg": "HS256"}),
        _app_token()[:-4] + "AAAA",
        _app_token().rsplit(".", 1)[0] + ".",
        ".".join((_app_token().split(".")[0], _part({"iss": "app-guid", "iat": 0, "exp": 2**31}), "AA")),
    ],
)
def test_app_token__that_does_not_hold_is_401(api: Api, token: str) -> None:
    """Wrong issuer, time, algorithm or signature: the gateway's 401."""
    answer = _exchange(api, token, api.box.install_app("app-guid", PUBLIC))
    assert answer.status_code == 401
    assert answer.json().keys() == {"error", "description"}


def test_app_token__for_an_unknown_installation_is_404(api: Api) -> None:
    """The installation must be known."""
    for install in ("1", "0", "x", "9" * 30):
        assert _exchange(api, _app_token(), install).status_code == 404
    api.box.install_app("app-guid", PUBLIC)
    url = f"{api.box.origin}/api/app/installs/1/actions/accessToken"
    assert requests.post(url, timeout=60).status_code == 401
    assert requests.get(url, timeout=60).status_code == 405


@pytest.mark.parametrize("text", ["", "key", PUBLIC.replace("M", "A"), PUBLIC[:120] + PUBLIC[-30:]])
def test_public_key__that_is_none_is_refused(text: str) -> None:
    """The error says that it is not a PEM key."""
    with pytest.raises(ConfigurationError, match="not an RSA public key in PEM form"):
        load_public_key(text)


def test_public_key__is_read_alike_from_both_forms() -> None:
    """PKCS #1 and SubjectPublicKeyInfo hold the same numbers."""
    keys = [load_public_key(text).public_numbers() for text in (PUBLIC, PUBLIC_PKCS1)]
    assert [(key.n, key.e) for key in keys] == [(MODULUS, 65_537)] * 2


def test_code__is_worth_nothing_without_its_verifier(api: Api) -> None:
    """PKCE (RFC 7636): who stole a code but not the verifier gets no token."""
    verifier = "v" * 43
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "client_id": api.box.client_id,
        "redirect_uri": "http://127.0.0.1:1/callback",
        "response_type": "code",
        "scope": "opportunities.read",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }

    def exchange(**proof: str) -> requests.Response:
        page = requests.get(f"{api.box.origin}/oauth/authorize", params=asked, allow_redirects=False, timeout=60)
        code = parse_qs(urlsplit(page.headers["Location"]).query)["code"][0]
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": api.box.client_id,
            "client_secret": api.box.client_secret,
            "redirect_uri": asked["redirect_uri"],
            **proof,
        }
        return requests.post(f"{api.box.origin}/oauth/token", data=form, timeout=60)

    assert exchange(code_verifier=verifier).status_code == 200
    for proof in ({}, {"code_verifier": ""}, {"code_verifier": challenge}, {"code_verifier": verifier + "v"}):
        refused = exchange(**proof)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    asked["code_challenge_method"] = "plain"
    page = requests.get(f"{api.box.origin}/oauth/authorize", params=asked, allow_redirects=False, timeout=60)
    assert "error=invalid_request" in page.headers["Location"]
