"""The recipes of docs/extending.md, applied to a copy of the project."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from config import BASE_DIR

from .support import run

PAGE = (BASE_DIR / "docs/extending.md").read_text()
# By their headings.
SECTIONS = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n?)*)", PAGE, re.MULTILINE))


def blocks(title: str) -> list[tuple[str, str]]:
    """Return the code blocks under a heading: their language and their text."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", SECTIONS[title], re.MULTILINE | re.DOTALL)


def copy_project(folder: Path) -> Path:
    """Copy the files that git knows into a folder, and return it."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=BASE_DIR, capture_output=True, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(BASE_DIR / name, target)
    return folder


def apply(
    title: str, project: Path, before_commands: Callable[[], None] = lambda: None, **settings: str
) -> None:
    """Do in a project what a recipe says."""
    for language, text in sorted(blocks(title), key=lambda block: block[0] == "sh"):
        if language == "sh":
            before_commands()
            result = run("sh", "-ec", text, cwd=project, **settings)
            assert result.returncode == 0, result.stdout + result.stderr
            continue
        name, _, content = text.partition("\n")
        file = project / name.lstrip("#/ ")
        if language == "diff":
            file.write_text(patched(file.read_text(), content))
        else:
            assert not file.exists(), f"{file} is there already"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)


def patched(text: str, diff: str) -> str:
    """Return a text with the lines of a diff, which says where by those beside them."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line.removeprefix(line[0].strip("\n")) for line in lines if line[0] != "+")
    after = "".join(line.removeprefix(line[0].strip("\n")) for line in lines if line[0] != "-")
    assert text.count(before) == 1, f"not once in the file:\n{before}"
    return text.replace(before, after)
