"""From the service to a frame: which rows to ask for, how pages become one load, and what custom fields are called.

- `read`: `read_opportunities()`, the door
- `where`: conditions that the service can answer, and those that only the loaded rows can
- `arrival`: what came, held against filter, sort and fields
- `changed_records`, `upsert`: what changed while the pages were read, laid over the rows that came first
- `custom_fields`, `custom_field_values`: custom fields under the organisation's own names and types
"""
