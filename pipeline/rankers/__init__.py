"""The rankers: methods that compute a score for each channel. `RANKERS` is the table of all of them."""

from pipeline.rankers.ranker import Ranker, RankerInputs, Statistic
from pipeline.rankers.table import ACE, RANKERS, ranking_statistic

__all__ = ["ACE", "RANKERS", "Ranker", "RankerInputs", "Statistic", "ranking_statistic"]
