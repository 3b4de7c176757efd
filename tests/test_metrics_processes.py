"""/metrics of real servers: of several workers together, of two groups apart, and never through nginx."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.mmap_dict import MmapedDict

from config import BASE_DIR

from .exposition import Samples, scrape
from .nginx import needs_nginx, nginx
from .support import Process, assert_problem, until
from .test_deploy import HOST, PASSWORDS, READS, Site, a_site, assert_headers_of_a_problem
from .test_production import COMMANDS

SERVERS = {
    "granian": COMMANDS["granian"],
    "gunicorn": COMMANDS["gunicorn"],
    "gunicorn that imports the service before it forks": (*COMMANDS["gunicorn"], "--preload"),
}
REQUESTS = "demo_user_http_requests_total"
WORKERS = 2


def metrics_of(process: Process) -> Samples:
    """Return what a server shows, whichever of its workers is asked."""
    with httpx.Client(base_url=process.url, verify=False) as client:
        return scrape(client.get)


def count_of(process: Process) -> float:
    """Return how many health checks a server has counted."""
    return metrics_of(process).total(REQUESTS, route="/api/health")


def a_worker_of(process: Process) -> psutil.Process:
    """Return a worker of a server."""
    # The resource tracker of multiprocessing is a child as well.
    return next(child for child in process.children() if "resource_tracker" not in str(child.cmdline()))


def folders(temporary: Path) -> list[Path]:
    """Return the folders of files of those servers that have workers."""
    return [path for path in temporary.glob("demo-user-metrics-*/*") if len(list(path.glob("*.lock"))) > 1]


def counts_of_workers(folder: Path) -> list[float]:
    """Return how many health checks each worker of a server has counted."""
    return [
        sum(
            value
            for key, value, *_ in MmapedDict.read_all_values_from_file(path)
            if REQUESTS in key and "/api/health" in key
        )
        for path in folder.glob("counter_*.db")
    ]


def check_health(process: Process, times: int) -> None:
    """Ask a server for its health, over as many connections at once."""
    port = int(process.environment["PORT"])
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(HTTPConnection("127.0.0.1", port))) for _ in range(times)]
        for connection in connections:
            connection.connect()
        for connection in connections:
            connection.request("GET", "/api/health")
        assert [connection.getresponse().status for connection in connections] == [200] * times


def check_health_until_all_workers_have(process: Process, folder: Path) -> int:
    """Ask a server for its health, until each of its workers was asked; return how often."""
    sent = 0

    def have_all() -> bool:
        nonlocal sent
        check_health(process, 10)
        sent += 10
        return all(counts_of_workers(folder))

    until(have_all)
    return sent


@pytest.mark.parametrize("command", SERVERS.values(), ids=SERVERS)
def test_counts_of_all_workers_stay_right_whichever_of_them_ends(start, tmp_path, command):
    settings = {"METRICS": "on", "TMPDIR": str(tmp_path), "UTILMETA_PRODUCTION": "false"}
    process = start(*command, cwd=BASE_DIR, **settings).wait_until_it_serves()
    until(lambda: metrics_of(process).total("demo_user_workers") == WORKERS)
    [folder] = folders(tmp_path)

    sent = check_health_until_all_workers_have(process, folder)
    assert [count_of(process) for _ in range(5)] == [sent] * 5

    ended = a_worker_of(process)
    ended.kill()
    psutil.wait_procs([ended])
    until(lambda: metrics_of(process).total("demo_user_workers") == WORKERS)
    assert [count_of(process) for _ in range(5)] == [sent] * 5
    sent += check_health_until_all_workers_have(process, folder)
    assert count_of(process) == sent
    assert len(counts_of_workers(folder)) == WORKERS

    process.stop()
    process.start()
    process.wait_until_it_serves()
    until(lambda: metrics_of(process).total("demo_user_workers") == WORKERS)
    assert count_of(process) == 0
    assert folder not in folders(tmp_path)
    assert len(folders(tmp_path)) == 1


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """nginx before two groups of processes that measure."""
    folder = tmp_path_factory.mktemp("site")
    with a_site(folder, METRICS="on", TMPDIR=str(folder)) as site:
        yield site


@needs_nginx
def test_groups_of_processes_count_apart(site):
    before = [count_of(process) for process in site.processes]

    check_health(site.processes[PASSWORDS], 3)
    with site.browser() as client:
        for _ in range(5):
            assert client.get("/api/health").status_code == 200

    counted = [count_of(process) for process in site.processes]
    assert [after - earlier for after, earlier in zip(counted, before, strict=True)] == [3, 5]
    assert len(folders(site.folder)) == 2
    assert [metrics_of(process).total("demo_user_workers") for process in site.processes] == [2, 2]


SPELLINGS = [
    "/metrics",
    "/metrics/",
    "/metrics?a=b",
    "/metrics//",
    "/metrics/.",
    "/metrics#x",
    "//metrics",
    "/./metrics",
    "/x/../metrics",
    "/METRICS",
    "/Metrics/",
    "/%6detrics",
    "/%6D%65%74%72ics/",
    "/metrics%2f",
    "/%2fmetrics",
    "/%2e/metrics",
    "/accounts/metrics",
    "/accounts/%6detrics/",
    "/a/b/metrics",
    "/api/../metrics",
    f"https://{HOST}/metrics",
]
OTHER_SPELLINGS = [
    "/%256detrics",
    "/metrics%20",
    "/metrics%00",
    "/metrics%0a",
    "/metrics;x",
    "/metrics%3f",
    "/metrics%23",
    "/metrics/x/..;",
    "/metrics\\",
    "/m\u00e9trics",
]


def assert_refused_by_nginx(site: Site, method: str, path: str) -> None:
    """Check that nginx itself responds that nothing is at a path."""
    response = site.ask(method, path)
    if method == "HEAD":
        assert response.status_code == 404
    else:
        assert_problem(response, 404, "not_found")
    assert_headers_of_a_problem(response)
    request_id = response.headers["X-Request-ID"]
    until(lambda: any(record["request_id"] == request_id for record in site.records()))
    assert [r["upstream"] for r in site.records() if r["request_id"] == request_id] == [""]


@needs_nginx
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_metrics_are_at_no_address_of_the_site(site, method):
    for path in SPELLINGS:
        assert_refused_by_nginx(site, method, path)
    for path in OTHER_SPELLINGS:
        assert site.raw(f"{method} {path} HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode()).status_code != 200
    assert site.raw(f"GET /metrics HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode()).status_code == 404


@pytest.fixture
def site_under_a_path(site: Site, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """Another nginx before the same processes, with the service under /accounts/, and further changes."""
    under = Site(
        tmp_path,
        site.processes,
        {r"location / \{": "location /accounts/ {\nrewrite ^/accounts(/.*)$ $1 break;"} | request.param,
    )
    under.write_configuration()
    for name in ("privkey.pem", "fullchain.pem"):
        shutil.copy(site.folder / name, tmp_path)
    with nginx(tmp_path, f"include {tmp_path}/site.conf;", under.plain_port):
        yield under


@needs_nginx
@pytest.mark.parametrize("site_under_a_path", [{}], indirect=True, ids=[""])
def test_metrics_are_not_under_a_path_of_the_domain_either(site_under_a_path):
    assert site_under_a_path.ask("GET", "/accounts/api/health").status_code == 200
    for path in ("/accounts/metrics", "/accounts/METRICS/", "/accounts/%6detrics", "/accounts//metrics"):
        assert_refused_by_nginx(site_under_a_path, "GET", path)


@needs_nginx
@pytest.mark.parametrize(
    "site_under_a_path", [{r"location ~\* /metrics": "location /x"}], indirect=True, ids=[""]
)
def test_site_file_without_that_rule_shows_no_metrics(site_under_a_path):
    response = site_under_a_path.ask("GET", "/accounts/metrics")

    assert_problem(response, 404, "not_found")
    assert site_under_a_path.group_of(response) == READS
