"""A release: thresholds and golden verdicts beside an engine, by one digest."""

import json
from dataclasses import replace

import numpy as np
import pytest
from engine_fixture import picture

from kd_steps.edge.detector import Detector
from kd_steps.edge.golden import GoldenMismatchError, check_golden, read_golden
from kd_steps.edge.manifest import read_manifest
from kd_steps.edge.postprocess import Found
from kd_steps.edge.release import (
    OperatingPoint,
    Release,
    ReleaseError,
    Verdict,
    differing_verdicts,
    make_release,
    read_release,
)

POINT = OperatingPoint(0.3, 0.6, 20)
VERDICT = Verdict(3, 0.8, (10.0, 10.0, 30.0, 30.0))


@pytest.fixture
def released(own_engine):
    """A copy of an engine, made a release."""
    from engine_fixture import release

    return release(own_engine("onnx-fp32"), POINT)


def test_a_release_is_read_again_and_its_digest_covers_all_of_it(released):
    manifest = read_manifest(released)
    release = read_release(released, manifest)
    assert release.to_dict() == json.loads((released / "release.json").read_text())
    assert release.engine_digest == manifest.engine_digest
    others = [
        replace(release, engine_digest="0" * 64),
        replace(release, thresholds=replace(POINT, confidence=0.31)),
        replace(release, golden=((VERDICT,), *release.golden[1:])),
    ]
    assert len({each.release_digest for each in (release, *others)}) == 4


def test_the_engine_digest_is_of_what_is_computed_and_of_nothing_else(released):
    manifest = read_manifest(released)
    same = [replace(manifest, state="measured"), replace(manifest, parity={}), replace(manifest, name="another")]
    other = [
        replace(manifest, classes=("renamed", *manifest.classes[1:])),
        replace(manifest, columns=(7, *manifest.columns[1:])),
        replace(manifest, contract=replace(manifest.contract, letterbox_fill=0)),
        replace(manifest, precision="fp16"),
        replace(manifest, files={**manifest.files, "model.onnx": replace(manifest.files["model.onnx"], sha256="0")}),
    ]
    assert {each.engine_digest for each in same} == {manifest.engine_digest}
    assert len({each.engine_digest for each in (manifest, *other)}) == len(other) + 1


def test_a_release_gives_what_its_thresholds_let_through_and_an_engine_alone_asks_for_them(released, engines_dir):
    image = picture(3, 70, 90)
    every = Detector.load(engines_dir / "onnx-fp32", confidence=1e-6, iou=0.6, max_detections=300).detect(image)
    found = Detector.load(released).detect(image)
    assert len(every) > len(found) == min((every.scores >= POINT.confidence).sum(), POINT.max_detections) > 0
    assert len(Detector.load(released, max_detections=2).detect(image)) == 2
    alone = Detector.load(engines_dir / "onnx-fp32", confidence=0.3)
    with pytest.raises(ReleaseError, match=r"no release\.json.*models/releases, or give --confidence"):
        alone.detect(image)
    assert alone.raw_output(image).shape[0] == 1


@pytest.mark.parametrize("point", [(0, 0.6, 300), (0.5, 1.5, 300), (0.5, 0.6, 0), (float("nan"), 0.6, 1)])
def test_impossible_thresholds_are_refused(point):
    with pytest.raises(ReleaseError, match=r"OperatingPoint.*is impossible"):
        OperatingPoint(*point)


def lower_the_threshold(values):
    values["thresholds"]["confidence"] = 0.01


def of_another_engine(values):
    other = Release("0" * 64, POINT, ((), (), ()))
    values |= other.to_dict()


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lower_the_threshold, "release_digest is not that of the rest"),
        (of_another_engine, "it is the release of another engine"),
        (lambda values: values.update(schema=99), "schema is 99, this runtime reads 1"),
        (lambda values: values.pop("golden"), "damaged"),
        (lambda values: values.update(thresholds={"confidence": 0.5}), "damaged"),
    ],
)
def test_a_damaged_release_names_file_and_mend(released, break_it, told):
    path = released / "release.json"
    values = json.loads(path.read_text())
    break_it(values)
    path.write_text(json.dumps(values))
    with pytest.raises(ReleaseError, match=rf"release\.json: {told}.*dvc repro evaluate"):
        Detector.load(released)


def test_check_holds_a_release_to_its_verdicts(released):
    assert check_golden(released) < 1e-5
    manifest = read_manifest(released)
    release = read_release(released, manifest)
    some = next(i for i, verdicts in enumerate(release.golden) if verdicts)
    renamed = replace(release.golden[some][0], class_number=(release.golden[some][0].class_number + 1) % 3)
    changed = list(release.golden)
    changed[some] = (renamed, *release.golden[some][1:])
    (released / "release.json").write_text(json.dumps(replace(release, golden=tuple(changed)).to_dict()))
    with pytest.raises(GoldenMismatchError, match=rf"verdicts on golden picture {some} are not those of the release"):
        check_golden(released)


@pytest.mark.parametrize(
    ("found", "differing"),
    [
        ([VERDICT], 0),
        ([replace(VERDICT, score=0.805)], 0),
        ([replace(VERDICT, box_xyxy_px=(11.0, 10.0, 31.0, 30.0))], 0),
        ([replace(VERDICT, score=0.82)], 2),
        ([replace(VERDICT, class_number=4)], 2),
        ([replace(VERDICT, box_xyxy_px=(40.0, 40.0, 60.0, 60.0))], 2),
        ([], 1),
        ([VERDICT, replace(VERDICT, box_xyxy_px=(40.0, 40.0, 60.0, 60.0))], 1),
        ([VERDICT, Verdict(3, 0.505, (40.0, 40.0, 60.0, 60.0))], 0),  # rounding lifted it over the threshold
    ],
)
def test_verdicts_are_the_same_within_the_tolerance(found, differing):
    assert len(differing_verdicts([VERDICT], found, confidence=0.5, tolerance=0.01)) == differing


def test_verdicts_carry_the_class_number_and_not_the_column(released):
    manifest = replace(read_manifest(released), columns=(4, 0, 9))
    pairs = read_golden(released / "golden.npz")
    found = Found(
        np.zeros(3, np.int32), np.array([2, 0, 1], np.int16), np.array([0.9, 0.8, 0.1], np.float32), np.ones((3, 4))
    )
    release = make_release(manifest, POINT, found)
    assert [[v.class_number for v in verdicts] for verdicts in release.golden] == [[9, 4]] + [[]] * (len(pairs) - 1)
