"""Importing does nothing else: no heavy library, no file, no folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
HEAVY = (
    *("torch", "ultralytics", "mlflow", "great_expectations", "onnx", "onnxruntime", "openvino"),
    *("matplotlib", "scipy", "sklearn", "prefect", "dvc", "pyarrow.dataset"),
)
TELL = """
import importlib, json, pkgutil, sys
told = {}
for name in sys.argv[1:]:
    importlib.import_module(name)
    told[name] = [heavy for heavy in %r if heavy in sys.modules]
print(json.dumps(told))
"""


def stage_modules() -> list[str]:
    files = (REPOSITORY / "kd_steps").glob("[!_]*.py")
    return ["kd_steps.params", "kd_steps.artifacts", *sorted(f"kd_steps.{f.stem}" for f in files)]


def modules_below(package: str) -> list[str]:
    files = (REPOSITORY / package).rglob("*.py")
    names = (".".join(f.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__") for f in files)
    return sorted(name for name in names if not name.endswith("__main__"))


def imported(folder: Path, modules: list[str], heavy: tuple[str, ...] = HEAVY) -> dict[str, list[str]]:
    """Module → the heavy libraries that were loaded when it, and those before it, had been imported."""
    code = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); sys.dont_write_bytecode = True\n" + TELL % (heavy,)
    done = subprocess.run(
        [sys.executable, "-c", code, *modules], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout.count("\n"), done.stderr) == (1, ""), "an import printed something"
    assert not list(folder.iterdir()), "an import left files"
    return dict(json.loads(done.stdout))


def test_a_stage_is_cheap_to_import(tmp_path):
    modules = stage_modules()
    assert len(modules) == 16  # thirteen stages, the door of the parameters, paths and documents, and the entry
    assert {name: heavy for name, heavy in imported(tmp_path, modules).items() if heavy} == {}


def test_the_edge_imports_no_runtime_and_nothing_of_the_pipeline(tmp_path):
    heavy = (*HEAVY, "pandas", "kd_steps.core", "kd_steps.adapters", "kd_steps.params")
    assert not any(imported(tmp_path, modules_below("kd_steps/edge"), heavy).values())


@pytest.mark.parametrize("package", ["kd_steps", "flows"])
def test_no_module_does_anything_at_import(tmp_path, package):
    """But those that bring in Ultralytics, which writes its settings file when it is imported."""
    modules = [name for name in modules_below(package) if not name.startswith("kd_steps.adapters.yolo")]
    assert "ultralytics" not in imported(tmp_path, modules)[modules[-1]]
