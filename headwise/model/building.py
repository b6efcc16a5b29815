"""What a model takes while transformers builds it: no more parts, and no more memory, than its weights explain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from headwise.errors import InputError
from headwise.readers.limits import current_limits, require_within

_MAKERS = ("arange", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "tensor", "zeros")
_TIMES = 16
"""Bytes of a model for one of a file: weights of 2 bits become 16, embeddings that are to be tied are built twice."""
_NEW = 8
"""Values that no file has are drawn one by one, some of them in Python: an eighth of what may be built freely."""
_FLOAT = 4
"""Bytes that such a value counts as: it takes its time in any type."""
_TABLE = ("image_size", "patch_size", "num_frames", "tubelet_size")
"""What the positions of a video are counted by."""
_WIDTHS = ("hidden_size", "decoder_hidden_size")
"""How many values each has."""


class Building(TorchFunctionMode):
    """A bound on what is made in a block, in one thread, whatever the names of the settings that ask for it.

    Transformers builds a model without memory, then fills it from the files, then gives memory to what no file has.
    What is built counts by its shape, and what no file has counts before it gets memory.

    Args:
        held: bytes of the weights in the folder.
        where: the folder, for messages.

    Raises:
        InputError: in the block, on more than `model_parts` tensors; on `model_bytes` more than `held` explains.

    Example:
        >>> import torch
        >>> with Building(1000, where="lm"):
        ...     torch.empty(10**12, device="meta")
        Traceback (most recent call last):
        ...
        headwise.errors.InputError: The file is larger than headwise reads from others. (lm: bytes of a model, wit...
    """

    def __init__(self, held: int, *, where: str) -> None:
        super().__init__()
        self.held, self.where, self.limits = held, where, current_limits()
        self.parts = self.built = self.new = 0
        self.refusal: InputError | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        given = args[0].is_meta and "device" in kwargs if name.endswith("_like") else False
        if (given or name == "empty_like") and args[0].is_floating_point():
            self.new += _FLOAT * args[0].numel()
            most = max(self.held, self.limits.model_bytes // _NEW)
            self._require(self.new, most, "bytes of values that no file has")
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            if name in _MAKERS:
                self.parts += 1
                self.built += result.nbytes
                self._require(self.parts, self.limits.model_parts, "parts of a model")
            most = _TIMES * self.held + self.limits.model_bytes
            self._require(max(self.built, result.nbytes), most, "bytes of a model")
        return result

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        if self.refusal is not None and raised[1] is not self.refusal:
            raise self.refusal  # a report on weights of another shape took its place

    def _require(self, asked: int, most: int, what: str) -> None:
        if asked > most:
            try:
                require_within(asked, most, f"{what}, with {self.held:,} of weights", where=self.where)
            except InputError as error:
                self.refusal = error
                raise


def check_table(config: Mapping[str, Any], held: int, *, where: str) -> None:
    """Refuse a video model whose table of positions, computed one by one in Python, is larger than its weights explain.

    Args:
        config: its settings.
        held: bytes of the weights in the folder.
        where: the folder, for messages.

    Raises:
        InputError: as `Building` of values that no file has.

    Example:
        >>> sizes = {"image_size": 224, "patch_size": 16, "num_frames": 16, "tubelet_size": 2, "hidden_size": 768}
        >>> check_table(sizes, 0, where="video")  # 1,568 positions
        >>> check_table({**sizes, "num_frames": 10**6}, 0, where="video")
        Traceback (most recent call last):
        ...
        headwise.errors.InputError: The file is larger than headwise reads from others. (video: bytes of a table of...
    """
    image, patch, frames, depth = (_sizes(config.get(name)) for name in _TABLE)
    if not (image and patch and frames and depth):
        return
    places = frames[0] // max(depth[0], 1)
    for side, part in zip((image * 2)[:2], (patch * 2)[:2], strict=True):
        places *= side // max(part, 1)
    width = max((size[0] for name in _WIDTHS if (size := _sizes(config.get(name)))), default=0)
    most = max(held, current_limits().model_bytes // _NEW)
    asked = min(_FLOAT * places * width, 10**18)
    require_within(asked, most, f"bytes of a table of positions, with {held:,} of weights", where=where)


def _sizes(value: Any) -> list[int]:
    several = value if isinstance(value, list | tuple) else [value]
    return [one for one in several if type(one) is int]
