"""The site of docs/: every page is reached, anchors lead somewhere, and what mkdocs is given is what it understands."""

import importlib.util
import re

import pytest
from tree import ROOT

from edge.structs import read_toml

DOCS = ROOT / "docs"
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def site_hook():
    spec = importlib.util.spec_from_file_location("docs_site", DOCS / "site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors_of(text: str) -> set[str]:
    """What links to the headings of a page may name, as Python-Markdown makes it."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def test_every_page_is_in_the_navigation_and_in_the_readme():
    listed = re.findall(r"^      - (?:.+: )?([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(PAGES), "mkdocs.yml: nav has each page of docs/ once"
    linked = set(re.findall(r"\(docs/([\w-]+\.md)", (ROOT / "README.md").read_text()))
    assert linked == set(PAGES), "README.md links each page of docs/"


@pytest.mark.parametrize("page", PAGES)
def test_anchors_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([\w-]*(?:\.md)?)#([^)]+)\)", FENCE.sub("", PAGES[page])):
        assert anchor in anchors_of(PAGES[target or page]), f"{page} links to {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_its_language(page):
    fences = re.findall(r"^```(.*)$", PAGES[page], re.MULTILINE)
    assert len(fences) % 2 == 0
    assert all(re.match(r"\w+", opening) for opening in fences[::2]), f"{page}: a fence without a language"
    assert not any(fences[1::2]), f"{page}: a fence that does not end"


def test_extras_that_pages_name_exist():
    extras = read_toml(ROOT / "pyproject.toml")["project"]["optional-dependencies"]
    text = "".join([*PAGES.values(), (ROOT / "README.md").read_text(encoding="utf-8")])
    named = {name for found in re.findall(r"(?:harrier-edge|'\.)\[([\w,-]+)\]", text) for name in found.split(",")}
    assert named
    assert named <= set(extras)


def test_the_site_gets_languages_and_titles():
    page = "See [geometry.md](geometry.md#regions).\n```sh run\nharrier check a.toml\n```\n"
    made = "See [Geometry](geometry.md#regions).\n```sh\nharrier check a.toml\n```\n"
    assert site_hook().on_page_markdown(page) == made
    assert site_hook().on_page_markdown("[the wire](wire.md)") == "[the wire](wire.md)"
