"""Suites are read whole or refused by name; expectation types of our own judge by hand-counted tables."""

import json

import pandas as pd
import pytest
from prepared import write_project

from kd_steps.adapters.great_expectations.suites import SuiteError, load_suite, load_suites, open_context, run_suite


@pytest.fixture
def root(tmp_path):
    return write_project(tmp_path / "p", {"train": 1})


def edit(root, name, change):
    path = root / f"expectations/{name}.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def one(root, expectation):
    """Make the images suite hold this expectation alone, and run it on a table."""

    def change(values):
        values["expectations"] = [{"severity": "critical", "description": "d", "meta": {"mend": "m"}, **expectation}]

    edit(root, "images", change)
    context = open_context(root)
    suite = load_suite(context, root, "images")
    return lambda table, **parameters: run_suite(context, suite, table.assign(file="f"), parameters)[0]


def test_all_suites_load_whole(root):
    suites = load_suites(open_context(root), root)
    written = {n: len(json.loads((root / f"expectations/{n}.json").read_text())["expectations"]) for n in suites}
    assert {name: len(suite.expectations) for name, suite in suites.items()} == written
    assert sum(written.values()) > 50


def test_unknown_type_is_refused_by_name(root):
    edit(root, "boxes", lambda values: values["expectations"][2].update(type="expect_colum_to_exist"))
    with pytest.raises(SuiteError, match=r"boxes\.json: expectation 3 has the unknown type 'expect_colum_to_exist'"):
        load_suites(open_context(root), root)


def test_expectation_that_great_expectations_would_drop_is_refused(root):
    edit(root, "images", lambda values: values["expectations"][0]["kwargs"].update(colum="typo", column=7))
    with pytest.raises(SuiteError, match=r"images\.json.*expect_column_values_to_be_null|images\.json: Great Expect"):
        load_suites(open_context(root), root)


def test_broken_and_missing_suites_are_named(root):
    path = root / "expectations/parity.json"
    path.write_text(path.read_text()[:-30])
    with pytest.raises(SuiteError, match=r"parity\.json: not JSON"):
        load_suites(open_context(root), root)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"parity\.json: no such suite"):
        load_suites(open_context(root), root)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: e.pop("severity"), "severity"),
        (lambda e: e.update(severity="high"), "'high'"),
        (lambda e: e["meta"].clear(), r"meta\.mend"),
    ],
)
def test_expectation_without_severity_or_mend_is_refused(root, change, said):
    edit(root, "images", lambda values: change(values["expectations"][0]))
    with pytest.raises(SuiteError, match=said):
        load_suites(open_context(root), root)


def test_expectation_on_a_column_that_is_not_there_is_an_error_not_a_pass(root):
    run = one(root, {"type": "expect_column_values_to_be_null", "kwargs": {"column": "nowhere"}})
    with pytest.raises(SuiteError, match="nowhere"):
        run(pd.DataFrame({"a": [1]}))


def test_failing_rows_are_the_rows_of_the_table(root):
    run = one(root, {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "max_value": 2}})
    check = run(pd.DataFrame({"a": [1, 5, 2, 7]}, index=[9, 9, 3, 1]))
    assert (check.passed, check.failing_rows, check.severity) == (False, (1, 3), "critical")


@pytest.mark.parametrize(("least", "passed", "observed"), [(2, False, "b: 1, c: 0"), (0, True, "a: 2, b: 1, c: 0")])
def test_classes_are_counted_in_distinct_units(root, least, passed, observed):
    arguments = {"classes": {"$PARAMETER": "names"}, "unit_column": "image", "min_count": least}
    run = one(
        root,
        {
            "type": "expect_classes_to_be_represented",
            "kwargs": {
                "column": "name",
                "row_condition": {
                    "type": "comparison",
                    "column": {"name": "split"},
                    "operator": "==",
                    "parameter": "train",
                },
                **arguments,
            },
        },
    )
    table = pd.DataFrame(
        {"name": ["a", "a", "b", "b", "c"], "image": ["1", "2", "1", "1", "3"], "split": ["train"] * 4 + ["test"]}
    )
    check = run(table, names=["a", "b", "c"])
    assert (check.passed, check.observed) == (passed, observed)


@pytest.mark.parametrize(("most", "passed"), [(2.9, False), (3.1, True)])
def test_group_means_are_measured_in_reference_deviations(root, most, passed):
    arguments = {"group_column": "split", "reference_group": "train", "max_shift_std": most, "min_std": 0.5}
    kwargs = {"column": "light", **arguments}
    run = one(root, {"type": "expect_group_means_to_stay_near_reference", "kwargs": kwargs})
    table = pd.DataFrame({"light": [8.0, 12.0, 16.0, 10.0], "split": ["train", "train", "val", "test"]})  # std 2
    assert run(table).passed is passed


def test_argument_of_our_types_is_required(root):
    def change(values):
        del next(e for e in values["expectations"] if e["type"] == "expect_group_means_to_stay_near_reference")[
            "kwargs"
        ]["min_std"]

    edit(root, "images", change)
    with pytest.raises(SuiteError, match=r"images\.json"):
        load_suites(open_context(root), root)
