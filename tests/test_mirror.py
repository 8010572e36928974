"""Every module has its tests in the file of its name, or in one that is named here with the reason."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
TESTS = REPOSITORY / "tests"
KINDS = ("adapters", "artifacts", "core", "edge", "jobs", "params", "running", "flows")

# Modules and packages without test files of their own → the file or folder that tests them. Types and records have
# nothing to test but their use; of several builders or faults one file holds what is the same for all.
ELSEWHERE = {
    "adapters/cache/contents": "jobs/cache_tool",
    "adapters/cache/folder": "adapters/cache/test_store.py",
    "adapters/cache/shards": "adapters/cache/test_store_faults.py",
    "adapters/contract_source": "adapters/yolo/test_views.py",
    "adapters/data/part_sets": "test_few_shot.py",
    "adapters/data/writer": "adapters/data/test_reader.py",
    "adapters/engines/bundles": "test_evaluate.py",
    "adapters/engines/folder": "test_export.py",
    "adapters/engines/targets": "adapters/engines/targets/test_targets.py",
    "adapters/great_expectations/drift": "adapters/great_expectations/test_suites.py",
    "adapters/great_expectations/representation": "adapters/great_expectations/test_suites.py",
    "adapters/great_expectations/table_metric": "adapters/great_expectations/test_suites.py",
    "adapters/mlflow/run_files": "adapters/mlflow/test_versions.py",
    "adapters/report/dossier": "test_report.py",
    "adapters/report/lineage": "test_report.py",
    "adapters/sources/part_drawing": "adapters/sources/test_board_drawing.py",
    "adapters/sources/pen": "adapters/sources/test_board_drawing.py",
    "adapters/sources/yolo_listing": "adapters/sources/test_yolo.py",
    "adapters/yolo/parity": "test_validate.py",
    "adapters/yolo/preprocess": "edge/test_preprocess.py",
    "adapters/yolo/teach/answering": "adapters/yolo/teach/test_answer_stream.py",
    "adapters/yolo/train/soft_loss": "adapters/yolo/train/test_training_model.py",
    "adapters/yolo/train/trainer": "adapters/yolo/train/test_training.py",
    "adapters/yolo/train/training_run": "adapters/yolo/train/test_training.py",
    "artifacts/document": "artifacts/test_documents.py",
    "core/data/source": "core/data/test_plan.py",
    "core/evaluation/limits": "core/evaluation/test_gates.py",
    "core/distill/terms": "core/distill/test_objective.py",
    "edge/bundle": "edge/test_measure.py",
    "edge/finding": "edge/test_measure.py",
    "edge/golden": "edge/test_detector.py",
    "edge/identity": "edge/test_measure.py",
    "edge/pictures": "edge/test_measure.py",
    "edge/verification": "edge/test_manifest.py",
    "jobs/build_engines": "test_export.py",
    "jobs/dossier_findings": "test_report.py",
    "jobs/part_training": "test_few_shot.py",
    "jobs/prepare_set": "test_prepare.py",
    "jobs/validation_tables": "test_validate.py",
    "jobs/cache_setting": "jobs/test_cache_filling.py",
    "jobs/chain": "test_assistant.py",
    "jobs/judge_engines": "test_evaluate.py",
    "jobs/receipt": "test_register.py",
    "jobs/register_engines": "test_register.py",
    "jobs/registry_tool": "flows/test_registry.py",
    "jobs/release_engines": "test_evaluate.py",
    "jobs/source": "test_prepare.py",
    "jobs/weight_files": "adapters/mlflow/test_weights.py",
    "params": "params/test_door.py",
    "flows/dag": "flows/test_retrain.py",
    "flows/dvc_process": "flows/test_retrain.py",
    "flows/entry": "edge/test_clean_install.py",
    "flows/services": "flows/test_cli.py",
    "flows/stack": "flows/test_stack.py",
    "flows/standing": "flows/test_cli.py",
    "flows/end_lost_runs": "flows/test_stack.py",
    "flows/tell_failures": "flows/test_stack.py",
    "flows/automation": "flows/test_stack.py",
    "flows/tied": "flows/test_ends.py",
}


def modules():
    """Name below ``kd_steps``, or from ``flows`` on, of every module that says more than its docstring."""
    for package in ("kd_steps", "flows"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            if path.name != "__init__.py" and len(ast.parse(path.read_text(encoding="utf-8")).body) > 1:
                yield path.relative_to(REPOSITORY).with_suffix("").as_posix().removeprefix("kd_steps/")


def mirrors_of(module):
    """The file that mirrors a module, or the folder of several."""
    place = TESTS / module
    return [place.with_name(f"test_{place.name.strip('_')}.py"), place]


@pytest.mark.parametrize("module", list(modules()))
def test_a_module_has_a_test_file_of_its_name_or_is_named(module):
    mirrored = any(place.exists() for place in mirrors_of(module))
    if mirrored:
        assert module not in ELSEWHERE, f"{module} has a test file of its own: take it from the list"
    else:
        assert {module, str(Path(module).parent)} & ELSEWHERE.keys(), (
            f"write {mirrors_of(module)[0].relative_to(REPOSITORY)}"
        )


def test_the_list_names_modules_and_tests_that_are_there():
    names = {*modules(), *(str(Path(module).parent) for module in modules())}
    assert not ELSEWHERE.keys() - names
    assert not [place for place in ELSEWHERE.values() if not (TESTS / place).exists()]


def test_every_test_file_mirrors_a_module():
    """Or tells, by a name of its own, what several modules do together."""
    every = {(TESTS / name).with_name(f"test_{Path(name).name.strip('_')}.py") for name in modules()}
    folders = {place for name in modules() for place in [TESTS / name, *(TESTS / name).parents]}
    for path in TESTS.rglob("test_*.py"):
        top = path.relative_to(TESTS).parts[0]
        assert top not in KINDS or path in every or path.parent in folders, f"{path}: its folder mirrors no package"
