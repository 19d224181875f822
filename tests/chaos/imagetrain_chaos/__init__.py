"""Chaos for local worker groups: faults by a seeded plan, what they do to a run, and what must be left of it."""
