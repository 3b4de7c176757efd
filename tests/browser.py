"""A real browser on the page: Chromium without a window, a gate before the service, and an eye on both."""

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from selenium_axe_python import Axe

from config import BASE_DIR

from .support import Process, credentials

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
SCREENSHOTS = Path(os.environ.get("SCREENSHOTS", BASE_DIR / "screenshots"))
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM.exists() and CHROMEDRIVER.exists()),
    reason="Debian's chromium and chromium-driver are missing",
)
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-features=OptimizationHints,MediaRouter,Translate,AutofillServerCommunication,PasswordLeakDetection",
    "--metrics-recording-only",
    "--no-pings",
    "--hide-scrollbars",
    # A name that is not this machine's own: browsers trust that one over HTTP.
    "--host-resolver-rules=MAP users.example.com 127.0.0.1",
]
WAIT_SECONDS = 20
DAY_AGO = "datetime('now', '-1 day', '-1 minute')"
# What Chromium itself writes about every response of 400 and above.
STATUS_LINE = "Failed to load resource: the server responded with a status of "


class Gate:
    """A proxy before the service: it notes what comes, can hold it up or answer it, and keep cookies back."""

    def __init__(self, behind: str) -> None:
        self.behind = urlsplit(behind).netloc
        self.requests: list[tuple[str, str]] = []
        self.open = threading.Event()
        self.open.set()
        self.canned: tuple[int, dict[str, str], bytes] | None = None
        self.canned_get: tuple[int, dict[str, str], bytes] | None = None
        self.canned_at: dict[tuple[str, str], tuple[int, dict[str, str], bytes]] = {}
        self.forget_cookies = False
        self.prefix = ""
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                gate.requests.append((self.command, self.path))
                answer = None
                if self.path.startswith(("/api/user", "/api/passkeys")):
                    gate.open.wait(WAIT_SECONDS)
                    answer = gate.canned or (gate.canned_get if self.command == "GET" else None)
                    answer = answer or gate.canned_at.get((self.command, self.path))
                answer = answer or gate.ask(self.command, self.path, self.headers, body)
                status, headers, content = answer
                self.send_response_only(status)
                for name, value in headers.items():
                    if gate.forget_cookies and name.lower() == "set-cookie":
                        continue
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = pass_on  # noqa: N815

            def log_message(self, *args: Any) -> None:
                """Write nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def ask(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Return the response of the service, which knows no prefix of the path."""
        path = path.removeprefix(self.prefix)
        connection = HTTPConnection(self.behind, timeout=WAIT_SECONDS)
        try:
            connection.request(method, path, body, {**dict(headers), "Connection": "close"})
            answer = connection.getresponse()
            hop = ("connection", "content-length", "transfer-encoding", "server")
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in hop}
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    def count(self, method: str, path: str) -> int:
        """Return how many requests of a kind came."""
        return self.requests.count((method, path))

    def reset(self) -> None:
        """Let everything through, and forget what came."""
        self.canned = self.canned_get = None
        self.canned_at.clear()
        self.forget_cookies = False
        self.prefix = ""
        self.requests.clear()
        self.open.set()

    def close(self) -> None:
        """Stop."""
        self.reset()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Browser:
    """Chromium with a profile of its own, driven through what a person sees and presses."""

    def __init__(self, folder: Path, *flags: str) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in [*FLAGS, *flags, f"--user-data-dir={folder}/profile"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(str(CHROMEDRIVER))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_page_load_timeout(WAIT_SECONDS)
        self.driver.set_script_timeout(WAIT_SECONDS)
        self.url = ""
        self.may_write: list[str] = []

    def close(self) -> None:
        """Quit."""
        self.driver.quit()

    def reset(self, url: str) -> None:
        """Forget who is logged in, and what was written, and work with the page at a URL from now on."""
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.look(1280, "light")
        self.url = url
        self.may_write = []

    def open(self, address: str = "/", *, ready: bool = True) -> None:
        """Open an address of the page again, and wait until it shows what it has to show."""
        self.driver.get("about:blank")
        self.driver.get(self.url + address)
        if ready:
            self.until(lambda: self.find("main").get_attribute("aria-busy") is None)

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until something holds; return it."""
        return WebDriverWait(self.driver, WAIT_SECONDS, poll_frequency=0.05).until(lambda _: condition())

    def find(self, css: str) -> WebElement:
        """Return an element."""
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def text(self, css: str) -> str:
        """Return what is read in an element."""
        return self.find(css).text

    def view(self) -> str:
        """Return the names of the parts of the page that are shown."""
        shown = self.driver.find_elements(By.CSS_SELECTOR, "[data-view]:not([hidden])")
        return " ".join(str(each.get_attribute("data-view")) for each in shown)

    def until_view(self, view: str) -> None:
        """Wait until a part of the page is shown, under its heading and title, with the focus there."""
        self.until(lambda: self.view() == view)
        assert self.driver.title == f"{self.text('h1')} · demo-user"

    def focus(self) -> str | None:
        """Return the id of the element that has the focus."""
        return self.driver.switch_to.active_element.get_attribute("id")

    @property
    def area(self) -> str:
        """What can be worked with: the dialog that is open, else the part of the page that is shown."""
        return "dialog[open]" if self.has_dialog() else "[data-view]:not([hidden])"

    def has_dialog(self) -> bool:
        """Tell whether a dialog is open."""
        return bool(self.driver.find_elements(By.CSS_SELECTOR, "dialog[open]"))

    def click(self, text: str) -> None:
        """Press the button that is shown with a text."""
        buttons = self.driver.find_elements(By.CSS_SELECTOR, f"{self.area} button")
        next(button for button in buttons if button.is_displayed() and button.text == text).click()

    def fill(self, **fields: str) -> None:
        """Type into the fields of the form that is shown, in place of what stands there."""
        for name, text in fields.items():
            field = self.find(f"{self.area} [name={name}]")
            field.clear()
            field.send_keys(text)

    def send(self, **fields: str) -> None:
        """Fill the form that is shown, and press its button."""
        self.fill(**fields)
        self.find(f"{self.area} form > button").click()

    def follow(self, text: str) -> None:
        """Follow a link."""
        self.driver.find_element(By.LINK_TEXT, text).click()

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        for key in keys:
            webdriver.ActionChains(self.driver).send_keys(key).perform()

    def tab(self, what: str) -> None:
        """Go on with the Tab key until the element with an id or a text has the focus."""
        for _ in range(20):
            if what in (self.focus(), self.driver.switch_to.active_element.text):
                return
            self.press(Keys.TAB)
        raise AssertionError(f"{what} cannot be reached by the Tab key")

    def error(self, name: str) -> str:
        """Return the error beside a field of the form that is shown, once there is one."""
        field = self.until(lambda: self.find(f"{self.area} [name={name}][aria-invalid=true]"))
        described = str(field.get_attribute("aria-describedby")).split()
        assert described[-1] == f"{field.get_attribute('id')}-error"
        return self.text(f"#{described[-1]}")

    def look(self, width: int, scheme: str) -> None:
        """Make the window so wide, and prefer light or dark."""
        metrics = {
            "width": width,
            "height": 800 if width > 600 else 640,
            "deviceScaleFactor": 1,
            "mobile": False,
        }
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def inspect(self, name: str) -> None:
        """Hold the page against axe in light and dark, look for what is too wide, and keep pictures."""
        SCREENSHOTS.mkdir(exist_ok=True, parents=True)
        for scheme in ("light", "dark"):
            for width in (1280, 320):
                self.look(width, scheme)
                self.driver.save_screenshot(str(SCREENSHOTS / f"{name}-{width}-{scheme}.png"))
                wide = "return document.documentElement.scrollWidth"
                assert self.driver.execute_script(wide) <= width, (name, width)
            assert self.violations() == [], (name, scheme)
        self.look(1280, "light")

    def violations(self) -> list[str]:
        """Return what axe finds."""
        axe = Axe(self.driver)
        if not self.driver.execute_script("return 'axe' in window"):
            axe.inject()
        found = axe.run()["violations"]
        return [f"{each['id']}: {[node['html'] for node in each['nodes']]}" for each in found]

    def unexpected(self) -> Iterator[str]:
        """Yield what the browser wrote or sent that it should not have."""
        for entry in self.driver.get_log("browser"):
            text = str(entry["message"])
            if not (STATUS_LINE + "4" in text or any(each in text for each in self.may_write)):
                yield text
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if not url.startswith((self.url + "/", "data:", "about:")):
                    yield f"request to {url}"


class Device:
    """What makes and uses passkeys in a browser; it answers by itself, as if its user agreed."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.call("enable")
        self.add()

    def add(self) -> None:
        """Connect the device, without a passkey."""
        options = {
            "protocol": "ctap2",
            "ctap2Version": "ctap2_1",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        self.id = self.call("addVirtualAuthenticator", options=options)["authenticatorId"]

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of Chromium's virtual authenticators."""
        return self.browser.driver.execute_cdp_cmd(f"WebAuthn.{method}", parameters)

    def answer(self, enabled: bool) -> None:
        """Answer the requests that come from now on, or leave them waiting for a user."""
        self.call("setAutomaticPresenceSimulation", authenticatorId=self.id, enabled=enabled)

    def recognise(self, enabled: bool) -> None:
        """Recognise the user, or not, as when they cancel."""
        self.call("setUserVerified", authenticatorId=self.id, isUserVerified=enabled)

    def passkeys(self) -> list[dict[str, Any]]:
        """Return the passkeys on the device."""
        passkeys: list[dict[str, Any]] = self.call("getCredentials", authenticatorId=self.id)["credentials"]
        return passkeys

    def remove(self) -> None:
        """Take the device away."""
        self.call("removeVirtualAuthenticator", authenticatorId=self.id)

    def replace(self) -> None:
        """Take the device away, and connect another one."""
        self.remove()
        self.add()


def in_database(service: Process, statement: str, name: str) -> None:
    """Change the sessions of an account, as time or an operator would."""
    of_account = "WHERE user_id = (SELECT id FROM user_user WHERE username = ?)"
    connection = sqlite3.connect(service.log_file.parent / "db.sqlite3", timeout=10)
    with connection:
        assert connection.execute(f"{statement} {of_account}", [name]).rowcount > 0
    connection.close()


def can_log_in(service: Process, name: str, password: str) -> bool:
    """Tell whether a name and a password are those of an account."""
    response = httpx.post(f"{service.url}/api/user/login", json=credentials(name, password))
    return response.status_code == 200


def problem(status: int, code: str, detail: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return a response for the gate to give, in the service's form."""
    body = {"status": status, "code": code, "detail": detail, "request_id": "0123456789abcdef"}
    return status, {"Content-Type": "application/problem+json", **headers}, json.dumps(body).encode()


def age_logins(service: Process, name: str) -> None:
    """Let the logins of an account be too long ago for what is sensitive."""
    in_database(service, f"UPDATE user_session SET created_time = {DAY_AGO}", name)


def new_code(browser: Browser) -> str:
    """Create a recovery code on the page; return it."""
    browser.open("/#recovery-code")
    browser.send()
    browser.until(lambda: browser.text("#code"))
    return browser.text("#code")


def too_small(browser: Browser) -> list[str]:
    """Return what is shown and too small to press with a finger."""
    script = """
        const pressed = ':is(main, dialog, footer) :is(a, button, input)';
        return [...document.querySelectorAll(pressed)]
            .filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 44)
            .map((each) => each.textContent || each.id);
    """
    found: list[str] = browser.driver.execute_script(script)
    return found
