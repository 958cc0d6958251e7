"""Real data: found on this machine or downloaded, checked, and read."""

from specdyn.tasks.datasets.cifar import cifar10
from specdyn.tasks.datasets.fetch import WrongFile
from specdyn.tasks.datasets.idx import fashion_mnist, mnist
from specdyn.tasks.datasets.labelled_images import LabelledImages
from specdyn.tasks.datasets.librispeech import Utterances, librispeech
from specdyn.tasks.datasets.registry import Dataset, File, available, describe
from specdyn.tasks.datasets.spoken_digits import Clips, SpokenDigits, spoken_digits
from specdyn.tasks.datasets.texts import Texts, tiny_shakespeare, wikitext2, wikitext2_shuffled, wikitext103

__all__ = [
    "Clips",
    "Dataset",
    "File",
    "LabelledImages",
    "SpokenDigits",
    "Texts",
    "Utterances",
    "WrongFile",
    "available",
    "cifar10",
    "describe",
    "fashion_mnist",
    "librispeech",
    "mnist",
    "spoken_digits",
    "tiny_shakespeare",
    "wikitext2",
    "wikitext2_shuffled",
    "wikitext103",
]
