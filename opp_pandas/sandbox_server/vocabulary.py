"""The words that the generator makes names and texts of; every person and company is invented."""

from __future__ import annotations

FIRST_NAMES = (
    "Sam", "Ana", "Jürgen", "Mei", "Olu", "Priya", "Tom", "Zoë", "Lena", "Rafael", "Ingrid", "Kofi", "Yuki", "Chloé",
    "Dmitri", "Fatima", "Noor", "Søren", "Elif", "Mateo", "Grace", "Hana", "Ivan", "Joana", "Niamh", "Paulo",
)  # fmt: skip
LAST_NAMES = (
    "Lee", "Silva", "Müller", "Chen", "Adeyemi", "Nair", "Baker", "Åberg", "Novak", "García", "O'Brien", "Mensah",
    "Tanaka", "Dubois", "Petrov", "Haddad", "van der Berg", "Jensen", "Özdemir", "Rossi", "Kim", "Łukaszewicz",
)  # fmt: skip
TITLES = ("Account Executive", "Senior Account Executive", "Account Manager", "Sales Development Representative")
# Roles that manage, each with the place of the one above it, and who holds them; sellers stand below the regions.
MANAGING_ROLES = (
    ("Chief Revenue Officer", None), ("VP International", 1), ("VP Americas", 1), ("Director EMEA", 2),
    ("Director APAC", 2), ("Director AMER", 3), ("Director LATAM", 3),
)  # fmt: skip
MANAGERS = (
    ("Rosa", "Falk"), ("Henrik", "Bauer"), ("Carmen", "Ortiz"), ("Maya", "Stein"), ("Kenji", "Mori"),
    ("Ruth", "Carter"), ("Diego", "Vargas"),
)  # fmt: skip
TEAM_ACROSS = "Strategic accounts"

COMPANY_FIRST = (
    "Acme", "Bright", "Cobalt", "Delta", "Ember", "Falcon", "Granite", "Harbour", "Iron", "Juniper", "Kestrel", "Lumen",
    "Meridian", "Nordlicht", "Orchid", "Pinnacle", "Quarz", "Río Claro", "Summit", "Tannenhof", "Überland", "Vertex",
    "Willow", "Xylo", "Yarrow", "Zenith", "Þórsmörk", "Čapek", "Ångström", "São Bento", "Małopolska", "山本", "한빛",
)  # fmt: skip
COMPANY_SECOND = (
    "Analytics", "Foods", "Freight", "Health", "Insurance", "Labs", "Logistics", "Manufacturing", "Media", "Networks",
    "Pharma", "Power", "Retail", "Robotics", "Software", "Steel", "Systems", "Textiles", "Travel", "Water",
)  # fmt: skip
COMPANY_FORMS = ("", "", " Inc.", " Ltd", " GmbH", " S.A.", " & Co.", " AB", " Group")
INDUSTRIES = ("Manufacturing", "Retail", "Health care", "Software", "Finance", "Energy", "Transport", "Media")

TYPES = ("New Business", "Expansion", "Renewal")
SOURCES = ("Inbound", "Outbound", "Partner", "Event", "Referral")
LOST_REASONS = ("Price", "Went with a competitor", "No decision", "No budget", "Missing feature", "Bad timing")
NEXT_STEPS = (
    "Send order form", "Book a demo for the security team", "Call procurement", "Wait for the legal review",
    "Agree on the pilot's goals", "Meet the CFO", "Send references", "Ask for the redlines back",
)  # fmt: skip
DESCRIPTIONS = (
    "Came in through the website and asked for a demo.\nTwo departments are interested.",
    "They replace a system built in-house; the contract with the hosting partner ends this year.",
    "Renewal with more seats. Their finance team wants one invoice per year.",
    "Pilot went well — the team in Köln wants to start before the summer.",
    "Competitor is cheaper; we win on security & support.\n\nOpen: data residency.",
)
TAGS = ("q4", "renewal", "strategic", "at risk", "upsell", "pilot", "legal", "référence")
ROLES = ("Champion", "Decision Maker", "Economic Buyer", "Technical Evaluator", "Blocker")
PERSON_TITLES = ("CFO", "Head of IT", "Procurement Manager", "VP Operations", "Data Lead", "Legal Counsel")
PARTNERS = ("Bluewater Consulting", "Kappa Integrators", "Nordbrücke")
COLOURS = ("#f3e8d1", "#f3edd1", "#e8f3d1", "#def3d1", "#d1f3de", "#d1e8f3")
