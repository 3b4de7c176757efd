"""The running service, held against its document: thousands of requests, each answered as the document says.

Passkeys are on. Not part of the suite, which it would slow down: `pytest -q -s tests/fuzz.py`, with the extra
`fuzz`.
"""

import json
import re
import time
import unicodedata
from collections import Counter
from itertools import count

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from jsonschema import Draft202012Validator

from config import BASE_DIR
from web.pages import openapi

from .support import PASSWORD, Process, run

schemathesis = pytest.importorskip("schemathesis", reason="the extra `fuzz` is not installed")
import requests  # noqa: E402  (what schemathesis sends with)
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.checks import ignored_auth, positive_data_acceptance  # noqa: E402

DOCUMENT = json.loads(openapi.to_json())
COOKIE = DOCUMENT["components"]["securitySchemes"]["session"]["name"]
COMMAND = 'exec granian --interface=wsgi --no-ws --workers=1 --port "$PORT" tests.granian_app:app'
LEAST_CASES = 2000
# A failure is not made smaller: to tell each shorter story to the service takes minutes.
FIXED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
# For those whose cookie is a session's, and not made up.
WITH_SESSION = schemathesis.openapi.from_dict(DOCUMENT)
WITH_SESSION.config.generation.update(with_security_parameters=False)
OPERATIONS = {
    each.ok().definition.raw["operationId"]: each.ok() for each in WITH_SESSION.get_all_operations()
}
EXCLUDED = [
    # A schema cannot say what NFKC makes of a text, so it takes more than the service: the story below knows.
    positive_data_acceptance,
    # Repeats a request without its cookie, which for a change is another request; the story asks that too.
    ignored_auth,
]
# Most of what is sent is good, so that there are sessions to be used; the rest tries the rules.
NAMES = st.one_of(
    st.sampled_from(["ada", "ADA", "ＡＤＡ", "bob", "eve"]),
    st.sampled_from(["ada", "a.b_c", "0", "ﬁ", "\u212a", "ı", ".ada", "a b", "a\0", "x" * 30]),
)
PASSWORDS = st.one_of(
    st.sampled_from([PASSWORD, "staple correct horse", "ﬁﬁﬁ"]),
    st.text("xyz\u0301", min_size=6, max_size=100),
    st.sampled_from(["12345", "e\u0301" * 100, "\ufdfa", "a\0bcdefg", "x" * 101, "\u0390" * 100, ""])
    | st.text(max_size=110),
)
TWICE = b'{"username": "twice", "username": "twice", "password": "correct horse battery"}'
RAW = st.one_of(
    st.just(TWICE),
    st.binary(max_size=60),
    st.sampled_from([b'{"username": NaN}', b"[" * 9999, b" " * 70_000, b'"\xff"', b"{}"]),
)
# Mostly the right one, or few bodies would be read.
MEDIA_TYPES = st.sampled_from(["application/json", "Application/JSON; charset=UTF-8"]) | st.sampled_from(
    ["application/json", "application/json; a=b", "text/plain", ""]
)

counted: Counter[int] = Counter()
url = ""


@pytest.fixture(scope="module", autouse=True)
def service(tmp_path_factory):
    """Serve from a process of its own; say at the end how many cases there were, and how long they took."""
    global url
    log = tmp_path_factory.mktemp("fuzz") / "log"
    process = Process(("sh", "-c", COMMAND), BASE_DIR, log, {"UTILMETA_PRODUCTION": "0", "PASSKEYS": "on"})
    database = process.environment["DATABASE_URL"]
    assert run("meta", "migrate", PASSKEYS="on", DATABASE_URL=database).returncode == 0
    try:
        process.wait_until_granian_has_started(workers=1)
        url, started = process.url, time.monotonic()
        yield
        seconds, cases = time.monotonic() - started, sum(counted.values())
    finally:
        process.stop()
    statuses = ", ".join(f"{status}: {number}" for status, number in sorted(counted.items()))
    print(f"\n{cases} cases in {seconds:.0f} s, by status {statuses}")
    assert cases >= LEAST_CASES


def send(case, key=None, **changes):
    """Send a case, with the key of a session; hold the response against the document, and more."""
    arguments = case.as_transport_kwargs(base_url=f"{url}/api") | {"timeout": 30} | changes
    if key:
        arguments["cookies"] = {COOKIE: key}
    response = requests.request(**arguments)
    counted[response.status_code] += 1
    case.validate_response(response, excluded_checks=EXCLUDED)
    if "Set-Cookie" in response.headers:
        assert (
            "Set-Cookie" in case.operation.definition.raw["responses"][str(response.status_code)]["headers"]
        )
    assert ("Retry-After" in response.headers) == (response.status_code in (429, 503))
    if response.status_code >= 400:
        body = response.json()
        assert body["status"] == response.status_code
        assert body["request_id"] == response.headers["X-Request-ID"]
    return response


@SCHEMA.parametrize()
@settings(FIXED, max_examples=100)
def test_anybody_is_answered_as_documented(case):
    send(case)


def normalised(text):
    """Return a password as the service keeps it, or a name but for its case."""
    return unicodedata.normalize("NFKC", text)


def documented(operation, body):
    """Tell whether the document takes a body for an operation."""
    content = OPERATIONS[operation].definition.raw["requestBody"]["content"]["application/json"]
    return Draft202012Validator(content["schema"] | {"components": DOCUMENT["components"]}).is_valid(body)


def is_name(text):
    """Tell whether the contract takes a text for a name."""
    return len(text) <= 20 and bool(re.fullmatch("[a-z0-9][a-z0-9._-]{0,19}", normalised(text).lower()))


def is_password(text, least=1):
    """Tell whether the contract takes a text for a password."""
    return "\0" not in text and len(text) <= 400 and least <= len(normalised(text)) <= 100


class Story(RuleBasedStateMachine):
    """Two browsers, whose user is known at each step: what they send is answered as the contract says."""

    numbers = count()
    browsers = st.sampled_from([0, 1])
    # Without those that end a session, or an account, which this story does not keep book of.
    operations = st.sampled_from(
        [
            *sorted(
                {*OPERATIONS}
                - {"revokeSession", "renamePasskey", "deletePasskey", "deleteAccount", "recover"}
            ),
            "updateUser",
            "updateUser",
        ]
    )

    def __init__(self):
        super().__init__()
        # The names of each story are its own.
        self.number = next(self.numbers)
        self.keys = [None, None]
        self.users = [None, None]
        self.passwords = {}

    def kept(self, name):
        """Return a name as this story sends it, and as the service keeps it."""
        sent = f"{name}-{self.number}"
        return sent, normalised(sent).lower()

    def send(self, browser, operation, case, **changes):
        response = send(case, self.keys[browser], **changes)
        if response.status_code == 200:
            self.learn(browser, operation, case.body, response)
        return response

    def learn(self, browser, operation, body, response):
        """Note what a response of 200 means."""
        user, other = self.users[browser], 1 - browser
        if operation == "logout":
            self.users[browser] = None
        elif operation == "revokeOtherSessions":
            self.users[other] = None if self.users[other] == user else self.users[other]
        elif operation in ("signup", "login", "updateUser"):
            name = response.json()["username"]
            if operation == "updateUser":
                self.passwords[name] = self.passwords.pop(user)
                if self.users[other] == user:
                    self.users[other] = None if "password" in body else name
            if "password" in body:  # a login too: the account may be of an earlier story
                self.passwords[name] = normalised(body["password"])
            self.users[browser] = name
        if response.cookies.get(COOKIE):
            self.keys[browser] = response.cookies[COOKIE]

    def expect(self, browser, operation, body, code):
        """Send a body; the response must be 200, or a problem with a code."""
        case = OPERATIONS[operation].Case(body=body, media_type="application/json")
        response = self.send(browser, operation, case)
        assert response.json().get("code") == code, (body, response.text)
        assert response.status_code != 200 or documented(operation, body), body

    @initialize()
    def begin(self):
        self.sign_up(0, "ada", PASSWORD)
        # Of the same user, so that a new password in one ends the session of the other.
        self.log_in(1, "ada", PASSWORD)

    @rule(browser=browsers, name=NAMES, password=PASSWORDS)
    def sign_up(self, browser, name, password):
        sent, kept = self.kept(name)
        code = None
        if not is_name(sent) or not is_password(password, 6):
            code = "invalid_request"
        elif kept in self.passwords:
            code = "username_exists"
        self.expect(browser, "signup", {"username": sent, "password": password}, code)

    @rule(browser=browsers, name=NAMES, password=PASSWORDS)
    def log_in(self, browser, name, password):
        sent, kept = self.kept(name)
        code = None
        if not is_name(sent) or not is_password(password):
            code = "invalid_request"
        elif self.passwords.get(kept) != normalised(password):
            code = "invalid_credentials"
        self.expect(browser, "login", {"username": sent, "password": password}, code)

    @precondition(lambda self: None in self.users)
    @rule(number=st.integers(0, 9))
    def log_in_again(self, number):
        name, password = list(self.passwords.items())[number % len(self.passwords)]
        self.expect(self.users.index(None), "login", {"username": name, "password": password}, None)

    @rule(browser=browsers)
    def see_who_is_logged_in(self, browser):
        response = self.send(browser, "getUser", OPERATIONS["getUser"].Case())
        assert response.json().get("username") == self.users[browser]

    @rule(browser=browsers)
    def log_out(self, browser):
        assert self.send(browser, "logout", OPERATIONS["logout"].Case()).status_code == 200

    @rule(
        browser=browsers,
        name=st.none() | NAMES,
        password=st.none() | PASSWORDS,
        current=st.sampled_from([None, "right", "right"]) | PASSWORDS,
    )
    def change(self, browser, name, password, current):
        user = self.users[browser]
        sent, kept = self.kept(name) if name else (None, user)
        if current == "right":
            current = self.passwords.get(user, PASSWORD)
        fields = {"username": sent, "password": password, "current_password": current}
        code = None
        if not user:
            code = "not_logged_in"
        elif not (
            (sent is None or is_name(sent))
            and (password is None or is_password(password, 6))
            and (current is None or is_password(current))
        ):
            code = "invalid_request"
        elif current is not None and normalised(current) != self.passwords[user]:
            code = "invalid_credentials"
        elif kept != user and kept in self.passwords:
            code = "username_exists"
        body = {field: value for field, value in fields.items() if value is not None}
        self.expect(browser, "updateUser", body, code)

    @rule(data=st.data(), browser=browsers, operation=operations, valid=st.booleans())
    def send_something(self, data, browser, operation, valid):
        takes_body = "requestBody" in OPERATIONS[operation].definition.raw
        mode = GenerationMode.POSITIVE if valid or not takes_body else GenerationMode.NEGATIVE
        self.send(browser, operation, data.draw(OPERATIONS[operation].as_strategy(generation_mode=mode)))

    @rule(browser=browsers, operation=operations, body=RAW, media_type=MEDIA_TYPES)
    def send_bytes(self, browser, operation, body, media_type):
        case = OPERATIONS[operation].Case(body={}, media_type="application/json")
        headers = {"Content-Type": media_type}
        response = self.send(browser, operation, case, data=body, json=None, headers=headers)
        if "requestBody" in case.operation.definition.raw and body.strip() not in (b"", b"{}"):
            assert response.status_code != 200


def test_browsers_are_answered_as_the_contract_says():
    run_state_machine_as_test(Story, settings=settings(FIXED, max_examples=100, stateful_step_count=30))
