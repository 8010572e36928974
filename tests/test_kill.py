"""Every stage killed with SIGKILL in the middle of its work, DVC and all; the next `dvc repro` makes it good."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML
from tiny_project import (
    STAGES,
    FinishedProject,
    copy_project,
    environment,
    lock,
    outs_of,
    ran,
    read,
    run,
    tracing,
    versions,
)

from kd_steps.adapters.files import sha256_of
from kd_steps.edge.manifest import read_manifest
from kd_steps.edge.verification import verify_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE_S = 300.0
# Outputs whose bytes follow from the stage's dependencies alone; the others hold times or resumed trainings.
DETERMINISTIC = {
    "prepare": {"data/prepared", "data/unlabelled", "data/new_parts/held_out"},
    "validate": {"data/validated/base.json", "data/validated/new_parts.json", "metrics/validation.json"},
    "cache_logits": {"data/cache"},
    "gate": {"metrics/gate.json"},
}


@dataclass(frozen=True)
class Work:
    """What tells that a stage is in the middle of its work.

    Attributes:
        sign: a pattern of files that appear then; '' where it makes none before its end.
        reads: a file that it opens then.
        resumes: what the next run says when it goes on behind what was finished; '' where it starts anew.
    """

    sign: str = ""
    reads: str = ""
    resumes: str = ""


WORK = {
    "prepare": Work(".retort/prepare/incoming/*"),
    "validate": Work("report/data_docs"),
    "train_teacher": Work("models/teacher/resume/state.pt", resumes="goes on after its last finished epoch"),
    "cache_logits": Work("data/cache/shard-mosaic-000-000.sha256", resumes="data/cache: resumed"),
    "distill": Work("models/student/resume/state.pt", resumes="goes on after its last finished epoch"),
    "few_shot": Work("models/few_shot/run"),
    "export": Work(".retort/export/onnx-fp32"),
    "evaluate": Work("evaluation/bundles/.*.unfinished/detections.npz"),
    "gate": Work(reads="metrics/engines.json"),
    "report": Work(reads="metrics/few_shot.json"),
    "register": Work("mlartifacts/*"),
}


def forget(root: Path, stage: str) -> None:
    """Make a stage one that has never run: its outputs, DVC's note of it, and DVC's cache of runs go."""
    for path in outs_of(root)[stage]:
        shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()
    shutil.rmtree(root / ".dvc/cache/runs", ignore_errors=True)
    yaml, path = YAML(), root / "dvc.lock"
    notes = yaml.load(path)
    del notes["stages"][stage]
    yaml.dump(notes, path)


def at_work(root: Path, work: Work, trace: Path, stage: str) -> bool:
    if work.sign:
        return any(root.glob(work.sign))
    return trace.exists() and f"{stage}\tr\t{work.reads}\n" in trace.read_text(encoding="utf-8")


def kill_at_work(root: Path, stage: str) -> None:
    """Run the stage under DVC and kill DVC, the stage and its workers at once, as a power cut would."""
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
    trace, said = root.with_name("opened.tsv"), root.with_name("killed.log")
    with said.open("w") as log:
        child = subprocess.Popen(
            command,
            cwd=root,
            env=environment() | tracing(root, trace),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        deadline = time.monotonic() + PATIENCE_S
        while not at_work(root, WORK[stage], trace, stage):
            assert child.poll() is None, f"{stage} ended before it could be killed:\n{said.read_text()}"
            assert time.monotonic() < deadline, f"{stage} was not at work after {PATIENCE_S} s:\n{said.read_text()}"
            time.sleep(0.002)
        os.killpg(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    left = [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(root)]
    psutil.wait_procs(left, timeout=20)
    assert not [p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE], "the stage lives on"


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_work_then_run_again(finished_project: FinishedProject, tmp_path: Path, stage: str) -> None:
    root, work = copy_project(finished_project.root, tmp_path / "project"), WORK[stage]
    forget(root, stage)
    before = lock(root)
    kill_at_work(root, stage)
    assert lock(root) == before, "DVC took a killed stage for a finished one"
    finished_before_the_kill = finished_parts(root)

    done = run(root, sys.executable, "-m", "dvc", "repro", stage)
    assert done.returncode == 0, done.stdout
    assert ran(done.stdout) == [stage], "an earlier stage ran again, or this one was not run"
    assert work.resumes in done.stdout
    now = finished_parts(root)
    assert finished_before_the_kill.keys() <= now.keys(), "finished work was thrown away"
    assert finished_before_the_kill.items() <= now.items(), "finished work was done again"

    after, reference = lock(root), lock(finished_project.root)
    assert {name: note for name, note in after.items() if name != stage} == before
    assert after[stage]["deps"] == reference[stage]["deps"]
    digests, expected = ({o["path"]: o.get("md5") for o in notes[stage]["outs"]} for notes in (after, reference))
    assert set(digests) == set(expected)
    for path in DETERMINISTIC.get(stage, set()):
        assert digests[path] == expected[path], f"{path} differs after a kill"
    check_whole(root, stage)


def finished_parts(root: Path) -> dict[str, int]:
    """What the killed stage had finished for good: shards of the cache with their seals, detections of engines."""
    shards = [seal.with_suffix(".arrow") for seal in (root / "data/cache").glob("shard-*.sha256")]
    found = {shard.name: shard.stat().st_mtime_ns for shard in shards}
    for detections in (root / "evaluation/bundles").glob("*/detections.npz"):  # also of a bundle that is under way
        engine = detections.parent.name.removeprefix(".").removesuffix(".unfinished")
        found[f"detections of {engine}"] = detections.stat().st_mtime_ns
    return found


def engine_folders(root: Path) -> list[Path]:
    return [path for path in (root / "models/engines").iterdir() if path.is_dir()]


def check_whole(root: Path, stage: str) -> None:
    """The outputs are complete, and hold nothing that the kill left."""
    for path in map(root.joinpath, outs_of(root)[stage]):
        files = [path] if path.is_file() else list(path.rglob("*"))
        assert files, path
        assert not [f for f in files if f.name.startswith(".") or f.name in ("run", "resume")]
    if stage in ("train_teacher", "distill", "few_shot"):
        folder = {"train_teacher": "teacher", "distill": "student"}.get(stage, stage)
        sidecar = read(root, f"models/{folder}/sidecar.json")
        assert sidecar["sha256"] == sha256_of(root / f"models/{folder}/weights.pt")
        rows = (root / f"models/{folder}/results.csv").read_text().splitlines()[1:]
        assert [int(row.split(",")[0]) for row in rows] == list(range(1, sidecar["training"]["epochs"] + 1))
    if stage == "export":
        for folder in engine_folders(root):
            verify_files(read_manifest(folder), folder)
    if stage == "evaluate":
        assert set(read(root, "metrics/engines.json")["engines"]) == {p.name for p in engine_folders(root)}
    if stage == "report":
        assert (root / "report/index.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    if stage == "register":
        receipt = json.loads((root / ".retort/registration.json").read_text())
        assert versions(root) == {model["name"]: ["1"] for model in receipt["models"]}
