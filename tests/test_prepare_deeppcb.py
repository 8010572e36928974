"""`prepare` on the real boards of DeepPCB: a held-out class is erased with the templates, and nothing else is."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from prepare_project import make_project, prepare, tables

pytestmark = pytest.mark.slow

needs_deeppcb = pytest.mark.skipif(
    "RETORT_DEEPPCB" not in os.environ, reason="RETORT_DEEPPCB names no DeepPCB folder (the real boards)"
)


def every_tenth_board(root: Path) -> Path:
    """The authors' layout with shorter lists, the pictures linked."""
    real = Path(os.environ["RETORT_DEEPPCB"]) / "PCBData"
    (root / "PCBData").mkdir(parents=True)
    for group in real.glob("group*"):
        (root / "PCBData" / group.name).symlink_to(group)
    for name in ("trainval.txt", "test.txt"):
        lines = (real / name).read_text().splitlines()
        (root / "PCBData" / name).write_text("\n".join(lines[::10]))
    return root


@needs_deeppcb
def test_deeppcb_with_pin_hole_held_out(tmp_path: Path) -> None:
    folder = every_tenth_board(tmp_path / "boards")
    root = make_project(tmp_path, "deeppcb", {"classes": ["pin-hole"], "shots": 10}, path=str(folder))
    assert "also trained on" in prepare(root)
    pictures, boxes, summary = tables(root)
    assert summary["new_classes"] == ["pin-hole"]
    assert summary["images"]["test"] == summary["images"]["defect_free"] == 50
    assert summary["images"]["train"] + summary["images"]["val"] == 100
    cut = pictures[pictures["split"].isin(["train", "val"])]
    assert cut.groupby("group")["split"].nunique().max() == 1
    assert boxes[boxes["is_new"]]["split"].unique().tolist() == ["test"]
    erased = cut[cut["path"].str.endswith(".png")].head(20)
    for row in erased.itertuples():
        base = folder / "PCBData" / f"group{row.group}"
        picture, template = (
            cv2.imread(str(base / row.group / f"{row.image_id}_{kind}.jpg")) for kind in ("test", "temp")
        )
        prepared = cv2.imread(str(root / "data/prepared" / row.path))
        mask = np.zeros(picture.shape[:2], dtype=bool)
        for line in (base / f"{row.group}_not" / f"{row.image_id}.txt").read_text().splitlines():
            x1, y1, x2, y2, kind = (int(word) for word in line.split())
            if kind == 6:
                assert (prepared[y1:y2, x1:x2] == template[y1:y2, x1:x2]).all()
                mask[max(0, y1 - 4) : y2 + 4, max(0, x1 - 4) : x2 + 4] = True
        assert (prepared[~mask] == picture[~mask]).all()
    shots = root / "data/new_parts/held_out"
    assert len(list((shots / "images").iterdir())) == 10
    assert all(any(line.startswith("5 ") for line in p.read_text().splitlines()) for p in (shots / "labels").iterdir())
