"""The editor and the dashboard: what a notebook shows of a frame, and what people do to it there."""
