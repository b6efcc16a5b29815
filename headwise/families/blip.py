"""BLIP, BLIP-2 and InstructBLIP: the processor, or the model, puts the image before the text."""

from headwise.families import Family

FAMILY = Family(image_prompt=None)
