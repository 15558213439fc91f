"""The observer that logs a run to MLflow."""

from __future__ import annotations

import re
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import mlflow
import mlflow.data
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from PIL import Image

from pipeline.artifacts import Effects, Figures, ImageSet, Ranking
from pipeline.environment import environment, packages
from pipeline.errors import PipelineError
from pipeline.observer import Observer, RunResult, StageReport
from pipeline.report_writer import flat
from pipeline.run_folder import FIGURES, REPORT
from pipeline.settings import Settings
from pipeline.spreadsheets import marked_table
from pipeline.tracking.connection import connect, origin_tags, tracking_errors, tracking_uri
from pipeline.tracking.names import CACHED, QUALITY, SECONDS, ranking_metrics, run_name, score_curve
from pipeline.tracking.runs import ranked_runs, read_ranking

PARAM_LENGTH = 6000  # maximum length of a parameter in MLflow's SQL store
BATCH_SIZE = 1000  # maximum number of metrics in one call of MLflow
CONFIG, ENVIRONMENT, KEYS = "config.json", "environment.json", "keys.json"
BATCH = "model.batch_size"  # a parameter


class MlflowTracker(Observer):
    """Observer that logs one run to MLflow.

    Parameters
    ----------
    tags : mapping of str to str, optional
        Tags of the logged run. The runs of a sweep have the same tag ``sweep``, by which the views of MLflow that
        compare runs can be filtered; nested runs would be hidden in these views.
    outputs : Path, optional
        Folder of the default store, by default `paths.outputs` of the run.

    Attributes
    ----------
    run_id : str
        The run's id in MLflow; empty before `started`.
    """

    def __init__(self, tags: Mapping[str, str] | None = None, outputs: Path | None = None) -> None:
        self.run_id = ""
        self._tags = dict(tags or {})
        self._outputs = outputs
        self._client: MlflowClient | None = None
        self._uri = ""
        self._notes: list[str] = []
        self._environment: dict[str, str] = {}
        self._settings: Settings | None = None

    @property
    def _logged(self) -> MlflowClient:
        """The client, which exists from `started` on."""
        if self._client is None:
            raise PipelineError("MlflowTracker.started must be called first; got a later call.")
        return self._client

    def tag(self, name: str, value: str) -> None:
        """Set a tag of the logged run, during the run or after its end."""
        with tracking_errors(self._uri):
            self._logged.set_tag(self.run_id, name, value)

    def started(self, settings: Settings) -> None:
        """Create the logged run, so that a run which fails at once is logged as well."""
        outputs = self._outputs or Path(settings.paths.outputs).absolute()
        self._uri = tracking_uri(outputs, settings.tracking.uri)
        with tracking_errors(self._uri):
            self._client, experiment_id = connect(outputs, settings.tracking.uri, settings.tracking.experiment)
            tags = {**origin_tags(), **self._tags}
            self.run_id = self._client.create_run(experiment_id, tags=tags, run_name=run_name(settings)).info.run_id

    def resolved(self, settings: Settings) -> None:
        """Log the settings and the environment."""
        self._settings = settings
        with tracking_errors(self._uri):
            self._environment = log_settings(self._logged, self.run_id, settings)

    def restarted(self, settings: Settings) -> None:
        """Log the settings that are used now."""
        self._settings = settings
        with tracking_errors(self._uri):
            self._logged.log_dict(self.run_id, asdict(settings), CONFIG)

    def noted(self, text: str) -> None:
        """Add the message to the tag ``notes``."""
        self._notes.append(text)
        self.tag("notes", "\n".join(self._notes))

    def stage_finished(self, report: StageReport) -> None:
        """Log the stage's time, whether its artifact was in the store, and its key; log the images as a data set."""
        name, now = report.stage.name, int(time.time() * 1000)
        with tracking_errors(self._uri):
            self._logged.log_batch(
                self.run_id,
                metrics=[
                    Metric(f"{SECONDS}{name}", report.seconds, now, 0),
                    Metric(f"{CACHED}{name}", float(report.is_cached), now, 0),
                ],
                tags=[RunTag(f"artifact.{name}", report.key.digest)],
            )
            if report.stage.artifact is ImageSet:
                self._log_images(report.artifacts[ImageSet], report.key.digest)

    def finished(self, result: RunResult) -> None:
        """Log the ranking (as tables, as a curve and in a few metrics), the figures and the report, and end the run."""
        table, now = result.ranking.table, int(time.time() * 1000)
        client, run_id = self._logged, self.run_id
        summary = ranking_metrics(result.ranking, result.effects)
        metrics = [*(Metric(name, value, now, 0) for name, value in summary.items()), *score_curve(table, now)]
        with tracking_errors(self._uri):
            for start in range(0, len(metrics), BATCH_SIZE):
                client.log_batch(run_id, metrics=metrics[start : start + BATCH_SIZE])
            if result.sentences:
                client.set_tag(run_id, "mlflow.note.content", "\n\n".join(result.sentences))
                client.set_tag(run_id, "trusted", str(not result.ranking.trust.is_low).lower())
            client.log_dict(run_id, {each.stage.name: dict(each.key.description) for each in result.reports}, KEYS)
            client.log_table(run_id, table, "ranking.json")
            client.log_table(run_id, _pictured(table, result.artifacts[Figures].cards), "channels.json")
            client.log_artifacts(run_id, str(result.run_dir / FIGURES), FIGURES)
            for name in (Ranking.CSV, Ranking.PARQUET, Effects.CSV, REPORT):
                if (result.run_dir / name).exists():
                    client.log_artifact(run_id, str(result.run_dir / name))
            self._log_overlap(result)
            log_at_end(client, run_id, result.settings, self._environment)
            client.set_terminated(run_id, "FINISHED")

    def failed(self, error: BaseException) -> None:
        """End the logged run as FAILED, or as KILLED after Ctrl-C, with the error as a tag."""
        if self._client is None or not self.run_id:
            return
        is_stopped = isinstance(error, KeyboardInterrupt)
        message = str(error) or type(error).__name__
        with tracking_errors(self._uri):
            self._client.set_tag(self.run_id, "error", message)
            if self._settings is not None:
                log_at_end(self._client, self.run_id, self._settings, self._environment)
            self._client.set_terminated(self.run_id, "KILLED" if is_stopped else "FAILED")

    def _log_overlap(self, result: RunResult) -> None:
        """Log the agreement with the ranking of the first run of the sweep, if it ranked the same channels."""
        sweep = self._tags.get("sweep")
        if sweep is None:
            return
        from pipeline.numerics.agreement import rank_biased_overlap, top_overlap  # imported here for SciPy's sake

        run = self._logged.get_run(self.run_id)
        finished = ranked_runs(self._logged, run.info.experiment_id, sweep)
        first = finished[-1] if finished else run
        if any(run.data.params[name] != first.data.params[name] for name in ("model.name", "layer")):
            return
        own = result.ranking.table.channel.tolist()
        other = own if first is run else read_ranking(self._logged, first).channel.tolist()
        self._logged.log_metric(self.run_id, f"{QUALITY}overlap_with_first.top_10", top_overlap(own, other, 10))
        self._logged.log_metric(
            self.run_id, f"{QUALITY}overlap_with_first.rank_biased", rank_biased_overlap(own, other)
        )

    def _log_images(self, images: ImageSet, digest: str) -> None:
        """Log the images as a data set of MLflow, identified by the digest of the artifact's key."""
        manifest = pd.DataFrame([asdict(record) for record in images.records])
        name = manifest.source.iloc[0].partition(":")[0]
        with warnings.catch_warnings():  # MLflow warns that integer columns cannot hold missing values; there are none
            warnings.simplefilter("ignore", UserWarning)
            dataset = mlflow.data.from_pandas(manifest, name=name, digest=digest[:32])  # type: ignore[attr-defined]
            context = mlflow.entities.InputTag("mlflow.data.context", "ranking")
            entity = mlflow.entities.DatasetInput(dataset._to_mlflow_entity(), [context])
        try:
            self._logged.log_inputs(self.run_id, [entity])
        except MlflowException as error:
            if not re.search("UNIQUE|duplicate", str(error), re.IGNORECASE):
                raise
            # Another run has added the same data set after MLflow has looked for it, and before it has added it.
            self._logged.log_inputs(self.run_id, [entity])
        with tempfile.TemporaryDirectory() as folder:
            marked_table(manifest).to_csv(Path(folder) / "images.csv", index=False)
            self._logged.log_artifact(self.run_id, str(Path(folder) / "images.csv"))


def log_settings(client: MlflowClient, run_id: str, settings: Settings) -> dict[str, str]:
    """Log the settings, as the file ``config.json`` and as parameters with dotted names, and the environment.

    The batch size is not among the parameters, see `log_at_end`.

    Returns
    -------
    dict of str to str
        The environment, see `pipeline.environment.environment`.
    """
    config = asdict(settings)
    client.log_dict(run_id, config, CONFIG)
    params = [Param(name, str(value)[:PARAM_LENGTH]) for name, value in flat(config).items() if name != BATCH]
    client.log_batch(run_id, params=params)
    return _log_environment(client, run_id)


def log_at_end(client: MlflowClient, run_id: str, settings: Settings, logged: Mapping[str, str]) -> None:
    """Log what may change during a run: the batch size, and the environment if it is not the one that was logged.

    A batch that does not fit into the memory is halved, and MLflow does not change a parameter that was logged.
    PyTorch, whose GPU and threads are part of the environment, is imported only by a run that computes something.
    """
    client.log_param(run_id, BATCH, settings.model.batch_size)
    changed = {name: value for name, value in environment().items() if logged.get(name) != value}
    if changed:
        client.log_batch(run_id, tags=[RunTag(f"env.{name}", value) for name, value in changed.items()])
        _log_environment(client, run_id)


def _log_environment(client: MlflowClient, run_id: str) -> dict[str, str]:
    found = environment()
    client.log_dict(run_id, {**found, "packages": packages()}, ENVIRONMENT)
    return found


def _pictured(table: pd.DataFrame, cards: Mapping[int, Path]) -> pd.DataFrame:
    """Return the best channels with their pictures, which MLflow shows in the cells of a table."""
    best = table.set_index("channel").loc[list(cards)]
    return pd.DataFrame(
        {
            "rank": best["rank"].tolist(),
            "picture": [mlflow.Image(_squared(path)) for path in cards.values()],
            "channel": list(cards),
            "score": best.score.tolist(),
        }
    )


def _squared(path: Path) -> Image.Image:
    """Return a picture, extended to a square below or to its right, because MLflow's cells show the top of a square."""
    with Image.open(path) as card:
        square = Image.new("RGBA", (max(card.size), max(card.size)))
        square.paste(card, (0, 0))
    return square
