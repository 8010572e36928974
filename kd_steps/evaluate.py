"""Stage `evaluate`: every engine is measured through the shipped edge runtime, judged, and made a release."""

from __future__ import annotations

from kd_steps.params import load_params
from kd_steps.stage_entry import run_stage


def main() -> None:
    """Measure what is not measured yet, judge all bundles, write releases, tables, plots and the engine report."""
    from kd_steps.adapters.data.reader import load_prepared
    from kd_steps.adapters.files import write_document
    from kd_steps.adapters.on_ray import cluster_of
    from kd_steps.artifacts import EngineReport, LeftOut, paths
    from kd_steps.core.evaluation.evaluation_set import evaluation_set
    from kd_steps.edge.release import OperatingPoint
    from kd_steps.jobs.judge_engines import judge_engines, write_tables
    from kd_steps.jobs.measure_engines import measured_elsewhere, measured_here, read_engines
    from kd_steps.jobs.release_engines import release_engines

    params, data = load_params(), load_prepared()
    knobs, manifests = params.evaluate, read_engines(paths.ENGINES)
    known = {name: (manifest.classes, manifest.new_classes) for name, manifest in manifests.items()}
    test = evaluation_set(data.images, data.boxes, (data.classes, data.new_classes), data.digest, known)
    images = data.images.assign(path=[str(data.root / path) for path in data.images["path"]])

    cluster = cluster_of(params.compute)
    here = measured_here(paths.ENGINES, manifests, paths.BUNDLES, images, knobs, params.seed, cluster)
    measured = [*here, *measured_elsewhere(paths.BUNDLES_ELSEWHERE, here)]
    judgement = judge_engines(measured, test, knobs, params.gate.confidence_level, params.seed)
    thresholds = OperatingPoint(knobs.operating_confidence, knobs.nms_iou, knobs.max_detections)
    digests = release_engines(measured, paths.ENGINES, paths.RELEASES, thresholds)

    write_tables(judgement, test.base_classes)
    entries = {name: {**entry, "release_digest": digests.get(name)} for name, entry in judgement.entries.items()}
    left_out = LeftOut.read(paths.ENGINES / paths.LEFT_OUT).reasons
    write_document(paths.ENGINE_REPORT, EngineReport.model_validate({"engines": entries, "left_out": left_out}))


if __name__ == "__main__":
    run_stage(main)
