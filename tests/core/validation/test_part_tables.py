import pandas as pd
import pytest

from kd_steps.core.data.source import PictureFacts
from kd_steps.core.data.yolo_labels import parse_yolo
from kd_steps.core.validation.part_tables import PartRecord, new_parts_table

BASE = pd.DataFrame(
    [("train", "1", "t.jpg"), ("test", "2", "e.jpg"), ("defect_free", "3", "g.jpg")],
    columns=["split", "pixel_hash", "path"],
)


@pytest.mark.parametrize(("pixels", "twin"), [("1", None), ("2", "e.jpg"), ("3", "g.jpg"), ("4", None)])
def test_a_shot_that_is_judged_on_is_told_whatever_its_file_is(pixels: str, twin: str | None) -> None:
    facts = PictureFacts("bytes of its own", pixels, 10, 10, 3, 0, 0.0, 0.0)
    labels, _ = parse_yolo("0 0.5 0.5 0.5 0.5", 1)
    table = new_parts_table([PartRecord("s.png", "s.png", ("fuse",), facts, labels)], BASE)
    found = table["test_twin"].tolist()
    assert found == [twin] if twin else pd.isna(found).all()
