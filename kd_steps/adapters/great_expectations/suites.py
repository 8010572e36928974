"""Great Expectations: runs the suites of ``expectations/`` on tables and builds the Data Docs.

Nothing else in Retort imports Great Expectations, apart from the two expectation types of our own beside this file.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.core import ExpectationSuite
from great_expectations.core.expectation_validation_result import ExpectationValidationResult
from great_expectations.data_context.data_context.file_data_context import FileDataContext
from great_expectations.exceptions.exceptions import GreatExpectationsError
from great_expectations.expectations.registry import list_registered_expectation_implementations

from kd_steps.adapters.great_expectations import drift, representation
from kd_steps.artifacts import paths
from kd_steps.core.validation.verdict import Check

CONTEXT_FOLDER = Path(".retort/great_expectations")
SUITES = ("images", "boxes", "parity", "new_parts")
# What a page of Great Expectations fetches from other servers: scripts, style sheets, a logo that counts visits.
REMOTE = re.compile(
    r"<script[^>]*\ssrc=.?(?:https?:)?//[^>]*>\s*</script>"
    r"|<link[^>]*\shref=.?(?:https?:)?//[^>]*>"
    r"|<img[^>]*\ssrc=.?(?:https?:)?//[^>]*>"
)
REMOTE_STYLE = re.compile(r"url\(.?(?:https?:)?//[^)]*\)")

# Great Expectations drops an expectation whose type it does not know, without a word: both are registered by import.
OWN_TYPES = (
    drift.ExpectGroupMeansToStayNearReference,
    representation.ExpectClassesToBeRepresented,
)


class SuiteError(ValueError):
    """A suite file cannot be used; the message names the file and the mend."""


def open_context(root: Path) -> FileDataContext:
    """A fresh file context of the project in ``root``, whose suites are read from ``expectations/``.

    Raises:
        FileNotFoundError: the context's configuration is missing.
    """
    config, folder = root / paths.EXPECTATIONS_CONTEXT, root / CONTEXT_FOLDER
    if not config.exists():
        raise FileNotFoundError(f"{config}: no such file; restore it with `git checkout {paths.EXPECTATIONS_CONTEXT}`")
    shutil.rmtree(folder, ignore_errors=True)  # a kill may have left half a store
    folder.mkdir(parents=True)
    shutil.copyfile(config, folder / "great_expectations.yml")
    return gx.get_context(mode="file", context_root_dir=folder)


def load_suites(context: FileDataContext, root: Path) -> dict[str, ExpectationSuite]:
    """Read all suites of Retort, by name; errors as :func:`load_suite` says."""
    return {name: load_suite(context, root, name) for name in SUITES}


def load_suite(context: FileDataContext, root: Path, name: str) -> ExpectationSuite:
    """Read one suite and make sure that all of it was understood.

    Raises:
        FileNotFoundError: there is no such suite.
        SuiteError: it is not JSON, names an unknown expectation type, or Great Expectations left some of it out.
    """
    path = root / paths.EXPECTATIONS / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such suite; restore it with `git checkout {paths.EXPECTATIONS / path.name}`"
        )
    entries = _entries(path, name)
    known = set(list_registered_expectation_implementations())
    for number, entry in enumerate(entries, start=1):
        if entry["type"] not in known:
            raise SuiteError(f"{path}: expectation {number} has the unknown type {entry['type']!r}; correct its name")
    try:
        suite = context.suites.get(name)
    except (GreatExpectationsError, ValueError, TypeError) as error:
        raise SuiteError(f"{path}: Great Expectations cannot read it: {error}") from error
    if len(suite.expectations) != len(entries):
        loaded = [e.expectation_type for e in suite.expectations]
        lost = [e["type"] for e in entries if loaded.count(e["type"]) < sum(o["type"] == e["type"] for o in entries)]
        raise SuiteError(
            f"{path}: {len(entries)} expectations are written and {len(loaded)} were loaded; "
            f"check the arguments of {', '.join(sorted(set(lost)))}"
        )
    return suite


def run_suite(
    context: FileDataContext,
    suite: ExpectationSuite,
    table: pd.DataFrame,
    parameters: Mapping[str, Any],
) -> list[Check]:
    """Hold a table against a suite; the result is stored for the Data Docs.

    Args:
        context: from :func:`open_context`.
        suite: from :func:`load_suite`.
        table: one row a picture, object or probe; the column ``file`` names the row's file in the Data Docs.
        parameters: values for the ``$PARAMETER`` entries of the suite.

    Raises:
        SuiteError: an expectation could not be computed, as when it names a column that does not exist.
    """
    asset = context.data_sources.add_pandas(suite.name).add_dataframe_asset(suite.name)
    batch = asset.add_batch_definition_whole_dataframe("all")
    # `add`, because `add_or_update` would write the suite back into expectations/ with generated ids
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=suite.name, data=batch, suite=suite))
    result = definition.run(
        batch_parameters={"dataframe": table.reset_index(drop=True).assign(row=range(len(table)))},
        expectation_parameters=dict(parameters),
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["row", "file"]},
    )
    return [_check(suite.name, outcome) for outcome in result.results]


def build_data_docs(context: FileDataContext, root: Path) -> None:
    """Write the Data Docs of all suites that ran to ``report/data_docs``.

    Great Expectations links scripts, styles and pictures of other servers; they are taken out, so that the pages open
    the same without a network and tell nobody that they were opened.
    """
    folder = root / paths.DATA_DOCS
    shutil.rmtree(folder, ignore_errors=True)
    context.build_data_docs()
    for page in (*folder.rglob("*.html"), *folder.rglob("*.css")):
        text = REMOTE.sub("", page.read_text(encoding="utf-8"))
        page.write_text(REMOTE_STYLE.sub("none", text), encoding="utf-8")


def _entries(path: Path, name: str) -> list[dict[str, Any]]:
    """The expectations as they are written in a suite file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: not JSON ({error}); mend the line") from error
    if not isinstance(values, dict) or not isinstance(values.get("expectations"), list) or not values["expectations"]:
        raise SuiteError(f"{path}: needs an object with a list `expectations` that is not empty")
    if values.get("name") != name or not values.get("id"):
        raise SuiteError(f'{path}: needs "name": "{name}" and an "id" (any UUID)')
    for number, entry in enumerate(values["expectations"], start=1):
        missing = [key for key in ("type", "severity", "description", "kwargs", "meta") if key not in entry]
        if missing or not entry["meta"].get("mend"):
            raise SuiteError(f"{path}: expectation {number} lacks {missing or 'meta.mend'}")
        if entry["severity"] not in ("critical", "warning"):
            raise SuiteError(
                f"{path}: expectation {number} has severity {entry['severity']!r}; it is critical or warning"
            )
    return list(values["expectations"])


def _check(suite_name: str, outcome: ExpectationValidationResult) -> Check:
    config = outcome.expectation_config
    assert config is not None  # a result of a run always has one
    if error := _raised(outcome.exception_info):
        raise SuiteError(
            f"{paths.EXPECTATIONS / suite_name}.json: {config.type} cannot be computed ({error}); check its arguments"
        )
    columns = [config.kwargs[key] for key in ("column", "column_A", "column_B") if key in config.kwargs]
    result = outcome.result
    observed = result.get("observed_value")
    if missing := result.get("partial_missing_list"):
        observed = f"missing: {', '.join(map(str, missing))}"
    return Check(
        expectation=config.type,
        column=", ".join(columns),
        severity="critical" if config.severity == "critical" else "warning",
        passed=bool(outcome.success),
        description=config.description or config.type,
        mend=(config.meta or {})["mend"],
        observed="" if observed is None else str(observed),
        failing_rows=tuple(int(row["row"]) for row in result.get("unexpected_index_list") or ()),
    )


def _raised(exception_info: Mapping[str, Any] | None) -> str:
    """The message of an exception inside Great Expectations; it nests them by metric."""
    if not exception_info:
        return ""
    nested = [exception_info, *(value for value in exception_info.values() if isinstance(value, Mapping))]
    return "; ".join(str(info["exception_message"]) for info in nested if info.get("raised_exception"))
