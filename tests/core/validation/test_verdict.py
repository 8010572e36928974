"""What a suite found, in words."""

import pandas as pd

from kd_steps.core.validation.verdict import FILES_NAMED, Check, counts, stop_message, suite_verdict, verdict

TABLE = pd.DataFrame({"file": [f"{n}.png" for n in range(30)], "side_px": [1.5] * 30, "error": ["cut"] * 30})


def check(severity="critical", passed=False, column="side_px", rows=(0,), observed=""):
    return Check("expect", column, severity, passed, "Sides are even.", "resize", observed, rows)


def test_only_what_is_critical_stops():
    assert suite_verdict([check(passed=True)], TABLE) == {
        "passed": True, "evaluated": 1, "unsuccessful": 0, "failures": []
    }  # fmt: skip
    suites = {"a": suite_verdict([check("warning")], TABLE), "b": suite_verdict([check(passed=True)], TABLE)}
    whole = verdict(suites, {}, ["a note"])
    assert whole["passed"]
    assert whole["warnings"] == ["a note", "a: Sides are even. Not so: 0.png (side_px 1.5)"]
    assert not verdict({**suites, "c": suite_verdict([check()], TABLE)}, {}, [])["passed"]


def test_files_are_named_once_and_some_of_many():
    (failure,) = suite_verdict([check(rows=(0, 0, *range(30)))], TABLE)["failures"]
    assert (failure["n_files"], len(failure["files"])) == (30, FILES_NAMED)
    assert failure["message"].endswith("9.png (side_px 1.5); … and 20 more files")


def test_a_text_is_told_as_it_is_and_a_whole_column_by_what_was_seen():
    told = [
        f["message"] for f in suite_verdict([check(column="error"), check(rows=(), observed="3")], TABLE)["failures"]
    ]
    assert told == ["Sides are even. Not so: 0.png: cut", "Sides are even. Not so: 3"]


def test_the_stop_names_every_critical_failure_with_its_mend():
    suite = suite_verdict([check(), check("warning"), check()], TABLE)
    lines = stop_message({"suites": {"images": suite}}, "metrics/validation.json").splitlines()
    assert lines[0] == "2 critical checks failed; nothing later was run (all of it: metrics/validation.json)"
    assert lines[1:3] == ["  images: Sides are even. Not so: 0.png (side_px 1.5)", "    mend: resize"]
    assert len(lines) == 5


def test_counts_are_of_pictures_and_objects():
    tables = {
        "images": pd.DataFrame({"split": ["train", "val", "train"], "n_boxes": [0, 2, 1]}),
        "boxes": pd.DataFrame({"split": ["val", "val", "train"], "class_name": ["b", "a", "b"]}),
        "parity": pd.DataFrame({"file": ["x", "x", "y"]}),
        "new_parts": pd.DataFrame({"class_name": ["n", "n"], "path": ["1", "1"], "sha256": ["1", "1"]}),
    }
    found = counts(tables, ["n", "other"])
    assert found["images"] == {"train": 2, "val": 1}
    assert found["images_without_objects"] == {"train": 1}
    assert found["boxes_by_class"] == {"a": 1, "b": 2}
    assert (found["parity_probes"], found["new_part_pictures"]) == (2, 1)
    assert found["new_part_shots"] == {"n": 1, "other": 0}
