"""The benchmark of a rush: many users log in at the same moment, at the real cost of a hash."""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from typing import NamedTuple

from .databases import a_database
from .flow import HOST, PASSWORD, new_address
from .loads import sign_up
from .processes import inside
from .servers import a_server
from .tables import Table

# An authenticated user asks this often meanwhile.
READ_SECONDS = 0.02
FLOOD_CONNECTIONS = 96
# With so many, no username is in ten attempts at once, which is the limit for one address.
FLOOD_USERS = 16
FLOOD_LOGINS = 6
GIVE_UP_SECONDS = 300


class Login(NamedTuple):
    """How long it took until a client was logged in, and how often it was refused on the way."""

    seconds: float
    refused: int


def log_in(port: int, name: str, address: str) -> Login:
    """Log in from an address, and come again after `Retry-After` when refused."""
    body = json.dumps({"username": name, "password": PASSWORD})
    headers = {"Content-Type": "application/json", "X-Forwarded-For": address}
    start, refused = time.perf_counter(), 0
    while time.perf_counter() - start < GIVE_UP_SECONDS:
        connection = HTTPConnection(HOST, port, timeout=GIVE_UP_SECONDS)
        try:
            connection.request("POST", "/api/user/login", body, headers)
            response = connection.getresponse()
            response.read()
        finally:
            connection.close()
        if response.status == 200:
            return Login(time.perf_counter() - start, refused)
        refused += 1
        time.sleep(float(response.getheader("Retry-After") or 1))
    raise RuntimeError(f"nobody was let in for {GIVE_UP_SECONDS} seconds")


class Reader:
    """An authenticated user who reads all the time; `milliseconds` holds how long each response took."""

    def __init__(self, port: int, cookie: str) -> None:
        """Prepare to read with a session's cookie."""
        self._port, self._cookie = port, cookie
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self.milliseconds: list[float] = []
        self.errors = 0

    def __enter__(self) -> Reader:
        """Begin to read."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._stop.wait(READ_SECONDS):
            start = time.perf_counter()
            connection = HTTPConnection(HOST, self._port, timeout=60)
            try:
                connection.request("GET", "/api/user", headers={"Cookie": self._cookie})
                response = connection.getresponse()
                response.read()
                self.errors += response.status != 200
            except (OSError, HTTPException):
                self.errors += 1
            finally:
                connection.close()
            self.milliseconds.append((time.perf_counter() - start) * 1000)


def percentile(values: list[float], share: float) -> float:
    """Return the value that a share of all values does not exceed."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def row(label: str, total: float, logins: list[Login], reader: Reader) -> list[str | float]:
    """Return the figures of a rush."""
    return [
        label,
        total,
        statistics.median(login.seconds for login in logins),
        sum(login.refused for login in logins),
        percentile(reader.milliseconds, 0.5),
        percentile(reader.milliseconds, 0.95),
        reader.errors,
    ]


def crowd(port: int, cookie: str, label: str, who: list[tuple[str, str]]) -> list[str | float]:
    """Let users, each a name and an address, log in at the same moment; return the figures."""
    ready = threading.Barrier(len(who) + 1)

    def client(name: str, address: str) -> Login:
        ready.wait()
        return log_in(port, name, address)

    with ThreadPoolExecutor(len(who)) as pool, Reader(port, cookie) as reader:
        logins = [pool.submit(client, *each) for each in who]
        ready.wait()
        start = time.perf_counter()
        done = [login.result() for login in logins]
        total = time.perf_counter() - start
    return row(label, total, done, reader)


def flood(port: int, cookie: str, name: str, names: list[str]) -> list[str | float]:
    """Let users of one network log in over many connections; return the figures of a user elsewhere."""
    stop = threading.Event()

    def flooder(number: int) -> None:
        while not stop.is_set():
            log_in(port, names[number % len(names)], f"2001:db8::{number:x}")

    with ThreadPoolExecutor(FLOOD_CONNECTIONS) as pool:
        flooders = [pool.submit(flooder, number) for number in range(FLOOD_CONNECTIONS)]
        time.sleep(2)
        start = time.perf_counter()
        with Reader(port, cookie) as reader:
            logins = [log_in(port, name, "203.0.113.1") for _ in range(FLOOD_LOGINS)]
        total = time.perf_counter() - start
        stop.set()
        for each in flooders:
            each.result()
    return row(f"{FLOOD_LOGINS} logins, one by one, while another network floods", total, logins, reader)


def rush(options: argparse.Namespace) -> Table:
    """Return how long people wait who log in at once, and authenticated users meanwhile."""
    with a_database(options.database_url) as url:
        hash_seconds = inside("hash", 5, url)
        with a_server(options.server, url, options.workers, iterations=0) as port:
            with ThreadPoolExecutor() as pool:
                users = list(pool.map(sign_up, [port] * (2 + max(*options.clients, FLOOD_USERS))))
            cookie = users.pop()["cookie"]
            name, *names = (user["name"] for user in users)
            one = statistics.median(log_in(port, name, "192.0.2.1").seconds for _ in range(5))
            rows: list[list[str | float]] = [["one login", one, one, 0, 0, 0, 0]]
            for clients in options.clients:
                crowds = {"as many addresses": [new_address() for _ in range(clients)]}
                crowds["one address"] = ["192.0.2.1"] * clients
                for label, addresses in crowds.items():
                    who = list(zip(names, addresses, strict=False))
                    rows.append(crowd(port, cookie, f"{clients} at once, {label}", who))
            rows.append(flood(port, cookie, name, names[:FLOOD_USERS]))
    title = f"{options.server}, {options.workers} workers; a hash takes {hash_seconds:.3f} s of a core"
    header = ["logins", "s, all in", "s, median", "refused", "GET, ms, median", "GET, ms, 95 %", "GET errors"]
    return Table(title, header, rows)
