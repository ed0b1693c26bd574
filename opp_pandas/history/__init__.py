"""Snapshots over time: what the service does not keep.

`History` is a table of what changed, on disk or in an object store; what can
be computed from it stands in `opp_pandas.figures`.
"""

from opp_pandas.history.history import History

__all__ = ["History"]
