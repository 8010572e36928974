"""Detectors on real engines: against Ultralytics in torch, golden outputs, latency, and what is refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from engine_fixture import IMGSZ_PX, picture, rewrite_manifest

from kd_steps.edge.contract import ContractMismatchError
from kd_steps.edge.detector import Detector
from kd_steps.edge.engines import EngineError, open_engine
from kd_steps.edge.golden import GoldenMismatchError, check_golden, read_golden, write_golden
from kd_steps.edge.latency import measure_interleaved
from kd_steps.edge.manifest import ManifestError, digest_of, read_manifest

NAMES = ("teacher", "onnx-fp32", "ort-cpu-int8", "openvino-fp16")


def sign_again(folder):
    """Make the manifest fit the files, as an attacker or an accident with write access could."""
    files = read_manifest(folder).files
    digests = {name: digest_of(folder / name) for name in files}
    rewrite_manifest(folder, files={n: {"sha256": d.sha256, "bytes": d.bytes} for n, d in digests.items()})


@pytest.mark.parametrize("name", NAMES)
def test_detections_are_boxes_inside_the_picture_best_first(engines_dir, name):
    image = picture(5, 120, 75)
    found, times = Detector.load(engines_dir / name, confidence=0.05, iou=0.6, max_detections=300).detect_timed(image)
    assert len(found) > 0
    assert found.boxes_xyxy_px.dtype == np.float32
    assert found.boxes_xyxy_px.shape == (len(found), 4)
    assert (found.boxes_xyxy_px >= 0).all()
    assert (found.boxes_xyxy_px <= [75, 120, 75, 120]).all()
    assert (np.diff(found.scores) <= 0).all()
    assert set(found.class_ids) <= {0, 1, 2}
    assert times.total_ms == times.preprocess_ms + times.inference_ms + times.postprocess_ms
    assert min(times.preprocess_ms, times.inference_ms, times.postprocess_ms) > 0


def test_detections_are_those_of_ultralytics(engine_project, engines_dir):
    """The whole way, picture to boxes, against NMS of Ultralytics on its own torch output."""
    from ultralytics.utils.nms import non_max_suppression

    torch = pytest.importorskip("torch")
    from kd_steps.adapters.yolo.export import raw_outputs
    from kd_steps.edge.preprocess import Preprocessor

    detector = Detector.load(engines_dir / "onnx-fp32", confidence=0.1, iou=0.5, max_detections=300)
    image = picture(7, IMGSZ_PX, IMGSZ_PX)
    tensor, _ = Preprocessor(detector.manifest.contract)(image)
    raw = torch.from_numpy(raw_outputs(engine_project / "models/few_shot/weights.pt", [tensor])[0])
    oracle = non_max_suppression(raw, conf_thres=0.1, iou_thres=0.5, multi_label=True, max_det=300)[0].numpy()
    found = detector.detect(image)
    assert len(found) == len(oracle) > 3
    assert np.allclose(found.scores, oracle[:, 4], atol=1e-4)
    clipped = oracle[:, :4].clip(0, IMGSZ_PX)
    for box, score, class_id in zip(found.boxes_xyxy_px, found.scores, found.class_ids, strict=True):
        same = (oracle[:, 5] == class_id) & (np.abs(oracle[:, 4] - score) < 1e-4)
        assert np.abs(clipped[same] - box).max(axis=1).min() < 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_golden_outputs_come_again(engines_dir, name):
    assert check_golden(engines_dir / name) <= 1e-5
    assert len(read_golden(engines_dir / name / "golden.npz")) == 3


def test_an_engine_that_gives_something_else_fails_its_golden_pictures(own_engine, engines_dir):
    folder = own_engine("onnx-fp32")
    pairs = read_golden(folder / "golden.npz")
    pictures, outputs = [p for p, _ in pairs], [o.copy() for _, o in pairs]
    outputs[1][0, 4, 3] += 0.01
    write_golden(folder / "golden.npz", pictures, outputs)
    with pytest.raises(ManifestError, match=r"golden\.npz"):
        check_golden(folder)
    sign_again(folder)
    with pytest.raises(GoldenMismatchError, match=r"differ by 0\.01, allowed 0\.001"):
        check_golden(folder)


def test_golden_bytes_depend_on_the_content_only(tmp_path):
    for name in ("a.npz", "b.npz"):
        write_golden(tmp_path / name, [picture(1, 9, 8)], [np.ones((1, 5, 2), np.float32)])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    np.savez(tmp_path / "c.npz", other=np.zeros(1))
    with pytest.raises(ManifestError, match=r"c\.npz"):
        read_golden(tmp_path / "c.npz")


def test_a_network_of_other_classes_or_size_is_refused(own_engine):
    folder = own_engine("onnx-fp32")
    stored = json.loads((folder / "manifest.json").read_text())
    rewrite_manifest(folder, classes=[*stored["classes"], "crack"], columns=[0, 1, 2, 3])
    with pytest.raises(EngineError, match="4 classes"):
        Detector.load(folder)
    contract = replace(read_manifest(folder).contract, imgsz_px=128)
    changes = {name: stored[name] for name in ("classes", "columns")}
    rewrite_manifest(folder, **changes, contract=contract.to_dict(), contract_digest=contract.digest)
    with pytest.raises(EngineError, match="128 px"):
        Detector.load(folder)


def test_a_contract_that_the_edge_does_not_implement_is_refused_by_field(own_engine):
    folder = own_engine("openvino-fp16")
    contract = replace(read_manifest(folder).contract, interpolation="area")
    rewrite_manifest(folder, contract=contract.to_dict(), contract_digest=contract.digest)
    with pytest.raises(ContractMismatchError, match="interpolation is 'area'"):
        Detector.load(folder)


@pytest.mark.parametrize(("name", "file"), [("onnx-fp32", "model.onnx"), ("openvino-fp16", "model.xml")])
def test_a_file_that_the_runtime_cannot_read_is_named(own_engine, name, file):
    folder = own_engine(name)
    (folder / file).write_bytes(b"not a network")
    sign_again(folder)
    with pytest.raises(EngineError, match=file):
        Detector.load(folder)


def test_an_unknown_runtime_or_no_thread_is_refused(tmp_path):
    with pytest.raises(EngineError, match="tensorrt"):
        open_engine(tmp_path / "model.plan", "tensorrt", 1, "f16")
    with pytest.raises(EngineError, match="at least 1"):
        open_engine(tmp_path / "model.onnx", "onnxruntime", 0, "f32")


def test_openvino_computes_in_the_precision_that_the_manifest_says(engines_dir):
    detector = Detector.load(engines_dir / "openvino-fp16")
    assert detector.engine.inference_precision == detector.manifest.inference_precision == "f32"


def test_an_output_is_not_overwritten_by_the_next(engines_dir):
    for name in NAMES:
        detector = Detector.load(engines_dir / name)
        first = detector.raw_output(picture(1, 64, 64))
        kept = first.copy()
        detector.raw_output(picture(2, 64, 64))
        assert np.array_equal(first, kept)


def test_latency_is_paired_interleaved_and_reaches_both_limits(engines_dir):
    point = {"confidence": 0.5, "iou": 0.6, "max_detections": 300}
    fast, slow = (Detector.load(engines_dir / name, **point) for name in ("onnx-fp32", "teacher"))
    pictures, seen = [picture(s, 80, 64) for s in range(3)], []
    times_ms = measure_interleaved(
        [fast, slow, fast], pictures, warm_up_s=0.1, rounds=30, seconds=0.2, seed=0, on_round=seen.append
    )
    assert times_ms.shape == (len(seen), 3, 4)
    assert len(seen) >= 30
    assert seen == list(range(1, len(seen) + 1))
    assert np.allclose(times_ms[..., :3].sum(axis=2), times_ms[..., 3])
    assert (times_ms > 0).all()
    long = measure_interleaved([fast], pictures, warm_up_s=0, rounds=1, seconds=0.3, seed=0)
    assert 0.15 < long[..., 3].sum() / 1e3 < 0.5
    with pytest.raises(ValueError, match="need a detector and a picture"):
        measure_interleaved([], pictures, warm_up_s=0, rounds=1, seconds=0, seed=0)


def test_a_folder_moved_elsewhere_still_runs(engines_dir, tmp_path):
    moved = shutil.copytree(engines_dir / "openvino-fp16", tmp_path / "with space" / "é")
    assert check_golden(moved) <= 1e-5
