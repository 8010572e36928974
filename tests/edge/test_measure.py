"""Measuring an engine folder into a bundle: what is in it, what is measured again and why, and what a kill loses."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
from engine_fixture import CLASSES, REPOSITORY, picture, rewrite_manifest

from kd_steps.edge import measure as measure_module
from kd_steps.edge.bundle import TIMED, BundleError, read_bundle
from kd_steps.edge.detector import Detector
from kd_steps.edge.finding import Finding, find, find_in_pictures, joined
from kd_steps.edge.golden import GoldenMismatchError, read_golden
from kd_steps.edge.manifest import digest_of, read_manifest
from kd_steps.edge.measure import Timing, measure_engines
from kd_steps.edge.pictures import PicturesError, pictures_of
from kd_steps.edge.preprocess import read_picture

FINDING = Finding(least_score=0.05, iou=0.6, max_detections=20)
TIMING = Timing(confidence=0.3, warm_up_s=0.0, rounds=9, seconds=0.01)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of pictures as a device has them."""
    root = tmp_path_factory.mktemp("pictures")
    for index, split in enumerate(["val", "val", "test", "test", "test", "defect_free"]):
        (root / split).mkdir(exist_ok=True)
        cv2.imwrite(str(root / split / f"board-{index}.png"), picture(index, 50 + 5 * index, 80))
    return root


def measure(engines, photographs, said=None, finding=FINDING, timing=TIMING, **more):
    reference = next(iter(engines))
    say = (lambda line: None) if said is None else said.append
    pictures = pictures_of(photographs)
    return measure_engines(engines, reference, pictures, finding, timing, say=say, progress=lambda *_: None, **more)


@pytest.fixture(scope="module")
def measured(engines_dir, photographs, tmp_path_factory):
    """Bundles of two engines; read-only."""
    out = tmp_path_factory.mktemp("bundles")
    names = ("onnx-fp32", "openvino-fp16")
    measure({engines_dir / name: out / name for name in names}, photographs)
    return out


def test_a_bundle_holds_what_the_detector_finds_and_names_what_was_measured(measured, engines_dir, photographs):
    bundle, manifest = read_bundle(measured / "openvino-fp16"), read_manifest(engines_dir / "openvino-fp16")
    note = bundle.note
    assert note.engine_digest == manifest.engine_digest
    assert note.reference_digest == read_manifest(engines_dir / "onnx-fp32").engine_digest
    assert [row[:2] for row in note.pictures] == [
        [f"board-{i}", split] for i, split in enumerate(["val", "val", "test", "test", "test", "defect_free"])
    ]
    assert note.machine["cores"] >= 1
    assert note.machine["cpu_model"]
    assert note.load_per_core is None or note.load_per_core >= 0
    assert note.golden_error <= manifest.golden.tolerance
    detector = Detector.load(engines_dir / "openvino-fp16", confidence=0.05, iou=0.6, max_detections=20)
    golden = [p for p, _ in read_golden(engines_dir / "openvino-fp16/golden.npz")]
    images = [read_picture(p.path) for p in pictures_of(photographs)]
    for found, seen in ((bundle.found, images), (bundle.golden, golden)):
        assert len(found) > len(seen)
        for index, image in enumerate(seen):
            again, own = detector.detect(image), found.of_image(index)
            np.testing.assert_array_equal(own.column, again.class_ids)
            np.testing.assert_allclose(own.score, again.scores, atol=1e-6)
            np.testing.assert_allclose(own.box_xyxy_px, again.boxes_xyxy_px, atol=1e-3)


def test_latency_is_paired_and_its_control_is_the_reference_twice(measured):
    own, reference = (read_bundle(measured / name).times_ms for name in ("openvino-fp16", "onnx-fp32"))
    assert own.shape == reference.shape == (len(own), len(TIMED), 4)
    assert len(own) >= TIMING.rounds
    assert (own > 0).all()
    np.testing.assert_allclose(own[..., :3].sum(axis=2), own[..., 3])
    np.testing.assert_array_equal(own[:, 1:], reference[:, 1:], "both engines were timed in the same rounds")
    np.testing.assert_array_equal(reference[:, 0], reference[:, 1], "the reference's own bundle")
    assert (reference[:, 1] != reference[:, 2]).any()


def test_what_is_measured_already_is_handed_over_to_the_byte(measured, engines_dir, photographs, tmp_path):
    out = tmp_path / "bundles"
    shutil.copytree(measured, out)
    before, said = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}, []
    names = ("onnx-fp32", "openvino-fp16")
    measure({engines_dir / name: out / name for name in names}, photographs, said)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert said == [f"{name}: measured already; the bundle is handed over" for name in names]


def test_what_all_engines_share_is_found_out_once(measured, engines_dir, photographs, tmp_path, monkeypatch):
    out, asked = shutil.copytree(measured, tmp_path / "bundles"), []
    for name in ("code_digest", "machine", "listed"):
        told = getattr(measure_module, name)
        monkeypatch.setattr(measure_module, name, lambda *a, name=name, told=told: [asked.append(name), told(*a)][1])
    measure({engines_dir / name: out / name for name in ("onnx-fp32", "openvino-fp16")}, photographs)
    assert sorted(asked) == ["code_digest", "listed", "machine"]


def other_code(bundle):
    note = json.loads((bundle / "bundle.json").read_text())
    note["inputs"]["latency"]["edge_code"] = "0" * 64  # the detections' own digest forbids to change theirs so
    (bundle / "bundle.json").write_text(json.dumps(note))


def damage(bundle):
    data = (bundle / "detections.npz").read_bytes()
    (bundle / "detections.npz").write_bytes(data[:-9] + b"~" + data[-8:])


@pytest.mark.parametrize(
    ("change", "finding", "timing", "told"),
    [
        (None, {"iou": 0.5}, {}, "measured again, as this has changed: how it is measured"),
        (None, {}, {"rounds": 8}, "its latency again, as this has changed: how it is measured"),
        (other_code, {}, {}, "its latency again, as this has changed: the code below kd_steps/edge"),
        (damage, {}, {}, "detections.npz: missing, or not the file that bundle.json names"),
    ],
)
def test_what_changed_is_measured_again_and_told(
    measured, engines_dir, photographs, tmp_path, change, finding, timing, told
):
    bundle, said = tmp_path / "onnx-fp32", []
    shutil.copytree(measured / "onnx-fp32", bundle)
    before = read_bundle(bundle)
    if change:
        change(bundle)
    measure(
        {engines_dir / "onnx-fp32": bundle}, photographs, said, replace(FINDING, **finding), replace(TIMING, **timing)
    )
    assert told in said[0]
    after = read_bundle(bundle)
    assert (after.times_ms.shape != before.times_ms.shape) or (after.times_ms != before.times_ms).any()
    same = len(after.found) == len(before.found) and bool((after.found.score == before.found.score).all())
    assert same is (not finding)
    assert after.note.attempts == 1


def test_latency_alone_is_measured_again_where_that_is_asked_for(measured, engines_dir, photographs, tmp_path):
    bundle, said = tmp_path / "onnx-fp32", []
    shutil.copytree(measured / "onnx-fp32", bundle)
    engine = engines_dir / "onnx-fp32"
    measure({engine: bundle}, photographs, said, latency_again=[engine])
    assert said == ["onnx-fp32: measured again, its latency alone"]
    assert read_bundle(bundle).note.attempts == 2


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda b: (b / "latency.npz").unlink(), r"latency\.npz: missing"),
        (damage, r"detections\.npz: missing, or not the file"),
        (lambda b: (b / "bundle.json").write_text("{"), r"bundle\.json: damaged"),
        (lambda b: (b / "bundle.json").write_text('{"schema": 1}'), r"bundle\.json: damaged"),
        (lambda b: (b / "bundle.json").write_text('{"schema": 99}'), r"bundle\.json: not a measurement bundle of"),
        (lambda b: (b / "bundle.json").write_text("[]"), r"bundle\.json: not a measurement bundle of"),
    ],
)
def test_a_damaged_bundle_or_one_of_another_version_names_file_and_mend(measured, tmp_path, break_it, told):
    bundle = shutil.copytree(measured / "onnx-fp32", tmp_path / "bundle")
    break_it(bundle)
    with pytest.raises(BundleError, match=told + ".*measure again: python -m kd_steps.edge measure"):
        read_bundle(bundle)


def test_an_engine_that_gives_other_outputs_is_not_measured(own_engine, photographs, tmp_path):
    folder = own_engine("onnx-fp32")
    arrays = dict(np.load(folder / "golden.npz"))
    arrays["output_0"] += 0.1
    np.savez_compressed(folder / "golden.npz", **arrays)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    made = digest_of(folder / "golden.npz")
    rewrite_manifest(folder, files=files | {"golden.npz": {"sha256": made.sha256, "bytes": made.bytes}})
    with pytest.raises(GoldenMismatchError, match=r"golden outputs differ by 0\.1"):
        measure({folder: tmp_path / "bundle"}, photographs)
    assert not (tmp_path / "bundle").exists()


def test_the_number_of_pictures_at_a_time_changes_nothing(engines_dir, photographs):
    paths = [p.path for p in pictures_of(photographs)]
    engine = engines_dir / "onnx-fp32"
    every = find(engine, paths, read_picture, FINDING, lambda *_: None)
    for index, path in enumerate(paths):
        alone = find(engine, [path], read_picture, FINDING, lambda *_: None)
        np.testing.assert_array_equal(alone.box_xyxy_px, every.of_image(index).box_xyxy_px)


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_what_parts_of_the_pictures_give_joins_to_the_whole(engines_dir, photographs, size):
    pictures, engine = pictures_of(photographs), engines_dir / "onnx-fp32"
    whole = find_in_pictures(engine, pictures, FINDING, lambda *_: None)
    parts = [pictures[start : start + size] for start in range(0, len(pictures), size)]
    found = joined([(find_in_pictures(engine, part, FINDING, lambda *_: None, 1), len(part)) for part in parts])
    for field in fields(found):
        mine, all_at_once = getattr(found, field.name), getattr(whole, field.name)
        np.testing.assert_array_equal(mine, all_at_once)
        assert mine.dtype == all_at_once.dtype


def test_nothing_found_is_an_empty_bundle_that_can_be_read(engines_dir, photographs, tmp_path):
    engine = engines_dir / "onnx-fp32"
    measure({engine: tmp_path / "bundle"}, photographs, finding=replace(FINDING, least_score=0.9999999))
    found = read_bundle(tmp_path / "bundle").found
    assert len(found) == 0
    assert found.box_xyxy_px.shape == (0, 4)


def command(engine, photographs, out, *more):
    quick = ("--warm-up-s", "0", "--rounds", "9", "--seconds", "0.01", "--least-score", "0.05")
    return [
        *(sys.executable, "-m", "kd_steps.edge", "measure", "--engine", str(engine), "--pictures", str(photographs)),
        *("--out", str(out), *quick, *more),
    ]


def test_the_command_gives_a_bundle_and_the_second_call_measures_nothing(engines_dir, photographs, tmp_path):
    listed = photographs / "list.txt"
    listed.write_text("".join(f"{p.relative_to(photographs)}\n" for p in sorted(photographs.rglob("*.png"))))
    out, stamps = tmp_path / "bundle", []
    for place in (photographs, listed):
        reference = ("--reference", str(engines_dir / "teacher"))
        arguments = command(engines_dir / "onnx-fp32", place, out, *reference)
        done = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        note = read_bundle(out).note
        assert json.loads(done.stdout)["engine_digest"] == note.engine_digest
        assert note.reference_digest == read_manifest(engines_dir / "teacher").engine_digest
        stamps.append((out / "latency.npz").stat().st_mtime_ns)
    assert "measured already" in done.stderr
    assert len(set(stamps)) == 1, "a list and a folder of the same pictures are the same pictures"


def test_a_kill_loses_at_most_the_engine_at_work(engines_dir, photographs, tmp_path):
    out = tmp_path / "bundle"
    arguments = command(engines_dir / "onnx-fp32", photographs, out, "--seconds", "600")
    running = subprocess.Popen(arguments, cwd=REPOSITORY, stderr=subprocess.DEVNULL, start_new_session=True)
    kept = tmp_path / ".bundle.unfinished/detections.npz"
    deadline_s = time.monotonic() + 120
    while not kept.exists() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not out.exists()
    stamp = kept.stat().st_mtime_ns
    measure({engines_dir / "onnx-fp32": out}, photographs, finding=replace(Finding(), least_score=0.05))
    assert (out / "detections.npz").stat().st_mtime_ns == stamp
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("nowhere", "nowhere: no such folder or list of pictures"),
        ("empty", "empty: no picture in val, test, defect_free"),
        ("odd.txt", "does not lie in a folder named val, test, defect_free"),
        ("twice.txt", "several pictures are named 'board-0'"),
    ],
)
def test_pictures_that_are_none_are_refused(photographs, tmp_path, place, told):
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd.txt").write_text("somewhere/board-0.png\n")
    (tmp_path / "twice.txt").write_text(f"{photographs}/val/board-0.png\n" * 2)
    with pytest.raises(PicturesError, match=told):
        pictures_of(tmp_path / place)


def test_classes_of_the_fixture_are_the_columns(engines_dir, measured):
    bundle = read_bundle(measured / "onnx-fp32")
    assert set(bundle.found.column) <= set(range(len(CLASSES)))
    assert len(set(bundle.found.column)) > 1
