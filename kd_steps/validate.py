"""Stage `validate`: the prepared set, the new parts and the preprocessing, held against the suites of expectations/."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from kd_steps.adapters.data.ledger import load_ledger
from kd_steps.adapters.data.part_sets import read_part_sets
from kd_steps.adapters.data.reader import load_prepared, load_unlabelled
from kd_steps.adapters.files import write_document, write_json
from kd_steps.adapters.parallel import choose_engine
from kd_steps.artifacts import Findings, paths
from kd_steps.core.data.ledger import by_number
from kd_steps.core.validation.data_tables import boxes_table, images_table
from kd_steps.core.validation.part_tables import new_parts_table
from kd_steps.core.validation.verdict import counts, stop_message, suite_verdict, verdict
from kd_steps.jobs.released_classes import require_unchanged
from kd_steps.jobs.validation_tables import (
    compare_preprocessing,
    listed_pictures,
    parts_digest,
    read_parts,
    read_pictures,
)
from kd_steps.params import load_params
from kd_steps.stage_entry import run_stage


class ValidationFailed(ValueError):  # noqa: N818 - not a wrong call, a verdict
    """A critical expectation is not met; the message names the files and the mend."""


def main() -> None:
    """Validate everything, write the verdict, and stop the pipeline if a critical expectation is not met."""
    from kd_steps.adapters.contract_source import current_contract
    from kd_steps.adapters.great_expectations.page import validation_page
    from kd_steps.adapters.great_expectations.suites import build_data_docs, load_suites, open_context, run_suite

    params, root = load_params(), Path.cwd()
    choose_engine(params.compute)
    for token in (paths.BASE_TOKEN, paths.NEW_PARTS_TOKEN):
        token.unlink(missing_ok=True)  # whatever happens from here, no old verdict counts
    prepared, unlabelled = load_prepared(), load_unlabelled()
    ledger, ledger_file = load_ledger(params.product), str(paths.ledger(params.product))
    require_unchanged(params.product, ledger)
    contract = current_contract(params.preprocessing, params.augmentation)
    context = open_context(root)
    suites = load_suites(context, root)  # before the pictures are read: a broken suite is told at once

    part_sets = read_part_sets(paths.NEW_PARTS, ledger, ledger_file)
    records = read_parts(part_sets)
    lost = sum(record.withdrawn_objects for record in records)
    notes = [f"{lost} objects of withdrawn classes in {paths.NEW_PARTS} were left out ({ledger_file})"] if lost else []
    part_classes = by_number({c for s in part_sets if not s.fault for c in s.classes} - set(prepared.classes), ledger)
    listed = listed_pictures(prepared, unlabelled)
    images = images_table(listed, read_pictures(prepared, listed), params.prepare.splits.near_duplicate_bits)
    tables = {
        "images": images,
        "boxes": boxes_table(
            prepared.boxes, prepared.images, [*prepared.classes, *prepared.new_classes], prepared.root
        ),
        "parity": compare_preprocessing(images, params, contract),
        "new_parts": new_parts_table(records, prepared.images),
    }
    parameters = {
        "base_classes": list(prepared.classes),
        "new_classes": list(prepared.new_classes),
        "part_classes": list(part_classes),
        "parity_tolerance": params.validate_.parity_tolerance,
    }
    checks = {name: run_suite(context, suites[name], table, parameters) for name, table in tables.items()}
    build_data_docs(context, root)
    found = {name: suite_verdict(checks[name], table) for name, table in tables.items()}
    said = verdict(found, counts(tables, part_classes), [*prepared.warnings, *unlabelled.warnings, *notes])
    write_document(paths.VALIDATION, Findings(**said))
    paths.VALIDATION_PAGE.write_text(validation_page(said), encoding="utf-8")
    for warning in said["warnings"]:
        tqdm.write(f"warning: {warning}")
    if not said["passed"]:
        raise ValidationFailed(stop_message(said, f"{paths.VALIDATION} and {paths.VALIDATION_PAGE}"))
    digests = {"dataset_digest": prepared.digest, "contract_digest": contract.digest}
    write_json(paths.BASE_TOKEN, {"passed": True, **digests})
    write_json(
        paths.NEW_PARTS_TOKEN, {"passed": True, "classes": list(part_classes), "digest": parts_digest(part_sets)}
    )


if __name__ == "__main__":
    run_stage(main)
