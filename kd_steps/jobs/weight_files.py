"""Weight files that ``params.yaml`` names, by path or by registry."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

FETCHED = Path(".retort/weights")


def weight_file(weights: str | None) -> Path | None:
    """A weight file as a path; a registry URI is fetched first.

    Raises:
        TrackingError: the registry cannot be reached, or does not have it.
    """
    if weights is None or not weights.startswith("models:/"):
        return None if weights is None else Path(weights)
    from kd_steps.adapters.mlflow.weights import download_weights

    folder = FETCHED / hashlib.sha256(weights.encode()).hexdigest()[:16]  # two teachers' files may have one name
    shutil.rmtree(folder, ignore_errors=True)  # what an alias named last time is not its only weight file now
    folder.mkdir(parents=True)
    return download_weights(Path.cwd(), weights, folder)
