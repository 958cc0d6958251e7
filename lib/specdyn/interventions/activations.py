"""Activations: what modules of a network give on a batch of a task."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from specdyn.tasks import Task


@torch.no_grad()
def activations(task: Task, model: nn.Module, batch: Any, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Return what modules give, each as (examples and positions, features), in evaluation mode.

    ``sizes``: of the features of each module, by its path. What is called otherwise than as a module, or gives
    anything else than one tensor with that many features, is left out.

    >>> from specdyn.tasks import build, image_classification
    >>> task = image_classification("smoke")
    >>> model, data = build(task, 0), task.data(0, torch.device("cpu"))
    >>> activations(task, model, task.batch(data, 0, 0), {"layers.0.norm": 8})["layers.0.norm"].shape
    torch.Size([8192, 8])
    """
    seen: dict[str, Tensor] = {}

    def watch(path: str, size: int) -> Any:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            axis = -1 if isinstance(module, nn.Linear | nn.LayerNorm | nn.RMSNorm | nn.Embedding) else 1
            if isinstance(output, Tensor) and output.ndim > 1 and output.shape[axis] == size:
                seen[path] = output.movedim(axis, -1).flatten(0, -2)

        return model.get_submodule(path).register_forward_hook(note)

    with ExitStack() as stack:
        for path, size in sizes.items():
            stack.callback(watch(path, size).remove)
        for module in model.modules():
            stack.callback(setattr, module, "training", module.training)
        task.loss(model.eval(), batch)
    return seen
