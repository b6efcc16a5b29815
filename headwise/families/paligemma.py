"""PaliGemma: images come before the text with nothing between them."""

from headwise.families import Family

FAMILY = Family(image_prompt="{image}")
