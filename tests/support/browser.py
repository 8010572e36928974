"""A page in headless Chromium: the document after loading, and what the console said."""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
]
# What the console says, and what the browser says of a request that it made or refused.
CONSOLE = re.compile(r"CONSOLE[:(].*|.*net::ERR_.*")


def chromium() -> str:
    """The browser's path; the test is skipped, with the reason, where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    return found


def open_page(page: Path, profile: Path, *more_flags: str) -> tuple[str, list[str]]:
    """The document's HTML after loading, and every console line."""
    command = [chromium(), *FLAGS, f"--user-data-dir={profile}", "--enable-logging=stderr", "--v=0", "--timeout=20000"]
    done = subprocess.run(
        [*command, *more_flags, "--dump-dom", page.resolve().as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if CONSOLE.search(line)]


class Document(html.parser.HTMLParser):
    """The elements of a page as (tag, attributes), with the text below each ``id``."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data):
        self.text += f" {data.strip()}"

    def with_attribute(self, name: str) -> list[dict[str, str]]:
        return [attributes for _, attributes in self.elements if name in attributes]
