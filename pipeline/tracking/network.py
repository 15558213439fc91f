"""The observer that logs the ranking of a whole network: a run for the network, and a run for each of its layers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from mlflow import MlflowClient

from pipeline.artifacts import NetworkRanking
from pipeline.errors import PipelineError
from pipeline.figures.network_page import report_address, with_reports
from pipeline.observer import NetworkResult, Observer, RunResult, StageReport
from pipeline.run_folder import FIGURES, NETWORK_PAGE, REPORT, SETTINGS
from pipeline.settings import Settings
from pipeline.tracking.connection import connect, origin_tags, tracking_errors, tracking_uri
from pipeline.tracking.mlflow import BATCH_SIZE, CONFIG, MlflowTracker, log_at_end, log_settings
from pipeline.tracking.names import network_metrics, run_name
from pipeline.tracking.runs import NETWORK, NETWORK_SUMMARY

RANKING_TABLE, LAYERS_TABLE = "ranking.json", "layers.json"


class NetworkTracker(Observer):
    """Observer that logs the ranking of several layers to MLflow.

    The runs are flat. Those of the layers have the tag ``network`` with the id of the network's run; the network's run
    itself has the tag ``network_summary`` instead, so that it does not appear among the layers when these are compared.

    Parameters
    ----------
    tags : mapping of str to str, optional
        Tags of the network's run, for example the ``sweep`` that it belongs to.
    outputs : Path, optional
        Folder of the default store, by default `paths.outputs` of the run.

    Attributes
    ----------
    run_id : str
        Id of the network's run in MLflow; empty before `started`.
    """

    def __init__(self, tags: Mapping[str, str] | None = None, outputs: Path | None = None) -> None:
        self.run_id = ""
        self._tags, self._outputs = dict(tags or {}), outputs
        self._client: MlflowClient | None = None
        self._uri = ""
        self._notes: list[str] = []
        self._environment: dict[str, str] = {}
        self._settings: Settings | None = None
        self._layer: tuple[str, MlflowTracker] | None = None
        self._runs_of_layers: list[str] = []

    @property
    def _logged(self) -> MlflowClient:
        """The client, which exists from `started` on."""
        if self._client is None:
            raise PipelineError("NetworkTracker.started must be called first; got a later call.")
        return self._client

    def tag(self, name: str, value: str) -> None:
        """Set a tag of the network's run, during the run or after its end."""
        with tracking_errors(self._uri):
            self._logged.set_tag(self.run_id, name, value)

    def started(self, settings: Settings) -> None:
        """Create the run of the network, so that a run which fails at once is logged as well."""
        outputs = self._outputs or Path(settings.paths.outputs).absolute()
        self._uri = tracking_uri(outputs, settings.tracking.uri)
        with tracking_errors(self._uri):
            self._client, experiment_id = connect(outputs, settings.tracking.uri, settings.tracking.experiment)
            name = f"network {run_name(settings)}"
            run = self._client.create_run(experiment_id, tags={**origin_tags(), **self._tags}, run_name=name)
            self.run_id = run.info.run_id
            self._client.set_tag(self.run_id, NETWORK_SUMMARY, self.run_id)

    def resolved(self, settings: Settings) -> None:
        """Log the settings and the environment."""
        self._settings = settings
        with tracking_errors(self._uri):
            self._environment = log_settings(self._logged, self.run_id, settings)

    def restarted(self, settings: Settings) -> None:
        """Log the settings that are used now, and delete the runs of the layers, which get new ones."""
        self._settings, self._layer = settings, None
        with tracking_errors(self._uri):
            self._logged.log_dict(self.run_id, asdict(settings), CONFIG)
            for run_id in self._runs_of_layers:
                self._logged.delete_run(run_id)
        self._runs_of_layers.clear()

    def noted(self, text: str) -> None:
        """Add the message to the tag ``notes`` of the layer that is being ranked, or of the network."""
        if self._layer is not None:
            self._layer[1].noted(text)
            return
        self._notes.append(text)
        with tracking_errors(self._uri):
            self._logged.set_tag(self.run_id, "notes", "\n".join(self._notes))

    def layer_started(self, settings: Settings) -> None:
        """Create the run of a layer."""
        tracker = MlflowTracker({NETWORK: self.run_id}, self._outputs)
        tracker.started(settings)
        self._layer = settings.layer, tracker
        self._runs_of_layers.append(tracker.run_id)
        tracker.resolved(settings)

    def stage_finished(self, report: StageReport) -> None:
        """Log the stage to the run of the layer."""
        if self._layer is not None:
            self._layer[1].stage_finished(report)

    def layer_finished(self, result: RunResult) -> None:
        """Log the results of a layer, and end its run."""
        if self._layer is not None:
            self._layer[1].finished(result)
            self._layer = None

    def layer_failed(self, layer: str, reason: str) -> None:
        """End the run of a layer as FAILED, if it has one."""
        if self._layer is not None and self._layer[0] == layer:
            self._layer[1].failed(PipelineError(reason))
            self._layer = None

    def network_finished(self, result: NetworkResult) -> None:
        """Log the tables, the figures and the page of the network, and end its run."""
        client, run_id = self._logged, self.run_id
        tables = [f"{name}.{kind}" for name in NetworkRanking.TABLES for kind in ("csv", "parquet")]
        with tracking_errors(self._uri):
            log_tables(client, run_id, result.ranking)
            client.set_tag(run_id, "mlflow.note.content", "\n\n".join(result.ranking.sentences))
            for name in (*tables, NetworkRanking.SUMMARY, SETTINGS):
                if (result.run_dir / name).exists():
                    client.log_artifact(run_id, str(result.run_dir / name))
            if (result.run_dir / NETWORK_PAGE).exists():
                client.log_text(run_id, _whole_page(result), NETWORK_PAGE)
            if (result.run_dir / FIGURES).is_dir():
                client.log_artifacts(run_id, str(result.run_dir / FIGURES), FIGURES)
            log_at_end(client, run_id, result.settings, self._environment)
            client.set_terminated(run_id, "FINISHED")

    def failed(self, error: BaseException) -> None:
        """End the runs that have not ended as FAILED, or as KILLED after Ctrl-C, with the error as a tag."""
        if self._layer is not None:
            self._layer[1].failed(error)
            self._layer = None
        if self._client is None or not self.run_id:
            return
        with tracking_errors(self._uri):
            self._client.set_tag(self.run_id, "error", str(error) or type(error).__name__)
            if self._settings is not None:
                log_at_end(self._client, self.run_id, self._settings, self._environment)
            status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
            self._client.set_terminated(self.run_id, status)


def log_tables(client: MlflowClient, run_id: str, ranking: NetworkRanking) -> None:
    """Log the channels and the layers of a network as metrics, and as tables that MLflow compares."""
    metrics = network_metrics(ranking, int(time.time() * 1000))
    for start in range(0, len(metrics), BATCH_SIZE):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH_SIZE])
    # MLflow compares tables of runs row by row: what is compared comes first.
    first = ["rank", "layer", "channel", ranking.summary.by]
    rest = [name for name in ranking.channels.columns if name not in first]
    for table, name in ((ranking.channels[first + rest], RANKING_TABLE), (ranking.layers, LAYERS_TABLE)):
        client.log_table(run_id, table.astype(object).where(table.notna(), None), name)


def _whole_page(result: NetworkResult) -> str:
    """Return the page of the network with the reports of its layers, because MLflow shows it without its folder."""
    reports = {report_address(folder.name): folder / REPORT for folder in result.folders.values()}
    page = (result.run_dir / NETWORK_PAGE).read_text(encoding="utf-8")
    return with_reports(
        page, {address: path.read_text(encoding="utf-8") for address, path in reports.items() if path.exists()}
    )
