"""``python -m opp_pandas.cli`` is ``opp-pandas``."""

import sys

from opp_pandas.cli import main

if __name__ == "__main__":
    sys.exit(main())
