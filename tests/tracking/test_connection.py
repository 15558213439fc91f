"""The MLflow store: its address, its database, its errors, and folders that were moved."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import alembic.command
import mlflow.store.db.utils as mlflow_db
import pytest
import sqlalchemy
from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from pipeline.errors import StorageError
from pipeline.tracking import database
from pipeline.tracking.connection import (
    connect,
    existing_experiment,
    open_store,
    tracking_errors,
    tracking_uri,
)
from pipeline.tracking.database import file_of
from tests.helpers.servers import Handler, Server, serving

NAMES = ["a?b", "a#b", "50% off", "a%20b", "a%3Fb", "two words", "a&b=c", "ä€", "${x}", "{{7*7}}${7*7}", "a'b\"c",
         "a@b:c", "a\\b", "~a", "file:x", "a;b+c"]  # fmt: skip


def outputs_with(empty_database: Path, folder: Path) -> Path:
    """A folder of outputs with a database without runs."""
    folder.mkdir()
    shutil.copy(empty_database, folder)
    return folder


def logged_run(client: MlflowClient, experiment: str) -> str:
    """Log a run with one file, and return its id."""
    run_id = str(client.create_run(experiment).info.run_id)
    client.log_dict(run_id, {"layer": "conv1"}, "config.json")
    client.set_terminated(run_id)
    return run_id


def assert_stored_below(outputs: Path, client: MlflowClient, run_id: str) -> None:
    """Assert that the file of a run is below `outputs`, and that MLflow finds it."""
    (stored,) = outputs.rglob(f"{run_id}/artifacts/config.json")
    downloaded = Path(client.download_artifacts(run_id, "config.json"))
    assert json.loads(downloaded.read_text()) == json.loads(stored.read_text()) == {"layer": "conv1"}
    assert client.get_run(run_id).info.artifact_uri == stored.parent.as_uri()


@pytest.mark.parametrize("name", NAMES)
def test_the_database_and_the_files_are_in_the_outputs_whatever_the_name_of_the_folder(
    tmp_path: Path, empty_database: Path, name: str
) -> None:
    outputs = outputs_with(empty_database, tmp_path / name)
    assert file_of(tracking_uri(outputs, None)) == outputs / "mlflow.db"
    client, experiment = connect(outputs, None, "pcace")
    assert_stored_below(outputs, client, logged_run(client, experiment))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with closing(sqlite3.connect(outputs / "mlflow.db")) as rows:
        assert rows.execute("SELECT count(*) FROM runs").fetchone() == (1,)


def test_an_address_whose_question_mark_begins_no_parameter_is_refused(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/a?b/mlflow.db"
    with pytest.raises(StorageError) as caught:
        connect(tmp_path, uri, "pcace")
    assert str(caught.value) == (
        f"tracking.uri must have the form sqlite:////FOLDER/FILE?NAME=VALUE; got {uri}, whose file would be "
        f"{tmp_path}/a. Write a question mark in a name as %3F."
    )
    assert list(tmp_path.iterdir()) == []


def test_files_of_earlier_and_later_runs_are_found_after_the_outputs_were_moved(
    tmp_path: Path, empty_database: Path
) -> None:
    old, new = outputs_with(empty_database, tmp_path / "old"), tmp_path / "new % place"
    client, experiment = connect(old, None, "pcace")
    finished = logged_run(client, experiment)
    active = client.create_run(experiment).info
    old.rename(new)

    client, experiment = connect(new, None, "pcace")
    assert_stored_below(new, client, finished)
    assert_stored_below(new, client, logged_run(client, experiment))
    assert client.get_run(active.run_id).info.artifact_uri == active.artifact_uri  # its process may be writing there
    assert not old.exists()


def test_a_copy_of_the_outputs_and_the_original_keep_their_own_files(tmp_path: Path, empty_database: Path) -> None:
    original = outputs_with(empty_database, tmp_path / "original")
    logged_run(*connect(original, None, "pcace"))
    copy = Path(shutil.copytree(original, tmp_path / "copy"))
    for outputs in (copy, original, copy):
        client, experiment = connect(outputs, None, "pcace")
        logged_run(client, experiment)
        for run in client.search_runs([experiment]):
            assert_stored_below(outputs, client, run.info.run_id)


def test_a_database_that_was_copied_alone_still_finds_the_files_of_earlier_runs(
    tmp_path: Path, empty_database: Path
) -> None:
    original = outputs_with(empty_database, tmp_path / "original")
    first = logged_run(*connect(original, None, "pcace"))
    copy = outputs_with(original / "mlflow.db", tmp_path / "copy")
    client, experiment = connect(copy, None, "pcace")
    assert_stored_below(original, client, first)
    assert_stored_below(copy, client, logged_run(client, experiment))


@pytest.mark.slow
def test_a_new_database_is_the_one_that_mlflow_would_create(tmp_path: Path) -> None:
    artifacts = tmp_path / "mlartifacts"
    expected, path = tmp_path / "expected.db", tmp_path / "mlflow.db"
    SqlAlchemyStore(database.address(expected), artifacts.as_uri())._dispose_engine()  # type: ignore[no-untyped-call]
    for _ in range(2):  # MLflow's tables may be kept already, and are the second time
        path.unlink(missing_ok=True)
        database.prepare(path, artifacts)
        assert content(path) == content(expected)


def content(path: Path) -> dict[str, object]:
    """Return the tables, indices and triggers of a database, and all rows apart from times."""
    with closing(sqlite3.connect(path)) as opened:
        names = [name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found: dict[str, object] = {name: opened.execute(f'SELECT * FROM "{name}"').fetchall() for name in names}
        found["experiments"] = opened.execute(
            "SELECT experiment_id, name, artifact_location FROM experiments"
        ).fetchall()
        found["definitions"] = {
            # The order of the constraints differs between processes.
            (*names, tuple(sorted(line.strip().rstrip(",") for line in (sql or "").splitlines())))
            for *names, sql in opened.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
        }
        return found


def incomplete(path: Path, *, with_run: bool = False) -> None:
    """Make a database like that of a process that was killed while it migrated the tables of a database."""
    with closing(sqlite3.connect(path)) as tables:
        tables.executescript(
            "CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name VARCHAR(256), lifecycle_stage VARCHAR);"
            "CREATE TABLE runs (run_uuid VARCHAR(32) PRIMARY KEY, name VARCHAR(250), tags TEXT);"
            "CREATE TABLE datasets (dataset_uuid VARCHAR(36));"
        )
        if with_run:
            tables.execute("INSERT INTO runs VALUES ('0123', 'a run', NULL)")
        tables.commit()


@pytest.mark.slow
def test_a_database_that_an_earlier_version_left_incomplete_is_completed(tmp_path: Path) -> None:
    incomplete(tmp_path / "mlflow.db")
    (tmp_path / "mlflow.db.0123.part").touch()  # of a process that was killed while it wrote the copy
    client, experiment = connect(tmp_path, None, "pcace")
    assert_stored_below(tmp_path, client, logged_run(client, experiment))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlartifacts", "mlflow.db", "mlflow.db.lock"]


def test_an_incomplete_database_with_runs_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    incomplete(path, with_run=True)
    content = path.read_bytes()
    with pytest.raises(StorageError) as caught:
        connect(tmp_path, None, "pcace")
    assert str(caught.value).startswith(
        f"MLflow's database must have the tables of the installed version of MLflow; got {path}, which cannot be "
        "migrated ("
    )
    assert str(caught.value).endswith(
        "). Replace it by a backup, or move it to another place: the next run creates a new database."
    )
    assert path.read_bytes() == content
    assert sorted(found.name for found in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


@pytest.mark.slow
def test_the_database_of_an_older_version_of_mlflow_is_migrated_in_a_copy_and_keeps_its_runs(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    config = mlflow_db._get_alembic_config(f"sqlite:///{path}")  # type: ignore[no-untyped-call]
    older = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()][20]
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    InitialBase.metadata.create_all(engine)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, older)
    engine.dispose()
    with closing(sqlite3.connect(path)) as rows:
        rows.execute("INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (1, 'pcace', 'active')")
        rows.execute(
            "INSERT INTO runs (run_uuid, name, source_type, user_id, status, lifecycle_stage, start_time, experiment_id"
            ") VALUES ('0123', 'an old run', 'LOCAL', 'me', 'FINISHED', 'active', 1, 1)"
        )
        rows.commit()
    node = path.stat().st_ino
    client, experiment = connect(tmp_path, None, "pcace")
    assert [run.info.run_name for run in client.search_runs([experiment])] == ["an old run"]
    assert path.stat().st_ino != node


def test_a_failure_while_the_database_is_created_leaves_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(path: Path, artifacts: Path) -> None:
        path.write_bytes(b"SQLite format 3")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(database, "_initialize", fill_up)
    with pytest.raises(StorageError) as caught:
        connect(tmp_path, None, "pcace")
    assert str(caught.value) == (
        f"tracking.uri must be an MLflow store that can be written to; got sqlite:///{tmp_path}/mlflow.db "
        "([Errno 28] No space left on device). Free some disk space, or set paths.outputs to another disk; "
        "tracking.enabled=false runs without MLflow."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db.lock"]


def flip_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[:16] = b"no header at all"
    path.write_bytes(content)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere.db")


UNDAMAGED = "MLflow's database must be an undamaged SQLite file; got {path} ("
REMEDY = "Replace it by a backup, or move it to another place: the next run creates a new database. "
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "header": (flip_header, f"{UNDAMAGED}file is not a database). {REMEDY}"),
    "text": (lambda path: path.write_text("no database"), f"{UNDAMAGED}file is not a database). {REMEDY}"),
    "cut": (lambda path: os.truncate(path, 40_000), f"{UNDAMAGED}database disk image is malformed). {REMEDY}"),
    "folder": (replace_by_folder, "MLflow's database must be a file; got {path}, which is a folder. Move it to "),
    "link": (
        replace_by_dangling_link,
        "MLflow's database must be a file; got {path}, a link to elsewhere.db, which does not exist. Restore that f",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize(
    "enter",
    [lambda outputs: connect(outputs, None, "pcace"), lambda outputs: open_store(outputs, None)],
    ids=["a run", "a comparison"],
)
def test_a_damaged_database_is_refused_at_once(
    tmp_path: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    enter: Callable[[Path], object],
) -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError("MLflow waits, to try again")

    monkeypatch.setattr("mlflow.store.db.utils.time.sleep", sleep)
    outputs = outputs_with(empty_database, tmp_path / "outputs")
    do, start = DAMAGE[kind]
    do(outputs / "mlflow.db")
    with pytest.raises(StorageError) as caught:
        enter(outputs)
    assert str(caught.value).startswith(start.format(path=outputs / "mlflow.db"))
    assert str(caught.value).count("\n") == 0


def test_damage_that_shows_during_a_run_is_called_damage(tmp_path: Path, empty_database: Path) -> None:
    outputs = outputs_with(empty_database, tmp_path / "outputs")
    client, experiment = connect(outputs, None, "pcace")
    with (outputs / "mlflow.db").open("r+b") as file:  # all pages but the first
        file.seek(4096)
        file.write(b"\xff" * (os.path.getsize(outputs / "mlflow.db") - 4096))
    with (
        pytest.raises(StorageError, match=r"^MLflow's database must be an undamaged SQLite file; got "),
        tracking_errors(tracking_uri(outputs, None)),
    ):
        client.create_run(experiment)


def test_a_link_to_a_database_is_followed(tmp_path: Path, empty_database: Path) -> None:
    (tmp_path / "outputs").mkdir()
    shutil.copy(empty_database, tmp_path / "elsewhere.db")
    (tmp_path / "outputs" / "mlflow.db").symlink_to(tmp_path / "elsewhere.db")
    logged_run(*connect(tmp_path / "outputs", None, "pcace"))
    assert (tmp_path / "outputs" / "mlflow.db").is_symlink()
    with closing(sqlite3.connect(tmp_path / "elsewhere.db")) as rows:
        assert rows.execute("SELECT count(*) FROM runs").fetchone() == (1,)


def test_a_deleted_experiment_is_refused_with_the_command_that_restores_it(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = outputs_with(empty_database, tmp_path / "two words")
    client, experiment = connect(outputs, None, "pcace")
    client.delete_experiment(experiment)
    uri = tracking_uri(outputs, None)
    with pytest.raises(StorageError) as caught:
        connect(outputs, None, "pcace")
    head, _, restore = str(caught.value).partition(", or restore it: ")
    assert head == (
        "tracking.experiment must be an experiment that is not deleted; got pcace, which was deleted in MLflow. "
        "Set tracking.experiment to another name"
    )
    assert shlex.split(restore) == [
        f"MLFLOW_TRACKING_URI={uri}", "mlflow", "experiments", "restore", "--experiment-id", experiment,
    ]  # fmt: skip
    client.restore_experiment(experiment)
    assert existing_experiment(client, "pcace", uri) is not None
    assert connect(outputs, None, "pcace")[1] == experiment


REFUSALS = {
    "(sqlite3.OperationalError) database or disk is full": "Free some disk space, or set paths.outputs to another d",
    "(sqlite3.OperationalError) attempt to write a readonly database": "Make it writable, or set paths.outputs or ",
    "(sqlite3.OperationalError) database is locked": "Another process writes to it: run again when that process has ",
    "The run 0123 must be in the 'active' state.": "It was deleted in MLflow: restore it there, or set tracking.exp",
    "Detected out-of-date database schema (found version a, but expected b).": "Make a backup and run: mlflow db upg",
    "API request to endpoint /api failed with error code 401 != 200.": "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRA",
    "API request to http://x failed with exception Max retries exceeded with url": "Start the server, or correct the ",
    "API request to endpoint /api failed with error code 404 != 200.": "Correct the address, for example http://127",
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_each_kind_of_refusal_has_its_own_advice(reason: str) -> None:
    uri = "postgresql://me:secret@host/mlflow"
    with pytest.raises(StorageError) as caught, tracking_errors(uri):
        raise OSError(reason)
    text = reason.removeprefix("(sqlite3.OperationalError) ")
    assert str(caught.value).startswith(
        "tracking.uri must be an MLflow store that can be written to; got postgresql://me:***@host/mlflow "
        f"({text}). {REFUSALS[reason]}"
    )


def test_a_server_that_does_not_answer_is_refused_at_once(tmp_path: Path) -> None:
    with serving(lambda server, handler, path: None) as server:
        uri = server.url
    for address, reason in ((uri, "refused"), ("http://no-such-host.invalid:5000", ""), ("http://[", "")):
        with pytest.raises(StorageError) as caught:
            connect(tmp_path, address, "pcace")
        assert str(caught.value).startswith(f"tracking.uri must be an MLflow server that answers; got {address} (")
        assert reason in str(caught.value)
        assert str(caught.value).endswith(
            "). Start the server, or correct the address; tracking.enabled=false runs without MLflow."
        )


def test_a_server_that_is_not_mlflow_is_refused_in_one_line(tmp_path: Path) -> None:
    def answer(server: Server, handler: Handler, path: str) -> None:
        handler.send(b"nothing here", 404, "text/plain")

    with serving(answer) as server, pytest.raises(StorageError) as caught:
        connect(tmp_path, server.url, "pcace")
    assert str(caught.value).startswith(
        f"tracking.uri must be an MLflow store that can be written to; got {server.url} ("
    )
    assert "Correct the address, for example " in str(caught.value)


@contextmanager
def locked_for(seconds: float, file: Path) -> Iterator[None]:
    """Lock the database for other connections, for some seconds or until the end of the context."""
    locked, ended = threading.Event(), threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as writing:
            writing.execute("BEGIN EXCLUSIVE")
            locked.set()
            ended.wait(seconds)
            writing.execute("COMMIT")

    writer = threading.Thread(target=write)
    writer.start()
    locked.wait()
    try:
        yield
    finally:
        ended.set()
        writer.join()


def write(file: Path) -> None:
    """Write to the database as MLflow does."""
    MlflowClient(database.address(file)).create_experiment("another")


@pytest.mark.parametrize("step", ["_is_complete", "relocate", "write"])
def test_a_database_that_another_process_writes_to_is_waited_for(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    file = outputs_with(empty_database, tmp_path / "outputs") / "mlflow.db"
    function = write if step == "write" else getattr(database, step)
    arguments = (file, tmp_path / "outputs" / "mlartifacts") if step == "relocate" else (file,)
    assert database.LOCK_SECONDS >= 60  # SQLite's own 5 s are too few when eight runs start together
    errors = (sqlite3.Error, sqlalchemy.exc.DBAPIError, MlflowException)
    with locked_for(0.5, file):
        function(*arguments)
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.05)  # this, not a value of a library, is how long it is waited
    with locked_for(60, file), pytest.raises(errors, match="database is locked"):
        function(*arguments)
