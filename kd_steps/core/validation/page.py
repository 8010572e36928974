"""The verdict of `validate` as one plain page that needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Data validation</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1b1b1b }}
table {{ border-collapse: collapse; width: 100%; margin: 0 0 2rem }}
th, td {{ border-bottom: 1px solid #ccc; padding: .4rem .6rem; text-align: left; vertical-align: top }}
.passed {{ color: #14602b }} .critical {{ color: #a01414 }} .warning {{ color: #8a5a00 }}
</style></head><body>
<h1>Data validation: <span class="{tone}">{word}</span></h1>
<p>{counts}</p>
{suites}
<p>Every expectation with its rows: <a href="index.html">Data Docs</a>.</p>
</body></html>
"""


def validation_page(found: Mapping[str, Any]) -> str:
    """HTML of the content of ``metrics/validation.json``, the verdict first."""
    counts = "; ".join(f"{escape(name)}: {escape(_told(value))}" for name, value in found["counts"].items())
    suites = "\n".join(_suite(name, suite) for name, suite in found["suites"].items())
    tone, word = ("passed", "passed") if found["passed"] else ("critical", "failed")
    return PAGE.format(tone=tone, word=word, counts=counts, suites=suites)


def _suite(name: str, suite: Mapping[str, Any]) -> str:
    met = suite["evaluated"] - suite["unsuccessful"]
    head = f"<h2>{escape(name)}: {met} of {suite['evaluated']} expectations met</h2>"
    if not suite["failures"]:
        return head
    rows = "".join(
        f'<tr><td class="{escape(f["severity"])}">{escape(f["severity"])}</td>'
        f"<td>{escape(f['message'])}</td><td>{escape(f['mend'])}</td></tr>"
        for f in suite["failures"]
    )
    return f"{head}<table><tr><th>severity</th><th>found</th><th>mend</th></tr>{rows}</table>"


def _told(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
    return str(value)
