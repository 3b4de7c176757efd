"""The page at / in a real browser: headless Chromium, driven by Selenium, before a running service.

Screenshots are written to `screenshots/`, or to the folder that SCREENSHOTS names.
"""

import json
import os
import secrets
import shutil
import sys
from pathlib import Path

import pytest

from config import BASE_DIR

from .support import OTHER_PASSWORD, PASSWORD, Process

webdriver = pytest.importorskip(
    "selenium.webdriver", reason="selenium is not installed (the extra `browser`)"
)
axe = pytest.importorskip("axe_core_python", reason="axe is not installed (the extra `browser`)")
if not (shutil.which("chromium") and shutil.which("chromedriver")):
    pytest.skip("Chromium or its driver is not installed", allow_module_level=True)

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

AXE = (Path(axe.__file__).parent / "axe.min.js").read_text()
PICTURES = Path(os.environ.get("SCREENSHOTS") or BASE_DIR / "screenshots")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=OptimizationHints,MediaRouter",
    "--lang=en-GB",
)


class Browser:
    """A browser with one tab, and what a person does in it."""

    def __init__(self, folder: Path, url: str, scheme: str = "light", width: int = 1280) -> None:
        self.url = url
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in (*FLAGS, f"--user-data-dir={folder}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.wait = WebDriverWait(self.driver, 20, poll_frequency=0.05)

    def open(self, path: str = "/") -> None:
        self.driver.get(self.url + path)

    def find(self, selector: str):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def shows(self, view: str) -> None:
        """Wait until a view is there."""
        self.wait.until(lambda _: self.find(f"#{view}").is_displayed())

    def says(self, selector: str, text: str) -> None:
        """Wait until an element says something."""
        self.wait.until(lambda _: text in self.find(selector).text, f"{selector} does not say: {text}")

    def fill(self, **fields: str) -> None:
        """Type into fields, by their ids with - for _."""
        for name, text in fields.items():
            field = self.find(f"#{name.replace('_', '-')}")
            field.clear()
            field.send_keys(text)

    def send(self, form: str) -> None:
        """Press the button of a form."""
        self.find(f"#{form}-form button[type=submit]").click()

    def sign_up(self, name: str, password: str = PASSWORD) -> None:
        self.open("/#signup")
        self.shows("signup")
        self.fill(signup_username=name, signup_password=password)
        self.send("signup")
        self.says("#account-username", name)

    def network(self, **conditions: object) -> None:
        """Make the network slow, or take it away."""
        base = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions", base | conditions)

    def picture(self, name: str) -> None:
        PICTURES.mkdir(exist_ok=True)
        self.driver.save_screenshot(str(PICTURES / f"{name}.png"))

    def problems_of_accessibility(self) -> list[str]:
        """Return what axe finds in what is shown."""
        # By the debugger's protocol: the page's own policy lets no such script in.
        self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE})
        found = self.driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
        return [
            f"{violation['id']}: {node['html']}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]

    def complaints(self) -> list[str]:
        """Return what the console says, but for refusals of the API, which every browser notes."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if not (
                entry["source"] == "network" and "the server responded with a status of 4" in entry["message"]
            )
        ]

    def hosts(self) -> set[str]:
        """Return what was asked for elsewhere."""
        asked = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.add(message["params"]["request"]["url"])
        return {url for url in asked if not url.startswith((self.url, "data:", "chrome:", "about:"))}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """The development server, as `meta run` starts it."""
    folder = tmp_path_factory.mktemp("service")
    settings = {"UTILMETA_PRODUCTION": "false"}
    process = Process((sys.executable, "server.py"), BASE_DIR, folder / "log", settings)
    yield process.wait_until_it_serves()
    process.stop()


@pytest.fixture(scope="module")
def strict_service(tmp_path_factory):
    """A service that always asks for the current password."""
    folder = tmp_path_factory.mktemp("strict")
    settings = {"UTILMETA_PRODUCTION": "false", "REAUTHENTICATION_MINUTES": "0"}
    process = Process((sys.executable, "server.py"), BASE_DIR, folder / "log", settings)
    yield process.wait_until_it_serves()
    process.stop()


@pytest.fixture
def open_browser(tmp_path):
    """Return a function that opens a browser; at the end, none has complained or asked elsewhere."""
    opened = []

    def start(url: str, **kwargs) -> Browser:
        browser = Browser(tmp_path / f"profile{len(opened)}", url, **kwargs)
        opened.append(browser)
        return browser

    yield start
    try:
        for browser in opened:
            assert browser.complaints() == []
            assert browser.hosts() == set()
    finally:
        for browser in opened:
            browser.driver.quit()


@pytest.fixture
def browser(open_browser, service):
    """A browser."""
    return open_browser(service.url)


@pytest.fixture
def name():
    """A name that nobody has."""
    return f"ada-{secrets.token_hex(3)}"


def test_story_of_the_tutorial(browser, name):
    browser.open()
    browser.shows("login")
    assert browser.driver.title == "Log in – demo-user"
    browser.find("#login a[href='#signup']").click()
    browser.shows("signup")
    browser.fill(signup_username=name.upper(), signup_password=PASSWORD)
    browser.send("signup")
    browser.shows("account")
    browser.says("#status", "Your account is made")
    browser.says("#account-username", name)
    assert browser.driver.title == "Your account – demo-user"

    browser.open()
    browser.shows("account")
    browser.send("logout")
    browser.shows("login")
    browser.says("#status", "You are logged out.")
    assert browser.find("#login-username").get_property("value") == name

    browser.fill(login_password=PASSWORD)
    browser.send("login")
    browser.shows("account")

    browser.fill(rename_username=f"{name}-2")
    browser.send("rename")
    browser.says("#status", f"Your name is now {name}-2.")
    browser.says("#account-username", f"{name}-2")
    browser.fill(new_password=OTHER_PASSWORD)
    browser.send("password")
    browser.says("#status", "Your password is changed")

    browser.send("logout")
    browser.shows("login")
    browser.fill(login_password=OTHER_PASSWORD)
    browser.send("login")
    browser.says("#account-username", f"{name}-2")


def test_faults_stand_beside_their_fields(browser, name):
    browser.open("/#signup")
    browser.shows("signup")
    browser.fill(signup_username="<b>no</b> name", signup_password="x")
    browser.send("signup")

    browser.says("#signup-username-error", "1 to 20 characters")
    browser.says("#signup-password-error", "6 to 100 characters")
    field = browser.find("#signup-username")
    assert field.get_attribute("aria-invalid") == "true"
    assert "signup-username-error" in field.get_attribute("aria-describedby")
    assert browser.driver.switch_to.active_element == field

    browser.sign_up(name)
    assert not browser.driver.find_elements(By.CSS_SELECTOR, "[aria-invalid]")


def test_name_that_somebody_has_is_said_beside_its_field(browser, open_browser, service, name):
    browser.sign_up(name)
    other = open_browser(service.url)
    other.sign_up(f"{name}-2")

    other.fill(rename_username=name)
    other.send("rename")

    other.says("#rename-username-error", "Username exists")
    assert other.find("#account-username").text == f"{name}-2"


def test_wrong_password_is_said_and_nothing_typed_is_lost(browser, name):
    browser.open()
    browser.shows("login")
    browser.fill(login_username=name, login_password="not it")
    browser.send("login")

    browser.says("#login-form .problem", "Username or password wrong")
    assert browser.find("#login-username").get_property("value") == name
    assert browser.find("#login-password").get_property("value") == "not it"


def test_current_password_is_asked_for_in_place(open_browser, strict_service, name):
    browser = open_browser(strict_service.url)
    browser.sign_up(name)
    assert not browser.find("#current").is_displayed()
    browser.fill(new_password=OTHER_PASSWORD)
    browser.send("password")

    browser.says("#current-password-error", "type your current password")
    browser.picture("reauthentication")
    assert browser.find("#new-password").get_property("value") == OTHER_PASSWORD
    assert browser.problems_of_accessibility() == []
    browser.fill(current_password="not it")
    browser.send("password")
    browser.says("#current-password-error", "That is not your current password.")
    browser.fill(current_password=PASSWORD)
    browser.send("password")
    browser.says("#status", "Your password is changed")
    assert not browser.find("#current").is_displayed()


def test_session_that_has_ended_leads_to_the_login(browser, name):
    browser.sign_up(name)
    browser.driver.delete_all_cookies()
    browser.fill(rename_username=f"{name}-2")
    browser.send("rename")

    browser.shows("login")
    browser.says("#status", "Your session has ended.")
    assert browser.find("#login-username").get_property("value") == name
    assert browser.find("#rename-username").get_property("value") == ""


def test_slow_request_shows_that_it_works_and_is_sent_once(browser, service, name):
    browser.sign_up(name)
    browser.send("logout")
    browser.shows("login")
    browser.fill(login_password=PASSWORD)
    browser.network(latency=3000)

    before = service.log.count("route=/api/user/login ")
    browser.send("login")
    browser.find("#login-password").send_keys(Keys.ENTER)
    browser.send("login")
    form, button = browser.find("#login-form"), browser.find("#login-form button")
    assert form.get_attribute("aria-busy") == "true"
    assert button.get_attribute("aria-disabled") == "true"
    assert button.text == "Logging in…"
    browser.says("#status", "Still working…")
    browser.picture("slow")

    browser.shows("account")
    browser.says("#status", "You are logged in.")
    assert service.log.count("route=/api/user/login ") == before + 1
    assert form.get_attribute("aria-busy") is None
    assert button.get_attribute("textContent") == "Log in"


def test_network_that_is_away_is_said_and_the_next_try_works(open_browser, service, name):
    browser = open_browser(service.url)
    browser.sign_up(name)
    browser.network(offline=True)
    browser.fill(rename_username=f"{name}-2")
    browser.send("rename")
    browser.says("#rename-form .problem", "The service cannot be reached.")
    assert browser.complaints() != []

    browser.network()
    browser.send("rename")
    browser.says("#account-username", f"{name}-2")
    assert browser.find("#rename-form .problem").text == ""


def test_keyboard_is_enough(browser, name):
    browser.open()
    browser.shows("login")
    keyboard = webdriver.ActionChains(browser.driver)

    def press(*keys: str) -> None:
        keyboard.send_keys(*keys).perform()

    def focused() -> str:
        return (
            browser.driver.switch_to.active_element.get_attribute("id")
            or browser.driver.switch_to.active_element.text
        )

    press(Keys.TAB)
    assert focused() == "login-username"
    press(Keys.TAB, Keys.TAB, Keys.TAB)
    assert focused() == "Sign up"
    press(Keys.ENTER)
    browser.shows("signup")
    assert focused() == "signup-title"
    press(Keys.TAB, name, Keys.TAB, PASSWORD, Keys.ENTER)
    browser.says("#account-username", name)
    assert focused() == "account-title"
    press(Keys.TAB, f"{name}-2", Keys.ENTER)
    browser.says("#account-username", f"{name}-2")
    press(Keys.TAB, Keys.TAB, Keys.TAB, Keys.TAB)
    assert focused() == "Log out"
    press(Keys.SPACE)
    browser.shows("login")
    assert focused() == "login-title"


def test_password_managers_find_the_form(browser, name):
    browser.open("/.well-known/change-password")
    browser.shows("login")
    browser.open("/#signup")
    browser.sign_up(name)

    browser.open("/.well-known/change-password")
    browser.shows("account")
    assert browser.driver.switch_to.active_element.get_attribute("id") == "new-password"
    assert browser.find("#password-username").get_property("value") == name
    purposes = {field.get_attribute("id"): field.get_attribute("autocomplete") for field in
                browser.driver.find_elements(By.TAG_NAME, "input")}  # fmt: skip
    assert purposes == {
        "login-username": "username",
        "login-password": "current-password",
        "signup-username": "username",
        "signup-password": "new-password",
        "rename-username": "username",
        "password-username": "username",
        "current-password": "current-password",
        "new-password": "new-password",
    }


def test_documentation_can_be_tried_in_place(browser, name):
    browser.open("/api/docs")

    def attempt(operation: str, body: str = "") -> str:
        """Open an operation and execute it; return the status and body that are shown."""
        block = f"#operations-user-{operation}"
        browser.wait.until(lambda _: browser.driver.find_elements(By.CSS_SELECTOR, block))
        browser.find(f"{block} .opblock-summary-control").click()
        browser.wait.until(lambda _: browser.driver.find_elements(By.CSS_SELECTOR, f"{block} button.execute"))
        if body:
            browser.find(f"{block} textarea.body-param__text").clear()
            browser.find(f"{block} textarea.body-param__text").send_keys(body)
        browser.find(f"{block} button.execute").click()
        answer = f"{block} .live-responses-table .response"
        browser.wait.until(lambda _: browser.driver.find_elements(By.CSS_SELECTOR, answer))
        return browser.find(answer).text

    assert "401" in attempt("getUser")
    browser.open("/api/docs#")
    browser.driver.refresh()
    assert "200" in attempt("signup", json.dumps({"username": name, "password": PASSWORD}))
    assert "200" in attempt("login", json.dumps({"username": name, "password": PASSWORD}))
    assert name in attempt("getUser")
    browser.picture("documentation")


def test_way_back_leads_to_the_last_view(browser):
    browser.open()
    browser.shows("login")
    browser.find("#login a[href='#signup']").click()
    browser.shows("signup")

    browser.driver.back()
    browser.shows("login")
    browser.driver.forward()
    browser.shows("signup")
    browser.driver.refresh()
    browser.shows("signup")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
def test_every_view_is_accessible_and_fits(open_browser, service, name, scheme, width):
    browser = open_browser(service.url, scheme=scheme, width=width)

    def check(view: str) -> None:
        browser.picture(f"{view}-{scheme}-{width}")
        assert browser.problems_of_accessibility() == []
        assert browser.driver.execute_script("return document.documentElement.scrollWidth") <= width

    browser.open()
    browser.shows("login")
    check("login")
    browser.fill(login_username=name, login_password="not it")
    browser.send("login")
    browser.says("#login-form .problem", "wrong")
    check("login-problem")
    browser.open("/#signup")
    browser.shows("signup")
    browser.fill(signup_username="no name", signup_password="x")
    browser.send("signup")
    browser.says("#signup-password-error", "characters")
    check("signup-faults")
    browser.sign_up(name)
    check("account")
