"""What is learned: data, model, loss and optimizer, at each tier."""

from specdyn.tasks.language_modeling import Corpus, LanguageModeling, Transformer, language_modeling, ngram_loss
from specdyn.tasks.linear_network import LinearNetwork, TwoLayers, family_tree, linear_network
from specdyn.tasks.modular_addition import ModularAddition, OneLayerTransformer, grokking_settings, modular_addition
from specdyn.tasks.task import TIERS, Task, build, generator, minibatch

__all__ = [
    "TIERS",
    "Corpus",
    "LanguageModeling",
    "LinearNetwork",
    "ModularAddition",
    "OneLayerTransformer",
    "Task",
    "Transformer",
    "TwoLayers",
    "build",
    "family_tree",
    "generator",
    "grokking_settings",
    "language_modeling",
    "linear_network",
    "minibatch",
    "modular_addition",
    "ngram_loss",
]
