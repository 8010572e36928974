import json
import re
import shutil
import xml.etree.ElementTree as ElementTree

import pytest
from browser import Document, open_page
from dossier_fixture import build_project, write

from kd_steps.jobs.dossier_findings import _class_names
from kd_steps.report import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[True, False], ids=["passed", "failed"])
def project(request, tmp_path_factory):
    root = build_project(tmp_path_factory.mktemp("report"), passed=request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        main()
    return root


@pytest.fixture(scope="module")
def opened(project, tmp_path_factory):
    return open_page(project / "report/index.html", tmp_path_factory.mktemp("profile"))


def test_it_opens_without_a_console_error(opened):
    text, console = opened
    assert console == []
    assert "</html>" in text


def test_it_shows_what_the_gate_says(project, opened):
    gate = json.loads((project / "metrics/gate.json").read_text())
    document = Document(opened[0])
    (verdict,) = document.with_attribute("data-passed")
    assert verdict["data-passed"] == str(gate["passed"]).lower()
    assert ("✓ Passed" in document.text) is gate["passed"]
    assert ("✗ Not passed" in document.text) is not gate["passed"]
    shown = {
        (row["data-rule"], row["data-target"], row["data-verdict"]) for row in document.with_attribute("data-rule")
    }
    assert shown == {(rule["name"], rule["target"], rule["verdict"]) for rule in gate["rules"]}
    for rule in gate["rules"]:
        assert f"{rule['value']:.4g}" in document.text
        if rule["verdict"] != "pass":
            assert rule["reason"] in document.text


def test_every_finding_has_its_place(opened):
    document = Document(opened[0])
    headings = {attributes["id"] for tag, attributes in document.elements if tag == "h2"}
    assert headings >= {
        *("seen", "gate", "engines", "classes", "curves", "latency", "teacher", "few-shot", "data", "lineage")
    }
    for expected in (
        "tombstone",
        "teacher",
        "onnx-fp32",
        "Ground truth",
        "synthetic",
        "darker than the train reference",
        "77 pictures without labels",
        "lead of the teacher: +4.0 points",
        "assistants/m",
        *("yolo11l.yaml", "40.00 M", "0.712"),
        "s: {taught_by: assistants/m}",
    ):
        assert expected in document.text
    assert "teacher-again" not in document.text
    assert len([tag for tag, _ in document.elements if tag == "image"]) == 6
    assert {attributes["title"] for attributes in document.with_attribute("title")} >= {
        "d" * 64,
        "1" * 64,
        "3" * 64,
        "5" * 64,
    }


def test_pictures_and_charts_have_words_and_tables_have_headers(opened):
    document = Document(opened[0])
    for tag, attributes in document.elements:
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
        if tag == "th":
            assert attributes["scope"] in ("col", "row")


def test_the_page_asks_nothing_of_the_network(project):
    text = (project / "report/index.html").read_text()
    addresses = re.findall(r"(?:src|href)=\"([^\"]*)\"|url\(([^)]*)\)", text)
    assert addresses
    assert all(a.startswith(("data:", "#")) for pair in addresses for a in pair if a)
    assert "http://" not in text
    assert "https://" not in text


def test_every_svg_is_well_formed(project):
    text = (project / "report/index.html").read_text()
    found = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(found) > 20
    for svg in found:
        ElementTree.fromstring(svg)
        assert "nan" not in svg.lower().replace("data:image", "").split("base64")[0]


def test_the_console_check_can_fail(tmp_path):
    page = tmp_path / "index.html"
    page.write_text("<!doctype html><p>x</p><script>console.error('seen'); undefined_name()</script>")
    console = open_page(page, tmp_path / "profile")[1]
    assert any("seen" in line for line in console)
    assert any("undefined_name" in line for line in console)


def test_it_is_written_without_the_optional_inputs(tmp_path, monkeypatch):
    root = build_project(tmp_path)
    shutil.rmtree(root / "evaluation")
    shutil.rmtree(root / "data")
    shutil.rmtree(root / "models")
    for name in ("few_shot", "validation", "teacher_choice"):
        (root / f"metrics/{name}.json").unlink()
    monkeypatch.chdir(root)
    main()
    text = Document((root / "report/index.html").read_text()).text
    for said in ("no test pictures", "No curves", "No new parts", "No validation verdict", "No verdict on the teacher"):
        assert said in text


def test_an_engine_that_was_not_measured_is_said_to_be_unknown(tmp_path, monkeypatch):
    root = build_project(tmp_path)
    gate = json.loads((root / "metrics/gate.json").read_text())
    rule = gate["rules"][0]
    rule.update(value=None, low=None, high=None, n=None, verdict="inconclusive", reason="could not be <measured>")
    gate.update(passed=False, targets={**gate["targets"], rule["target"]: "fail"})
    write(root / "metrics/gate.json", gate)
    monkeypatch.chdir(root)
    main()
    text = (root / "report/index.html").read_text()
    assert "could not be &lt;measured&gt;" in text
    assert "? inconclusive" in text


def test_classes_that_only_engines_know_have_their_names(project, tmp_path, monkeypatch):
    shutil.copytree(project, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    report = json.loads((project / "metrics/engines.json").read_text())
    engines = report["engines"]
    before = _class_names()
    engines["onnx-fp32"]["per_class"]["fuse"] = engines["onnx-fp32"]["per_class"][before[0]]
    write(tmp_path / "copy/metrics/engines.json", report)
    assert _class_names() == [*before, "fuse"]


def test_a_missing_verdict_names_the_file(tmp_path, monkeypatch):
    root = build_project(tmp_path)
    (root / "metrics/gate.json").unlink()
    monkeypatch.chdir(root)
    with pytest.raises(FileNotFoundError, match=r"metrics/gate\.json.*dvc repro"):
        main()


def test_the_same_inputs_give_the_same_page(project, tmp_path, monkeypatch):
    before = (project / "report/index.html").read_bytes()
    monkeypatch.chdir(project)
    main()
    assert (project / "report/index.html").read_bytes() == before
