"""Carrying a plan out: journal, three-way merge, requests, lost answers, results."""
