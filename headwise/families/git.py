"""GIT: image features stand before the text inside the decoder and have no token."""

from headwise.families import Family

FAMILY = Family(image_prompt=None, image_first=True)
