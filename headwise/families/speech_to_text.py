"""Speech2Text: filter banks every 10 ms, language tags such as `<lang:fr>`."""

from headwise.families import Family

FAMILY = Family(tags=(("language", r"<lang:\w+>"),), input_seconds=0.01)
