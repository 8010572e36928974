"""Stage `distill`: a student from cached answers; refused when the cache is of something else."""

import csv
import json
import shutil
import signal

import pytest
from pickle_modules import modules_in
from prepared import write_unlabelled
from training_fixture import (
    CLASSES,
    SMALL,
    TRAINING,
    decided_model,
    kill_when,
    params_of,
    run_stage_in,
    tree_digest,
    write_model,
    write_params,
)

from kd_steps import cache_logits, distill
from kd_steps.adapters.files import write_json
from kd_steps.adapters.sidecar import read_sidecar
from kd_steps.artifacts import read_json
from kd_steps.jobs.student_training import distillation_of

pytestmark = pytest.mark.slow

WEIGHTS = (
    *("class_weight", "box_weight", "attention_weight", "channel_weight"),
    *("feature_weight", "relational_weight"),
)


@pytest.fixture
def project(cached, tmp_path, monkeypatch):
    """A copy of it that is the current folder."""
    root = shutil.copytree(cached, tmp_path / "project")
    monkeypatch.chdir(root)
    return root


def test_a_student_learns_from_pictures_without_labels_too(project):
    write_unlabelled(project / "data/unlabelled", 3, (64, 64), ".png", seed=70)
    cache_logits.main()
    distill.main()
    assert read_json(project / "metrics/cache.json")["views"] == (8 + 3) * 2
    student, teacher = read_sidecar(project / "models/student"), read_sidecar(project / "models/teacher")
    assert student.dataset_digest == read_json(project / "data/cache/header.json")["dataset_digest"]
    assert student.dataset_digest != teacher.dataset_digest
    with (project / "plots/distill.csv").open() as stream:
        assert all(float(row["value"]) > 0 for row in csv.DictReader(stream))
    write_unlabelled(project / "data/unlabelled", 2, (64, 64), ".png", seed=70)
    with pytest.raises(ValueError, match=r"data/cache: .*something else \(dataset_digest: "):
        distill.main()


def test_a_student_killed_in_its_second_epoch_goes_on_and_learns_from_the_cache(project):
    before = tree_digest(project / "data")
    assert kill_when(project, "distill", "models/student/resume/state.pt") == signal.SIGKILL
    assert not (project / "metrics/distill.json").exists()
    done = run_stage_in(project, "distill")
    assert done.returncode == 0, done.stderr
    assert "the training of this student was stopped here; it goes on after its last finished epoch" in done.stdout
    with (project / "plots/distill.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    found = {(row["epoch"], row["loss"]) for row in rows}
    assert {(epoch, name) for epoch in "12" for name in ("kd_class", "kd_box", "cls_loss")} <= found
    assert all(float(row["value"]) > 0 for row in rows)
    assert sorted(p.name for p in (project / "models/student").iterdir()) == [
        "fingerprint.json",
        "results.csv",
        "sidecar.json",
        "weights.pt",
    ]
    student, teacher = read_sidecar(project / "models/student"), read_sidecar(project / "models/teacher")
    assert (student.kind, student.classes) == ("student", tuple(CLASSES))
    assert student.lineage["teacher_sha256"] == teacher.sha256
    assert student.lineage["cache"].items() <= read_json(project / "data/cache/header.json").items()
    assert student.contract.digest == teacher.contract.digest
    assert json.loads((project / "metrics/distill.json").read_text())["epochs"] == 2
    assert tree_digest(project / "data") == before


def other_teacher(root):
    write_model(root, "teacher", seed=2)


def other_contract(root):
    write_params(root, augmentation={"fliplr": 0.25})


def other_seed(root):
    write_params(root, seed=4)


def other_library(root):
    header = read_json(root / "data/cache/header.json")
    header["library_versions"]["numpy"] = "1.0"
    write_json(root / "data/cache/header.json", header)


def other_views(root):
    write_params(root, distill={"epochs": 12, "model": SMALL, "close_mosaic_fraction": 0.5})


def other_data(root):
    note = read_json(root / "data/prepared/dataset.json")
    write_json(root / "data/prepared/dataset.json", {**note, "digest": "e" * 64})


def torn_shard(root):
    path = root / "data/cache/shard-mosaic-000-001.arrow"
    data = bytearray(path.read_bytes())
    data[-300] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_teacher, r"data/cache: .*something else \(teacher_sha256: .*run `dvc repro cache_logits`"),
        (other_contract, r"models/teacher was made with another preprocessing contract \(augmentation_digest: "),
        (other_seed, r"data/cache: .*something else \(seed: 4 against 0\)"),
        (other_library, r"data/cache: .*something else \(library_versions: .*'numpy': '1.0'"),
        (other_views, r"data/cache: .*something else \(views: 2 against 1; closing_views: 2 against 1\)"),
        (other_data, r"data/cache: .*something else \(dataset_digest: "),
        (torn_shard, r"shard-mosaic-000-001\.arrow: does not have the bytes that shard-mosaic-000-001\.sha256 tells"),
        (
            lambda root: shutil.rmtree(root / "data/cache"),
            r"data/cache: no teacher cache; run `dvc repro cache_logits`",
        ),
    ],
)
def test_a_cache_of_something_else_is_refused(project, change, message):
    change(project)
    with pytest.raises(ValueError, match=message):
        distill.main()
    assert not (project / "models/student").exists(), "refused before anything is trained"


def test_a_student_with_other_levels_is_refused(project):
    write_params(project, distill={"epochs": 2, "model": "yolov8n-p6.yaml", "close_mosaic_fraction": 0.5})
    with pytest.raises(ValueError, match=r"choose a student in distill\.model with the teacher's levels"):
        distill.main()


@pytest.mark.parametrize("frozen", [{"freeze_layers": 23}, {"head_only_epochs": 2}])
def test_terms_are_not_calibrated_at_a_neck_that_feels_nothing(project, frozen):
    section = {**TRAINING, "close_mosaic_fraction": 0.5, "calibrate_batches": 2, **frozen}
    write_params(project, distill=section)
    with pytest.raises(
        ValueError, match=r"calibrate_batches: .*all before the head is frozen.*set calibrate_batches: "
    ):
        distill.main()
    write_params(project, distill={**section, "calibrate_batches": 0, "epochs": 2})
    distill.main()


def test_terms_and_schedule_are_those_of_the_parameters(training_project):
    params = params_of(training_project)
    weights = {name: 0.1 * (place + 1) for place, name in enumerate(WEIGHTS)}
    shares, temperatures = (0.2, 0.6, 0.2), (5.0, 4.0, 3.0)
    phases = {
        name: {"fraction": share, "soft_weight": 0.3, "hard_weight": 0.7, "temperature": temperature}
        for name, share, temperature in zip(
            ("warm_up", "distillation", "convergence"), shares, temperatures, strict=True
        )
    }
    knobs = {"feature_kind": "cwd", "calibrate_batches": 7, "phases": phases}
    changes = {"epochs": 10, "gamma_epochs": 2, **knobs, **weights}
    section = params.distill.changed(**changes)
    found = distillation_of(params.model_copy(update={"distill": section}), decided_model(), cached=None)
    assert {name: getattr(found.terms, name) for name in WEIGHTS} == weights
    assert (found.terms.feature_kind, found.terms.feature_levels) == ("cwd", (0.4, 0.3, 0.3))
    assert found.calibrate_batches == 7
    assert found.calibrate_share == {f"kd_{name}": share for name, share in section.calibrate_share.items()}
    assert len(found.teacher_channels) == 3
    epochs = [found.weights_at(epoch) for epoch in range(10)]
    assert [epoch.phase for epoch in epochs] == ["warm_up"] * 2 + ["distillation"] * 6 + ["convergence"] * 2
    assert [epoch.temperature for epoch in epochs] == [5.0] * 2 + [4.0] * 6 + [3.0] * 2
    assert epochs[0].soft == pytest.approx(epochs[1].soft / 2), "the ramp"
    assert epochs[1].soft == pytest.approx(2 * 0.3)
    assert epochs[1].hard == pytest.approx(2 * 0.7)


def test_a_student_learns_from_every_term(cached, tmp_path, monkeypatch):
    """A cache with all that the terms need; adapters and calibration stay behind."""
    root = tmp_path / "every"
    shutil.copytree(cached, root, ignore=shutil.ignore_patterns("cache"))
    write_params(
        root,
        cache_logits={"batch": 3, "shard_views": 4, "attention": True, "pooled": True, "max_vectors": 20},
        distill={
            **{"epochs": 2, "close_mosaic_fraction": 0.5, "model": SMALL, "calibrate_batches": 2},
            **dict.fromkeys(WEIGHTS, 1.0),
        },
    )
    monkeypatch.chdir(root)
    cache_logits.main()
    distill.main()
    with (root / "models/student/results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    terms = [
        f"train/{name}" for name in ("kd_class", "kd_box", "kd_attention", "kd_channel", "kd_feature", "kd_relational")
    ]
    assert all(float(row[name]) > 0 for row in rows for name in terms)
    sidecar = read_sidecar(root / "models/student")
    assert sidecar.parameters == read_sidecar(root / "models/teacher").parameters, "the same network, nothing beside it"
    assert not {name for name in modules_in(root / "models/student/weights.pt") if "kd_steps" in name}
