"""What is learned: data, model, loss and optimizer, at each tier."""

from specdyn.tasks.linear_network import LinearNetwork, TwoLayers, family_tree, linear_network
from specdyn.tasks.modular_addition import ModularAddition, OneLayerTransformer, grokking_settings, modular_addition
from specdyn.tasks.task import TIERS, Task, build, generator, minibatch

__all__ = [
    "TIERS",
    "LinearNetwork",
    "ModularAddition",
    "OneLayerTransformer",
    "Task",
    "TwoLayers",
    "build",
    "family_tree",
    "generator",
    "grokking_settings",
    "linear_network",
    "minibatch",
    "modular_addition",
]
