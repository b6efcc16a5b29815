"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL: an image stands between two vision tokens."""

from headwise.families import Family

FAMILY = Family(image_prompt="<|vision_start|>{image}<|vision_end|>")
