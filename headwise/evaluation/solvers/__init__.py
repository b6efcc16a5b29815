"""Ways of putting examples to a model."""
