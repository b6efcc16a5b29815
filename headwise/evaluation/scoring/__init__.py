"""Scores of responses, by the rules of the papers that they come from."""
