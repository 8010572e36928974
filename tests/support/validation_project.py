"""Projects for tests of `validate`: how they are run and changed, and what the stage found in them."""

import pandas as pd
import yaml
from prepared import image_row

from kd_steps import validate


def run_here(root, monkeypatch):
    """Run the stage in this process, in ``root``; the message it stops with, or None."""
    monkeypatch.chdir(root)
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(root / ".retort/ultralytics"))
    try:
        validate.main()
    except validate.ValidationFailed as stop:
        return str(stop)
    return None


def tables(root):
    folder = root / "data/prepared"
    return pd.read_parquet(folder / "images.parquet"), pd.read_parquet(folder / "boxes.parquet")


def save(root, images, boxes):
    images.to_parquet(root / "data/prepared/images.parquet")
    boxes.to_parquet(root / "data/prepared/boxes.parquet")


def set_params(root, section, **values):
    params = yaml.safe_load((root / "params.yaml").read_text())
    params[section] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def replace_picture(root, images, image_id, data, folder="data/prepared"):
    """Put other bytes under a listed picture and make the table true of them again."""
    old = images.loc[images["image_id"] == image_id].iloc[0]
    (root / folder / old["path"]).write_bytes(data)
    row = image_row(image_id, old["split"], old["path"], data, old["n_boxes"])
    for column, value in row.items():
        images.loc[images["image_id"] == image_id, column] = value


def failure(found, suite, column, severity):
    """The one failed expectation about ``column``."""
    failures = [
        f
        for f in found["suites"][suite]["failures"]
        if f["column"] == column and f["severity"] == severity and f["files"]
    ]
    assert len(failures) == 1, found["suites"][suite]["failures"]
    return failures[0]
