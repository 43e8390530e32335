"""The procedural face world: rendered people with known identity and exact landmarks."""
