"""Reports that leave the notebook: a page, a workbook, a PDF or a picture in one call.

`write_report` puts figures and plots together; nothing is computed here. A
section is a name of `SECTIONS`, a `Section`, or a function of one's own that
takes the `Material` (deals, choices, and every figure, worked out once) and
returns a `Section`, text, a DataFrame, Axes, or a sequence of those::

    def renewals(material):
        deals = material.frame[material.frame["opportunity_type"] == "renewal"]
        return Section("Renewals", f"{len(deals)} deals renew.", deals[["name", "amount"]].head(10))


    df.opp.report("forecast.html", sections=["headline", renewals, "forecast"])

No text from data becomes markup, a formula or a link.
"""

from opp_pandas.reporting.blocks import Drawing, Headlines, Picture, Section, Table, Tile
from opp_pandas.reporting.build import Report, assemble, write_report
from opp_pandas.reporting.report_data import Material
from opp_pandas.reporting.sections import SECTIONS

__all__ = [
    "write_report",
    "assemble",
    "SECTIONS",
    "Section",
    "Table",
    "Picture",
    "Drawing",
    "Headlines",
    "Tile",
    "Material",
    "Report",
]
