"""From the service to a frame: which rows to ask for, how pages become one load, and what custom fields are called.

- `loading`: `read_opportunities()`, the door
- `selecting`: conditions that the service can answer, and those that only the loaded rows can
- `sweeps`, `overlaying`: what changed while the pages were read, laid over the rows that came first
- `checkpoints`: pages kept on disk, so that an interrupted load goes on
- `labels`, `customtexts`: custom fields under the organisation's own names and types
"""
