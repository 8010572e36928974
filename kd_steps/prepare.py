"""Stage `prepare`: any source → the YOLO layout, image and box tables, leak-free splits, held-out new parts."""

from __future__ import annotations

import shutil
from pathlib import Path

from tqdm import tqdm

from kd_steps.adapters.data.ledger import load_ledger
from kd_steps.adapters.files import swap_folder, write_document
from kd_steps.adapters.parallel import choose_engine
from kd_steps.artifacts import DatasetCard, NumberedClass, paths
from kd_steps.core.data.held_out import check_known
from kd_steps.core.data.listed_source import held_out_in_service, listed_source
from kd_steps.core.data.plan import plan_set
from kd_steps.core.data.source import refuse
from kd_steps.core.data.splits import SplitRules
from kd_steps.jobs.prepare_set import collect, write_pictures, write_shots
from kd_steps.jobs.source import add_unlabelled, load_source
from kd_steps.params import load_params
from kd_steps.stage_entry import run_stage

STAGING = Path(".retort/prepare")


def main() -> None:
    """Prepare the set that ``params.yaml`` names; the old one stays until the new one is complete."""
    params = load_params()
    choose_engine(params.compute)
    new_parts, splits = params.prepare.new_parts, params.prepare.splits
    source, ledger = load_source(params), load_ledger(params.product)
    source = listed_source(source, ledger, str(paths.ledger(params.product)))
    held_out = held_out_in_service(new_parts.classes, ledger)
    check_known(held_out, source.classes)
    source = add_unlabelled(source, params)
    shutil.rmtree(STAGING, ignore_errors=True)
    (STAGING / "incoming").mkdir(parents=True)
    facts = collect(source, STAGING / "incoming")
    rules = SplitRules(splits.validation_fraction, splits.test_fraction, splits.near_duplicate_bits, params.seed)
    plan = plan_set(source, facts, rules, held_out, new_parts.shots)
    refuse(plan.faults)
    write_shots(source, facts, plan, STAGING)
    base, unlabelled = write_pictures(source, facts, plan, STAGING)
    classes, new_classes = (
        tuple(NumberedClass(name=name, number=ledger.number(name)) for name in names)
        for names in (plan.classes, plan.new_classes)
    )
    card = DatasetCard(source=params.prepare.source.kind, classes=classes, new_classes=new_classes, **base.model_dump())
    write_document(STAGING / paths.PREPARED.name / paths.DATASET_CARD, card)
    write_document(STAGING / paths.UNLABELLED.name / paths.DATASET_CARD, unlabelled)
    for folder in (paths.PREPARED, paths.UNLABELLED, paths.HELD_OUT_SHOTS):
        swap_folder(STAGING / folder.name, folder)
    shutil.rmtree(STAGING)
    for warning in (*plan.warnings, *plan.unlabelled_warnings):
        tqdm.write(f"warning: {warning}")
    counts = ", ".join(f"{n} {split}" for split, n in {**base.images, **unlabelled.images}.items())
    tqdm.write(
        f"{paths.PREPARED}: {counts} pictures; {paths.HELD_OUT_SHOTS}: {len(plan.shots)} shots of {plan.new_classes}"
    )


if __name__ == "__main__":
    run_stage(main)
