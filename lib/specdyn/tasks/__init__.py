"""What is learned: data, model, loss and optimizer, at each tier."""

from specdyn.tasks.branching import Branching, branching
from specdyn.tasks.four_tasks import decay_values, four_tasks
from specdyn.tasks.image_classification import ConvBlock, ConvNet, ImageClassification, image_classification
from specdyn.tasks.image_data import ImageData
from specdyn.tasks.image_generation import GreyImages, ImageGeneration, UNet, image_generation
from specdyn.tasks.language_modeling import Corpus, LanguageModeling, Transformer, language_modeling, ngram_loss
from specdyn.tasks.linear_network import LinearNetwork, TwoLayers, family_tree, linear_network
from specdyn.tasks.modular_addition import ModularAddition, OneLayerTransformer, grokking_settings, modular_addition
from specdyn.tasks.noisy_labels import MLP, NoisyImages, NoisyLabels, noisy_labels
from specdyn.tasks.parted_decay import PartedDecay, parted_decay
from specdyn.tasks.speech_recognition import (
    Alphabet,
    BidirectionalLSTM,
    LabelledSpeech,
    SpeechData,
    SpeechRecognition,
    error_rate,
    speech_recognition,
    transcribe,
)
from specdyn.tasks.task import TIERS, Task, build, generator, learning_rates, minibatch
from specdyn.tasks.tokens import Vocabulary

__all__ = [
    "MLP",
    "TIERS",
    "Alphabet",
    "BidirectionalLSTM",
    "Branching",
    "ConvBlock",
    "ConvNet",
    "Corpus",
    "GreyImages",
    "ImageClassification",
    "ImageData",
    "ImageGeneration",
    "LabelledSpeech",
    "LanguageModeling",
    "LinearNetwork",
    "ModularAddition",
    "NoisyImages",
    "NoisyLabels",
    "OneLayerTransformer",
    "PartedDecay",
    "SpeechData",
    "SpeechRecognition",
    "Task",
    "Transformer",
    "TwoLayers",
    "UNet",
    "Vocabulary",
    "branching",
    "build",
    "decay_values",
    "error_rate",
    "family_tree",
    "four_tasks",
    "generator",
    "grokking_settings",
    "image_classification",
    "image_generation",
    "language_modeling",
    "learning_rates",
    "linear_network",
    "minibatch",
    "modular_addition",
    "ngram_loss",
    "noisy_labels",
    "parted_decay",
    "speech_recognition",
    "transcribe",
]
