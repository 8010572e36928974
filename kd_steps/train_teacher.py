"""Stage `train_teacher`: the prepared set → a teacher's weights."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from kd_steps.adapters.files import write_document
from kd_steps.artifacts import Findings, paths
from kd_steps.core.recipe import recipe_of
from kd_steps.jobs.fingerprint import Fingerprint, own_architecture, releases, that_count
from kd_steps.jobs.train import Fitting, Network, model_name, train_once
from kd_steps.params import Params, load_params
from kd_steps.stage_entry import run_stage

if TYPE_CHECKING:
    from kd_steps.adapters.data.reader import PreparedSet
    from kd_steps.edge.contract import PreprocessingContract


def main() -> None:
    """Train the teacher, or go on where a kill stopped it; or take given weights as they are."""
    from kd_steps.adapters.contract_source import current_contract
    from kd_steps.adapters.data.reader import load_prepared

    params, prepared = load_params(), load_prepared()
    section, contract = params.train_teacher, current_contract(params.preprocessing, params.augmentation)
    made_of = fingerprint(params, prepared, contract)
    name = model_name(section, section.weights)
    network = Network("teacher", name, prepared.classes, (), contract, prepared.digest)
    measured = train_once(paths.TEACHER, made_of, network, partial(ready, params, prepared, contract))
    write_document(paths.TEACHER_SCORES, Findings(**measured))


def fingerprint(params: Params, prepared: PreparedSet, contract: PreprocessingContract) -> Fingerprint:
    """All that the training depends on; a half-finished one of something else is not gone on with."""
    return Fingerprint(
        dataset=prepared.digest,
        contract=contract.digest,
        seed=params.seed,
        classes=prepared.classes,
        values=that_count(params.train_teacher.flat()),
        architecture=own_architecture(params.train_teacher.model),
        taught_with={},
        libraries=releases(),
        recipe=recipe_of("views", "training"),
    )


def ready(params: Params, prepared: PreparedSet, contract: PreprocessingContract) -> Fitting:
    """The training, or the measuring of weights that are taken as they are.

    Raises:
        ValueError: the weight file or the architecture cannot be used.
    """
    from kd_steps.adapters.sidecar import WEIGHTS
    from kd_steps.adapters.yolo.initial import given_model, initial_model
    from kd_steps.adapters.yolo.models import parameter_count, save_weights
    from kd_steps.adapters.yolo.train.recipe import fresh_views_plan, training_run
    from kd_steps.adapters.yolo.train.training import finish, train, validation_scores
    from kd_steps.jobs.weight_files import weight_file

    section = params.train_teacher
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
        paths.TEACHER,
    )

    def fit() -> dict[str, object]:
        if as_it_is:
            save_weights(model, paths.TEACHER / WEIGHTS)
            return validation_scores(run)
        return finish(run, train(run), paths.TEACHER / WEIGHTS)

    lineage = {"weights": params.train_teacher.weights, "weights_sha256": params.train_teacher.weights_sha256}
    return Fitting(fit, model.yaml, parameter_count(model), lineage)


if __name__ == "__main__":
    run_stage(main)
