"""The project's own MLflow store after its folder was moved or copied: the places it names move along.

MLflow notes in its database where the files of runs lie, in full. Only SQLite is needed here, not MLflow.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kd_steps.adapters.files import atomic_path
from kd_steps.adapters.mlflow.address import ARTIFACTS, DATABASE, own_uri, tracking_uri
from kd_steps.adapters.mlflow.faults import TrackingError

BACKUP = f"{DATABASE}.before-move"
# Columns of MLflow's tables that say where something lies; parameters, metrics and tags stay as they were told.
_PLACES = ("artifact_location", "artifact_uri", "source", "storage_location")
_PLACE_TAG = "mlflow.artifactLocation"
_PLACE_TAG_TABLES = ("trace_tags", "trace_request_metadata")
WAIT_S = 10.0
_LOG = logging.getLogger(__name__)


def move_along(root: Path) -> None:
    """Let the project's own store name the folder it lies in now, and say so; a copy of the database is kept first.

    Raises:
        TrackingError: the files did not come along, the database is shared with another folder, or cannot be written.
    """
    database, new = root.resolve() / DATABASE, root.resolve()
    if tracking_uri(root) != own_uri(root) or not database.is_file():
        return
    with closing(sqlite3.connect(database, timeout=WAIT_S)) as connection:
        old_roots = [old for old in _old_roots(connection) if old != new]
        if not old_roots:
            return
        try:
            for old in old_roots:
                _require_files(connection, old, new)
            _require_own_file(root / DATABASE)
            _back_up(connection, database.with_name(BACKUP))
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                for old in old_roots:
                    _rewrite(connection, old, new)
        except sqlite3.Error as error:
            raise TrackingError(
                f"{database}: this project was moved or copied, and the places in its store could not be changed "
                f"({error}); end what else uses the file, see that it may be written, and run this again"
            ) from error
    places = ", ".join(map(str, old_roots))
    _LOG.warning("%s named files in %s; it names this folder now (as it was: %s)", database, places, BACKUP)


def _old_roots(connection: sqlite3.Connection) -> list[Path]:
    """The folders of projects that the store's experiments lie in."""
    try:
        rows = connection.execute("SELECT artifact_location FROM experiments ORDER BY experiment_id").fetchall()
    except sqlite3.DatabaseError:  # damaged, locked or without tables: MLflow says so itself
        return []
    found: dict[Path, None] = {}
    for (location,) in rows:
        path = _local_path(location or "")
        if path is not None and path.name == ARTIFACTS:
            found.setdefault(path.parent)
    return list(found)


def _local_path(location: str) -> Path | None:
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(location) if location.startswith("/") else None


def _require_files(connection: sqlite3.Connection, old: Path, new: Path) -> None:
    """Refuse to name a folder that does not hold the files which the old one holds."""
    runs = [path for path in _run_folders(connection) if path.is_relative_to(old)]
    here = [new / path.relative_to(old) for path in runs]
    came_along = any(path.exists() for path in here)
    if runs and not came_along and ((new / ARTIFACTS).is_dir() is False or any(path.exists() for path in runs)):
        raise TrackingError(
            f"{new / DATABASE} keeps its files in {old / ARTIFACTS}, and {new / ARTIFACTS} does not hold them: this "
            f"project was moved or copied without them. Copy {old / ARTIFACTS} to {new / ARTIFACTS}; if it is lost, "
            f"make {new / ARTIFACTS} an empty folder, and `dvc repro -f -s register` puts back what this project has"
        )


def _run_folders(connection: sqlite3.Connection) -> list[Path]:
    found = (_local_path(uri or "") for (uri,) in connection.execute("SELECT artifact_uri FROM runs"))
    return [path for path in found if path is not None]


def _require_own_file(database: Path) -> None:
    """Refuse a database that another folder uses, too: it would lose its own places."""
    if database.is_symlink() or database.stat().st_nlink > 1:
        raise TrackingError(
            f"{database} is a link, or linked from another folder, which would be changed as well: put a copy of the "
            "file in its place (`cp --remove-destination`), or let MLFLOW_TRACKING_URI name the other folder's store"
        )


def _back_up(connection: sqlite3.Connection, place: Path) -> None:
    with atomic_path(place) as temporary, closing(sqlite3.connect(temporary)) as copy:
        connection.backup(copy)


def _rewrite(connection: sqlite3.Connection, old: Path, new: Path) -> None:
    for table, column, condition in _columns(connection):
        for before, after in ((old.as_uri(), new.as_uri()), (str(old), str(new))):
            connection.execute(
                f'UPDATE "{table}" SET "{column}" = ? || substr("{column}", ?) '
                f'WHERE ("{column}" = ? OR substr("{column}", 1, ?) = ?){condition}',
                (after, len(before) + 1, before, len(before) + 1, f"{before}/"),
            )


def _columns(connection: sqlite3.Connection) -> Iterator[tuple[str, str, str]]:
    """Table, column and a further condition of every place."""
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        columns = {row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')}
        for column in columns.intersection(_PLACES):
            yield table, column, ""
        if table in _PLACE_TAG_TABLES:
            yield table, "value", f" AND key = '{_PLACE_TAG}'"
