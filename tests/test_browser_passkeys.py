"""Passkeys on the page, in a real browser with a virtual authenticator, against the real service."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest

pytest.importorskip("selenium", reason="the extra `browser` is not installed")

from selenium.webdriver.common.keys import Keys

from config import BASE_DIR

from .browser import (
    Browser,
    Device,
    Gate,
    age_logins,
    can_log_in,
    in_database,
    needs_chromium,
    new_code,
    problem,
    too_small,
)
from .support import OTHER_PASSWORD, PASSWORD, Process, credentials

pytestmark = needs_chromium

SERVICE = (sys.executable, BASE_DIR / "server.py")
OPTIONS = ("POST", "/api/passkeys/authentication")
LOGIN = ("POST", "/api/passkeys/login")
NOT_ACCEPTED = "The passkey was not accepted. Try again, or enter your password."
NOT_USED = "No passkey was used. Try again, or enter your password."
NAME = "HeadlessChrome on Linux"
# Keeps what is to be called minutes later, for a test to call it.
HELD_TIMERS = """{
    const { setTimeout } = window;
    window.held = [];
    window.setTimeout = (call, delay) =>
        delay < 100_000 ? setTimeout(call, delay) : window.held.push([call, delay]);
}"""
# Notes what the browser is asked for, and what it rejects.
ASKED = """if (window.isSecureContext) {
    const { get } = CredentialsContainer.prototype;
    window.asked = [];
    CredentialsContainer.prototype.get = function (options) {
        const request = get.call(this, options);
        window.asked.push(options.mediation ?? "modal");
        request.catch((error) => window.asked.push(error.name));
        return request;
    };
}"""
# Which passkeys there are is known only after somebody has begun to add another one.
LATE = """if (window.isSecureContext) {
    let begin;
    const begun = new Promise((resolve) => { begin = resolve; });
    const { fetch } = window;
    window.fetch = async (url, options) => {
        const response = await fetch(url, options);
        if (url.endsWith("/registration")) setTimeout(begin, 200);
        if (url.endsWith("/accepted")) await begun;
        return response;
    };
    const { create } = CredentialsContainer.prototype;
    const { signalAllAcceptedCredentials } = PublicKeyCredential;
    window.order = [];
    CredentialsContainer.prototype.create = function (options) {
        window.order.push("made");
        return create.call(this, options);
    };
    PublicKeyCredential.signalAllAcceptedCredentials = (list) => {
        window.order.push("told");
        return signalAllAcceptedCredentials.call(PublicKeyCredential, list);
    };
}"""
NO_OFFERS = """if (window.isSecureContext) {
    PublicKeyCredential.isConditionalMediationAvailable = async () => false;
}"""


@pytest.fixture(scope="module")
def gate_of_module() -> Iterator[Gate]:
    gate = Gate("http://127.0.0.1")
    gate.url = gate.url.replace("127.0.0.1", "localhost")  # browsers have no passkeys for IP addresses
    yield gate
    gate.close()


@pytest.fixture(scope="module")
def service(gate_of_module: Gate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The service with passkeys, behind the gate."""
    folder = tmp_path_factory.mktemp("service")
    settings = {"UTILMETA_PRODUCTION": "false", "PASSKEYS": "on", "PASSKEY_ORIGINS": gate_of_module.url}
    process = Process(SERVICE, folder, folder / "log", settings)
    gate_of_module.behind = urlsplit(process.wait_until_it_serves().url).netloc
    yield process
    process.stop()


@pytest.fixture
def device(browser: Browser) -> Iterator[Device]:
    """A device that has no passkey yet."""
    device = Device(browser)
    yield device
    device.remove()


@pytest.fixture
def before_the_page(browser: Browser) -> Iterator[Callable[[str], None]]:
    """A function that has a script run before those of the page."""
    with ExitStack() as scripts:

        def add(source: str) -> None:
            call = browser.driver.execute_cdp_cmd
            script = call("Page.addScriptToEvaluateOnNewDocument", {"source": source})
            scripts.callback(call, "Page.removeScriptToEvaluateOnNewDocument", script)

        yield add


@pytest.fixture
def no_offers(before_the_page: Callable[[str], None]) -> None:
    """A browser that offers no passkey in a field; a device would use it at once."""
    before_the_page(NO_OFFERS)


@pytest.fixture
def signup(service: Process, request: pytest.FixtureRequest) -> httpx.Response:
    """The response to a signup, under a name that no other test uses."""
    name = f"u{abs(hash(request.node.nodeid)) % 10**9}"
    response = httpx.post(f"{service.url}/api/user/signup", json=credentials(name))
    assert response.status_code == 200, response.text
    return response


@pytest.fixture
def account(signup: httpx.Response) -> str:
    """The name of an account that exists, and that no browser is logged in to."""
    username: str = signup.json()["username"]
    return username


@pytest.fixture
def log_in(browser: Browser, signup: httpx.Response) -> Callable[[], None]:
    """A function that logs the browser in to the account, but for the page."""

    def log_in() -> None:
        cookie = {"name": "sessionid", "value": signup.cookies["sessionid"], "url": browser.url}
        browser.driver.execute_cdp_cmd("Network.setCookie", cookie | {"httpOnly": True})

    return log_in


@pytest.fixture
def logged_in(browser: Browser, device: Device, log_in: Callable[[], None]) -> Browser:
    """A browser that an account is logged in with, at its passkeys, of which there is none."""
    log_in()
    browser.open("/#passkeys")
    assert browser.view() == "passkeys"
    return browser


@pytest.fixture
def with_passkey(logged_in: Browser) -> Browser:
    """A browser that an account is logged in with, at its passkeys, of which there is one."""
    add_passkey(logged_in)
    return logged_in


@pytest.fixture
def logged_out(with_passkey: Browser, gate: Gate) -> Browser:
    """A browser that an account has logged out with that has a passkey on the device."""
    with_passkey.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    gate.requests.clear()
    return with_passkey


def add_passkey(browser: Browser, count: int = 1) -> None:
    """Add a passkey, so that there are so many."""
    browser.click("Add a passkey")
    browser.until(lambda: len(passkeys(browser)) == count)


def passkeys(browser: Browser) -> list[str]:
    """Return the names of the passkeys in the list."""
    script = "return [...document.querySelectorAll('#passkeys .device')].map((each) => each.textContent)"
    names: list[str] = browser.driver.execute_script(script)
    return names


def asked(browser: Browser) -> list[str]:
    """Return what the browser has been asked for by now, and what it has rejected."""
    found: list[str] = browser.driver.execute_script("return window.asked")
    return found


def open_with_an_offer(browser: Browser, device: Device, before_the_page: Callable[[str], None]) -> None:
    """Open the login form, whose offer of a passkey nobody takes."""
    before_the_page(ASKED)
    device.answer(False)
    browser.open()
    browser.until(lambda: asked(browser) == ["conditional"])


def held(browser: Browser) -> list[int]:
    """Return in how many milliseconds something is to be called that is held up."""
    delays: list[int] = browser.driver.execute_script("return window.held.map(([call, delay]) => delay)")
    return delays


def let_time_pass(browser: Browser) -> None:
    """Call what was held up last."""
    browser.driver.execute_script("window.held.pop()[0]()")


def test_user_adds_a_passkey_and_logs_in_with_it(no_offers, logged_in, device, account):
    browser = logged_in
    assert browser.find("#no-passkeys").is_displayed()
    assert too_small(browser) == []
    browser.inspect("passkeys-none")

    add_passkey(browser)

    assert browser.text("#status") == f"Your passkey has been added. It is called “{NAME}”."
    assert browser.focus() == "heading"
    assert "Not used yet" in browser.text("#passkeys .hint")
    assert [each["userName"] for each in device.passkeys()] == [account]
    browser.inspect("passkeys")
    browser.follow("Back to your account")
    browser.until_view("account")
    browser.click("Log out")
    browser.until_view("login")
    assert too_small(browser) == []
    browser.inspect("login-passkey")

    browser.click("Log in with a passkey")

    browser.until_view("account")
    assert browser.text("#account-username") == account
    assert browser.text("#warning") == ""
    browser.follow("Passkeys")
    browser.until_view("passkeys")
    assert "Last used a few minutes ago" in browser.text("#passkeys .hint")


def test_passkey_is_offered_in_the_username_field(logged_out, gate):
    browser = logged_out

    browser.open("/#password", ready=False)  # the device answers as if its user had chosen there

    browser.until_view("password")
    assert browser.find("#login-username").get_attribute("autocomplete") == "username webauthn"
    assert (gate.count(*OPTIONS), gate.count(*LOGIN)) == (1, 1)


def test_offer_ends_when_the_user_presses_the_button(browser, device, before_the_page):
    open_with_an_offer(browser, device, before_the_page)

    browser.click("Log in with a passkey")

    # A browser takes one request at a time.
    browser.until(lambda: asked(browser) == ["conditional", "AbortError", "modal"])
    assert browser.text("#passkey-login > button") == "Waiting for your passkey…"
    assert browser.find("#passkey-login").get_attribute("aria-busy") == "true"


def test_offer_ends_with_the_login_form(browser, device, before_the_page):
    open_with_an_offer(browser, device, before_the_page)

    browser.follow("Sign up")

    browser.until_view("signup")
    browser.until(lambda: asked(browser) == ["conditional", "AbortError"])
    browser.follow("Log in")
    browser.until(lambda: asked(browser) == ["conditional", "AbortError", "conditional"])


def test_second_device_has_a_passkey_of_its_own(no_offers, with_passkey, device, log_in):
    browser = with_passkey
    device.replace()
    browser.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    log_in()
    browser.open("/#passkeys")
    add_passkey(browser, 2)
    [second] = device.passkeys()

    browser.click("Delete")  # the first

    browser.until(lambda: len(passkeys(browser)) == 1)
    browser.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.open()
    browser.click("Log in with a passkey")
    browser.until_view("account")
    assert device.passkeys()[0]["credentialId"] == second["credentialId"]


def test_device_that_has_a_passkey_gets_no_second_one(with_passkey, device):
    with_passkey.click("Add a passkey")

    expected = "This device already has a passkey for your account."
    with_passkey.until(lambda: with_passkey.text("#status") == expected)
    assert with_passkey.text("#warning") == ""
    assert len(device.passkeys()) == 1


def test_passkey_is_renamed_with_the_keyboard(with_passkey):
    browser = with_passkey
    browser.tab("Rename")
    rename = browser.driver.switch_to.active_element
    assert rename.accessible_name == f"Rename {NAME}"
    browser.press(Keys.ENTER)
    assert rename.get_attribute("aria-expanded") == "true"
    assert browser.driver.execute_script("return String(getSelection())") == NAME
    browser.press(Keys.DELETE, Keys.ENTER)
    assert browser.error("name").startswith("Use 1 to 50 printable characters")
    assert too_small(browser) == []
    browser.inspect("passkeys-rename")

    browser.press("My <b>phone</b>", Keys.ENTER)

    browser.until(lambda: passkeys(browser) == ["My <b>phone</b>"])
    assert browser.text("#status") == "The passkey is now called “My <b>phone</b>”."
    assert browser.focus() == "heading"


def test_name_that_is_not_saved_is_not_kept(with_passkey):
    browser = with_passkey
    browser.click("Rename")
    browser.press("something else")
    browser.click("Rename")
    assert not browser.find("#passkeys [name=name]").is_displayed()

    browser.click("Rename")

    assert browser.find("#passkeys [name=name]").get_attribute("value") == NAME


def test_deleted_passkey_is_gone_from_the_device_too(with_passkey, device):
    browser = with_passkey

    browser.click("Delete")

    browser.until(lambda: browser.text("#status") == f"The passkey “{NAME}” has been deleted.")
    assert browser.focus() == "heading"
    assert browser.find("#no-passkeys").is_displayed()
    browser.until(lambda: device.passkeys() == [])


def test_passkey_that_was_deleted_elsewhere_is_deleted(with_passkey, device, service, account):
    in_database(service, "DELETE FROM passkey_passkey", account)

    with_passkey.click("Delete")

    with_passkey.until(lambda: passkeys(with_passkey) == [])
    assert with_passkey.text("#warning") == ""
    with_passkey.until(lambda: device.passkeys() == [])


def test_login_tells_the_browser_which_passkeys_there_are(no_offers, logged_out, device, service, account):
    in_database(service, "DELETE FROM passkey_passkey", account)
    logged_out.open()

    logged_out.send(username=account, password=PASSWORD)

    logged_out.until(lambda: device.passkeys() == [])


def test_device_shows_the_new_username(with_passkey, device, account):
    with_passkey.open("/#name")

    with_passkey.send(username=f"{account}-2")

    with_passkey.until(lambda: device.passkeys()[0]["userName"] == f"{account}-2")


def test_deleted_account_leaves_no_passkey_on_the_device(with_passkey, device, account):
    with_passkey.open("/#delete")
    assert "your passkeys" in with_passkey.text("[data-view=delete] .lead")

    with_passkey.send(username=account)

    with_passkey.until_view("login")
    with_passkey.until(lambda: device.passkeys() == [])


def test_cancelled_prompt_is_no_error(no_offers, logged_out, device):
    browser = logged_out
    browser.open()
    device.recognise(False)

    browser.click("Log in with a passkey")

    browser.until(lambda: browser.text("#status") == NOT_USED)
    assert browser.text("#warning") == ""
    assert browser.driver.switch_to.active_element.text == "Log in with a passkey"
    device.recognise(True)
    browser.click("Log in with a passkey")
    browser.until_view("account")
    assert browser.text("#status") == ""


def test_passkey_need_not_be_added(logged_in, device):
    device.recognise(False)

    logged_in.click("Add a passkey")

    logged_in.until(lambda: logged_in.text("#status") == "No passkey was added.")
    assert logged_in.text("#warning") == ""
    assert logged_in.view() == "passkeys"
    device.recognise(True)
    add_passkey(logged_in)


def test_refused_passkey_is_said_in_plain_words(no_offers, logged_out, service, account):
    browser = logged_out
    in_database(service, "DELETE FROM passkey_passkey", account)
    browser.open()

    browser.click("Log in with a passkey")

    browser.until(lambda: browser.text("#warning") == NOT_ACCEPTED)
    assert browser.driver.switch_to.active_element.text == "Log in with a passkey"
    browser.send(username=account, password=PASSWORD)
    browser.until_view("account")
    assert browser.text("#warning") == ""


def test_refused_offer_is_made_again_and_not_for_ever(logged_out, service, account, gate):
    browser = logged_out
    in_database(service, "DELETE FROM passkey_passkey", account)

    browser.open()  # the device answers each offer at once

    browser.until(lambda: gate.count(*LOGIN) == 3)
    form = browser.find("#passkey-login")
    browser.until(lambda: browser.text("#warning") and form.get_attribute("aria-busy") == "false")
    assert browser.text("#warning") == NOT_ACCEPTED
    browser.click("Log in with a passkey")
    browser.until(lambda: gate.count(*LOGIN) == 4)
    assert gate.count(*OPTIONS) == 4


def test_new_passkey_that_is_refused_stays_on_no_device(with_passkey, device, gate):
    browser = with_passkey
    device.replace()
    refused = problem(403, "invalid_credentials", "The passkey was not accepted")
    gate.canned_at["POST", "/api/passkeys"] = refused

    browser.click("Add a passkey")

    browser.until(lambda: browser.text("#warning") == "The passkey was not accepted. Try again.")
    browser.until(lambda: device.passkeys() == [])


def test_browser_is_not_told_of_the_passkeys_without_the_one_that_is_being_added(
    logged_out, device, account, before_the_page
):
    browser = logged_out
    device.replace()
    before_the_page(LATE)
    browser.open("/#passkeys")
    browser.send(username=account, password=PASSWORD)
    browser.until_view("passkeys")

    add_passkey(browser, 2)

    browser.until(lambda: browser.driver.execute_script("return window.order") == ["told", "made", "told"])
    assert len(device.passkeys()) == 1


def test_when_to_try_again_is_said(no_offers, logged_out, gate):
    many = problem(429, "too_many_requests", "Too many attempts. Try again later.", **{"Retry-After": "600"})
    gate.canned_at[LOGIN] = many
    logged_out.open()

    logged_out.click("Log in with a passkey")

    logged_out.until(lambda: logged_out.text("#warning").endswith("Try again in 10 minutes."))


def test_offer_gets_a_new_challenge_before_the_old_one_expires(browser, device, gate, before_the_page):
    before_the_page(HELD_TIMERS + ASKED)
    device.answer(False)
    browser.open()
    browser.until(lambda: asked(browser) == ["conditional"])
    assert held(browser) == [240_000]

    let_time_pass(browser)

    browser.until(lambda: asked(browser) == ["conditional", "AbortError", "conditional"])
    assert gate.count(*OPTIONS) == 2
    assert held(browser) == [240_000]


def test_offer_in_a_hidden_window_waits_until_somebody_comes_back(browser, device, gate, before_the_page):
    before_the_page(HELD_TIMERS + ASKED)
    device.answer(False)
    browser.open()
    browser.until(lambda: asked(browser) == ["conditional"])
    show = (
        "Object.defineProperty(document, 'visibilityState', {value: arguments[0], configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    browser.driver.execute_script(show, "hidden")

    let_time_pass(browser)

    browser.until(lambda: asked(browser) == ["conditional", "AbortError"])
    other_request = "PublicKeyCredential.isConditionalMediationAvailable().then(() => fetch('api/health'))"
    browser.driver.execute_async_script(f"{other_request}.then(arguments[0])")
    assert (gate.count(*OPTIONS), held(browser)) == (1, [])
    browser.driver.execute_script(show, "visible")
    browser.until(lambda: asked(browser) == ["conditional", "AbortError", "conditional"])
    assert gate.count(*OPTIONS) == 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("new DOMException('no', 'NotAllowedError')", ("#status", NOT_USED)),
        (
            "new DOMException('The operation is insecure.', 'SecurityError')",
            ("#warning", "Your browser could not use a passkey. Enter your password."),
        ),
    ],
)
def test_browser_that_rejects_at_once_is_not_asked_for_ever(browser, gate, before_the_page, error, expected):
    says_it_can = "PublicKeyCredential.isConditionalMediationAvailable = async () => true;"
    rejects = f"navigator.credentials.get = () => Promise.reject({error});"
    before_the_page(f"if (window.isSecureContext) {{ {says_it_can} {rejects} }}")
    browser.open()
    browser.until(lambda: gate.count(*OPTIONS) == 1)

    browser.click("Log in with a passkey")

    browser.until(lambda: browser.text(expected[0]) == expected[1])
    browser.until(lambda: gate.count(*OPTIONS) == 3)  # the offer, the button, and the offer again
    browser.press("x")
    assert gate.count(*OPTIONS) == 3


def test_who_leaves_the_form_is_asked_for_no_passkey_any_more(no_offers, browser, device, before_the_page):
    before_the_page(ASKED)
    device.answer(False)
    browser.open()
    browser.click("Log in with a passkey")
    browser.until(lambda: asked(browser) == ["modal"])

    browser.follow("Sign up")

    browser.until_view("signup")
    browser.until(lambda: asked(browser) == ["modal", "AbortError"])
    browser.until(lambda: browser.find("#passkey-login").get_attribute("aria-busy") == "false")
    assert (browser.text("#status"), browser.text("#warning")) == ("", "")


def test_browser_that_never_answers_is_waited_for_until_the_challenge_expires(browser, before_the_page):
    never = "navigator.credentials && (navigator.credentials.get = () => new Promise(() => {}));"
    before_the_page(HELD_TIMERS + NO_OFFERS + never)
    browser.open()
    browser.click("Log in with a passkey")
    browser.until(lambda: held(browser) == [300_000])

    let_time_pass(browser)

    browser.until(lambda: browser.text("#status") == NOT_USED)


def test_nothing_of_passkeys_is_shown_where_the_browser_has_none(
    logged_out, gate, before_the_page, log_in, service, account
):
    browser = logged_out
    before_the_page("delete window.PublicKeyCredential;")
    browser.open()
    assert not browser.find("#passkey-login").is_displayed()
    assert browser.find("#login-username").get_attribute("autocomplete") == "username"
    assert not [path for _, path in gate.requests if path.startswith("/api/passkeys")]
    log_in()
    browser.open()
    browser.follow("Passkeys")  # there is one, of another device, that may have been lost
    browser.until_view("passkeys")
    assert not browser.find("#add-passkey").is_displayed()
    age_logins(service, account)

    browser.click("Delete")

    browser.until(browser.has_dialog)
    assert not browser.find("#use-passkey").is_displayed()
    browser.send(password=PASSWORD)
    browser.until(lambda: browser.text("#status") == f"The passkey “{NAME}” has been deleted.")
    browser.follow("Back to your account")
    browser.until_view("account")
    assert not browser.find("#passkeys-link").is_displayed()


def test_nothing_of_passkeys_is_shown_at_an_ip_address(browser, gate):
    browser.url = gate.url.replace("localhost", "127.0.0.1")

    browser.open()

    assert not browser.find("#passkey-login").is_displayed()
    assert not [path for _, path in gate.requests if path.startswith("/api/passkeys")]


def test_passkeys_work_under_a_path(no_offers, browser, device, gate, log_in):
    gate.prefix = "/accounts"
    browser.url = f"{gate.url}/accounts"
    log_in()
    browser.open("/#passkeys")
    add_passkey(browser)
    browser.open()
    browser.click("Log out")
    browser.until_view("login")

    browser.click("Log in with a passkey")

    browser.until_view("account")
    assert all(path.startswith("/accounts/") for _, path in gate.requests)


def test_passkey_does_for_the_password_in_the_dialog(with_passkey, device, service, account):
    browser = with_passkey
    age_logins(service, account)
    browser.open("/#recovery-code")
    browser.send()
    browser.until(browser.has_dialog)
    assert browser.focus() == "reauthentication-password"
    assert browser.text("#reauthentication-reason").endswith(
        "Enter your password or use a passkey to continue."
    )
    assert too_small(browser) == []
    browser.inspect("dialog-passkey")
    device.recognise(False)
    browser.click("Use a passkey")
    browser.until(lambda: browser.text("dialog .notice:not(.problem)") == NOT_USED)
    assert browser.text("#status") == ""
    device.recognise(True)

    browser.click("Use a passkey")

    browser.until(lambda: browser.text("#code"))
    assert not browser.has_dialog()


def test_passkey_that_is_refused_is_said_in_the_dialog(with_passkey, service, account, gate):
    browser = with_passkey
    age_logins(service, account)
    browser.click("Delete")
    browser.until(browser.has_dialog)
    refused = problem(403, "invalid_credentials", "The passkey was not accepted")
    gate.canned_at["POST", "/api/passkeys/reauthenticate"] = refused

    browser.click("Use a passkey")

    browser.until(lambda: browser.text("dialog .problem") == NOT_ACCEPTED)
    browser.send(password=PASSWORD)
    browser.until(lambda: passkeys(browser) == [])


def test_dialog_can_be_left_while_the_passkey_is_asked_for(with_passkey, device, service, account, gate):
    browser = with_passkey
    age_logins(service, account)
    browser.open("/#recovery-code")
    browser.send()
    browser.until(browser.has_dialog)
    device.answer(False)
    browser.click("Use a passkey")
    browser.until(lambda: gate.count(*OPTIONS))

    browser.click("Cancel")

    create = browser.find("[data-action=create-code]")
    browser.until(lambda: create.get_attribute("aria-busy") == "false")
    assert not browser.has_dialog()
    device.answer(True)
    browser.send()
    browser.until(browser.has_dialog)
    browser.click("Use a passkey")
    browser.until(lambda: browser.text("#code"))


def test_who_forgot_the_password_sets_another_by_a_passkey(with_passkey, service, account):
    browser = with_passkey
    age_logins(service, account)
    browser.open("/#password")

    browser.send(password=OTHER_PASSWORD)
    browser.until(browser.has_dialog)
    browser.click("Use a passkey")

    browser.until_view("account")
    assert can_log_in(service, account, OTHER_PASSWORD)


def test_recovery_says_how_many_passkeys_there_are(with_passkey, service, account):
    browser = with_passkey
    code = new_code(browser)
    browser.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.open("/#recover")

    browser.send(username=account, recovery_code=code, password=OTHER_PASSWORD)

    browser.until_view("account")
    assert browser.text("#status").endswith("You still have 1 passkey. Delete it if it is not yours.")


def test_user_is_reminded_of_passkeys_after_a_login_until_they_do_not_want_it(browser, device, account):
    browser.open()
    browser.send(username=account, password=PASSWORD)
    browser.until_view("account")
    assert browser.find("#passkey-reminder").is_displayed()
    assert not browser.find("#reminder").is_displayed()  # one at a time
    assert too_small(browser) == []
    browser.inspect("account-passkey-reminder")

    browser.click("Not now")

    assert not browser.find("#passkey-reminder").is_displayed()
    assert browser.focus() == "heading"
    browser.click("Log out")
    browser.until_view("login")
    browser.send(username=account, password=PASSWORD)
    browser.until_view("account")
    assert not browser.find("#passkey-reminder").is_displayed()
    assert browser.find("#reminder").is_displayed()
    browser.driver.execute_script("localStorage.clear()")


def test_who_has_a_passkey_is_not_reminded(no_offers, logged_out, account):
    logged_out.open()

    logged_out.send(username=account, password=PASSWORD)

    logged_out.until_view("account")
    assert not logged_out.find("#passkey-reminder").is_displayed()


def test_fresh_signup_is_not_reminded_of_passkeys(browser, device, account):
    browser.open("/#signup")

    browser.send(username=f"{account}-b", password=PASSWORD)

    browser.until_view("account")
    assert not browser.find("#passkey-reminder").is_displayed()


def test_name_of_a_passkey_stays_text(logged_in, gate):
    hostile = "<img src=x onerror=alert(1)>" + "x" * 22
    time = "2024-01-29T12:29:33.684594Z"
    passkey = {"id": 1, "name": hostile, "created_time": time, "last_used_time": time, "backed_up": True}
    gate.canned_at["GET", "/api/passkeys"] = (200, {}, json.dumps([passkey]).encode())

    logged_in.open("/#passkeys")

    assert passkeys(logged_in) == [hostile]
    logged_in.inspect("passkeys-long")


def test_page_works_without_the_script_that_knows_passkeys(browser, account):
    browser.may_write = ["net::ERR_BLOCKED_BY_CLIENT", "net::ERR_FAILED"]
    browser.driver.execute_cdp_cmd("Network.enable", {})
    browser.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/passkeys.js"]})

    browser.open()
    browser.send(username=account, password=PASSWORD)

    browser.until_view("account")
    browser.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
