"""GET /metrics: what it shows, and to whom."""

import fcntl
import json
import os
import re
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from django.conf import settings as django_settings
from django.db import OperationalError, connection, connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from config import BASE_DIR, EXIT_CODE, settings
from framework.connections import pool
from framework.fair_queue import FairQueue
from metrics import instruments
from metrics.worker_files import FILE_SIZES, WorkerFiles, name_of_process
from server import app
from user import passwords
from web import logs

from .exposition import Samples, scrape
from .markdown import code, section, table
from .support import (
    BASE_URL,
    COOKIE,
    OTHER_PASSWORD,
    assert_problem,
    credentials,
    login,
    run,
    send,
    until,
)

PYTHON = sys.executable


@pytest.fixture(autouse=True)
def _measured() -> Iterator[None]:
    """Have the service measure, as with METRICS=on."""
    middleware = list(django_settings.MIDDLEWARE)
    middleware.insert(middleware.index("web.middleware.guard"), "metrics.middleware.serve")
    with override_settings(MIDDLEWARE=middleware):
        app.load_middleware()
        yield
    logs.observers.clear()
    passwords.wait_observers.clear()
    pool.observers.clear()
    app.load_middleware()


@pytest.fixture
def increase(client: httpx.Client) -> Callable[..., float]:
    """Return a function that tells by how much samples have grown since the test began."""
    before = scrape(client.get)

    def since_then(name: str, **labels: str) -> float:
        return scrape(client.get).total(name, **labels) - before.total(name, **labels)

    return since_then


def test_requests_are_counted_by_route_method_and_status(client, increase):
    client.post("/api/user/signup", json=credentials())
    client.get("/api/user")
    client.get("/api/user/")
    client.cookies.clear()
    client.get("/api/user")
    client.head("/api/user")

    for route, method, status, count in [
        ("/api/user/signup", "POST", "200", 1),
        ("/api/user", "GET", "200", 2),
        ("/api/user", "GET", "401", 1),
        ("/api/user", "HEAD", "401", 1),
    ]:
        labels = {"route": route, "method": method, "status": status}
        assert increase("demo_user_http_requests_total", **labels) == count
    assert increase("demo_user_http_request_duration_seconds_count", route="/api/user", method="GET") == 3


def test_request_is_counted_once_however_many_handlers_there_are(client, increase):
    app.load_middleware()

    client.get("/api/health")

    assert increase("demo_user_http_requests_total", route="/api/health") == 1


def test_duration_is_in_seconds_and_in_the_bucket_that_it_fits(client, increase):
    client.get("/api/health")

    duration = "demo_user_http_request_duration_seconds"
    seconds = increase(f"{duration}_sum", route="/api/health")
    assert 0 < seconds < 30
    for bound in instruments.REQUEST_BUCKETS:
        count = increase(f"{duration}_bucket", route="/api/health", le=str(float(bound)))
        assert count == (seconds <= bound)


def test_labels_hold_nothing_that_a_client_chose(bob, increase):
    bob.get("/api/user/sessions/1234567")
    bob.delete("/api/user/sessions/1234567")
    bob.get("/nope-secret?password=secret")
    bob.get("/", headers={"Host": "secret.example"})
    bob.post("/api/user/secret", json=credentials("secret"))
    login(bob, "secret", "secret-password")
    send("SECRET", "/api/user")

    assert increase("demo_user_http_requests_total", method="other") == 1
    assert increase("demo_user_http_requests_total", route="/api/user/sessions/{id}") == 2
    assert increase("demo_user_http_requests_total", route="other", status="404") == 2
    assert increase("demo_user_http_requests_total", route="other", status="400") == 1
    text = bob.get("/metrics").text
    for word in ("secret", "1234567", "bob", "127.0.0.1"):
        assert word not in text.lower()
    assert Samples(text).values_of("method") <= logs.METHODS | {"other"}


def test_events_of_accounts_are_counted(make_client, make_user, increase):
    bob = make_user()
    login(make_client())
    login(make_client(), password="wrong")
    bob.put("/api/user", json={"password": OTHER_PASSWORD})
    bob.post("/api/user/reauthenticate", json={"password": OTHER_PASSWORD})
    bob.post("/api/user/reauthenticate", json={"password": "wrong"})
    recovery = bob.post("/api/user/recovery-code").json()["recovery_code"]
    make_client().post("/api/user/recover", json=credentials() | {"recovery_code": "0" * 26})
    make_client().post("/api/user/recover", json=credentials() | {"recovery_code": recovery})
    bob.put("/api/user", json={"username": "robert"}, headers={"Origin": "https://evil.example"})

    counted = {event: increase("demo_user_events_total", event=event) for event in instruments.EVENTS}
    assert {event: count for event, count in counted.items() if count} == {
        "signup": 1,
        "login": 1,
        "login_failure": 1,
        "password_change": 1,
        "reauthentication": 1,
        "reauthentication_failure": 1,
        "recovery_code_created": 1,
        "recovery_failure": 1,
        "recovery": 1,
        "cross_site_request": 1,
    }
    assert increase("demo_user_events_total", event="request") == 0


def test_every_event_of_the_service_is_shown_before_it_happens(client):
    packages = {path.parent for path in BASE_DIR.glob("*/__init__.py")} - {BASE_DIR / "tests"}
    sources = [path.read_text() for package in packages for path in package.rglob("*.py")]
    logged = {
        name
        for source in sources
        for match in re.findall(r'log_event\([^")]*"(\w+)"|\.event = "(\w+)"', source)
        for name in match
        if name
    }

    assert logged == set(instruments.EVENTS)
    assert logged <= scrape(client.get).values_of("event")


def test_rate_limited_request_is_counted_by_event_and_status(client, increase, monkeypatch):
    monkeypatch.setattr(settings, "throttle", True)
    monkeypatch.setattr("user.rate_limits.limiter.test", lambda *args: False)

    login(client)

    assert increase("demo_user_events_total", event="throttled") == 1
    assert increase("demo_user_http_requests_total", status="429") == 1


@pytest.fixture
def one_slot(monkeypatch: pytest.MonkeyPatch) -> FairQueue:
    """The queue for hashing, with one slot and room for one request that waits."""
    queue = FairQueue(1, 1, 30)
    monkeypatch.setattr(passwords, "hashing_queue", lambda: queue)
    return queue


def test_waiting_for_a_hash_is_measured(client, increase, one_slot):
    with one_slot.slot("somebody"):
        waiting = threading.Thread(target=send_login)
        waiting.start()
        until(lambda: len(one_slot) == 1)
        length = increase("demo_user_hash_queue_length")
    waiting.join(60)

    assert length == 1
    assert increase("demo_user_hash_queue_length") == 0
    assert increase("demo_user_hash_queue_wait_seconds_count") == 1
    assert 0 < increase("demo_user_hash_queue_wait_seconds_sum") < 60
    assert increase("demo_user_hash_queue_refusals_total") == 0


def send_login() -> None:
    """Log in, in a thread, where no client of the test may be used."""
    body = json.dumps(credentials()).encode()
    send("POST", "/api/user/login", {"Origin": BASE_URL}, body)


def test_request_that_the_queue_has_no_place_for_is_counted(client, increase, monkeypatch):
    queue = FairQueue(1, 0, 30)
    monkeypatch.setattr(passwords, "hashing_queue", lambda: queue)

    with queue.slot("somebody"):
        assert_problem(login(client), 503, "service_unavailable")

    assert increase("demo_user_hash_queue_refusals_total") == 1
    assert increase("demo_user_hash_queue_wait_seconds_count") == 0
    assert increase("demo_user_hash_queue_length") == 0
    assert increase("demo_user_http_requests_total", route="/api/user/login", status="503") == 1


def test_wait_that_fails_in_another_way_leaves_the_queue(client, increase, monkeypatch):
    def fail():
        raise RuntimeError("it broke")

    monkeypatch.setattr(passwords, "machine_slots", fail)

    assert login(client).status_code == 500
    assert increase("demo_user_hash_queue_length") == 0
    assert increase("demo_user_events_total", event="unhandled_error") == 1


def test_connections_in_use_are_those_that_requests_hold(increase):
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with pool.request():
            connection.ensure_connection()
            held.set()
            let_go.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    in_use = increase("demo_user_database_connections_in_use")
    let_go.set()
    thread.join(60)

    assert in_use == 1
    assert increase("demo_user_database_connections_in_use") == 0


def test_metrics_need_no_database(bob, increase, monkeypatch):
    def refuse(alias: str) -> None:
        raise OperationalError("the database is away")

    def ask() -> list[int]:
        """Ask in a thread, which has no connection yet."""
        headers = {"Cookie": f"{COOKIE}={bob.cookies[COOKIE]}"}
        return [send("GET", path, headers).status_code for path in ("/api/user", "/metrics")]

    monkeypatch.setattr(connections, "create_connection", refuse)
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.extend(ask()))
    thread.start()
    thread.join(60)
    with CaptureQueriesContext(connection) as queries:
        counted = increase("demo_user_events_total", event="service_unavailable")

    assert statuses == [503, 200]
    assert counted == 1
    assert len(queries) == 0


def test_metrics_are_told_whatever_the_host_and_kept_by_nobody(client):
    response = client.get("/metrics", headers={"Host": "10.1.2.3:8001"})

    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert int(response.headers["Content-Length"]) == len(response.content)
    assert client.head("/metrics").content == b""
    assert send("GET", "/metrics", HTTP_HOST=None).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_metrics_take_no_other_method(method):
    response = send(method, "/metrics")

    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/metrics/", "/Metrics", "/metrics/x", "/api/metrics", "//metrics"])
def test_metrics_have_one_address(path):
    assert_problem(send("GET", path), 404, "not_found")


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_metrics_are_not_shown_through_a_proxy(increase, method, header):
    assert_problem(send(method, "/metrics", {header: "127.0.0.1"}), 404, "not_found")

    assert increase("demo_user_http_requests_total", route="other", method=method, status="404") == 1


def test_scrapes_are_logged_for_debugging_alone(client, records):
    client.get("/metrics")

    assert records == []


ASK = """
import sys, httpx, utilmeta
utilmeta._cmd_env = True  # as under `meta`: what the database lacks does not stop the start
{first}
from server import app
client = httpx.Client(transport=httpx.WSGITransport(app=app), base_url="http://127.0.0.1:80")
for _ in range(3):
    client.get("/api/health")
{then}
response = client.get("/metrics", headers={{"Host": "10.1.2.3:8001"}})
print(response.text)
print("imported", any(name.startswith(("prometheus_client", "metrics")) for name in sys.modules))
print("status", response.status_code)
"""


def ask(
    folder: Path, first: str = "", then: str = "", metrics: str = "on"
) -> subprocess.CompletedProcess[str]:
    """Have a process answer a few requests, and then one for the metrics."""
    return run(PYTHON, "-c", ASK.format(first=first, then=then), METRICS=metrics, TMPDIR=str(folder))


def samples_of(process: subprocess.CompletedProcess[str]) -> Samples:
    """Return the samples that a process has printed."""
    assert process.returncode == 0, process.stderr
    assert process.stdout.endswith("imported True\nstatus 200\n")
    return Samples(process.stdout.partition("imported ")[0])


def test_metrics_are_neither_shown_nor_imported_by_default(tmp_path):
    done = ask(tmp_path, metrics="off")

    assert done.stdout.endswith("imported False\nstatus 404\n")
    assert '"code": "not_found"' in done.stdout


def test_process_that_serves_alone_makes_no_files(tmp_path):
    samples = samples_of(ask(tmp_path))

    assert samples.total("demo_user_http_requests_total", route="/api/health") == 3
    assert samples.total("demo_user_workers") == 1
    assert list(tmp_path.glob("demo-user-metrics*")) == []


AS_A_WORKER = "import gunicorn.arbiter"


def test_worker_continues_the_counts_of_the_one_that_it_replaces(tmp_path):
    # All of them are workers of this process.
    totals = [samples_of(ask(tmp_path, AS_A_WORKER)) for _ in range(2)]

    counts = [samples.total("demo_user_http_requests_total", route="/api/health") for samples in totals]
    assert counts == [3, 6]
    assert [samples.total("demo_user_workers") for samples in totals] == [1, 1]
    assert totals[0].families.keys() == totals[1].families.keys() == samples_of(ask(tmp_path)).families.keys()


def test_worker_without_a_folder_for_its_counts_does_not_start(tmp_path):
    (tmp_path / f"demo-user-metrics-{os.getuid()}").touch()

    done = ask(tmp_path, AS_A_WORKER)

    assert done.returncode == EXIT_CODE
    (line,) = done.stderr.splitlines()
    assert line.startswith("demo-user cannot start: METRICS=on needs a folder")


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], WorkerFiles]]:
    """Return a function that makes the files of a worker of this process's parent."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    workers = []

    def make() -> WorkerFiles:
        workers.append(WorkerFiles(tmp_path))
        return workers[-1]

    yield make
    for each in workers:
        end(each)


def end(worker: WorkerFiles) -> None:
    """Do what the system does when a worker ends: unlock its files."""
    while worker._locks:
        os.close(worker._locks.pop())


def test_files_of_workers_are_their_own_and_nobody_else_can_read_them(worker):
    umask = os.umask(0)
    try:
        names = [worker().name(), worker().name()]
    finally:
        os.umask(umask)

    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    assert len(set(names)) == 2
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    for name in names:
        # The space is allocated, and not only promised.
        files = {kind: (folder / f"{kind}_{name}.db").stat() for kind in FILE_SIZES}
        assert {kind: file.st_size for kind, file in files.items()} == FILE_SIZES
        assert all(file.st_blocks * 512 >= file.st_size for file in files.values())


def test_gauges_of_a_worker_that_has_ended_are_deleted_and_its_counts_are_kept(worker):
    ended, left = worker(), worker()
    end(ended)

    assert left.count_workers() == 1
    files = {path.name for path in left.folder.glob(f"*_{ended.name()}.db")}
    assert files == {f"counter_{ended.name()}.db", f"histogram_{ended.name()}.db"}


def test_new_worker_takes_the_counts_of_one_that_has_ended_and_begins_its_gauges_at_zero(worker):
    ended, left = worker(), worker()
    for kind in FILE_SIZES:
        (ended.folder / f"{kind}_{ended.name()}.db").write_bytes(b"\1" * FILE_SIZES[kind])
    end(ended)

    new = worker()

    assert new.name() == ended.name() != left.name()
    content = {kind: (new.folder / f"{kind}_{new.name()}.db").read_bytes()[0] for kind in FILE_SIZES}
    assert content == {"counter": 1, "histogram": 1, "gauge_livesum": 0}
    assert new.count_workers() == 2


def test_worker_that_finds_no_room_leaves_no_part_of_a_file_to_the_next_one(tmp_path, worker):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZES["counter"] - 1, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            worker()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert list(tmp_path.rglob("*.db")) == []
    new = worker()
    sizes = {path.stat().st_size for path in new.folder.glob(f"*_{new.name()}.db")}
    assert sizes == set(FILE_SIZES.values())


def test_only_folders_that_nobody_needs_are_deleted(tmp_path, worker):
    with ExitStack() as stack:
        in_use = tmp_path / "999999999-1"
        for folder in (in_use, tmp_path / "999999998-1", tmp_path / f"{os.getpid()}-1"):
            folder.mkdir()
            (folder / "counter_0.db").touch()
        other_server = tmp_path / name_of_process(os.getpid())
        other_server.mkdir()
        file = os.open(in_use, os.O_RDONLY)
        stack.callback(os.close, file)
        fcntl.flock(file, fcntl.LOCK_SH)

        own = worker()

    assert {path.name for path in tmp_path.iterdir()} == {in_use.name, other_server.name, own.folder.name}


FORK = """
import os, sys
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
else:
    samples = client.get("/metrics").text
    assert 'demo_user_workers 1.0' in samples
    assert 'demo_user_events_total{event="login"} 0.0' in samples
    assert 'route="/api/health",status="200"} 0.0' in samples
    assert client.get("/api/user").status_code == 401
    assert 'route="/api/user",status="401"} 1.0' in client.get("/metrics").text
    sys.exit()
"""


def test_forked_process_counts_apart_from_the_one_that_it_comes_from(tmp_path):
    samples = samples_of(ask(tmp_path, AS_A_WORKER, then=FORK))

    assert samples.total("demo_user_http_requests_total", route="/api/health") == 3
    assert samples.total("demo_user_http_requests_total", route="/api/user") == 0
    # Those of the fork will be deleted by a server that starts later.
    assert len(list(tmp_path.glob("demo-user-metrics-*/*"))) == 2


def test_name_of_a_process_tells_it_from_a_later_one_with_its_id():
    name = name_of_process(os.getpid())

    assert re.fullmatch(rf"{os.getpid()}-[1-9]\d+", name)
    assert name == name_of_process(os.getpid())
    assert name_of_process(999_999_999) == "999999999-0"


def names_in(query: str) -> set[str]:
    """Return the names of the metrics in text."""
    return set(re.findall(r"\bdemo_user_\w+", query))


def test_page_lists_every_metric_and_every_event(client):
    client.get("/api/user")
    samples = scrape(client.get)

    rows = table("docs/operations.md", "Metrics")
    listed = {name.partition("{")[0] for name, *_ in rows}
    assert listed == {re.sub("_(bucket|count|sum)$", "", name) for name in samples.names}
    page = section("docs/operations.md", "Metrics")
    assert [event for event in instruments.EVENTS if f"`{event}`" not in page] == []


def test_alerts_name_metrics_that_exist(client):
    client.get("/api/user")
    rules = [each for each in code(section("docs/operations.md", "Metrics"), "yaml") if "expr" in each]

    assert len(rules) == 1
    assert set() < names_in(rules[0]) <= scrape(client.get).names


def test_queries_of_the_dashboard_name_metrics_that_exist(client):
    client.get("/api/user")
    panels = json.loads((BASE_DIR / "deploy/grafana.json").read_text())["panels"]
    names = [names_in(target["expr"]) for panel in panels for target in panel["targets"]]

    assert len(names) >= len(panels) > 5
    assert all(names)
    assert set().union(*names) <= scrape(client.get).names
