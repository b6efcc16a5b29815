"""How heads look at pictures."""
