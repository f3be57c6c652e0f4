"""What README.md and docs/ link to is there, also for who reads README.md on a package index."""

import re
import tomllib
from collections.abc import Iterator

import httpx
import pytest
import yaml
from documentation import PAGES, ROOT

from sse_fast import create_app

SITE = "https://sse-fast.github.io/sse-fast/"
REPOSITORY = "https://github.com/sse-fast/sse-fast/"
RAW = "https://raw.githubusercontent.com/sse-fast/sse-fast/main/"
MADE = {"changelog", "features", "reference/settings", "reference/http"}  # by scripts/site.py
LINK = re.compile(r"\]\(([^)\s]+)\)")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def anchors_of(text: str) -> Iterator[str]:
    for heading in re.findall(r"^#+ (.+)$", without_code(text), re.M):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
    yield from re.findall(r'<a id="([^"]+)"', text)


LINKS = sorted({(name, link) for name, text in PAGES.items() for link in LINK.findall(without_code(text))})


@pytest.mark.parametrize("link", sorted({link for _, link in LINKS if link.startswith(SITE)}))
def test_a_link_to_the_site_is_to_a_page_of_it(link: str) -> None:
    path, _, anchor = link.removeprefix(SITE).partition("#")
    page = path.strip("/") or "index"
    if page not in MADE:
        text = PAGES[f"docs/{page}.md"]
        assert not anchor or anchor in anchors_of(text)
        assert path in ("", f"{page}/")


@pytest.mark.parametrize("link", sorted({link for _, link in LINKS if link.startswith((REPOSITORY + "blob/", RAW))}))
def test_a_link_to_the_repository_is_to_a_file_of_it(link: str) -> None:
    assert (ROOT / link.removeprefix(REPOSITORY + "blob/main/").removeprefix(RAW).partition("#")[0]).exists()


def test_the_readme_has_no_link_that_only_works_in_the_repository() -> None:
    assert not [link for name, link in LINKS if name == "README.md" and not link.startswith("https://")]


def test_the_readme_is_what_a_visitor_needs() -> None:
    assert len(PAGES["README.md"].splitlines()) < 250


def test_the_site_and_the_package_name_one_address() -> None:
    site = (ROOT / "mkdocs.yml").read_text()
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert f"site_url: {SITE}\n" in site
    assert (urls["Documentation"], urls["Source"]) == (SITE, REPOSITORY.rstrip("/"))


def test_each_page_is_in_the_navigation() -> None:
    def pages(entries: object) -> Iterator[str]:
        match entries:
            case str():
                yield entries
            case dict():
                for entry in entries.values():
                    yield from pages(entry)
            case list():
                for entry in entries:
                    yield from pages(entry)

    listed = set(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    written = {name.removeprefix("docs/") for name in PAGES if name != "README.md"}
    assert listed == written | {f"{page}.md" for page in MADE}


async def test_each_metric_that_is_named_is_there() -> None:
    app = create_app()
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        metrics = (await client.get("/metrics")).text
    await app.close()
    named = set(re.findall(r"`(sse_fast_[a-z_]+)(?:\{[^}`]*\})?`", PAGES["docs/running/production.md"]))
    of_a_backplane = {name for name in named if name.startswith("sse_fast_backplane_")}
    assert named - of_a_backplane
    assert {name for name in named - of_a_backplane if name not in metrics} == set()
