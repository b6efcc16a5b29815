"""wav2vec2 and the models that read a waveform as it does: 16 kHz."""

from headwise.families import Family

FAMILY = Family(input_seconds=1 / 16000)
