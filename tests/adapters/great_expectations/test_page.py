"""The verdict of `validate` as a page."""

from kd_steps.adapters.great_expectations.page import validation_page

FAILURE = {"severity": "critical", "message": "<b>a.png</b> is cut", "mend": "copy it again"}


def found(*failures):
    suite = {"evaluated": 4, "unsuccessful": len(failures), "failures": failures}
    counts = {"images": {"train": 3, "test": 1}, "boxes": {}, "parity_probes": 7}
    return {"passed": not failures, "suites": {"images": suite}, "counts": counts}


def test_a_verdict_comes_first_with_what_was_counted():
    page = validation_page(found())
    assert '<span class="passed">passed</span>' in page
    assert "images: train 3, test 1; boxes: none; parity_probes: 7" in page
    assert "images: 4 of 4 expectations met" in page
    assert "<table>" not in page


def test_failures_are_told_with_their_mend_and_nothing_of_the_data_is_markup():
    page = validation_page(found(FAILURE))
    assert '<span class="critical">failed</span>' in page
    assert "3 of 4 expectations met" in page
    assert "<td>&lt;b&gt;a.png&lt;/b&gt; is cut</td><td>copy it again</td>" in page
