"""What all figures share: deal arrays, groups, periods, money, provenance."""
