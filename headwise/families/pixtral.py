"""Pixtral, the vision tower of Mistral 3: a break token stands after every row of an image."""

from headwise.families import Family

FAMILY = Family(image_rows=True)
