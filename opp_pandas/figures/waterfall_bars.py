"""The bars of a waterfall: their order, what they mean, and what other products call them.

References
----------
.. [1] Outreach, Forecast waterfall; Gong, Analyze forecast category changes;
   Salesforce, Pipeline Inspection: names of the same moves.
"""

from __future__ import annotations

from collections.abc import Mapping

ENTRIES = ("created", "appeared", "scope_in", "reopened", "dated", "pulled_in", "pushed_in")
EXITS = ("removed", "won", "lost", "scope_out", "undated", "pushed_out", "pulled_out")
BUCKETS = ("start", *ENTRIES, "increased", "decreased", *EXITS, "fx", "end")
MEANINGS = {
    "start": "open deals with their close date in the period, at the start",
    "created": "new deals, created after the start",
    "appeared": "deals that were not known at the start, though created before it",
    "scope_in": "deals that came under the filter or group, or back into the forecast",
    "reopened": "deals that were closed at the start and are open again, or closed anew",
    "dated": "deals that got a close date",
    "pulled_in": "deals whose close date came forward into the period",
    "pushed_in": "deals whose close date moved back into the period",
    "increased": "larger amounts of deals that stayed, came or went",
    "decreased": "smaller amounts of deals that stayed, came or went",
    "removed": "deals that were deleted or put into the trash",
    "won": "deals won with their close date in the period: the bookings",
    "lost": "deals lost with their close date in the period",
    "scope_out": "deals that left the filter, group or forecast; of a load with conditions, all it lacks",
    "undated": "deals that lost their close date",
    "pushed_out": "deals whose close date moved behind the period, closed ones too",
    "pulled_out": "deals whose close date moved before the period, closed ones too",
    "fx": "what other exchange rates made of the amounts at the end",
    "end": "open deals with their close date in the period, at the end",
}
LABELS: Mapping[str, Mapping[str, str]] = {
    "plain": {bucket: bucket for bucket in BUCKETS},
    "outreach": {
        "start": "Starting pipeline", "created": "Added", "appeared": "Added", "scope_in": "Added",
        "reopened": "Added", "dated": "Added", "pulled_in": "Pulled In", "pushed_in": "Pulled In",
        "increased": "Amount Increased", "decreased": "Amount Decreased", "removed": "Moved", "won": "Won",
        "lost": "Lost", "scope_out": "Moved", "undated": "Moved", "pushed_out": "Slipped", "pulled_out": "Moved",
        "fx": "Exchange rates", "end": "Ending pipeline",
    },
    "gong": {
        "start": "Start", "created": "New", "appeared": "New", "scope_in": "Ownership added", "reopened": "Reopened",
        "dated": "Pulled in", "pulled_in": "Pulled in", "pushed_in": "Pushed in", "increased": "Amount increased",
        "decreased": "Amount decreased", "removed": "Deleted", "won": "Won", "lost": "Lost",
        "scope_out": "Ownership removed", "undated": "Pushed out", "pushed_out": "Pushed out",
        "pulled_out": "Pulled out", "fx": "Exchange rates", "end": "End",
    },
    "salesforce": {
        "start": "Open pipeline, start", "created": "New", "appeared": "New", "scope_in": "Moved In",
        "reopened": "Moved In", "dated": "Moved In", "pulled_in": "Moved In", "pushed_in": "Moved In",
        "increased": "Increased", "decreased": "Decreased", "removed": "Moved Out", "won": "Closed Won",
        "lost": "Closed Lost", "scope_out": "Moved Out", "undated": "Moved Out", "pushed_out": "Moved Out",
        "pulled_out": "Moved Out", "fx": "Exchange rates", "end": "Open pipeline, end",
    },
}  # fmt: skip
