"""What a deal is: the codes of its status."""

STATUSES = OPEN, WON, LOST, UNSETTLED, TRASHED = 0, 1, 2, 3, 4
