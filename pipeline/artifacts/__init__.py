"""The artifacts: the results of the stages, each saved as a folder of plain files that other programs can read."""

from pipeline.artifacts.ablations import Ablations
from pipeline.artifacts.activations import Activations
from pipeline.artifacts.base import Artifact, save_array
from pipeline.artifacts.channel_scores import AceFit, ChannelScores
from pipeline.artifacts.effects import Effects, Faithfulness
from pipeline.artifacts.figures import Figures
from pipeline.artifacts.image_set import ImageRecord, ImageSet, first_copies
from pipeline.artifacts.network_ranking import NetworkRanking, NetworkSummary
from pipeline.artifacts.probe import Probe
from pipeline.artifacts.projections import Projections
from pipeline.artifacts.ranking import Ranking, Trust
from pipeline.artifacts.workspace import Workspace

__all__ = [
    "Ablations",
    "AceFit",
    "Activations",
    "Artifact",
    "ChannelScores",
    "Effects",
    "Faithfulness",
    "Figures",
    "ImageRecord",
    "ImageSet",
    "NetworkRanking",
    "NetworkSummary",
    "Probe",
    "Projections",
    "Ranking",
    "Trust",
    "Workspace",
    "first_copies",
    "save_array",
]
