"""The dossier page: Jinja's template and the pictures, in one HTML file without a link to anything outside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kd_steps.adapters.files import atomic_path
from kd_steps.core.report.label_places import label_places

TEMPLATE = "dossier.html.j2"
LARGEST_SIDE_PX = 640
LETTERS_A_WIDTH = 24  # font sizes that a picture is wide
SIGNS = {"truth": "", "hit": "✓ ", "false": "✗ ", "missed": "missed ", "unknown": "not known: "}


@dataclass(frozen=True)
class Box:
    """One box over a picture, px; ``kind`` is truth, hit, false, missed or unknown."""

    x_px: float
    y_px: float
    width_px: float
    height_px: float
    kind: str
    label: str

    @classmethod
    def of(cls, row: Any, kind: str, label: str) -> Box:
        """From a row with x1_px, y1_px, x2_px, y2_px."""
        x, y = float(row["x1_px"]), float(row["y1_px"])
        return cls(x, y, float(row["x2_px"]) - x, float(row["y2_px"]) - y, kind, SIGNS[kind] + label)


@dataclass(frozen=True)
class Panel:
    """One view of a picture: whose, what it says in a few words, and its boxes."""

    name: str
    told: str
    boxes: Sequence[Box]

    @property
    def alternative(self) -> str:
        """What the panel shows, for people who do not see it."""
        return f"{self.name}: {self.told}. " + ", ".join(box.label for box in self.boxes)

    def labels(self, size_px: tuple[int, int]) -> list[tuple[float, float, str]]:
        """Left end and baseline, px, and words of each box's label, in a picture of this width and height."""
        corners = [(box.x_px, box.y_px, box.x_px + box.width_px, box.y_px + box.height_px) for box in self.boxes]
        words = [box.label for box in self.boxes]
        places = label_places(corners, words, size_px, size_px[0] / LETTERS_A_WIDTH)
        return [(x, y, label) for (x, y), label in zip(places, words, strict=True)]


@dataclass(frozen=True)
class Sample:
    """One picture with its panels; the pixels are in the page once and shown by each panel."""

    image_id: str
    why: str
    size_px: tuple[int, int]
    uri: str
    panels: Sequence[Panel]


def picture_uri(path: Path) -> str:
    """A picture as a ``data:`` address, JPEG, at most 640 px wide or high.

    Raises:
        ValueError: the file is no picture that OpenCV reads; names it.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"{path}: not a readable picture; run `dvc repro prepare`")
    factor = LARGEST_SIDE_PX / max(picture.shape[:2])
    if factor < 1:
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    return "data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode()


def write_dossier(path: Path, findings: Mapping[str, Any]) -> None:
    """Render the findings and put the page in its place in one step.

    Args:
        path: the HTML file.
        findings: what ``dossier.html.j2`` shows; a name that the template asks for and is not there is an error.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(TEMPLATE).render(letters_a_width=LETTERS_A_WIDTH, **findings)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
