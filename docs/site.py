"""A hook of mkdocs: what stands in the pages for GitHub's readers and for the tests, made fit for the site."""

import re
from pathlib import Path

__all__ = ["on_page_markdown"]


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return the page with the language alone behind each fence, and titles of pages instead of their files' names."""
    shell = re.sub(
        r"^```console$", "```sh", markdown, flags=re.MULTILINE
    )  # without prompts all of it looks like output
    one_word = re.sub(r"^(```\w+) .*$", r"\1", shell, flags=re.MULTILINE)
    return re.sub(r"\[(?P<file>[\w-]+\.md)\](?=\((?P=file)[#)])", _titled, one_word)


def _titled(link: re.Match[str]) -> str:
    text = Path(__file__).with_name(link["file"]).read_text(encoding="utf-8")
    title = re.match(r"# ([^:\n]*)", text)
    return f"[{title[1]}]" if title else link[0]
