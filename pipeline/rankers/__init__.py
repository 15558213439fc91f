"""The rankers: the ways to give every channel a score. `RANKERS` is the table of all of them."""

from pipeline.rankers.ranker import Ranker, RankerInputs, Statistic
from pipeline.rankers.table import ACE, RANKERS, ranking_statistic

__all__ = ["ACE", "RANKERS", "Ranker", "RankerInputs", "Statistic", "ranking_statistic"]
