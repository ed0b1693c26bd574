"""Figures over more rows than fit in memory: files in, small frames out."""
