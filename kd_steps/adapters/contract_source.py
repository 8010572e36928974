"""The preprocessing contract of this installation: the user's two knobs, the gains, and the libraries that make pixels.

Teacher, cache and student all take their contract from here, so that a difference between two sidecars is always a
difference of parameters or of libraries, never of the code that built the contract.
"""

from __future__ import annotations

from kd_steps.edge.contract import PreprocessingContract, canonical_digest
from kd_steps.edge.identity import release
from kd_steps.params.preprocessing import Augmentation, Preprocessing

CLOSING_VIEWS = {"closing_geometry": "letterbox"}  # what the gains do not say; its change makes other views


def current_contract(preprocessing: Preprocessing, augmentation: Augmentation) -> PreprocessingContract:
    """The contract that training in this process follows.

    Args:
        preprocessing: input size and letterbox fill.
        augmentation: Ultralytics' gains; only their digest enters the contract, the edge has no use for them.

    Returns:
        The contract with the versions of the libraries that decode, resample and augment.
    """
    import cv2  # the stage sets the environment first; its version is the build's, not the wheel's

    return PreprocessingContract(
        imgsz_px=preprocessing.imgsz_px,
        letterbox_fill=preprocessing.letterbox_fill,
        augmentation_digest=canonical_digest({**augmentation.model_dump(), **CLOSING_VIEWS}),
        library_versions={
            "opencv": cv2.__version__,
            "ultralytics": release("ultralytics"),
            "numpy": release("numpy"),
        },
    )
