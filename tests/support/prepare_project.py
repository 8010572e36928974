"""Projects for tests of `prepare`: how they are made and run, and what the stage leaves in them."""

import json
from contextlib import chdir, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from prepared import list_classes
from yolo_folder import make_yolo

from kd_steps.jobs.source import load_source
from kd_steps.params import load_params
from kd_steps.prepare import main

REPOSITORY = Path(__file__).parents[2]


def make_project(root: Path, kind: str, new_parts: dict[str, Any], **source: Any) -> Path:
    """A project whose params.yaml is the repository's, with another source."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["prepare"]["source"]["kind"] = kind
    params["prepare"]["source"][kind] |= source
    params["prepare"]["new_parts"] |= new_parts
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    with chdir(root), suppress(FileNotFoundError, ValueError):  # a source that cannot be read is the test's own
        list_classes(root, load_source(load_params()).classes)
    return root


def prepare(root: Path) -> str:
    """Run the stage here (its start-up as a process takes longer than the work); returns what it printed."""
    printed = StringIO()
    with chdir(root), redirect_stdout(printed):
        main()
    return printed.getvalue()


def yolo_project(root: Path, **held_out: Any) -> Path:
    make_yolo(root / "source")
    return make_project(root, "yolo", {"classes": [], "shots": 2} | held_out, path=str(root / "source"))


def files_of(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (root / "data").rglob("*") if path.is_file()}


def refused(root: Path) -> str:
    """The message of a `prepare` that must refuse its source and leave the earlier set alone."""
    before = files_of(root)
    with pytest.raises((ValueError, FileNotFoundError), match=r"source|params\.yaml") as caught:
        prepare(root)
    assert files_of(root) == before
    return str(caught.value)


def tables(root: Path) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    prepared = root / "data/prepared"
    summary = json.loads((prepared / "dataset.json").read_text())
    for kind in ("classes", "new_classes"):
        summary[kind] = [known["name"] for known in summary[kind]]
    return pd.read_parquet(prepared / "images.parquet"), pd.read_parquet(prepared / "boxes.parquet"), summary


def check_layout(root: Path) -> None:
    """The tables, the files, the labels and the summary tell the same."""
    pictures, boxes, summary = tables(root)
    prepared = root / "data/prepared"
    names = [*summary["classes"], *summary["new_classes"]]
    assert pictures["image_id"].is_unique
    assert pictures["split"].value_counts().to_dict() == {s: n for s, n in summary["images"].items() if n}
    files = {path.relative_to(prepared).as_posix() for path in (prepared / "images").rglob("*") if path.is_file()}
    assert files == set(pictures["path"])
    assert {path.parent.name for path in (prepared / "labels").rglob("*.txt")} <= set(pictures["split"])
    for row in pictures.itertuples():
        text = (prepared / "labels" / row.split / f"{row.image_id}.txt").read_text()
        own = boxes[boxes["image_id"] == row.image_id]
        assert len(own) == row.n_boxes == len(text.splitlines())
        assert [int(line.split()[0]) for line in text.splitlines()] == own["class_id"].tolist()
        assert [names[i] for i in own["class_id"]] == own["class_name"].tolist()
        assert (own["x2_px"] <= row.width_px).all()
        assert (own["y2_px"] <= row.height_px).all()
        if row.split in ("train", "val"):
            assert not own["is_new"].any()
    config = yaml.safe_load((prepared / "data.yaml").read_text())
    assert list(config["names"].values()) == summary["classes"]
    assert "path" not in config
