"""Writing edited rows back: baseline and frame to plan, plan to requests, answers to a report."""
