"""How far heads look, and how far they need to."""
