"""From a baseline and an edited frame to a plan: the diff, its rules, its impact and its file."""
