"""An observer that logs a run to MLflow, which only this room knows."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import mlflow
import mlflow.data
import numpy as np
import pandas as pd
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from PIL import Image
from sqlalchemy.exc import SQLAlchemyError

from pipeline.artifacts import Effects, Figures, ImageSet, Ranking
from pipeline.environment import environment, git_state, packages
from pipeline.errors import PipelineError, StorageError
from pipeline.numerics.agreement import rank_biased_overlap, top_overlap
from pipeline.observer import Observer, RunResult, StageReport
from pipeline.report_writer import flat
from pipeline.run_folder import FIGURES, REPORT
from pipeline.settings import Settings
from pipeline.tracking.runs import ranked_runs, read_ranking

# It prints every error of its database, traceback and all, before it raises it; we say it in one line.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

PARAM_LENGTH = 6000  # what MLflow's SQL store takes
DATABASE = "mlflow.db"
KEYS = "keys.json"
FAITHFULNESS = ("spearman", "deletion_area", "insertion_area")


def tracking_uri(outputs: Path, uri: str | None) -> str:
    """Return where runs are logged: `uri`, or the SQLite file in `outputs`."""
    return uri or f"sqlite:///{outputs.absolute() / DATABASE}"


def open_store(outputs: Path, uri: str | None) -> tuple[MlflowClient, str]:
    """Return a client of the store with the runs, and its address; raise `StorageError` where nothing was logged."""
    if uri is None and not (outputs / DATABASE).exists():
        raise StorageError(f"runs must have been logged to {outputs}; got none. Make one: python -m pipeline.")
    address = tracking_uri(outputs, uri)
    return MlflowClient(address), address


@contextmanager
def tracking_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow's store refuses inside the context into `StorageError`, which says what to do."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise StorageError(
            f"tracking.uri must be an MLflow store that can be written to; got {uri} ({reason}). "
            "Free the disk or mend the address; tracking.enabled=false runs without it."
        ) from error


class MlflowTracker(Observer):
    """Log one run to MLflow.

    Parameters
    ----------
    tags : mapping of str to str
        Put on the run. ``sweep`` is what the runs of one sweep share: MLflow's comparison views can filter by it, and
        unlike nested runs they hide none.
    outputs : Path or None
        The folder of the default store; None: the run's own `paths.outputs`.
    """

    def __init__(self, tags: Mapping[str, str] | None = None, outputs: Path | None = None) -> None:
        self._tags = dict(tags or {})
        self._outputs = outputs
        self._client: MlflowClient | None = None
        self._uri = ""
        self.run_id = ""
        self._notes: list[str] = []

    @property
    def _logged(self) -> MlflowClient:
        if self._client is None:
            raise PipelineError("the tracker must be started before it is told more; got no started(settings).")
        return self._client

    def tag(self, name: str, value: str) -> None:
        """Put a tag on the run, ended or not."""
        with tracking_errors(self._uri):
            self._logged.set_tag(self.run_id, name, value)

    def started(self, settings: Settings) -> None:
        """Create the run, so that one which fails at once is seen as well."""
        outputs = self._outputs or Path(settings.paths.outputs).absolute()
        self._uri = tracking_uri(outputs, settings.tracking.uri)
        with tracking_errors(self._uri):
            self._client, experiment_id = connect(self._uri, settings.tracking.experiment, outputs)
            tags = {**git_state(), **{f"env.{name}": value for name, value in environment().items()}, **self._tags}
            name = f"{settings.model.name} {settings.layer} {settings.target_label.removeprefix('class ')}"
            self.run_id = self._client.create_run(experiment_id, tags=tags, run_name=name).info.run_id

    def resolved(self, settings: Settings) -> None:
        """Log the settings: whole as ``config.json``, flat as parameters."""
        config = asdict(settings)
        with tracking_errors(self._uri):
            self._logged.log_dict(self.run_id, config, "config.json")
            params = [Param(name, str(value)[:PARAM_LENGTH]) for name, value in flat(config).items()]
            self._logged.log_batch(self.run_id, params=params)
            self._logged.log_dict(self.run_id, {**environment(), "packages": packages()}, "environment.json")

    def noted(self, text: str) -> None:
        """Keep the note as a tag."""
        self._notes.append(text)
        with tracking_errors(self._uri):
            self._logged.set_tag(self.run_id, "notes", "\n".join(self._notes))

    def stage_finished(self, report: StageReport) -> None:
        """Log the stage's time, whether it was a cache hit, its artifact's key; the images as the run's data set."""
        name, now = report.stage.name, int(time.time() * 1000)
        # Named so that they come behind the scores, as MLflow draws its charts in order of name.
        with tracking_errors(self._uri):
            self._logged.log_batch(
                self.run_id,
                metrics=[
                    Metric(f"stage.seconds.{name}", report.seconds, now, 0),
                    Metric(f"stage.cached.{name}", float(report.is_cached), now, 0),
                ],
                tags=[RunTag(f"artifact.{name}", report.key.digest)],
            )
            if report.stage.artifact is ImageSet:
                self._log_images(report.artifacts[ImageSet], report.key.digest)

    def finished(self, result: RunResult) -> None:
        """Log the ranking as a table, a curve and a few numbers that compare; figures and files; and end the run."""
        table, now = result.ranking.table, int(time.time() * 1000)
        client, run_id = self._logged, self.run_id
        trust = result.ranking.trust
        asked = {
            "trust.reliability": trust.reliability,
            "trust.images_for_reliable": trust.images_for_reliable,
            "trust.n_significant": trust.n_significant,
        }
        summary = result.ranking.summary()
        summary |= {name: float(value) for name, value in asked.items() if value is not None and np.isfinite(value)}
        found = asdict(result.effects.faithfulness)
        summary |= {f"trust.faithfulness.{name}": found[name] for name in FAITHFULNESS if found[name] is not None}
        metrics = [Metric(name, value, now, 0) for name, value in summary.items()]
        metrics += [
            Metric("score_by_rank", float(score), now, int(rank))
            for rank, score in zip(table["rank"], table.score, strict=True)
        ]
        with tracking_errors(self._uri):
            for start in range(0, len(metrics), 1000):  # what one call may hold
                client.log_batch(run_id, metrics=metrics[start : start + 1000])
            if result.sentences:
                client.set_tag(run_id, "mlflow.note.content", "\n\n".join(result.sentences))
                client.set_tag(run_id, "trusted", str(not trust.is_low).lower())
            client.log_dict(run_id, {each.stage.name: dict(each.key.description) for each in result.reports}, KEYS)
            client.log_table(run_id, table, "ranking.json")
            client.log_table(run_id, _pictured(table, result.artifacts[Figures].cards), "channels.json")
            client.log_artifacts(run_id, str(result.run_dir / FIGURES), FIGURES)
            for name in (Ranking.CSV, Ranking.PARQUET, Effects.CSV, REPORT):
                if (result.run_dir / name).exists():
                    client.log_artifact(run_id, str(result.run_dir / name))
            self._log_overlap(result)
            client.set_terminated(run_id, "FINISHED")

    def failed(self, error: BaseException) -> None:
        """End the run as FAILED (KILLED where the user stopped it), with the error as a tag."""
        if self._client is None or not self.run_id:
            return
        is_stopped = isinstance(error, KeyboardInterrupt)
        message = str(error) or type(error).__name__
        with tracking_errors(self._uri):
            self._client.set_tag(self.run_id, "error", message)
            self._client.set_terminated(self.run_id, "KILLED" if is_stopped else "FAILED")

    def _log_overlap(self, result: RunResult) -> None:
        """Log how far the ranking agrees with that of the sweep's first run, where both ranked the same channels."""
        sweep = self._tags.get("sweep")
        if sweep is None:
            return
        run = self._logged.get_run(self.run_id)
        finished = ranked_runs(self._logged, run.info.experiment_id, sweep)
        first = finished[-1] if finished else run
        if any(run.data.params[name] != first.data.params[name] for name in ("model.name", "layer")):
            return
        own = result.ranking.table.channel.tolist()
        other = own if first is run else read_ranking(self._logged, first).channel.tolist()
        self._logged.log_metric(self.run_id, "overlap_with_first.top_10", top_overlap(own, other, 10))
        self._logged.log_metric(self.run_id, "overlap_with_first.rank_biased", rank_biased_overlap(own, other))

    def _log_images(self, images: ImageSet, digest: str) -> None:
        """Log the image set as MLflow's data set input, its digest the artifact's key."""
        manifest = pd.DataFrame([asdict(record) for record in images.records])
        name = manifest.source.iloc[0].partition(":")[0]
        with warnings.catch_warnings():  # it warns of whole numbers without missing values, as ours rightly are
            warnings.simplefilter("ignore", UserWarning)
            dataset = mlflow.data.from_pandas(manifest, name=name, digest=digest[:32])  # type: ignore[attr-defined]
            context = mlflow.entities.InputTag("mlflow.data.context", "ranking")
            entity = mlflow.entities.DatasetInput(dataset._to_mlflow_entity(), [context])
        self._logged.log_inputs(self.run_id, [entity])
        with tempfile.TemporaryDirectory() as folder:
            manifest.to_csv(Path(folder) / "images.csv", index=False)
            self._logged.log_artifact(self.run_id, str(Path(folder) / "images.csv"))


def _pictured(table: pd.DataFrame, cards: Mapping[int, Path]) -> pd.DataFrame:
    """Return the best channels with their pictures, for MLflow to show in the cells of a table."""
    best = table.set_index("channel").loc[list(cards)]
    return pd.DataFrame(
        {
            "rank": best["rank"].tolist(),
            "picture": [mlflow.Image(_for_a_cell(path)) for path in cards.values()],
            "channel": list(cards),
            "score": best.score.tolist(),
        }
    )


def _for_a_cell(path: Path) -> Image.Image:
    """Return a picture with room below it, up to a square: MLflow's cells show the upper half of a square."""
    with Image.open(path) as card:
        square = Image.new("RGBA", (max(card.size), max(card.size)))
        square.paste(card, (0, 0))
    return square


def connect(uri: str, experiment: str, outputs: Path) -> tuple[MlflowClient, str]:
    """Return a client and the experiment's id, made if need be.

    One process at a time: MLflow makes its tables when the client is made, and they do not bear two makers at once.
    """
    outputs.mkdir(parents=True, exist_ok=True)
    with FileLock(outputs / f"{DATABASE}.lock"):
        client = MlflowClient(uri)
        found = client.get_experiment_by_name(experiment)
        if found is not None:
            return client, str(found.experiment_id)
        return client, client.create_experiment(experiment, artifact_location=(outputs / "mlartifacts").as_uri())
