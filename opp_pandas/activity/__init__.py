"""Activity on deals: meetings, calls, mailings and tasks, and what they tell of a deal.

- `sources`: what the service's resources become, and what counts as a touch
- `read`: `read_activity()`, the door; requests are chosen so that they are few
- `touches`: how often and when each deal was touched, as known at a moment
- `features`: the same as numbers for models, known at any earlier moment
"""
