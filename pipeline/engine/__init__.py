"""Where the stages are computed: by this process, or in parts by the workers of a Ray cluster (``engine=ray``).

The results have the same bytes. A stage that can be divided has a module here with a function that divides it, and
functions that compute a part. A part reads artifacts from the store and writes its results into a folder of the store
(`pipeline.store.parts`); only settings and names travel between processes. Nothing of this is part of a key.
"""

from pipeline.engine.execution import DIVIDED, Note, compute, maps_of_layers, prepare

__all__ = ["DIVIDED", "Note", "compute", "maps_of_layers", "prepare"]
