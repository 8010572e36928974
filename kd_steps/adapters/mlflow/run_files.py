"""Files that MLflow keeps with a run: whether they are still there and the right ones, and putting them back."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from kd_steps.adapters.files import sha256_of
from kd_steps.adapters.mlflow.making import upload_patience
from kd_steps.adapters.mlflow.tracking import Store

WEIGHTS = ".pt"  # what another training may begin with; other files of a stage tell the same in other words


def put_back_files(store: Store, run_id: str, files: Sequence[Path]) -> list[str]:
    """Log the files of a stage that its run lacks, and weights that it has otherwise; returns their names."""
    if not files:
        return []
    kept = {file.path for file in store.client.list_artifacts(run_id)}
    lost = [
        path
        for path in files
        if path.name not in kept or (path.suffix == WEIGHTS and not _is_kept(store, run_id, path))
    ]
    with upload_patience():
        for path in lost:
            store.client.log_artifact(run_id, str(path))
    return [path.name for path in lost]


def put_back_folder(
    store: Store, run_id: str, path: str, folder: Path, is_whole: Callable[[Path], bool] | None = None
) -> bool:
    """Make a folder that a run keeps what ``folder`` is, byte for byte; returns whether that was needed.

    Args:
        store: the open store.
        run_id: the run.
        path: of the kept folder, below the run's files.
        folder: what it is to hold.
        is_whole: whether a kept folder with other bytes will do: one release may have been made in two places.
    """
    wanted, kept = digests_of(folder), dict[str, str]()
    if store.client.list_artifacts(run_id, path):
        with TemporaryDirectory() as place, upload_patience():
            fetched = Path(store.client.download_artifacts(run_id, path, place))
            kept = digests_of(fetched)
            if kept == wanted or (is_whole is not None and is_whole(fetched)):
                return False
    for name in kept.keys() - wanted.keys():  # a device refuses a folder that holds more than its manifest names
        _delete(store, run_id, f"{path}/{name}")
    with upload_patience():
        store.client.log_artifacts(run_id, str(folder), artifact_path=path)
    return True


def digests_of(folder: Path) -> dict[str, str]:
    """Path below a folder → sha256, of every file in it."""
    return {
        file.relative_to(folder).as_posix(): sha256_of(file) for file in sorted(folder.rglob("*")) if file.is_file()
    }


def kept_place(source: str) -> tuple[str, str] | None:
    """Run and path of a version's source such as ``runs:/<run>/engines/onnx-fp32``; None for other sources."""
    found = re.fullmatch(r"runs:/([^/]+)/(.+)", source)
    return (found[1], found[2]) if found else None


def _is_kept(store: Store, run_id: str, path: Path) -> bool:
    with TemporaryDirectory() as place, upload_patience():
        return sha256_of(Path(store.client.download_artifacts(run_id, path.name, place))) == sha256_of(path)


def _delete(store: Store, run_id: str, path: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    uri = store.client.get_run(run_id).info.artifact_uri
    get_artifact_repository(str(uri), tracking_uri=store.uri).delete_artifacts(path)
