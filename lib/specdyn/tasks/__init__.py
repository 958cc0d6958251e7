"""What is learned: data, model, loss and optimizer, at each tier."""

from specdyn.tasks.modular_addition import ModularAddition, OneLayerTransformer, modular_addition
from specdyn.tasks.task import TIERS, Task, build, generator

__all__ = [
    "TIERS",
    "ModularAddition",
    "OneLayerTransformer",
    "Task",
    "build",
    "generator",
    "modular_addition",
]
