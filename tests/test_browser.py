"""The page, in a real browser against the real service."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

pytest.importorskip("selenium", reason="the extra `browser` is not installed")

from selenium.webdriver.common.keys import Keys

from config import BASE_DIR
from user.schema import Username

from .browser import (
    SCREENSHOTS,
    STATUS_LINE,
    Browser,
    Gate,
    age_logins,
    can_log_in,
    in_database,
    needs_chromium,
    new_code,
    problem,
    too_small,
)
from .nginx import needs_nginx, nginx
from .support import OTHER_PASSWORD, PASSWORD, Process, credentials, free_port, run
from .test_production import COMMANDS, COOKIE, PRODUCTION

pytestmark = needs_chromium

SERVICE = (sys.executable, BASE_DIR / "server.py")
SETTINGS = {"UTILMETA_PRODUCTION": "false"}
GRANIAN = ("sh", "-c", 'exec granian --interface=wsgi --no-ws --port "$PORT" tests.granian_app:app')


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The service, as a developer starts it."""
    folder = tmp_path_factory.mktemp("service")
    process = Process(SERVICE, folder, folder / "log", SETTINGS)
    yield process.wait_until_it_serves()
    process.stop()


@pytest.fixture(scope="module")
def gate_of_module(service: Process) -> Iterator[Gate]:
    gate = Gate(service.url)
    yield gate
    gate.close()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return f"u{abs(hash(request.node.nodeid)) % 10**9}"


@pytest.fixture
def account(service: Process, name: str) -> str:
    """The name of an account that exists, and that nobody is logged in to."""
    with httpx.Client(base_url=service.url) as client:
        answer = client.post("/api/user/signup", json=credentials(name))
        assert answer.status_code == 200, answer.text
        client.post("/api/user/logout")
    return name


@pytest.fixture
def logged_in(browser: Browser, service: Process, account: str) -> Browser:
    """A browser that an account is logged in with, at its account."""
    answer = httpx.post(f"{service.url}/api/user/login", json=credentials(account))
    cookie = answer.cookies["sessionid"]
    browser.driver.execute_cdp_cmd(
        "Network.setCookie", {"name": "sessionid", "value": cookie, "url": browser.url, "httpOnly": True}
    )
    browser.open()
    assert browser.view() == "account"
    return browser


def test_somebody_signs_up(browser, name):
    browser.open()
    browser.inspect("login")
    browser.follow("Sign up")
    browser.until_view("signup")
    assert browser.focus() == "heading"
    browser.inspect("signup")

    browser.send(username=name.upper(), password=PASSWORD)

    browser.until_view("account")
    assert browser.text("#account-username") == name
    assert browser.text("#status") == f"Welcome, {name}."
    assert browser.focus() == "heading"
    browser.inspect("account")


def test_errors_stand_beside_their_fields(browser):
    browser.open("/#signup")

    browser.send(username="<script>alert(1)</script>", password="a")

    assert browser.error("username") == Username.message
    assert browser.error("password").startswith("Use at least 6 characters")
    assert browser.focus() == "signup-username"
    assert browser.text("#warning") == ""
    browser.inspect("signup-errors")


def test_rules_are_those_of_the_service(browser, gate):
    browser.open("/#signup")
    rule = {"field": "password", "message": "Use at least 15 characters."}
    status, headers, body = problem(400, "invalid_request", "The request is not valid.")
    gate.canned = status, headers, json.dumps(json.loads(body) | {"errors": [rule]}).encode()

    browser.send(username="bob", password="a")

    assert browser.error("password") == "Use at least 15 characters."
    limits = "[minlength], [maxlength], [pattern], [passwordrules]"
    assert browser.driver.find_elements("css selector", limits) == []


def test_space_that_a_keyboard_puts_around_a_name_is_taken_off(browser, name):
    browser.open("/#signup")
    browser.send(username=f" {name} ", password=PASSWORD)
    browser.until_view("account")
    browser.follow("Change your username")
    browser.until_view("name")
    browser.send(username=f"\u00a0{name}-2\u2003 ")
    browser.until_view("account")
    assert browser.text("#status") == f"Your username is now {name}-2."
    browser.send()
    browser.until_view("login")

    browser.send(username=f"{name}-2 ", password=f"{PASSWORD} ")

    # The password is sent as it was typed, and is another one with a space.
    browser.until(lambda: browser.text("#warning") == "Username or password wrong")
    assert browser.find("#login-username").get_attribute("value") == f"{name}-2"
    browser.send(username=f"{name}-2 ", password=PASSWORD)
    browser.until_view("account")


def test_taken_name_stands_beside_its_field(browser, account):
    browser.open("/#signup")

    browser.send(username=account, password=PASSWORD)

    assert browser.error("username") == "Username exists"
    assert browser.find("#signup-password").get_attribute("value") == PASSWORD


def test_user_changes_the_name(logged_in, name):
    browser = logged_in
    browser.follow("Change your username")
    browser.until_view("name")
    browser.inspect("name")

    browser.send(username=f"{name}-2")

    browser.until_view("account")
    assert browser.text("#account-username") == f"{name}-2"
    assert browser.text("#status") == f"Your username is now {name}-2."


def test_name_of_somebody_else_stands_beside_its_field(logged_in, service):
    httpx.post(f"{service.url}/api/user/signup", json=credentials("somebody"))
    logged_in.open("/#name")

    logged_in.send(username="somebody")

    assert logged_in.error("username") == "Username exists"
    assert logged_in.focus() == "name-username"
    logged_in.inspect("name-errors")


def test_wrong_password_is_said(browser, account):
    browser.open()

    browser.send(username=account, password=OTHER_PASSWORD)

    browser.until(lambda: browser.text("#warning"))
    assert browser.text("#warning") == "Username or password wrong"
    assert browser.focus() == "login-password"
    browser.inspect("login-wrong")
    browser.send(password=PASSWORD)
    browser.until_view("account")
    assert browser.text("#warning") == ""


def test_user_changes_the_password(logged_in, service, account):
    browser = logged_in
    browser.follow("Change your password")
    browser.until_view("password")
    browser.inspect("password")

    browser.send(password=OTHER_PASSWORD)

    browser.until_view("account")
    assert (
        browser.text("#status")
        == "Your password has been changed. You have been logged out on all other devices."
    )
    browser.inspect("password-changed")
    assert can_log_in(service, account, OTHER_PASSWORD)
    assert not can_log_in(service, account, PASSWORD)


def test_current_password_is_asked_for_in_place(logged_in, service, account, gate):
    browser = logged_in
    in_database(service, "UPDATE user_session SET created_time = datetime('now', '-1 hour')", account)
    browser.open("/#password")
    browser.send(password=OTHER_PASSWORD)
    browser.until(lambda: browser.focus() == "password-current")
    browser.inspect("reauthentication")

    browser.send(current_password="not it")
    assert browser.error("current_password") == "This is not your current password."
    assert browser.focus() == "password-current"
    browser.inspect("reauthentication-wrong")
    browser.fill(current_password=PASSWORD)
    browser.press(Keys.ENTER)  # the new one is not typed again

    browser.until_view("account")
    assert can_log_in(service, account, OTHER_PASSWORD)
    browser.follow("Change your password")
    browser.until_view("password")
    assert not browser.find("#password-current").is_displayed()
    assert browser.find("#password-new").get_attribute("value") == ""


def test_user_logs_out(logged_in):
    logged_in.follow("Change your username")
    logged_in.until_view("name")
    logged_in.follow("Back to your account")
    logged_in.until_view("account")

    logged_in.send()

    logged_in.until_view("login")
    assert logged_in.text("#status") == "You are logged out."
    assert logged_in.driver.get_cookies() == []
    logged_in.inspect("logged-out")
    logged_in.driver.back()
    logged_in.until_view("login")


def test_ended_session_brings_the_login_form_back(logged_in, service, account):
    browser = logged_in
    browser.open("/#name")
    in_database(service, "DELETE FROM user_session", account)

    browser.send(username=f"{account}-2")

    browser.until_view("login")
    assert browser.text("#status") == "You have been logged out. Log in to continue."
    assert browser.find("#login-username").get_attribute("value") == account
    browser.inspect("session-ended")
    browser.send(password=PASSWORD)
    browser.until_view("name")
    assert browser.find("#name-username").get_attribute("value") == f"{account}-2"


def test_ended_session_keeps_no_password(logged_in, service, account):
    logged_in.open("/#password")
    in_database(service, "DELETE FROM user_session", account)

    logged_in.send(password=OTHER_PASSWORD)

    logged_in.until_view("login")
    assert logged_in.find("#password-new").get_attribute("value") == ""


def test_another_user_in_another_tab_is_noticed(logged_in, service, name):
    answer = httpx.post(f"{service.url}/api/user/signup", json=credentials(f"{name}-b"))
    cookie = {"name": "sessionid", "value": answer.cookies["sessionid"], "url": logged_in.url}
    logged_in.driver.execute_cdp_cmd("Network.setCookie", cookie)

    logged_in.driver.execute_script("document.dispatchEvent(new Event('visibilitychange'))")

    logged_in.until(lambda: logged_in.text("#account-username") == f"{name}-b")
    assert logged_in.text("#status") == f"You are logged in as {name}-b."


def test_login_in_another_tab_is_noticed(browser, service, name):
    browser.open()
    browser.until_view("login")
    look = "document.dispatchEvent(new Event('visibilitychange'))"
    browser.driver.execute_script(look)  # nobody yet
    browser.fill(username="typed")
    answer = httpx.post(f"{service.url}/api/user/signup", json=credentials(name))
    cookie = {"name": "sessionid", "value": answer.cookies["sessionid"], "url": browser.url}
    browser.driver.execute_cdp_cmd("Network.setCookie", cookie)

    browser.driver.execute_script(look)

    browser.until(lambda: browser.view() == "account")
    assert browser.text("#account-username") == name
    assert browser.text("#status") == f"You are logged in as {name}."


def test_looking_again_keeps_what_a_guest_has_typed(browser, gate):
    browser.open()
    browser.until_view("login")
    browser.fill(username="typed")
    asked = gate.count("GET", "/api/user")

    browser.driver.execute_script("document.dispatchEvent(new Event('visibilitychange'))")

    browser.until(lambda: gate.count("GET", "/api/user") > asked)
    browser.press("x")
    assert browser.find("#login-username").get_attribute("value") == "typedx"
    assert browser.text("#status") == ""
    assert browser.view() == "login"


def test_slow_request_shows_that_it_works_and_is_sent_once(browser, account, gate):
    browser.open()
    gate.open.clear()
    browser.send(username=account, password=PASSWORD)
    browser.until(lambda: gate.count("POST", "/api/user/login"))

    button = browser.find("[data-action=login] > button")
    assert button.text == "Logging in…"
    assert button.get_attribute("aria-disabled") == "true"
    assert browser.find("[data-action=login]").get_attribute("aria-busy") == "true"
    assert browser.text("#progress") == "Logging in…"
    browser.inspect("slow")
    button.click()
    browser.find("#login-username").send_keys(Keys.ENTER)
    browser.find("#login-password").send_keys(Keys.ENTER)
    browser.follow("Sign up")
    browser.send(username="u2", password=PASSWORD)
    gate.open.set()

    browser.until_view("account")
    assert button.get_attribute("textContent") == "Log in"
    sent = [request for request in gate.requests if request[0] != "GET"]
    assert sent == [("POST", "/api/user/login")]


def test_nothing_moves_for_who_wants_no_motion(browser, account, gate):
    browser.open()
    reduced = {"name": "prefers-reduced-motion", "value": "reduce"}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [reduced]})
    gate.open.clear()

    browser.send(username=account, password=PASSWORD)

    browser.until(lambda: browser.text("#progress"))
    assert browser.driver.execute_script("return document.getAnimations().length") == 0
    gate.open.set()
    browser.until_view("account")


def test_no_form_is_shown_before_it_is_the_right_one(logged_in, gate):
    gate.open.clear()

    logged_in.open(ready=False)

    logged_in.until(lambda: gate.count("GET", "/api/user") >= 2 and logged_in.text("h1") == "One moment…")
    assert logged_in.view() == ""
    gate.open.set()
    logged_in.until_view("account")


def test_service_that_is_away_is_said(browser, tmp_path):
    process = Process(SERVICE, tmp_path, tmp_path / "log", SETTINGS).wait_until_it_serves()
    browser.url, browser.may_write = process.url, ["net::ERR_CONNECTION_REFUSED"]
    browser.open()
    process.stop()

    browser.send(username="bob", password=PASSWORD)

    browser.until(lambda: browser.text("#warning"))
    assert browser.text("#warning") == "The service cannot be reached. Check your connection and try again."
    assert browser.find("#login-password").get_attribute("value") == PASSWORD
    browser.inspect("no-network")


def test_page_of_a_proxy_is_not_taken_for_a_response(browser, gate):
    browser.may_write = [STATUS_LINE + "502"]
    browser.open()
    for status in (502, 200):
        gate.canned = (status, {"Content-Type": "text/html"}, b"<h1>Bad Gateway</h1>")

        browser.send(username="bob", password=PASSWORD)

        expected = "Your network or a proxy responded instead of the service"
        browser.until(lambda: browser.text("#warning").startswith(f"{expected} ({status})"))  # noqa: B023
    assert browser.view() == "login"


@pytest.fixture
def in_production(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that was sent to the service over HTTP, in production."""
    folder = tmp_path_factory.mktemp("plain")
    settings = {
        "UTILMETA_PRODUCTION": "true",
        "SECRET_KEY": "a-key-of-the-tests-that-is-long-enough-for-production",
        "ALLOWED_HOSTS": "users.example.com",
        "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
    }
    assert run("meta", "migrate", **settings).returncode == 0
    process = Process(GRANIAN, BASE_DIR, folder / "log", settings)
    browser.url = process.wait_until_granian_has_started(workers=1).url.replace(
        "127.0.0.1", "users.example.com"
    )
    # Chromium says so of a header that only counts over HTTPS.
    browser.may_write = ["Cross-Origin-Opener-Policy"]
    yield browser
    process.stop()


def test_why_nobody_stays_logged_in_over_http_is_said(in_production, name):
    browser = in_production
    expected = (
        "Your browser does not keep you logged in over http://. "
        "Open this page with https:// and log in there."
    )
    browser.open("/#signup")
    browser.send(username=name, password=PASSWORD)
    browser.until(lambda: browser.text("#warning") == expected)
    assert browser.view() == "signup"
    browser.open("/#login")

    browser.send(username=name, password=PASSWORD)

    browser.until(lambda: browser.text("#warning") == expected)
    assert browser.view() == "login"
    browser.inspect("over-http")


def test_browser_that_keeps_no_cookies_is_told(browser, gate, account):
    browser.open()
    gate.forget_cookies = True

    browser.send(username=account, password=PASSWORD)

    browser.until(lambda: browser.text("#warning").startswith("Your browser does not keep"))
    assert browser.view() == "login"


@pytest.mark.parametrize("cut", [(503, {}, b""), (401, {"Content-Type": "text/html"}, b"no")])
def test_login_is_one_whatever_the_next_request_says(browser, gate, account, cut):
    browser.may_write = [STATUS_LINE + str(cut[0])]
    browser.open()
    gate.canned_get = cut

    browser.send(username=account, password=PASSWORD)

    browser.until_view("account")


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [
        ("5", "Try again in 5 seconds."),
        ("570", "Try again in 10 minutes."),
        ("Thu, 01 Jan 2099 00:00:00 GMT", "Try again in"),
    ],
)
def test_when_to_try_again_is_said(browser, gate, retry_after, expected):
    browser.may_write = [STATUS_LINE + "503"]
    browser.open()
    headers = {"Retry-After": retry_after}
    gate.canned = problem(503, "service_unavailable", "The service is not available now.", **headers)

    browser.send(username="bob", password=PASSWORD)

    browser.until(lambda: browser.text("#warning"))
    assert "The service is not available now.\n" + expected in browser.text("#warning")


def test_request_id_is_shown_with_a_defect(browser, gate):
    browser.may_write = [STATUS_LINE + "500"]
    browser.open()
    gate.canned = problem(500, "internal_error", "Something went wrong here.")

    browser.send(username="bob", password=PASSWORD)

    browser.until(lambda: browser.text("#warning"))
    assert browser.text("#warning") == "Something went wrong here.\nrequest_id: 0123456789abcdef"
    browser.inspect("defect")


def test_page_can_wait_for_a_service_that_is_away(logged_in, gate):
    logged_in.may_write = [STATUS_LINE + "503"]
    headers = {"Retry-After": "5"}
    in_the_way = problem(503, "service_unavailable", "The service is not available now.", **headers)
    gate.canned = in_the_way
    logged_in.open()
    assert logged_in.view() == "unavailable"
    logged_in.inspect("unavailable")

    logged_in.send()
    logged_in.until(lambda: gate.count("GET", "/api/user") >= 2)
    gate.canned = None
    logged_in.until(lambda: logged_in.find("[data-action=retry]").get_attribute("aria-busy") == "false")
    logged_in.send()

    logged_in.until_view("account")


def test_what_is_not_ours_stays_text(logged_in, gate):
    hostile = "<img src=x onerror=alert(1)><script>alert(1)</script>"
    user = {"id": 1, "username": hostile, "signup_time": hostile}
    gate.canned = (200, {}, json.dumps(user).encode())

    logged_in.open()

    assert logged_in.text("#account-username") == hostile
    assert logged_in.driver.find_elements("css selector", "main img, main script") == []


def test_everything_can_be_done_with_the_keyboard(browser, service, name):
    browser.open()
    browser.tab("login-username")
    browser.tab("Sign up")
    browser.press(Keys.ENTER)
    browser.until_view("signup")
    browser.tab("signup-username")
    browser.press(name, Keys.TAB, PASSWORD, Keys.TAB, Keys.SPACE)
    assert browser.find("#signup-password").get_attribute("type") == "text"
    browser.press(Keys.SPACE, Keys.TAB, Keys.ENTER)
    browser.until_view("account")

    browser.tab("Change your username")
    browser.press(Keys.ENTER)
    browser.until_view("name")
    browser.press(Keys.TAB, f"{name}-2", Keys.ENTER)
    browser.until_view("account")
    assert browser.text("#account-username") == f"{name}-2"
    browser.tab("Change your password")
    browser.press(Keys.ENTER)
    browser.until_view("password")
    browser.press(Keys.TAB, OTHER_PASSWORD, Keys.ENTER)
    browser.until_view("account")
    browser.tab("Log out")
    browser.press(Keys.ENTER)
    browser.until_view("login")

    assert can_log_in(service, f"{name}-2", OTHER_PASSWORD)


def test_nothing_of_passkeys_is_there_unless_they_are_on(logged_in, gate):
    browser = logged_in
    assert not browser.find("#passkeys-link").is_displayed()
    browser.open("/#passkeys")
    assert browser.view() == "account"
    browser.click("Log out")
    browser.until_view("login")
    assert browser.driver.find_elements("css selector", "head [name^=passkey]") == []
    assert not browser.find("#passkey-login").is_displayed()
    assert not [path for _, path in gate.requests if "passkey" in path]


def test_focus_can_be_seen(browser):
    browser.open()

    for _ in range(6):  # two fields, "Show", the button, "Forgot your password?", "Sign up"
        browser.press(Keys.TAB)
        focused = browser.driver.switch_to.active_element
        assert focused.value_of_css_property("outline-style") == "solid"
        assert focused.value_of_css_property("outline-width") == "3px"


def test_password_manager_is_led_to_the_form(browser, account):
    browser.open("/.well-known/change-password")
    assert browser.view() == "login"

    browser.send(username=account, password=PASSWORD)

    browser.until_view("password")
    browser.open("/.well-known/change-password")
    browser.until_view("password")
    assert browser.driver.current_url == f"{browser.url}/#password"


def test_password_managers_know_the_fields(logged_in, account):
    def fields(form):
        found = logged_in.driver.find_elements("css selector", f"[data-action={form}] input")
        return [field.get_attribute("autocomplete") for field in found]

    assert fields("login") == ["username", "current-password"]
    assert fields("signup") == ["username", "new-password"]
    assert fields("name") == ["username"]
    assert fields("password") == ["username", "current-password", "new-password"]
    assert fields("recover") == ["username", "off", "new-password"]
    assert fields("delete") == ["off"]
    assert fields("reauthenticate") == ["username", "current-password"]
    for form in ("password", "reauthentication"):
        assert logged_in.find(f"#{form}-username").get_attribute("value") == account


def test_password_can_be_shown_until_it_is_sent(browser, account):
    browser.open()
    browser.fill(username=account, password=OTHER_PASSWORD)
    show = browser.find("[data-action=login] .show")
    assert show.get_attribute("textContent") == "Show password"
    show.click()
    assert browser.find("#login-password").get_attribute("type") == "text"
    assert show.get_attribute("textContent") == "Hide password"

    browser.send()

    browser.until(lambda: browser.text("#warning"))
    assert browser.find("#login-password").get_attribute("type") == "password"


def test_back_forward_and_reload_keep_a_sensible_view(logged_in):
    driver = logged_in.driver
    logged_in.follow("Change your username")
    logged_in.until_view("name")
    logged_in.follow("Back to your account")
    logged_in.until_view("account")

    driver.back()
    logged_in.until_view("name")
    driver.refresh()
    logged_in.until_view("name")
    driver.forward()
    logged_in.until_view("account")
    driver.execute_script("location.hash = 'login'")
    logged_in.until(lambda: driver.current_url.endswith("#login"))
    logged_in.until_view("account")


@pytest.mark.parametrize("view", ["login", "signup", "recover", "account", "name", "password", "delete"])
def test_what_is_pressed_is_large_enough(browser, view):
    browser.open()
    browser.look(320, "light")
    script = """
        const views = [...document.querySelectorAll('[data-view]')];
        for (const each of views) each.hidden = each.dataset.view !== arguments[0];
        return [...document.querySelectorAll('main a, main button, main input, footer a')]
            .filter((each) => each.checkVisibility())
            .map((each) => [each.textContent || each.id, each.getBoundingClientRect().height]);
    """

    sizes = browser.driver.execute_script(script, view)

    assert len(sizes) >= 3
    assert [size for size in sizes if size[1] < 44] == []


FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
DAY_AGO = "datetime('now', '-1 day', '-1 minute')"


@pytest.fixture
def login_elsewhere(service: Process, account: str) -> Iterator[Callable[..., httpx.Client]]:
    """A function that logs in to the account on another device."""
    with ExitStack() as clients:

        def login(user_agent: str = FIREFOX) -> httpx.Client:
            client = httpx.Client(base_url=service.url, headers={"User-Agent": user_agent})
            clients.enter_context(client)
            assert client.post("/api/user/login", json=credentials(account)).status_code == 200
            return client

        yield login


def is_logged_in(client: httpx.Client) -> bool:
    """Tell whether a client is logged in."""
    return client.get("/api/user").status_code == 200


def devices(browser: Browser) -> list[str]:
    """Return what the list says of each device."""
    return [each.text for each in browser.driver.find_elements("css selector", "#sessions > li > div")]


def test_user_sees_where_they_are_logged_in(logged_in, service, account, login_elsewhere):
    browser = logged_in
    login_elsewhere()
    in_database(service, f"UPDATE user_session SET last_activity = {DAY_AGO}", account)
    login_elsewhere("something else")

    browser.follow("Where you are logged in")

    browser.until_view("sessions")
    assert browser.focus() == "heading"
    assert devices(browser) == [
        "Unknown device\nThis device",
        "Unknown device\nLast active a few minutes ago",
        "Firefox on Linux\nLast active 1 day ago",
    ]
    buttons = browser.driver.find_elements("css selector", "#sessions button")
    assert buttons[2].text == "Log out"
    assert buttons[2].accessible_name == "Log out Firefox on Linux"
    assert too_small(browser) == []
    browser.inspect("sessions")


def test_only_login_has_nothing_else_to_log_out(logged_in):
    logged_in.open("/#sessions")

    assert len(devices(logged_in)) == 1
    assert logged_in.find("#no-others").is_displayed()
    assert not logged_in.find("#end-others").is_displayed()
    logged_in.inspect("sessions-one")


def test_user_logs_out_another_device(logged_in, service, account, login_elsewhere):
    browser = logged_in
    phone, other = login_elsewhere(), login_elsewhere("")
    browser.open("/#sessions")

    browser.driver.find_elements("css selector", "#sessions button")[2].click()

    browser.until(lambda: browser.text("#status") == "Firefox on Linux is logged out.")
    assert browser.view() == "sessions"
    assert browser.focus() == "heading"
    assert len(devices(browser)) == 2
    assert not is_logged_in(phone)
    assert is_logged_in(other)


def test_user_logs_out_this_device_in_the_list(logged_in):
    logged_in.open("/#sessions")

    logged_in.click("Log out")

    logged_in.until_view("login")
    assert logged_in.text("#status") == "You are logged out."
    assert logged_in.driver.get_cookies() == []


def test_user_logs_out_everywhere_else(logged_in, service, account, login_elsewhere):
    phone, other = login_elsewhere(), login_elsewhere()
    logged_in.open("/#sessions")

    logged_in.click("Log out everywhere else")

    logged_in.until(lambda: logged_in.text("#status") == "You are logged out everywhere else.")
    assert len(devices(logged_in)) == 1
    assert not is_logged_in(phone)
    assert not is_logged_in(other)
    logged_in.inspect("sessions-ended")


def test_device_that_was_logged_out_meanwhile_is_logged_out(logged_in, service, account, login_elsewhere):
    phone = login_elsewhere()
    logged_in.open("/#sessions")
    phone.post("/api/user/logout")

    logged_in.driver.find_elements("css selector", "#sessions button")[1].click()

    logged_in.until(lambda: logged_in.text("#status") == "Firefox on Linux is logged out.")
    assert len(devices(logged_in)) == 1


def test_name_of_a_device_stays_text(logged_in, gate):
    hostile = "<img src=x onerror=alert(1)>" + "x" * 40
    time = "2024-01-29T12:29:33.684594Z"
    session = {"id": 1, "client": hostile, "last_activity": time, "current": False}
    gate.canned_at["GET", "/api/user/sessions"] = (200, {}, json.dumps([session]).encode())

    logged_in.open("/#sessions")

    assert devices(logged_in)[0].startswith(hostile)
    logged_in.inspect("sessions-long")


def test_list_that_cannot_be_had_can_be_asked_for_again(logged_in, gate):
    browser = logged_in
    browser.may_write = [STATUS_LINE + "503"]
    away = problem(503, "service_unavailable", "The service is not available now.")
    gate.canned_at["GET", "/api/user/sessions"] = away

    browser.follow("Where you are logged in")

    browser.until_view("unavailable")
    assert browser.text("#warning").startswith("The service is not available now.")
    gate.canned_at.clear()
    browser.send()
    browser.until_view("sessions")
    assert len(devices(browser)) == 1
    assert browser.text("#warning") == ""


def test_view_of_an_ended_session_brings_the_login_form_back(logged_in, service, account):
    in_database(service, "DELETE FROM user_session", account)

    logged_in.follow("Where you are logged in")

    logged_in.until_view("login")
    assert logged_in.text("#status") == "You have been logged out. Log in to continue."
    logged_in.send(password=PASSWORD)
    logged_in.until_view("sessions")


def test_only_the_view_that_was_asked_for_last_is_shown(logged_in, gate):
    gate.open.clear()
    logged_in.follow("Where you are logged in")
    logged_in.until(lambda: gate.count("GET", "/api/user/sessions"))
    assert logged_in.find("main").get_attribute("aria-busy") == "true"

    logged_in.follow("Change your username")
    logged_in.until_view("name")
    logged_in.fill(username="typed")
    gate.open.set()

    come = "return performance.getEntriesByType('resource').some((one) => one.name.endsWith('/sessions'))"
    logged_in.until(lambda: logged_in.driver.execute_script(come))
    logged_in.press("x")
    assert logged_in.view() == "name"
    assert logged_in.find("#name-username").get_attribute("value") == "typedx"
    assert logged_in.find("main").get_attribute("aria-busy") is None


def test_password_is_asked_for_long_after_the_login(logged_in, service, account, gate, login_elsewhere):
    browser = logged_in
    phone = login_elsewhere()
    age_logins(service, account)
    browser.open("/#sessions")
    browser.click("Log out everywhere else")
    browser.until(browser.has_dialog)
    assert browser.focus() == "reauthentication-password"
    assert too_small(browser) == []
    browser.inspect("dialog")

    browser.send(password=OTHER_PASSWORD)
    assert browser.error("password") == "This is not your password."
    assert browser.focus() == "reauthentication-password"
    assert is_logged_in(phone)
    browser.inspect("dialog-wrong")
    browser.fill(password=PASSWORD)
    browser.press(Keys.ENTER)

    browser.until(lambda: browser.text("#status") == "You are logged out everywhere else.")
    assert not browser.has_dialog()
    assert browser.focus() == "heading"
    assert not is_logged_in(phone)
    assert browser.find("#reauthentication-password").get_attribute("value") == ""
    browser.open("/#recovery-code")
    browser.send()  # the login is a fresh one now
    browser.until(lambda: browser.text("#code"))
    assert gate.count("POST", "/api/user/reauthenticate") == 2


@pytest.mark.parametrize("way", ["Cancel", Keys.ESCAPE])
def test_password_need_not_be_given(logged_in, service, account, gate, way):
    browser = logged_in
    age_logins(service, account)
    browser.open("/#delete")
    browser.send(username=account)
    browser.until(browser.has_dialog)
    browser.fill(password=PASSWORD)

    if way == "Cancel":
        browser.click(way)
    else:
        browser.press(way)

    browser.until(lambda: browser.find("[data-action=delete]").get_attribute("aria-busy") == "false")
    assert not browser.has_dialog()
    assert browser.view() == "delete"
    assert browser.text("#warning") == ""
    assert browser.driver.switch_to.active_element.text == "Delete your account"
    assert browser.find("#delete-username").get_attribute("value") == account
    assert browser.find("#reauthentication-password").get_attribute("value") == ""
    assert gate.count("POST", "/api/user/reauthenticate") == 0
    browser.send()
    browser.until(browser.has_dialog)
    browser.send(password=PASSWORD)
    browser.until_view("login")
    assert not can_log_in(service, account, PASSWORD)


def test_password_is_sent_once_and_can_be_cancelled_meanwhile(logged_in, service, account, gate):
    browser = logged_in
    age_logins(service, account)
    browser.open("/#recovery-code")
    browser.send()
    browser.until(browser.has_dialog)
    gate.open.clear()

    browser.fill(password=PASSWORD)
    browser.press(Keys.ENTER, Keys.ENTER)
    button = browser.find("dialog form > button")
    browser.until(lambda: button.text == "Checking…")
    button.click()
    assert browser.find("[data-action=reauthenticate]").get_attribute("aria-busy") == "true"
    browser.click("Cancel")
    gate.open.set()

    create = browser.find("[data-action=create-code]")
    browser.until(lambda: create.get_attribute("aria-busy") == "false")
    browser.send()
    browser.until(lambda: browser.text("#code") or browser.has_dialog())
    assert gate.count("POST", "/api/user/reauthenticate") == 1


def test_too_many_passwords_are_said_in_the_dialog(logged_in, service, account, gate):
    age_logins(service, account)
    logged_in.open("/#recovery-code")
    logged_in.send()
    logged_in.until(logged_in.has_dialog)
    many = problem(429, "too_many_requests", "Too many attempts. Try again later.", **{"Retry-After": "600"})
    gate.canned_at["POST", "/api/user/reauthenticate"] = many

    logged_in.send(password=PASSWORD)

    logged_in.until(lambda: logged_in.text("dialog .problem"))
    assert logged_in.text("dialog .problem").endswith("Try again in 10 minutes.")
    logged_in.inspect("dialog-many")


def test_session_that_ends_while_the_password_is_asked_for_brings_the_login_form_back(
    logged_in, service, account
):
    age_logins(service, account)
    logged_in.open("/#delete")
    logged_in.send(username=account)
    logged_in.until(logged_in.has_dialog)
    in_database(service, "DELETE FROM user_session", account)

    logged_in.send(password=PASSWORD)

    logged_in.until_view("login")
    assert not logged_in.has_dialog()
    assert logged_in.text("#status") == "You have been logged out. Log in to continue."
    logged_in.send(password=PASSWORD)
    logged_in.until_view("delete")
    assert logged_in.find("#delete-username").get_attribute("value") == account


def test_back_button_leaves_the_dialog(logged_in, service, account):
    browser = logged_in
    age_logins(service, account)
    browser.follow("Recovery code")
    browser.until_view("recovery-code")
    browser.send()
    browser.until(browser.has_dialog)

    browser.driver.back()

    browser.until_view("account")
    assert not browser.has_dialog()
    browser.follow("Change your username")
    browser.until_view("name")
    browser.send(username=f"{account}-2")
    browser.until_view("account")


def test_password_is_asked_for_each_time_where_no_login_is_fresh(browser, name, tmp_path):
    process = Process(SERVICE, tmp_path, tmp_path / "log", SETTINGS | {"REAUTHENTICATION_MINUTES": "0"})
    browser.url = process.wait_until_it_serves().url
    browser.open("/#signup")
    browser.send(username=name, password=PASSWORD)
    browser.until_view("account")
    browser.follow("Create a recovery code")
    browser.until_view("recovery-code")

    browser.send()
    browser.until(browser.has_dialog)
    browser.send(password=PASSWORD)

    browser.until(lambda: browser.text("#code"))
    process.stop()


def test_user_creates_a_recovery_code(logged_in, service, account):
    browser = logged_in
    browser.follow("Create a recovery code")
    browser.until_view("recovery-code")
    assert browser.text("#code-since") == "None"
    browser.inspect("recovery-code-none")

    browser.click("Create a recovery code")

    browser.until(lambda: browser.text("#code"))
    code = browser.text("#code")
    assert len(code.replace("-", "")) == 26
    assert browser.text("#status") == "Your recovery code has been created."
    assert browser.focus() == "heading"
    assert browser.text("#code-username") == account
    assert browser.text("#code-address") == f"{browser.url}/"
    assert too_small(browser) == []
    browser.inspect("recovery-code-new")
    browser.follow("Back to your account")
    browser.until_view("account")
    assert not browser.find("#reminder").is_displayed()
    browser.inspect("account-with-code")
    assert code not in browser.driver.execute_script("return document.documentElement.outerHTML")
    browser.driver.back()
    browser.until_view("recovery-code")
    assert browser.text("#code-since").startswith("Created ")
    assert browser.find("#code").get_attribute("textContent") == ""
    browser.inspect("recovery-code")
    assert recover(service, account, code) == 200


def recover(service: Process, name: str, code: str) -> int:
    """Set another password by a recovery code; return the status of the response."""
    body = credentials(name, OTHER_PASSWORD) | {"recovery_code": code}
    return httpx.post(f"{service.url}/api/user/recover", json=body).status_code


def test_recovery_code_is_replaced_and_deleted(logged_in, service, account):
    first, second = new_code(logged_in), new_code(logged_in)
    assert first != second
    assert recover(service, account, first) == 403
    logged_in.open("/#recovery-code")

    logged_in.click("Delete the recovery code")

    logged_in.until(lambda: logged_in.text("#status") == "Your recovery code has been deleted.")
    assert logged_in.text("#code-since") == "None"
    assert not logged_in.find("#delete-code").is_displayed()
    assert recover(service, account, second) == 403
    logged_in.follow("Back to your account")
    logged_in.until_view("account")
    assert logged_in.find("#reminder").is_displayed()


def test_recovery_code_is_created_once(logged_in, gate):
    logged_in.open("/#recovery-code")
    gate.open.clear()

    logged_in.send()
    logged_in.send()
    gate.open.set()

    logged_in.until(lambda: logged_in.text("#code"))
    assert gate.count("POST", "/api/user/recovery-code") == 1


def test_recovery_code_is_shown_to_who_has_left_its_form(logged_in, gate):
    logged_in.follow("Recovery code")
    logged_in.until_view("recovery-code")
    gate.open.clear()
    logged_in.send()
    logged_in.driver.back()

    gate.open.set()

    logged_in.until(lambda: logged_in.text("#code"))
    logged_in.until_view("recovery-code")


def test_recovery_code_is_copied(logged_in):
    allowed = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    logged_in.driver.execute_cdp_cmd("Browser.grantPermissions", allowed)
    code = new_code(logged_in)

    logged_in.click("Copy")

    logged_in.until(lambda: logged_in.text("#copied") == "Copied.")
    assert logged_in.driver.execute_script("return navigator.clipboard.readText()") == code


def test_recovery_code_is_selected_where_it_cannot_be_copied(logged_in):
    code = new_code(logged_in)
    logged_in.driver.execute_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")

    logged_in.click("Copy")

    logged_in.until(lambda: logged_in.text("#copied").startswith("Your browser does not let"))
    assert logged_in.driver.execute_script("return String(getSelection())").strip() == code
    logged_in.inspect("recovery-code-selected")


def test_recovery_code_is_downloaded(logged_in, account, tmp_path):
    allowed = {"behavior": "allow", "downloadPath": str(tmp_path)}
    logged_in.driver.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
    code = new_code(logged_in)

    logged_in.follow("Download")

    file = tmp_path / "recovery-code.txt"
    logged_in.until(file.exists)
    lines = file.read_text().splitlines()
    assert f"Username: {account}" in lines
    assert f"Code:     {code}" in lines
    assert f"Address:  {logged_in.url}/" in lines


def test_recovery_code_is_printed(logged_in):
    new_code(logged_in)
    driver = logged_in.driver
    driver.execute_script("window.print = () => document.body.dataset.printed = 'yes'")

    logged_in.click("Print")

    assert logged_in.find("body").get_attribute("data-printed") == "yes"
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = ["h1", "#code", "#code-username", "#code-address"]
    hidden = ["header", "footer", "#status", ".tools"]
    assert [logged_in.find(css).is_displayed() for css in shown + hidden] == [True] * 4 + [False] * 4
    driver.save_screenshot(str(SCREENSHOTS / "recovery-code-print.png"))
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_user_gets_back_in_with_a_recovery_code(logged_in, service, account, login_elsewhere):
    browser = logged_in
    code = new_code(browser)
    phone = login_elsewhere()
    browser.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.open()
    browser.fill(username=account)
    browser.follow("Forgot your password?")
    browser.until_view("recover")
    assert browser.focus() == "heading"
    assert browser.find("#recover-username").get_attribute("value") == account
    browser.inspect("recover")

    browser.send(recovery_code="0" * 26, password=OTHER_PASSWORD)
    assert browser.error("recovery_code") == "The username or the recovery code is wrong."
    assert browser.focus() == "recover-code"
    assert browser.find("#recover-password").get_attribute("value") == OTHER_PASSWORD
    browser.inspect("recover-wrong")
    browser.send(recovery_code=f" {code.lower().replace('-', ' ')} ")

    browser.until_view("account")
    assert browser.text("#account-username") == account
    assert "Your password has been changed." in browser.text("#status")
    assert browser.find("#reminder").is_displayed()  # the code is used up
    browser.inspect("recovered")
    assert not is_logged_in(phone)
    assert can_log_in(service, account, OTHER_PASSWORD)
    assert recover(service, account, code) == 403


def test_errors_of_a_recovery_stand_beside_their_fields(browser):
    browser.open("/#recover")

    browser.send(username="a b", recovery_code="too short", password="a")

    assert browser.error("username") == Username.message
    assert browser.error("recovery_code").startswith("Enter the recovery code as it was shown")
    assert browser.error("password").startswith("Use at least 6 characters")
    assert browser.focus() == "recover-username"
    browser.inspect("recover-errors")


def test_recovery_form_keeps_no_secret(browser):
    browser.open("/#recover")
    browser.fill(recovery_code="a code", password=PASSWORD)

    browser.follow("Back to the login")

    browser.until_view("login")
    for field in ("code", "password"):
        assert browser.find(f"#recover-{field}").get_attribute("value") == ""


def test_user_deletes_the_account(logged_in, service, account, login_elsewhere):
    browser = logged_in
    phone = login_elsewhere()
    browser.follow("Delete your account")
    browser.until_view("delete")
    browser.inspect("delete")

    browser.send(username="somebody")
    assert browser.error("username") == "This is not your username."
    assert browser.focus() == "delete-username"
    assert is_logged_in(phone)
    browser.inspect("delete-wrong")
    browser.send(username=f" {account.upper()} ")

    browser.until_view("login")
    assert browser.text("#status") == "Your account has been deleted."
    assert browser.driver.get_cookies() == []
    assert not is_logged_in(phone)
    assert not can_log_in(service, account, PASSWORD)
    browser.inspect("deleted")
    browser.driver.back()
    browser.until_view("login")


def test_empty_username_deletes_nothing(logged_in, gate):
    logged_in.open("/#delete")

    logged_in.send()

    assert logged_in.error("username") == "This is not your username."
    assert gate.count("DELETE", "/api/user") == 0


def test_account_that_cannot_be_deleted_is_said(logged_in, account, gate):
    detail = "The account cannot be deleted: other data depend on it."
    gate.canned_at["DELETE", "/api/user"] = problem(409, "account_in_use", detail)
    logged_in.open("/#delete")

    logged_in.send(username=account)

    logged_in.until(lambda: logged_in.text("#warning") == detail)
    assert logged_in.view() == "delete"


def test_account_is_deleted_once(logged_in, account, gate):
    logged_in.open("/#delete")
    gate.open.clear()

    logged_in.send(username=account)
    logged_in.press(Keys.ENTER)
    logged_in.find("#delete-username").send_keys(Keys.ENTER)
    gate.open.set()

    logged_in.until_view("login")
    assert logged_in.text("#status") == "Your account has been deleted."
    assert gate.count("DELETE", "/api/user") == 1


@pytest.mark.parametrize("first", ["submits", "leaves"])
def test_password_is_not_asked_for_once_the_user_has_gone_elsewhere(logged_in, service, account, gate, first):
    age_logins(service, account)
    logged_in.open("/#delete")
    gate.open.clear()
    leave = "location.hash = '#sessions'"  # which is shown once the sessions are there

    if first == "leaves":
        logged_in.driver.execute_script(leave)
    logged_in.send(username=account)
    if first == "submits":
        logged_in.driver.execute_script(leave)
    gate.open.set()

    logged_in.until_view("sessions")
    logged_in.until(lambda: gate.count("DELETE", "/api/user") == 1)
    logged_in.until(lambda: logged_in.find("[data-action=delete]").get_attribute("aria-busy") == "false")
    assert not logged_in.has_dialog()
    assert can_log_in(service, account, PASSWORD)


@pytest.mark.parametrize("action", ["delete", "recovery-code", "name", "password"])
def test_nothing_is_done_for_another_user_in_another_window(logged_in, service, account, gate, action):
    logged_in.open(f"/#{action}")
    answer = httpx.post(f"{service.url}/api/user/signup", json=credentials(f"{account}-b"))
    cookie = {"name": "sessionid", "value": answer.cookies["sessionid"], "url": logged_in.url}
    logged_in.driver.execute_cdp_cmd("Network.setCookie", cookie)

    fields = {
        "delete": {"username": account},
        "name": {"username": f"{account}-c"},
        "password": {"password": OTHER_PASSWORD},
    }
    logged_in.send(**fields.get(action, {}))

    logged_in.until(lambda: logged_in.text("#status") == f"You are logged in as {account}-b.")
    assert [method for method, _ in gate.requests if method != "GET"] == []
    assert can_log_in(service, f"{account}-b", PASSWORD)


def test_what_an_account_offers_can_be_done_with_the_keyboard(logged_in, service, account, login_elsewhere):
    browser = logged_in
    login_elsewhere()
    age_logins(service, account)
    browser.tab("Where you are logged in")
    browser.press(Keys.ENTER)
    browser.until_view("sessions")
    browser.tab("Log out everywhere else")
    browser.press(Keys.ENTER)
    browser.until(browser.has_dialog)
    browser.press(PASSWORD, Keys.TAB, Keys.TAB, Keys.ENTER)  # "Show", "Continue"
    browser.until(lambda: browser.text("#status") == "You are logged out everywhere else.")
    browser.tab("Back to your account")
    browser.press(Keys.ENTER)
    browser.until_view("account")
    browser.tab("Create a recovery code")
    browser.press(Keys.ENTER)
    browser.until_view("recovery-code")
    browser.tab("Create a recovery code")
    browser.press(Keys.ENTER)
    browser.until(lambda: browser.text("#code"))
    for what in ("Copy", "Download", "Print", "Back to your account"):
        browser.tab(what)
    browser.press(Keys.ENTER)
    browser.until_view("account")
    browser.tab("Delete your account")
    browser.press(Keys.ENTER)
    browser.until_view("delete")
    browser.press(Keys.TAB, account, Keys.ENTER)

    browser.until_view("login")
    assert not can_log_in(service, account, PASSWORD)


def try_out(browser, method, path, body=None):
    """Send a request from the documentation; return its status."""

    def find(css):
        return browser.until(lambda: block.find_element("css selector", css))

    def press(css):
        find(css).send_keys(Keys.ENTER)  # a click could miss what moves while Swagger UI builds itself

    summary = f".opblock-{method}:has([data-path$='{path}'])"
    block = browser.until(lambda: browser.find(summary))
    press(".opblock-summary-control")
    if "try-out__btn" in find(".execute, .try-out__btn:not(.cancel)").get_attribute("class"):
        press(".try-out__btn")  # unless it is open from the start
    if body:
        field = find("textarea")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(json.dumps(body))
    press(".execute")
    return find(".live-responses-table .response .response-col_status").text.split()[0]


def test_docs_can_be_tried_in_the_browser(browser, account):
    driver = browser.driver
    driver.get(f"{browser.url}/api/docs")

    assert try_out(browser, "get", "/user") == "401"
    assert try_out(browser, "post", "/user/login", credentials(account)) == "200"
    driver.get(f"{browser.url}/api/docs")  # a reload would scroll to the login, which the URL names by now
    assert try_out(browser, "get", "/user") == "200"
    assert account in browser.text(".opblock-get .live-responses-table")


@pytest.fixture(params=["taken off by nginx", "taken off by granian"])
def under_a_path(
    request: pytest.FixtureRequest, browser: Browser, service: Process, tmp_path: Path
) -> Iterator[Browser]:
    """A browser that the service stands under a path for, behind nginx."""
    port = free_port()
    processes = []
    behind = f"{service.url}/"
    if request.param == "taken off by granian":
        settings = SETTINGS | {"DATABASE_URL": service.environment["DATABASE_URL"]}
        settings |= {"GRANIAN_URL_PATH_PREFIX": "/accounts"}
        processes.append(Process(GRANIAN, BASE_DIR, tmp_path / "log", settings))
        behind = processes[0].wait_until_granian_has_started(workers=1).url
    site = (
        f"server {{ listen 127.0.0.1:{port}; location /accounts/ {{ "
        f"proxy_pass {behind}; proxy_set_header Host $http_host; }} }}"
    )
    browser.url = f"http://127.0.0.1:{port}/accounts"
    try:
        with nginx(tmp_path, site, port):
            yield browser
    finally:
        for process in processes:
            process.stop()


@needs_nginx
def test_page_and_documentation_work_under_a_path(under_a_path, name):
    browser = under_a_path
    browser.open("/#signup")
    browser.send(username=name, password=PASSWORD)
    browser.until_view("account")
    browser.inspect("under-a-path")
    browser.follow("Change your username")
    browser.until_view("name")
    browser.send(username=f"{name}-2")
    browser.until_view("account")
    assert browser.driver.current_url == f"{browser.url}/#account"
    browser.open("/.well-known/change-password")
    browser.until_view("password")
    assert browser.driver.current_url == f"{browser.url}/#password"

    browser.follow("API documentation")

    assert try_out(browser, "get", "/user") == "200"
    assert f"{name}-2" in browser.text(".opblock-get .live-responses-table")
    assert f"{browser.url}/api/user" in browser.text(".opblock-get .request-url")
    browser.driver.get(f"{browser.url}/api/docs/")
    browser.until(lambda: browser.find(".opblock-get"))
    assert browser.driver.current_url == f"{browser.url}/api/docs"


# A production service and a sister domain of it; gunicorn passes on every cookie, where nginx picks ours.
HOST, SISTER = "users.example.test", "evil.example.test"
FLAGS = ("--ignore-certificate-errors", "--host-resolver-rules=MAP *.example.test 127.0.0.1")


@pytest.fixture
def production(tmp_path: Path) -> Iterator[Process]:
    """The service as in production, with TLS of gunicorn's own."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "1", "-subj", f"/CN={HOST}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    settings = PRODUCTION | {
        "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
        "ALLOWED_HOSTS": HOST,
        "TRUSTED_PROXIES": "0",
    }
    assert run("meta", "migrate", **settings).returncode == 0
    command = (*COMMANDS["gunicorn"], f"--keyfile={key}", f"--certfile={certificate}")
    process = Process(command, BASE_DIR, tmp_path / "log", settings)
    process.url = process.url.replace("http:", "https:")
    yield process.wait_until_it_serves()
    process.stop()


@pytest.fixture
def visitor(tmp_path: Path) -> Iterator[Browser]:
    """A browser that resolves those names to this machine."""
    browser = Browser(tmp_path, *FLAGS)
    yield browser
    browser.close()


def sign_up(service: Process, name: str) -> str:
    """Sign up; return the key of the session."""
    response = httpx.post(
        f"{service.url}/api/user/signup", json=credentials(name), headers={"Host": HOST}, verify=False
    )
    assert response.status_code == 200, response.text
    return response.headers["Set-Cookie"].partition(";")[0].removeprefix(f"{COOKIE}=")


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_sister_domain_cannot_plant_a_session(production, visitor):
    port = production.url.rpartition(":")[2]
    eve, bob = sign_up(production, "eve"), sign_up(production, "bob")
    visitor.driver.get(f"https://{SISTER}:{port}/")
    planted = f"\u2003{COOKIE}={eve}; Domain=example.test; Path=/api"
    visitor.driver.execute_script("document.cookie = arguments[0]", planted)

    visitor.driver.get(f"https://{HOST}:{port}/api/user")
    answered = visitor.text("body")
    cookie = {"name": COOKIE, "value": bob, "url": f"https://{HOST}:{port}", "secure": True, "path": "/"}
    visitor.driver.execute_cdp_cmd("Network.setCookie", cookie)
    visitor.driver.get(f"https://{HOST}:{port}/api/user")

    assert '"not_logged_in"' in answered
    assert '"bob"' in visitor.text("body")
