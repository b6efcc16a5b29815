"""Whisper base: from the binary of CTranslate2 (faster-whisper, float16) to a transformers folder."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch

TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)
START, END = 50258, 50257
"""Ids of <|startoftranscript|> and <|endoftext|>, of every multilingual Whisper."""


def convert(packages: list[Path], out: Path) -> None:
    """Write model, generation config and processor; the two packages hold halves of one file."""
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizerFast,
    )

    halves = [next(package.glob("*/data/model.bin.part*")) for package in packages]
    (side,) = packages[1].glob("*/data")
    weights = Weights(b"".join(half.read_bytes() for half in halves))
    vocabulary, width = weights.tensors["decoder/embeddings/weight"].shape
    heads = width // 64
    config = WhisperConfig(
        vocab_size=vocabulary,
        d_model=width,
        num_mel_bins=weights.tensors["encoder/conv1/weight"].shape[1],
        encoder_layers=weights.layers("encoder"),
        decoder_layers=weights.layers("decoder"),
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        decoder_start_token_id=START,
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=END,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config)
    model.load_state_dict(weights.state() | {"proj_out.weight": weights["decoder/embeddings/weight"]})
    model.tie_weights()
    tokenizer = WhisperTokenizerFast(tokenizer_file=str(side / "tokenizer.json"))
    about = json.loads((side / "config.json").read_text())
    model.generation_config = generation_config(tokenizer.get_added_vocab(), about)
    model.save_pretrained(out)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=config.num_mel_bins), tokenizer).save_pretrained(
        out
    )


def generation_config(marks: dict[str, int], about: dict[str, Any]) -> Any:
    """What the published model generates with; `about` is CTranslate2's config."""
    from transformers import GenerationConfig

    languages = set(about["lang_ids"])
    return GenerationConfig(
        decoder_start_token_id=START,
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=END,
        is_multilingual=True,
        lang_to_id={mark: number for mark, number in marks.items() if number in languages},
        task_to_id={task: marks[f"<|{task}|>"] for task in ("transcribe", "translate")},
        no_timestamps_token_id=marks["<|notimestamps|>"],
        prev_sot_token_id=marks["<|startofprev|>"],
        max_initial_timestamp_index=50,
        alignment_heads=about["alignment_heads"],
        suppress_tokens=about["suppress_ids"],
        begin_suppress_tokens=about["suppress_ids_begin"],
        max_length=448,
        return_timestamps=False,
        task="transcribe",
    )


class Weights:
    """The tensors of a CTranslate2 binary by their names there, and by those of transformers."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 0
        self._take("I")  # version of the format
        self._text()  # name of the model class
        self._take("I")  # its revision
        self.tensors: dict[str, np.ndarray] = {}
        for _ in range(self._take("I")):
            name = self._text()
            shape = [self._take("I") for _ in range(self._take("B"))]
            kind, size = TYPES[self._take("B")], self._take("I")
            self.tensors[name] = np.frombuffer(self._data[self._at : self._at + size], kind).reshape(shape)
            self._at += size
        for _ in range(self._take("I")):
            alias, name = self._text(), self._text()
            self.tensors[alias] = self.tensors[name]

    def _take(self, form: str) -> int:
        (value,) = struct.unpack_from("<" + form, self._data, self._at)
        self._at += struct.calcsize("<" + form)
        return value

    def _text(self) -> str:
        size = self._take("H")
        self._at += size
        return bytes(self._data[self._at - size : self._at - 1]).decode()

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.tensors[name].astype(np.float32))

    def layers(self, tower: str) -> int:
        """Number of layers of the encoder or decoder."""
        begin = f"{tower}/layer_"
        numbers = {name.removeprefix(begin).split("/")[0] for name in self.tensors if name.startswith(begin)}
        return sum(number.isdigit() for number in numbers)

    def state(self) -> dict[str, torch.Tensor]:
        """Everything by the names of transformers, but for the tied projection."""
        state = {"model.decoder.embed_tokens.weight": self["decoder/embeddings/weight"]}
        for number in (1, 2):
            state |= self._pair(f"model.encoder.conv{number}", f"encoder/conv{number}", "weight")
        for tower in ("encoder", "decoder"):
            state[f"model.{tower}.embed_positions.weight"] = self[f"{tower}/position_encodings/encodings"]
            state |= self._pair(f"model.{tower}.layer_norm", f"{tower}/layer_norm", "gamma")
            for number in range(self.layers(tower)):
                state |= self._layer(f"model.{tower}.layers.{number}", f"{tower}/layer_{number}", tower)
        return state

    def _pair(self, target: str, source: str, weight: str) -> dict[str, torch.Tensor]:
        bias = "beta" if weight == "gamma" else "bias"
        return {f"{target}.weight": self[f"{source}/{weight}"], f"{target}.bias": self[f"{source}/{bias}"]}

    def _layer(self, target: str, source: str, tower: str) -> dict[str, torch.Tensor]:
        own, cross = f"{source}/self_attention", f"{source}/attention"
        state = self._split(f"{target}.self_attn", f"{own}/linear_0", "qkv")
        state |= self._pair(f"{target}.self_attn.out_proj", f"{own}/linear_1", "weight")
        state |= self._pair(f"{target}.self_attn_layer_norm", f"{own}/layer_norm", "gamma")
        if tower == "decoder":
            state |= self._split(f"{target}.encoder_attn", f"{cross}/linear_0", "q")
            state |= self._split(f"{target}.encoder_attn", f"{cross}/linear_1", "kv")
            state |= self._pair(f"{target}.encoder_attn.out_proj", f"{cross}/linear_2", "weight")
            state |= self._pair(f"{target}.encoder_attn_layer_norm", f"{cross}/layer_norm", "gamma")
        state |= self._pair(f"{target}.fc1", f"{source}/ffn/linear_0", "weight")
        state |= self._pair(f"{target}.fc2", f"{source}/ffn/linear_1", "weight")
        return state | self._pair(f"{target}.final_layer_norm", f"{source}/ffn/layer_norm", "gamma")

    def _split(self, target: str, source: str, parts: str) -> dict[str, torch.Tensor]:
        """Projections that CTranslate2 keeps as one matrix; Whisper's keys have no bias."""
        weights = self[f"{source}/weight"].chunk(len(parts))
        biases = self[f"{source}/bias"].chunk(len(parts))
        state = {}
        for part, weight, bias in zip(parts, weights, biases, strict=True):
            state[f"{target}.{part}_proj.weight"] = weight
            if part != "k":
                state[f"{target}.{part}_proj.bias"] = bias
        return state
