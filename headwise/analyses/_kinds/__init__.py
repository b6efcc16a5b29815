"""Kinds of heads: what each looks at, what it writes, and how much the model needs it."""
