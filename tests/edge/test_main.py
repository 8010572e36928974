"""The command line, and what importing the edge brings along."""

import json
import pkgutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from engine_fixture import REPOSITORY, picture, release

import kd_steps.edge
from kd_steps.edge.__main__ import main
from kd_steps.edge.detector import Detector
from kd_steps.edge.release import OperatingPoint

THRESHOLDS = ("--confidence", "0.1", "--iou", "0.6", "--max-detections", "300")


def test_detect_prints_a_json_line_a_picture_and_names_the_unreadable_one(engines_dir, tmp_path, capsys):
    image = picture(3, 70, 90)
    paths = [tmp_path / "a.png", tmp_path / "broken.png", tmp_path / "b.png"]
    cv2.imwrite(str(paths[0]), image)
    paths[1].write_bytes(b"no picture")
    cv2.imwrite(str(paths[2]), image)
    engine = engines_dir / "ort-cpu-int8"
    code = main(["detect", "--engine", str(engine), *THRESHOLDS, *map(str, paths)])
    printed = capsys.readouterr()
    assert code == 1
    assert "broken.png" in printed.err
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line["image"] for line in lines] == [str(paths[0]), str(paths[2])]
    found = Detector.load(engine, confidence=0.1, iou=0.6, max_detections=300).detect(image)
    assert np.allclose([d["box_xyxy_px"] for d in lines[0]["detections"]], found.boxes_xyxy_px)
    assert [d["class_number"] for d in lines[0]["detections"]] == found.class_ids.tolist()
    assert lines[0]["detections"][0]["class"] in ("bridge", "shifted", "tombstone")


def test_detect_takes_the_thresholds_of_the_release(own_engine, tmp_path, capsys):
    folder, image = own_engine("onnx-fp32"), picture(3, 70, 90)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    every = Detector.load(folder, confidence=1e-6, iou=0.99, max_detections=300).detect(image)
    least = float(np.sort(every.scores)[-5])  # a threshold that some detections do not reach
    release(folder, OperatingPoint(least, 0.99, 300))
    assert main(["detect", "--engine", str(folder), str(tmp_path / "a.png")]) == 0
    found = json.loads(capsys.readouterr().out)["detections"]
    assert len(every) > len(found) >= 5
    assert min(d["score"] for d in found) >= least
    release(folder, OperatingPoint(least, 0.99, 2))
    assert len(Detector.load(folder).detect(image)) == 2


@pytest.mark.parametrize("wrong", [("--confidence", "1.5"), ("--confidence", "nan"), ("--max-detections", "0")])
def test_a_threshold_that_is_none_is_refused(own_engine, tmp_path, capsys, wrong):
    """Else a slip of the hand would find no faults on any board."""
    folder = release(own_engine("onnx-fp32"), OperatingPoint(0.5, 0.6, 300))
    cv2.imwrite(str(tmp_path / "a.png"), picture(3, 70, 90))
    assert main(["detect", "--engine", str(folder), *wrong, str(tmp_path / "a.png")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "is impossible: shares lie between 0 and 1, counts above 0" in printed.err


def test_an_engine_without_thresholds_says_so_once(engines_dir, tmp_path, capsys):
    assert main(["detect", "--engine", str(engines_dir / "onnx-fp32"), *[str(tmp_path / "a.png")] * 3]) == 1
    assert capsys.readouterr().err.count("has no release.json that says its thresholds") == 1


def test_check_prints_the_golden_error_and_the_digests(own_engine, capsys):
    folder = own_engine("onnx-fp32")
    told = []
    for _ in range(2):
        assert main(["check", "--engine", str(folder)]) == 0
        told.append(json.loads(capsys.readouterr().out))
        assert told[-1]["largest_error"] <= 1e-5
        release(folder, OperatingPoint(0.5, 0.6, 300))
    assert told[0]["release_digest"] is None
    assert told[1]["release_digest"] == json.loads((folder / "release.json").read_text())["release_digest"]
    assert told[0]["engine_digest"] == told[1]["engine_digest"]


def test_a_folder_that_is_no_engine_is_a_plain_error(tmp_path, capsys):
    assert main(["detect", "--engine", str(tmp_path), "x.png"]) == 1
    assert "manifest.json" in capsys.readouterr().err


def test_importing_the_edge_brings_numpy_and_opencv_and_nothing_else():
    names = [f"kd_steps.edge.{m.name}" for m in pkgutil.iter_modules(kd_steps.edge.__path__)]
    assert len(names) >= 9
    script = (
        f"import sys, importlib; before = set(sys.modules); [importlib.import_module(n) for n in {names!r}];"
        "print(*sorted({n.split('.')[0] for n in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    foreign = set(done.stdout.split()) - set(sys.stdlib_module_names)
    assert foreign - {"numpy", "cv2", "kd_steps"} == set()
