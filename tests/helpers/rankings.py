"""Tables of rankings, for the tests of sweeps and figures."""

from __future__ import annotations

import numpy as np
import pandas as pd


def ranking(scores: list[float], layer: str = "conv3", model: str = "net", dead: tuple[int, ...] = ()) -> pd.DataFrame:
    table = pd.DataFrame({"channel": range(len(scores)), "score": scores, "model": model, "layer": layer})
    table["dead"] = table.channel.isin(dead)
    table = table.sort_values("score", ascending=False, ignore_index=True)
    return table.assign(rank=np.arange(len(table)) + 1)
