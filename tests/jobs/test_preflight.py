"""The verdict on a teacher: its rules, its lines, and the chain that it proposes."""

import copy
import itertools
from types import SimpleNamespace

import pytest
import yaml
from training_fixture import CLASSES, REPOSITORY

from kd_steps.adapters.files import write_json
from kd_steps.core.distill.teacher_choice import assistant_sizes
from kd_steps.jobs.preflight import WeakTeacherError, judge_teacher, own_verdict, refuse_weak, verdict_lines
from kd_steps.jobs.student_training import Learner
from kd_steps.params import Params

REAL = yaml.safe_load((REPOSITORY / "params.yaml").read_text())


def params(**changes):
    """The repository's parameters with changed keys of `distill`, `plain_student` and `assistant`."""
    values = copy.deepcopy(REAL)
    for section, more in changes.items():
        for key, value in more.items():
            old = values[section][key]
            values[section][key] = {**old, **value} if isinstance(old, dict) and key != "model" else value
    return Params.model_validate(values)


def teacher(parameters, score=0.5):
    return SimpleNamespace(training={"val_map50_95": score}, parameters=parameters, model="yolo11x")


def learner(model):
    from kd_steps.adapters.yolo.models import build_model, parameter_count

    network = build_model(model, CLASSES, 0)
    return Learner(parameter_count(network), lambda: network)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """What sizes were found is kept in the folder of the project."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def student():
    return learner("yolo11n.yaml")


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """A project in which the student alone reached 0.47 and 0.49."""
    monkeypatch.chdir(tmp_path)
    for seed, score in ((0, 0.47), (3, 0.49)):
        write_json(tmp_path / f"metrics/alone/student_{seed}.json", {"val_map50_95": score})
    return tmp_path


def test_a_sound_teacher_passes_both_rules(scored, student):
    verdict = judge_teacher(params(plain_student={"seeds": [0, 3]}), teacher(6_000_000, 0.55), student)
    assert [(rule["rule"], rule["verdict"]) for rule in verdict["rules"]] == [("lead", "pass"), ("capacity", "pass")]
    assert verdict["rules"][0]["value"] == pytest.approx(7.0)
    assert verdict["proposal"] == []
    assert all(line.startswith("teacher choice, pass: ") for line in verdict_lines(verdict))


def test_a_weak_teacher_is_warned_of_or_refused(scored, student):
    seeds = {"seeds": [0, 3]}
    verdict = judge_teacher(params(plain_student=seeds), teacher(6_000_000, 0.50), student)
    assert verdict["rules"][0]["verdict"] == "warn"
    refuse_weak(params(plain_student=seeds), verdict)
    strict = params(plain_student=seeds, distill={"teacher_choice": {"on_weak_teacher": "refuse"}})
    with pytest.raises(WeakTeacherError, match=r"\+2\.0 points of mAP50-95 .*at least 5 are wanted.*min_lead_points"):
        refuse_weak(strict, verdict)
    refuse_weak(strict, judge_teacher(strict, teacher(6_000_000, 0.55), student))


def test_a_lead_that_was_not_asked_for_says_how_to_measure_it(student):
    lines = verdict_lines(judge_teacher(params(), teacher(6_000_000), student))
    assert lines[0].startswith("teacher choice, not measured: lead of the teacher: not measured")
    assert lines[1] == "  to measure it, set plain_student.seeds: [0] in params.yaml and run `dvc repro`"


def test_a_score_that_was_asked_for_but_is_not_there_names_its_file(tmp_path, monkeypatch, student):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"student_7\.json: no such file; `dvc repro` makes it"):
        judge_teacher(params(plain_student={"seeds": [7]}), teacher(6_000_000), student)


def proposed(lines):
    """The chain of the parameters with the proposed lines put in."""
    return params(**yaml.safe_load("\n".join(lines))).assistant.chain


def test_the_proposed_chain_is_accepted_and_no_step_of_it_is_too_steep(student):
    """From yolo11x, 56.9 M weights, to yolo11n, 2.6 M."""
    from kd_steps.adapters.yolo.models import ModelScale, build_model, parameter_count

    given = params(distill={"model": "yolo11n.yaml"})
    verdict = judge_teacher(given, teacher(56_900_000), student)
    chain = proposed(verdict["proposal"])
    assert next(iter(chain)) == "m"
    assert chain["m"].model == "yolo11m.yaml"
    assert [step.epochs for step in chain.values()] == [given.distill.epochs] * 2
    models = [s.model if isinstance(s.model, str) else ModelScale(**s.model.model_dump()) for s in chain.values()]
    sizes = [56_900_000, *(parameter_count(build_model(m, CLASSES, 0)) for m in models), student.parameters]
    shares = [after / before for before, after in itertools.pairwise(sizes)]
    assert min(shares) > 0.333 / 1.25
    assert any(f"{sizes[1] / 1e6:.2f} M weights" in line for line in verdict["proposal"])


def test_a_chain_that_is_there_is_gone_on_with(student):
    step = {"taught_by": "teacher", "model": "yolo11m.yaml", "epochs": 9}
    given = params(assistant={"chain": {"m": step}}, distill={"teacher": "assistants/m", "model": "yolo11n.yaml"})
    chain = proposed(judge_teacher(given, teacher(20_000_000), student)["proposal"])
    assert list(chain) == ["m", "assistant2"]
    assert chain["m"].epochs == 9
    assert chain["assistant2"].taught_by == "assistants/m"


def test_an_architecture_without_scales_is_told_the_size_alone():
    own = learner(str(REPOSITORY / "data/models/mobilenet.yaml"))
    (line,) = judge_teacher(params(), teacher(6_000_000), own)["proposal"]
    (wanted,) = assistant_sizes(6_000_000, own.parameters, 0.333)
    assert line == f"# assistants of {wanted / 1e6:.1f} M weights under assistant.chain, each a model YAML of yours"


def test_a_proposal_made_once_builds_no_network_again_unless_it_is_of_something_else(student):
    given = params(distill={"model": "yolo11n.yaml"})
    first = judge_teacher(given, teacher(56_900_000), student)["proposal"]
    told = Learner(student.parameters, unbuildable)
    assert judge_teacher(given, teacher(56_900_000), told)["proposal"] == first
    longer = params(distill={"model": "yolo11n.yaml", "epochs": 99})
    assert "epochs: 99" in "".join(judge_teacher(longer, teacher(56_900_000), told)["proposal"])
    for other, size in ((given, 40_000_000), (params(distill={"model": "yolov8n.yaml"}), 56_900_000)):
        with pytest.raises(AssertionError, match="built"):
            judge_teacher(other, teacher(size), told)


def unbuildable():
    raise AssertionError("built")


def test_a_student_that_is_its_own_teacher_is_not_judged():
    (line,) = verdict_lines(own_verdict())
    assert "the student's own moving average teaches" in line
    refuse_weak(
        params(plain_student={"seeds": [0]}, distill={"teacher_choice": {"on_weak_teacher": "refuse"}}), own_verdict()
    )
