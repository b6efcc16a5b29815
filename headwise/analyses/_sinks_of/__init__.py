"""What stands on sinks, what they write and what they are made of."""
