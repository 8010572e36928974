"""The stage `export`, run as DVC runs it: its engines, and its refusals."""

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from engine_fixture import CLASSES, REPOSITORY, contract_of_project, run_export, write_params
from prepared import list_classes, write_card, write_part_set

from kd_steps.adapters.engines.folder import Network, ParityError, complete_engine
from kd_steps.adapters.engines.targets import PARENT, TARGETS
from kd_steps.edge.contract import PreprocessingContract
from kd_steps.edge.golden import read_golden
from kd_steps.edge.manifest import read_manifest
from kd_steps.jobs.build_engines import Golden, build_derived

pytestmark = pytest.mark.slow


@pytest.fixture
def project(engine_project, tmp_path):
    """A copy of the project, its engines with it, that a test may damage."""
    return shutil.copytree(engine_project, tmp_path / "project")


def test_every_target_and_the_teacher_are_whole_engines(engine_project):
    folders = sorted(p.name for p in (engine_project / "models/engines").iterdir() if p.is_dir())
    assert folders == ["onnx-fp32", "openvino-fp16", "ort-cpu-int8", "student-before", "teacher"]
    for name in folders:
        manifest = read_manifest(engine_project / "models/engines" / name)
        kind, role = {"teacher": ("teacher", "teacher"), "student-before": ("student", "base_student")}.get(
            name, ("few_shot", "student")
        )
        sidecar = json.loads((engine_project / "models" / kind / "sidecar.json").read_text())
        assert manifest.source_sha256 == sidecar["sha256"]
        assert manifest.parameters == sidecar["parameters"] > 1_000_000
        assert manifest.contract == PreprocessingContract.from_dict(sidecar["contract"])
        assert manifest.role == role
        assert manifest.classes == tuple(sidecar["classes"])
        assert manifest.state == "built"
        assert manifest.output_format == ("end2end" if name == "teacher" else "anchors")
        assert {"torch", "ultralytics", "onnxruntime", "openvino"} <= set(manifest.versions)


def test_parity_is_measured_and_recorded(engine_project):
    parity = {n: read_manifest(engine_project / "models/engines" / n).parity for n in ("teacher", "onnx-fp32")}
    for measured in parity.values():
        assert measured["reference"] == "torch"
        assert 0 < measured["largest_error"] < 1e-4
    for name in TARGETS.keys() - {PARENT.name}:
        measured = read_manifest(engine_project / "models/engines" / name).parity
        assert measured["reference"] == "onnx-fp32"
        assert 0 < measured["mean_error"] < measured["limit"]


def student_of(project):
    """The student as its finished engine describes it."""
    manifest = read_manifest(project / "models/engines/onnx-fp32")
    return Network(
        "student",
        project / "models/few_shot/weights.pt",
        manifest.source_sha256,
        manifest.classes,
        manifest.columns,
        manifest.new_classes,
        manifest.contract,
        manifest.parameters,
    )


def test_an_engine_that_gives_other_outputs_than_its_parent_is_refused(engine_project, tmp_path):
    engine = engine_project / "models/engines/onnx-fp32"
    shutil.copy(engine / "model.onnx", tmp_path)
    pictures, outputs = zip(*read_golden(engine / "golden.npz"), strict=True)
    network = student_of(engine_project)
    with pytest.raises(ParityError, match=r"onnx-fp32: its outputs differ from torch by 0\.0"):
        complete_engine(tmp_path, "onnx-fp32", PARENT, network, "anchors", pictures, [o + 0.01 for o in outputs])
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_nothing_stays_of_an_engine_that_gives_other_outputs(project):
    engines = project / "models/engines"
    network = student_of(project)
    shutil.rmtree(engines / "openvino-fp16")
    pictures, outputs = zip(*read_golden(engines / "onnx-fp32/golden.npz"), strict=True)
    golden = Golden(pictures, [output + 0.1 for output in outputs], "anchors")
    with pytest.raises(ParityError, match="openvino-fp16: its outputs differ"):
        build_derived(engines / "openvino-fp16", engines / PARENT.name, TARGETS["openvino-fp16"], network, golden, [])
    assert not list(engines.glob("*openvino*"))


def test_other_targets_replace_the_engines_and_the_same_targets_keep_their_bytes(project, engine_project):
    """Also: nothing of an earlier run stays, and nothing is written outside the stage's output."""

    def inputs():
        files = [
            p
            for part in ("data", "models/teacher", "models/student", "models/few_shot")
            for p in (project / part).rglob("*")
        ]
        return {p: p.stat().st_mtime_ns for p in files}

    before = inputs()
    (project / "models/engines/.onnx-fp32.partial").mkdir()
    write_params(project, targets=["openvino-fp16", "onnx-fp32"])
    done = run_export(project)
    assert done.returncode == 0, done.stderr
    assert "openvino-fp16" in done.stderr  # progress
    assert inputs() == before
    made = project / "models/engines"
    assert sorted(p.name for p in made.iterdir()) == [
        "left_out.json", "onnx-fp32", "openvino-fp16", "student-before", "teacher"
    ]  # fmt: skip
    for path in [p for p in made.rglob("*") if p.is_file()]:
        assert path.read_bytes() == (engine_project / path.relative_to(project)).read_bytes(), path


def refused(project):
    engines = {p: p.read_bytes() for p in (project / "models/engines").rglob("*") if p.is_file()}
    done = run_export(project)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert {p: p.read_bytes() for p in engines} == engines, "a refusal lost finished engines"
    return done.stderr


def edit_sidecar(project, kind, **changes):
    path = project / "models" / kind / "sidecar.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_teacher_and_student_of_two_contracts_are_refused_by_field(project):
    values = contract_of_project().to_dict() | {"letterbox_fill": 0}
    contract = PreprocessingContract.from_dict(values)
    edit_sidecar(project, "few_shot", contract=values, contract_digest=contract.digest)
    assert "letterbox_fill: 114 against 0" in refused(project)


def test_weights_that_are_not_their_sidecars_are_refused(project):
    weights = project / "models/few_shot/weights.pt"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert "models/few_shot/weights.pt: sha256" in refused(project)


def test_a_missing_teacher_is_named(project):
    (project / "models/teacher/sidecar.json").unlink()
    assert "models/teacher/sidecar.json: no such file" in refused(project)


@pytest.mark.parametrize("names", [["solder bridge", "shifted"], ["shifted", "bridge"]], ids=["mended", "swapped"])
def test_a_student_of_other_names_than_the_data_is_refused(project, names):
    write_card(project / "data/prepared", names, ["tombstone"], {"train": 12, "val": 4})
    told = refused(project)
    assert f"bridge, shifted, those of data/prepared are {', '.join(names)}" in told
    assert "dvc repro export" in told


@pytest.mark.parametrize(
    ("kind", "classes"),
    [
        ("teacher", ["shifted", "bridge"]),
        ("few_shot", ["shifted", "bridge", "tombstone"]),
        ("student", ["shifted", "bridge"]),
    ],
)
def test_any_network_of_other_names_than_the_data_is_refused(project, kind, classes):
    edit_sidecar(project, kind, classes=classes)
    told = refused(project)
    assert f"models/{kind}/sidecar.json: classes are shifted, bridge, those of data/prepared are bridge, shift" in told
    assert "Run `dvc repro export`" in told


@pytest.mark.parametrize(("named", "told"), [("whisker", "whisker"), (None, "none")], ids=["another", "gone"])
def test_new_parts_that_are_called_otherwise_in_their_pictures_are_refused(project, named, told):
    """Both names are in service: the ledger cannot tell."""
    list_classes(project, [*CLASSES, "whisker"])
    shutil.rmtree(project / "data/new_parts/held_out")
    if named:
        write_part_set(project / "data/new_parts/line/monday", [named], 2, 7_000)
    said = refused(project)
    assert "models/few_shot/sidecar.json: new_classes are tombstone, those of data/new_parts are " + told in said
    assert "Run `dvc repro export`" in said


def test_an_empty_split_and_an_unreadable_picture_are_named(project):
    table = project / "data/prepared/images.parquet"
    images = pd.read_parquet(table)
    broken = project / "data/prepared/images/val/val-00.png"
    broken.write_bytes(broken.read_bytes()[:40])
    assert "val-00.png: not a picture" in refused(project)
    images[images["split"] != "val"].to_parquet(table)
    assert "no picture in the split 'val'" in refused(project)


def test_the_stage_imports_nothing_heavy_before_it_starts():
    heavy = ("torch", "ultralytics", "onnx", "onnxruntime", "openvino", "pandas")
    script = f"import sys, kd_steps.export; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
