"""Managers of continuous batching: found from within their forwards, and by their threads."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from headwise.errors import UnsupportedModel


class Batch(NamedTuple):
    """Batch of the forward under way, as its manager knows it."""

    states: tuple[Any, ...]
    """Of every request, in the order of the rows; None where they cannot be told."""
    scheduler: Any = None
    """Holder of all requests that have not ended; None where it cannot be told."""
    tensors: Any = None
    """Storage of which the inputs of the forward are made."""


def batch_under_way(count: int) -> Batch:
    """The batch of `count` requests that the current thread runs the model on."""
    batch = Batch((None,) * count)
    frame = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        tensors = getattr(owner, "inputs_and_outputs", None)
        requests = getattr(tensors, "requests_in_batch", None)
        if requests is not None and len(requests) == count:
            batch = Batch(tuple(future.state for future in requests), tensors=tensors)
            scheduler = getattr(owner, "scheduler", None)
            if scheduler is not None:
                return batch._replace(scheduler=scheduler)
        frame = frame.f_back
    return batch


def wait_for_managers(model: nn.Module) -> None:
    """Lets the managers of a model that have just been started be made, while the model names its own attention.

    By that name, a manager decides once and for all whether it makes masks.
    """
    for thread, manager in managers_of(model):
        while thread.is_alive() and manager.batch_processor is None:
            time.sleep(0.001)


def require_no_graphs(managers: Iterable[Any]) -> None:
    """Refuses managers that replay CUDA graphs of the model, which run no code of ours.

    Raises:
        UnsupportedModel: there is one.
    """
    for manager in managers:
        config: Any = getattr(manager, "continuous_batching_config", None)
        if any(getattr(config, "cuda_graph_booleans", ())):
            raise UnsupportedModel(
                "headwise cannot act in continuous batching that replays a CUDA graph of the model.",
                evidence=f"use_cuda_graph={config.use_cuda_graph}",
                remedy="Make the manager with ContinuousBatchingConfig(use_cuda_graph=False).",
            )


def complete_idle_managers(model: nn.Module) -> None:
    """Gives masks to the managers of a model that were started while it named headwise's attention, and do nothing.

    Those that run a forward meanwhile have been given them in it.
    """
    wait_for_managers(model)
    for _, manager in managers_of(model):
        processor = manager.batch_processor
        if processor is not None and not processor.has_pending_requests():
            complete(processor.inputs_and_outputs)


def complete(tensors: Any) -> None:
    """Gives masks to what a manager fills for every forward, where it has none."""
    pairs = getattr(tensors, "io_pairs", None)
    if pairs is not None:
        for pair in pairs:
            complete(pair.host_io)
            complete(pair.device_io)
    elif tensors is not None and tensors.attention_mask is None:
        rows, keys = tensors.write_index_storage.shape[-1], tensors.read_index_storage.shape[-1]
        kind = {"dtype": tensors.model_dtype, "device": tensors.device}
        lowest = torch.finfo(tensors.model_dtype).min
        tensors.attention_mask = {
            layers: torch.full((1, 1, rows, keys), lowest, **kind) for layers in tensors.cumulative_seqlens_k
        }


def managers_of(model: nn.Module) -> Iterator[tuple[threading.Thread, Any]]:
    """The managers that run a model as it is, and their threads."""
    for thread in threading.enumerate():
        manager = getattr(getattr(thread, "_target", None), "__self__", None)
        own = getattr(manager, "model", None) is model and hasattr(manager, "batch_processor")
        if own and thread is not threading.current_thread():
            yield thread, manager
