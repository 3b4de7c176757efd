"""`python test.py`: the tutorial's story, told to a running server."""

import importlib.util
import re
import sys

import pytest
from utilmeta.core.response import Response

from config import BASE_DIR, settings

from .support import run

pytestmark = pytest.mark.skipif(settings.production, reason="the tutorial is for development")

specification = importlib.util.spec_from_file_location("story", BASE_DIR / "test.py")
story = importlib.util.module_from_spec(specification)
specification.loader.exec_module(story)

STEPS = [
    'Response [200 OK] "POST /api/user/signup"',
    'Response [200 OK] "GET /api/user"',
    'Response [200 OK] "POST /api/user/logout"',
    'Response [401 Unauthorized] "GET /api/user"',
    'Response [200 OK] "POST /api/user/login"',
    'Response [200 OK] "GET /api/user"',
    'Response [200 OK] "PUT /api/user"',
]


def test_story_is_told_again_and_again(start):
    server = start(sys.executable, "server.py", cwd=BASE_DIR).wait_until_it_serves()

    for _ in range(2):
        told = run(sys.executable, "test.py", PORT=server.environment["PORT"])
        assert told.returncode == 0, told.stderr
        assert [line for line in told.stdout.splitlines() if line.startswith("Response ")] == STEPS
        assert told.stdout.count("'username': 'user1-") == 4
        assert told.stdout.count("'username': 'user-updated-") == 1


def test_no_server_is_said_in_one_line():
    told = run(sys.executable, "test.py", PORT="1")

    assert told.returncode == 1
    assert told.stdout == ""
    assert told.stderr.startswith("Failed: no response from http://127.0.0.1:1/api (")
    assert told.stderr.endswith("Run: meta run\n")
    assert told.stderr.count("\n") == 1


def test_wrong_user_is_said_in_one_line(capsys):
    response = Response(status=200, result={"username": "eve"})

    with pytest.raises(SystemExit, match=r"^Failed: expected the user bob, got eve\.$"):
        story.expect(response, 200, "bob")


@pytest.mark.parametrize(
    ("status", "content_type", "body", "error"),
    [
        ("500 Internal Server Error", "text/html", "<h1>Sorry</h1>", r"expected status 200, got 500\."),
        ("200 OK", "text/html", "<h1>Welcome</h1>", r"expected the user user1-\w+, got none\."),
        ("200 OK", "application/json", '["eve"]', r"expected the user user1-\w+, got none\."),
    ],
)
def test_another_service_is_told_apart_in_one_line(start, tmp_path, status, content_type, body, error):
    (tmp_path / "other.py").write_text(
        "import os\n"
        "from wsgiref.simple_server import make_server\n"
        "def app(environ, start_response):\n"
        f"    start_response({status!r}, [('Content-Type', {content_type!r})])\n"
        f"    return [{body.encode()!r}]\n"
        "make_server('127.0.0.1', int(os.environ['PORT']), app).serve_forever()\n"
    )
    server = start(sys.executable, "other.py", cwd=tmp_path).wait_until_it_serves()

    told = run(sys.executable, "test.py", PORT=server.environment["PORT"])

    assert told.returncode == 1
    assert re.fullmatch(f"Failed: {error}\n", told.stderr)
