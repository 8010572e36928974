"""Stage `train_teacher`: the prepared set → a teacher's weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_steps.adapters.files import write_json
from kd_steps.edge.contract import canonical_digest
from kd_steps.jobs.resumable import train_once
from kd_steps.jobs.weight_files import weight_file
from kd_steps.params import Params, load_params
from kd_steps.stage_entry import run_stage

FOLDER = Path("models/teacher")


def main() -> None:
    """Train the teacher, or go on where a kill stopped it; or take given weights as they are."""
    from kd_steps.adapters.contract_source import current_contract
    from kd_steps.adapters.data.reader import load_prepared
    from kd_steps.adapters.sidecar import WEIGHTS, write_sidecar
    from kd_steps.adapters.yolo.initial import given_model, initial_model, model_name
    from kd_steps.adapters.yolo.models import parameter_count, save_weights
    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan, training_run
    from kd_steps.adapters.yolo.train.training import finish, train, validation_scores

    params = load_params()
    section, prepared = params.train_teacher, load_prepared()
    contract = current_contract(params.preprocessing, params.augmentation)
    weights, as_it_is = weight_file(section.weights), section.epochs == 0
    if as_it_is and weights:
        model = given_model(section, weights, prepared.classes)
        section = section.model_copy(update={"epochs": 1})  # of which only the validation is run
    else:
        model = initial_model(section, weights, prepared.classes, params.seed)
    run = training_run(
        params,
        section,
        model,
        prepared.classes,
        prepared.split("train"),
        prepared.split("val"),
        fresh_views_plan(section),
        contract.augmentation_digest,
        FOLDER,
    )

    def make() -> None:
        if as_it_is:
            save_weights(model, FOLDER / WEIGHTS)
            measured = validation_scores(run)
        else:
            measured = finish(run, train(run), FOLDER / WEIGHTS)
        write_sidecar(
            FOLDER,
            kind="teacher",
            model=model_name(section, section.weights),
            classes=prepared.classes,
            new_classes=(),
            parameters=parameter_count(model),
            contract=contract,
            dataset_digest=prepared.digest,
            training=measured,
            lineage={"weights": section.weights, "weights_sha256": section.weights_sha256},
        )

    of = fingerprint(params, prepared.digest, contract.digest, model.yaml)
    write_json(Path("metrics/alone/teacher.json"), train_once(FOLDER, of, "teacher", "kd_steps.train_teacher", make))


def fingerprint(
    params: Params, dataset_digest: str, contract_digest: str, architecture: Mapping[str, Any]
) -> dict[str, object]:
    """All that the training depends on; a half-finished one of something else is not gone on with."""
    return {
        "dataset": dataset_digest,
        "contract": contract_digest,
        "seed": params.seed,
        "section": params.train_teacher.flat(),
        "architecture": canonical_digest(architecture),  # a model YAML may change under its name
    }


if __name__ == "__main__":
    run_stage(main)
