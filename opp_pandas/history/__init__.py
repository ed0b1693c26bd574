"""Snapshots over time: what the service does not keep.

`History` is a table of what changed, on disk or in an object store; what can
be computed from it stands in `opp_pandas.analytics`.
"""

from opp_pandas.history.snapshots import History

__all__ = ["History"]
