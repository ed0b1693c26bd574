"""Deals as a file that people edit: CSV and Excel, harmless to open, and read back as they were.

`to_csv` and `to_excel` write a frame, `read_export` reads it back, bit by bit
the same. What changed in between is what somebody edited::

    df.opp.to_excel("deals.xlsx")  # mail it, get it back
    edited = opp.read_export("deals.xlsx", original=df)
    edited.opp.changes()

Two things stand in the way of that. A spreadsheet reads ``=HYPERLINK(...)`` in a
name as a formula, and it rewrites what looks like a number or a date. So in a
CSV an apostrophe goes before such texts, and comes off when they are read; in a
workbook they are cells of text that stay text.
"""

from opp_pandas.exporting.delimited import to_csv
from opp_pandas.exporting.returning import read_export
from opp_pandas.exporting.sheets import to_excel

__all__ = ["to_csv", "to_excel", "read_export"]
