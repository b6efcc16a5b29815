"""Whisper: language and task tags, timestamps; its encoder attends to the padding of the 30 seconds."""

from headwise.families import Family

FAMILY = Family(
    tags=(
        ("task", r"<\|(?:transcribe|translate|notimestamps)\|>"),
        ("special", r"<\|(?:startof\w+|nospeech|nocaptions|\d+\.\d+)\|>"),
        ("language", r"<\|[a-z]{2,3}\|>"),
    ),
    masks_audio=False,
    input_seconds=0.01,
)
