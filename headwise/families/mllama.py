"""Mllama (Llama 3.2 Vision): the text reads images through cross-attention; its image token is a marker."""

from headwise.families import Family

FAMILY = Family(image_prompt="{image}", image_marker=True)
