"""The preprocessing contract: one value object that says how a picture becomes a network input.

It travels in the sidecars of teacher, cache and student, in the ONNX metadata and in every engine's manifest. Every
consumer compares digests and refuses a difference, naming the field.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


class ContractMismatchError(ValueError):
    """Two contracts differ; the message names each field with both values and the mend."""


@dataclass(frozen=True)
class PreprocessingContract:
    """How a picture becomes a network input.

    Attributes:
        imgsz_px: side of the square network input, px.
        letterbox_fill: grey value (0-255) around a picture that is not square.
        stride_px: the largest stride of the detector, px.
        scale_up: whether a picture smaller than the input is enlarged.
        interpolation: OpenCV's name of the resampling, ``linear``.
        colour_order: order of the channels in the network input, ``rgb``.
        channels: channels of the network input.
        dtype: type of the network input.
        scale: factor from uint8 to the network's range.
        mean: subtracted from each channel after ``scale``.
        std: divides each channel after ``mean``.
        augmentation_digest: sha256 of the augmentation gains that teacher and student were trained with.
        library_versions: versions of the libraries whose resampling and decoding define the pixels.
    """

    imgsz_px: int
    letterbox_fill: int
    augmentation_digest: str
    library_versions: Mapping[str, str] = field(default_factory=dict)
    stride_px: int = 32
    scale_up: bool = True
    interpolation: str = "linear"
    colour_order: str = "rgb"
    channels: int = 3
    dtype: str = "float32"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON of all fields, 64 hex digits."""
        return canonical_digest(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The contract as JSON values; :meth:`from_dict` gives it back."""
        values = asdict(self)
        values["library_versions"] = dict(self.library_versions)
        values["mean"], values["std"] = list(self.mean), list(self.std)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PreprocessingContract:
        """Read a contract from JSON values.

        Raises:
            ContractMismatchError: a field is missing or unknown, as after a change of Retort's version.
        """
        known = {f.name for f in fields(cls)}
        if odd := sorted(known ^ set(values)):
            raise ContractMismatchError(f"contract fields {odd} are missing or unknown; export the engine again")
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})

    def differences(self, other: PreprocessingContract) -> list[str]:
        """One line for each field that differs, with both values."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [f"{name}: {mine[name]!r} against {theirs[name]!r}" for name in mine if mine[name] != theirs[name]]


def require_same(expected: PreprocessingContract, found: PreprocessingContract, what: str) -> None:
    """Refuse a contract that differs.

    Raises:
        ContractMismatchError: names ``what``, each differing field and the mend.
    """
    if expected.digest != found.digest:
        fields_ = "; ".join(expected.differences(found))
        raise ContractMismatchError(f"{what} was made with another preprocessing contract ({fields_}); make it again")


def canonical_digest(values: Any) -> str:
    """sha256 (hex) of JSON values, independent of the order of keys."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
