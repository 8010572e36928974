"""What an edit of the code makes stale: nothing, unless it raises a number of the recipe."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from training_fixture import write_model, write_new_parts, write_training_project

from kd_steps import cache_logits

REPOSITORY = Path(__file__).parents[2]
OTHERS_CODE = ("core/evaluation/gates.py", "adapters/engines/targets/openvino_fp16.py", "adapters/mlflow/tracking.py")
ASK = """
import json
from pathlib import Path
from kd_steps import train_teacher
from kd_steps.adapters.contract_source import current_contract
from kd_steps.adapters.data.reader import load_prepared
from kd_steps.adapters.data.part_sets import read_part_sets
from kd_steps.adapters.data.ledger import load_ledger
from kd_steps.adapters.sidecar import read_sidecar
from kd_steps.jobs import part_training
from kd_steps.jobs.cache_setting import finished_cache
from kd_steps.jobs.student_training import cached_lesson, fingerprint, plain_lesson
from kd_steps.params import load_params

params, prepared = load_params(), load_prepared()
contract = current_contract(params.preprocessing, params.augmentation)
taught = cached_lesson(params, prepared, Path("models/teacher"), Path("data/cache"))
student = read_sidecar(Path("models/student"))
(parts,) = read_part_sets(Path("data/new_parts"), load_ledger(params.product), "the ledger")
classes = (*student.classes, "tombstone")
shots = part_training.labelled_shots(parts, classes)
notes = {
    "teacher": train_teacher.fingerprint(params, prepared, contract),
    "student": fingerprint(params, prepared, taught, contract),
    "plain_student": fingerprint(params, prepared, plain_lesson(params, prepared), contract),
    "few_shot": part_training.fingerprint(params, prepared, student, classes, shots),
}
cache = finished_cache(params, prepared, Path("models/teacher"), Path("data/cache"))
answers = "the teacher is asked" if cache is None else f"{len(cache)} views lie in the cache"
print(json.dumps({**{name: note.model_dump(mode="json") for name, note in notes.items()}, "answers": answers}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = write_training_project(tmp_path_factory.mktemp("recipe"))
    write_model(root, "teacher")
    write_model(root, "student", seed=3)
    write_new_parts(root, ["bridge", "missing", "tombstone"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        cache_logits.main()
    return root


def asked(project, code, *first_on_the_path):
    """What each network and the answers would be made from, as a copy of the code says it."""
    path = os.pathsep.join(map(str, [*first_on_the_path, code]))
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=project,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def before(project):
    found = asked(project, REPOSITORY)
    assert found["answers"] == "16 views lie in the cache", "there, the stage would ask nothing"
    return found


@pytest.fixture
def code(tmp_path):
    """A copy of the code, to be edited."""
    shutil.copytree(REPOSITORY / "kd_steps", tmp_path / "kd_steps", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def stale(before, now):
    return {name for name in before if before[name] != now[name]}


def test_comments_docstrings_and_other_stages_code_make_nothing_stale(project, before, code):
    """Every module is edited at once: a comment, another docstring; gate, report, registry and edge get new code."""
    for path in (code / "kd_steps").rglob("*.py"):
        text = re.sub(r'\A"""', '"""Edited. ', path.read_text(encoding="utf-8"))
        path.write_text(text + "\n# another comment\n", encoding="utf-8")
    for edited in ("gate.py", "report.py", "register.py", "export.py", "edge/latency.py", *OTHERS_CODE):
        with (code / "kd_steps" / edited).open("a", encoding="utf-8") as module:
            module.write("\n\ndef of_a_new_rule() -> float:\n    return 0.5\n")
    assert stale(before, asked(project, code)) == set()


def test_other_defaults_of_knobs_that_the_project_sets_make_nothing_stale(project, before, code):
    """A knob that had none gets one, too."""
    edited = 0
    for path, pattern, default in (
        *((code / f"kd_steps/params/{name}.py", r"^(    \w+: Count)$", "99") for name in ("training", "few_shot")),
        (code / "kd_steps/params/cache_logits.py", r"^(    attention: bool)$", "False"),
        (code / "kd_steps/params/cache_logits.py", r"^(    max_vectors: CountOrZero)$", "7"),
        (code / "kd_steps/core/distill/terms.py", r"^(    \w+: \w+) = [\d.]+$", "0.125"),
    ):
        text, count = re.subn(pattern, rf"\1 = {default}", path.read_text(encoding="utf-8"), flags=re.M)
        path.write_text(text, encoding="utf-8")
        edited += count
    assert edited > 15
    assert stale(before, asked(project, code)) == set()


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("views", {"teacher", "student", "plain_student", "few_shot", "answers"}),
        (
            "training",
            {"teacher", "student", "plain_student", "few_shot"},
        ),  # and so the answers: another teacher gives them
        ("answers", {"student", "few_shot", "answers"}),
        ("distillation", {"student", "few_shot"}),
        ("few_shot", {"few_shot"}),
    ],
)
def test_a_raised_number_makes_stale_what_its_part_computes(project, before, code, part, expected):
    module = code / "kd_steps/core/recipe.py"
    text, count = re.subn(rf'("{part}": )(\d+)', lambda found: f"{found[1]}{int(found[2]) + 1}", module.read_text())
    assert count == 1
    module.write_text(text)
    assert stale(before, asked(project, code)) == expected


def test_a_release_of_retort_with_the_same_recipe_makes_nothing_stale(project, before, code):
    """Its number stands in the metadata of the package alone."""
    note = code / "retort-99.0.dist-info/METADATA"
    note.parent.mkdir()
    note.write_text("Metadata-Version: 2.1\nName: retort\nVersion: 99.0\n")
    assert stale(before, asked(project, code)) == set()


@pytest.mark.parametrize(("version", "same"), [("+elsewhere", True), (".1", False)])
def test_a_build_of_the_same_torch_is_the_same_and_another_release_is_not(project, before, tmp_path, version, same):
    release = before["teacher"]["libraries"]["torch"]
    note = tmp_path / f"torch-{release}.dist-info/METADATA"
    note.parent.mkdir()
    note.write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {release}{version}\n")
    now = asked(project, REPOSITORY, tmp_path)
    assert (stale(before, now) == set()) == same
