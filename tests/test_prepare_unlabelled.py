"""`prepare` and the line's pictures without labels: a set of their own that changes nothing else."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from prepare_project import check_layout, files_of, prepare, refused, yolo_project
from yolo_folder import jpeg

pytestmark = pytest.mark.slow


def set_unlabelled(root: Path, folder: Path | None) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["prepare"]["unlabelled"]["path"] = None if folder is None else str(folder)
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def unlabelled_set(root: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    folder = root / "data/unlabelled"
    return pd.read_parquet(folder / "images.parquet"), json.loads((folder / "dataset.json").read_text())


def line_pictures(root: Path) -> Path:
    """A project's folder of pictures from the line, of which four are its own and four must not be taken."""
    folder, source = root / "line", root / "source/images"
    for place in ("monday/early", "monday/late", "tuesday"):
        (folder / place).mkdir(parents=True)
        (folder / place / "train0.jpg").write_bytes(jpeg(500 + len(place)))  # the number of a labelled picture
    (folder / "loose.PNG").write_bytes(encoded(jpeg(600), ".png"))
    (folder / "again.jpg").write_bytes((folder / "tuesday/train0.jpg").read_bytes())
    (folder / "trained.png").write_bytes(encoded((source / "train/train4.jpg").read_bytes(), ".png"))
    (folder / "tested.jpg").write_bytes((source / "test/test2.jpg").read_bytes())
    (folder / "validated.jpg").write_bytes(encoded((source / "val/val1.jpg").read_bytes(), ".jpg", brighter=3))
    (folder / "notes.txt").write_text("shift 2")
    return folder


def encoded(picture: bytes, suffix: str, brighter: int = 0) -> bytes:
    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    done, data = cv2.imencode(suffix, cv2.add(pixels, np.full_like(pixels, brighter)))
    assert done
    return data.tobytes()


def test_unlabelled_pictures_stand_apart_without_labels_leaks_or_any_change_of_the_rest(tmp_path: Path) -> None:
    root = yolo_project(tmp_path)
    prepare(root)
    alone, nobody = files_of(root), unlabelled_set(root)
    assert (len(nobody[0]), nobody[1]["images"]) == (0, {"unlabelled": 0})
    folder = line_pictures(root)
    set_unlabelled(root, folder)
    printed = prepare(root)
    check_layout(root)
    whole = files_of(root)
    apart = {path for path in whole if root / "data/unlabelled" in path.parents}
    assert {path: whole[path] for path in whole.keys() - apart} == {
        path: data for path, data in alone.items() if root / "data/unlabelled" not in path.parents
    }, "a teacher learns from these: nothing of theirs may change"
    pictures, summary = unlabelled_set(root)
    assert summary["images"] == {"unlabelled": 4}
    assert pictures["n_boxes"].isna().all(), "a zero would say that somebody has looked"
    origins = {
        "unlabelled-again": "again.jpg",
        "unlabelled-loose": "loose.PNG",
        "unlabelled-monday-early-train0": "monday/early/train0.jpg",
        "unlabelled-monday-late-train0": "monday/late/train0.jpg",
    }
    line = pictures.set_index("image_id")
    assert set(line.index) == set(origins)
    written = {root / "data/unlabelled" / line.loc[image_id, "path"]: origins[image_id] for image_id in origins}
    assert set(written) == {path for path in apart if path.parent.name == "images"}
    for path, origin in written.items():
        assert path.read_bytes() == (folder / origin).read_bytes()
    said = "\n".join(summary["warnings"])
    assert "2 of 8 unlabelled pictures are the same as a validation, test or defect-free picture or nearly so" in said
    assert all(name in said and name in printed for name in ("tested.jpg", "validated.jpg"))
    assert "2 of 8 unlabelled pictures have the content of another picture and were left out" in said
    assert all(name in said for name in ("tuesday/train0.jpg", "trained.png"))

    prepare(root)
    assert files_of(root) == whole
    (folder / "loose.PNG").write_bytes(encoded(jpeg(601), ".png"))
    prepare(root)
    assert unlabelled_set(root)[1]["digest"] != summary["digest"]
    set_unlabelled(root, None)
    prepare(root)
    assert files_of(root) == alone


def break_a_line_picture(root: Path) -> None:
    path = root / "line/monday/early/train0.jpg"
    path.write_bytes(path.read_bytes()[:-300])


def empty_the_line(root: Path) -> None:
    for path in (root / "line").rglob("*.*"):
        if path.suffix != ".txt":
            path.unlink()


def move_the_line(root: Path) -> None:
    (root / "line").rename(root / "elsewhere")


def take_the_id_of_a_line_picture(root: Path) -> None:
    for kind, suffix in (("images", ".jpg"), ("labels", ".txt")):
        folder = root / "source" / kind / "train"
        (folder / f"train3{suffix}").rename(folder / f"unlabelled-loose{suffix}")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (break_a_line_picture, ["1 fault", "line/monday/early/train0.jpg: the picture is truncated"]),
        (empty_the_line, ["line: no pictures (.bmp, .jpeg,", "mend prepare.unlabelled.path in params.yaml"]),
        (move_the_line, ["line: no such folder; set prepare.unlabelled.path in params.yaml"]),
        (take_the_id_of_a_line_picture, ["line/loose.PNG and", "have the same id 'unlabelled-loose'"]),
    ],
)
def test_bad_unlabelled_pictures_are_refused(tmp_path: Path, damage: Any, told: list[str]) -> None:
    root = yolo_project(tmp_path)
    set_unlabelled(root, line_pictures(root))
    damage(root)
    message = refused(root)
    for part in told:
        assert part in message
