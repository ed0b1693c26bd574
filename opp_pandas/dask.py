"""``import opp_pandas.dask`` registers ``ddf.opp`` on Dask DataFrames (extra ``dask``).

>>> import dask.dataframe as dd, pandas as pd
>>> import opp_pandas as opp, opp_pandas.dask
>>> deals = pd.DataFrame({"id": [1, 2], "amount": [5, 7], "stage_name": ["Lead", "Won"], "probability": [50, 100]})
>>> ddf = dd.from_pandas(deals.assign(close_date=pd.Timestamp("2026-10-01", tz="UTC")), npartitions=2)
>>> ddf.opp.forecast(as_of="2026-09-30", stages=opp.StageMap(won=["Won"]))["won_amount"].tolist()
[7.0]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opp_pandas.errors import MissingExtraError
from opp_pandas.frame_state import meaning_of
from opp_pandas.scanning.mergeable import Figures
from opp_pandas.scanning.scanner import Scan

try:
    from dask.dataframe.extensions import register_dataframe_accessor
except ImportError as error:
    raise MissingExtraError("dask", "dask") from error

from opp_pandas.scanning.dask_source import DaskSource

if TYPE_CHECKING:
    import pandas as pd


@register_dataframe_accessor("opp")
class DaskOpportunityAccessor(Scan):
    """The figures of ``df.opp`` that can be worked out in pieces, on the scheduler of a Dask DataFrame.

    Partitions carry no load, so each call takes ``as_of=``, ``stages=`` and
    ``timezone=``; `attach` says them once, as `opp_pandas.scan` does.

    Parameters
    ----------
    frame : dask DataFrame
        The deals.
    """

    def __init__(self, frame: Any) -> None:
        super().__init__(DaskSource(frame), {})
        self._frame = frame

    def attach(self, original: Scan | pd.DataFrame) -> Scan:
        """Bring back the load that the rows are of.

        Parameters
        ----------
        original : Scan or DataFrame
            What knows the load: ``opp.scan`` of the same files, or a loaded frame.

        Returns
        -------
        Scan
            The rows of the Dask frame, with stages, moment, zone, names and definitions.
        """
        if isinstance(original, Figures):
            return Scan(DaskSource(self._frame, original.meaning), original.settings)
        return Scan(DaskSource(self._frame, meaning_of(original)), {})
