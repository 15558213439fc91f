"""The SQLite database of MLflow: its address, its creation, its checks, and the locations of files in it.

MLflow creates and migrates the tables of a database in place, in about a hundred statements. A process that is killed
meanwhile leaves a database that no later process can open. Here a database is prepared under another name and then
renamed, so that a file with the name of the database is always complete.
"""

from __future__ import annotations

import logging
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mlflow.store.db.utils as mlflow_db
import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from pipeline.errors import StorageError
from pipeline.files import whole_file
from pipeline.kept_values import kept_value
from pipeline.store import process_lock

# MLflow logs each error of its database with a traceback before raising it; `tracking_errors` reports it in one line.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
# A database that cannot be opened is tried again for 6 s in total instead of 102 s, without a message.
mlflow_db.MAX_RETRY_COUNT = 6

ARTIFACTS = "mlartifacts"  # folder of the files of all logged runs, beside the default database
COMPANIONS = ("-journal", "-wal", "-shm")  # files that SQLite keeps beside a database
# How long to wait for a database that other processes write to. SQLite's own 5 s and the 20 s of MLflow's sessions are
# too few for many runs that start together on a busy machine.
LOCK_SECONDS = 60.0
_BUSY_TIMEOUT = "PRAGMA busy_timeout"  # MLflow executes this statement in each session
_create_engine = mlflow_db.create_sqlalchemy_engine


def _create_patient_engine(uri: str) -> sqlalchemy.Engine:
    """Return MLflow's engine for a database, which waits for `LOCK_SECONDS` if it is an SQLite database."""
    engine: sqlalchemy.Engine = _create_engine(uri)  # type: ignore[no-untyped-call]
    if engine.dialect.name == "sqlite":

        @sqlalchemy.event.listens_for(engine, "connect")
        def _wait(connection: sqlite3.Connection, _: object) -> None:
            connection.execute(_busy_timeout())

        @sqlalchemy.event.listens_for(engine, "before_cursor_execute", retval=True)
        def _keep_waiting(*call: Any) -> tuple[str, Any]:
            _connection, _cursor, statement, parameters = call[:4]
            return _busy_timeout() if statement.startswith(_BUSY_TIMEOUT) else statement, parameters

    return engine


def _busy_timeout() -> str:
    return f"{_BUSY_TIMEOUT} = {round(LOCK_SECONDS * 1000)}"


mlflow_db.create_sqlalchemy_engine = _create_patient_engine


def address(path: Path) -> str:
    """Return the address of the SQLite database `path`, with special characters escaped where necessary.

    Raises
    ------
    StorageError
        If the installed version of SQLAlchemy has no address for this path.
    """
    plain = f"sqlite:///{path}"
    if file_of(plain) == path:
        return plain
    # With the name of the driver, because MLflow creates the folder of an address that begins with "sqlite:///",
    # without decoding its escapes.
    escaped = sqlalchemy.URL.create("sqlite+pysqlite", database=str(path)).render_as_string(hide_password=False)
    if file_of(escaped) == path:
        return escaped
    raise StorageError(
        f"paths.outputs must be a path without '?' and '%'; got {path.parent}. Set paths.outputs to another folder, or "
        "install SQLAlchemy 2.1."
    )


def file_of(uri: str) -> Path | None:
    """Return the absolute path of the SQLite database at `uri`; None if `uri` is not the address of such a file."""
    try:
        url = sqlalchemy.make_url(uri)
    except (ArgumentError, ValueError):
        return None
    name = url.database or ""
    if url.get_backend_name() != "sqlite" or name in ("", ":memory:") or name.startswith("file:"):
        return None
    return Path(name).absolute()


def prepare(path: Path, artifacts: Path) -> None:
    """Create the database if it does not exist, and check that it can be opened.

    Only one process at a time does this. A database that lacks tables, because an earlier version was killed while it
    created them, or because MLflow was updated, is completed in a copy, which replaces it.

    Parameters
    ----------
    path : Path
        File of the database, absolute.
    artifacts : Path
        Folder of the artifacts of MLflow's default experiment.

    Raises
    ------
    StorageError
        If the file is not a database that can be opened.
    """
    check(path)
    if _is_complete(path):
        return  # without a lock, so that a database that can only be read can be shown
    path.parent.mkdir(parents=True, exist_ok=True)
    with process_lock(path.with_name(f"{path.name}.lock")):
        target = path.resolve()  # if the file is a link, the file that it leads to is replaced
        if _is_complete(target):
            return  # another process has completed it in the meantime
        for leftover in target.parent.glob(f"{target.name}.*.part*"):  # of a process that was killed
            leftover.unlink()
        with whole_file(target) as copy:
            _complete(target, copy, artifacts)
            for suffix in COMPANIONS:
                target.with_name(target.name + suffix).unlink(missing_ok=True)


def check(path: Path) -> None:
    """Raise `StorageError` if there is something in the place of the database that is not a database."""
    if path.is_symlink() and not path.exists():
        raise StorageError(
            f"MLflow's database must be a file; got {path}, a link to {path.readlink()}, which does not exist. "
            "Restore that file, or remove the link: the next run creates a new database."
        )
    if path.exists() and not path.is_file():
        raise StorageError(
            f"MLflow's database must be a file; got {path}, which is a folder. Move it to another place: the next run "
            "creates a new database."
        )
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=LOCK_SECONDS)) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if not is_damage(str(error)):
            return  # for example, it may not be read, or is locked: MLflow's own error is reported
        raise damaged(path, str(error)) from error


def is_damage(reason: str) -> bool:
    """Return whether an error of SQLite says that the content of the file is damaged."""
    return "not a database" in reason or "malformed" in reason


def damaged(path: Path, reason: str) -> StorageError:
    """Return the error for a database whose content is damaged."""
    return StorageError(
        f"MLflow's database must be an undamaged SQLite file; got {path} ({reason}). Replace it by a backup, or move "
        "it to another place: the next run creates a new database. Results in the store and in runs/ are not affected."
    )


def _is_complete(path: Path) -> bool:
    """Return whether the database has all tables of the installed version of MLflow."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    engine = sqlalchemy.create_engine(address(path), connect_args={"timeout": LOCK_SECONDS})
    try:
        return bool(mlflow_db._all_tables_exist(engine))  # type: ignore[no-untyped-call]
    finally:
        engine.dispose()


def _complete(path: Path, copy: Path, artifacts: Path) -> None:
    """Write a complete copy of the database `path`, which may be incomplete or missing, to `copy`."""
    if path.exists() and _has_runs(path):
        with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as old, closing(sqlite3.connect(copy)) as new:
            old.backup(new)
        try:
            _initialize(copy, artifacts)
        except (MlflowException, SQLAlchemyError) as error:
            if "disk is full" in str(error):
                raise
            raise StorageError(
                f"MLflow's database must have the tables of the installed version of MLflow; got {path}, which cannot "
                f"be migrated ({_first_line(error)}). Replace it by a backup, or move it to another place: the next "
                "run creates a new database."
            ) from error
    else:
        with closing(sqlite3.connect(copy)) as new:
            new.executescript(_tables())
        _initialize(copy, artifacts)


def _has_runs(path: Path) -> bool:
    """Return whether runs were logged to the database, which may be incomplete."""
    with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return "runs" in tables and database.execute("SELECT 1 FROM runs LIMIT 1").fetchone() is not None


def _tables() -> str:
    """Return the SQL statements that create MLflow's tables, without any run or experiment.

    They are kept, because MLflow creates its first tables of 2019 and then migrates them sixty times, which takes a
    second.
    """
    packages = ("mlflow", "alembic", "sqlalchemy")
    return str(kept_value("the tables of MLflow's database", sqlite3.sqlite_version, packages, _migrated_tables))


def _migrated_tables() -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        engine = sqlalchemy.create_engine(address(path))
        try:
            mlflow_db._initialize_tables(engine)  # type: ignore[no-untyped-call]
        finally:
            engine.dispose()
        with closing(sqlite3.connect(path)) as database:
            return "\n".join(database.iterdump())


def _initialize(path: Path, artifacts: Path) -> None:
    """Let MLflow create or migrate all tables of the database."""
    store = SqlAlchemyStore(address(path), artifacts.as_uri())  # type: ignore[no-untyped-call]
    store._dispose_engine()  # type: ignore[no-untyped-call]


def relocate(path: Path, artifacts: Path) -> None:
    """Replace locations of artifacts that were valid before the folder of the outputs was moved.

    MLflow stores an absolute location with each experiment, below which new runs write their files, and one with each
    run. Locations of runs are replaced if their files are in the new place; those of active runs stay, because another
    machine on which the same folder has another path may be writing there.

    Parameters
    ----------
    path : Path
        The default database, absolute.
    artifacts : Path
        The folder `ARTIFACTS` beside it.
    """
    root = artifacts.as_uri()
    with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as database:
        experiments = [
            (f"{root}{below}", experiment)
            for experiment, location in database.execute("SELECT experiment_id, artifact_location FROM experiments")
            if (below := _moved(location, root)) is not None
        ]
        runs = [
            (f"{root}{below}", run)
            for run, location in database.execute("SELECT run_uuid, artifact_uri FROM runs WHERE status != 'RUNNING'")
            if (below := _moved(location, root)) is not None and (artifacts / below[1:]).exists()
        ]
        if experiments or runs:
            database.executemany("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", experiments)
            database.executemany("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", runs)
            database.commit()


def _moved(location: str | None, root: str) -> str | None:
    """Return the part of a location below another folder called `ARTIFACTS` than `root`; None for other locations."""
    above, found, below = f"{location or ''}/".rpartition(f"/{ARTIFACTS}/")
    if not found or not above.startswith("file:") or f"{above}/{ARTIFACTS}" == root:
        return None
    return f"/{below}".rstrip("/")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
