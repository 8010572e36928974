"""Stage `few_shot`: the student and a handful of pictures of new parts → a student that knows the new classes."""

from __future__ import annotations

import shutil

from kd_steps.adapters.data.ledger import load_ledger
from kd_steps.adapters.data.part_sets import new_classes, read_part_sets
from kd_steps.adapters.files import write_document
from kd_steps.artifacts import Findings, paths
from kd_steps.jobs.part_training import labelled_shots, teach
from kd_steps.jobs.train import Network
from kd_steps.params import load_params
from kd_steps.stage_entry import run_stage


def main() -> None:
    """Teach the student the new parts; without any, give the same student and say so."""
    from kd_steps.adapters.data.reader import load_prepared
    from kd_steps.adapters.sidecar import WEIGHTS, read_sidecar

    params, prepared, student = load_params(), load_prepared(), read_sidecar(paths.STUDENT)
    ledger = load_ledger(params.product)
    sets = read_part_sets(paths.NEW_PARTS, ledger, str(paths.ledger(params.product)))
    learnt = new_classes(sets, student.classes, ledger)
    classes = (*student.classes, *learnt)
    shots = [image for part in sets for image in labelled_shots(part, classes)]
    if learnt and shots:
        measured = teach(params, prepared, student, classes, shots)
    else:
        shutil.rmtree(paths.FEW_SHOT, ignore_errors=True)
        paths.FEW_SHOT.mkdir(parents=True)
        shutil.copyfile(paths.STUDENT / WEIGHTS, paths.FEW_SHOT / WEIGHTS)
        shutil.copyfile(paths.STUDENT / paths.TRAINING_LOG, paths.FEW_SHOT / paths.TRAINING_LOG)
        lineage = {**student.lineage, "student_sha256": student.sha256}
        network = Network("few_shot", student.model, student.classes, (), student.contract, student.dataset_digest)
        network.write_sidecar(paths.FEW_SHOT, student.parameters, student.training, lineage)
        measured = {"epochs": 0}
        print(f"{paths.NEW_PARTS}: no new parts; the student is handed on as it is")  # noqa: T201
    per_class = {name: sum(int((s.class_ids == classes.index(name)).any()) for s in shots) for name in learnt}
    write_document(paths.FEW_SHOT_SCORES, Findings(**{"new_classes": list(learnt), "shots": per_class, **measured}))


if __name__ == "__main__":
    run_stage(main)
