"""Reads the pages: README.md, docs/ and the others that are written for people."""

import re
from collections import Counter
from pathlib import Path

from config import BASE_DIR

FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
# Images are links too: what stands in parentheses after a closing bracket.
LINK = re.compile(r"\]\(([^()\s]+)\)")


def read(path: str) -> str:
    """Return the text of a page, given its path in the project."""
    return (BASE_DIR / path).read_text()


def pages() -> list[str]:
    """Return the paths of all pages."""
    found = [*BASE_DIR.glob("*.md"), *BASE_DIR.glob("docs/*.md"), BASE_DIR / "benchmarks/README.md"]
    return sorted(path.relative_to(BASE_DIR).as_posix() for path in found)


def section(path: str, title: str) -> str:
    """Return the text under a heading, up to the next heading of the same level or a higher one."""
    text = f"\n{read(path)}"
    level = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)[1]
    rest = text.split(f"\n{level} {title}\n")[1]
    return re.split(rf"^#{{1,{len(level)}}} ", rest, flags=re.MULTILINE)[0]


def table(path: str, title: str) -> list[list[str]]:
    """Return the rows of the table under a heading."""
    rows = [line.strip("|").split("|") for line in section(path, title).splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in row] for row in rows[2:]]


def code(text: str, language: str) -> list[str]:
    """Return the blocks of code in a text that are in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def links(path: str) -> list[str]:
    """Return where the links of a page lead: relative addresses and #anchors, not other sites."""
    targets = LINK.findall(FENCE.sub("", read(path)))
    return [target for target in targets if not re.match("[a-z]+:", target)]


def anchors(path: str) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    found: Counter[str] = Counter()
    result = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", read(path)), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        result.add(f"{anchor}-{found[anchor]}" if found[anchor] else anchor)
        found[anchor] += 1
    return result


def resolve(path: str, link: str) -> tuple[Path, str]:
    """Return the file and the anchor that a link of a page leads to; the anchor may be empty."""
    target, _, anchor = link.partition("#")
    page = BASE_DIR / path
    return (page.parent / target).resolve() if target else page, anchor
