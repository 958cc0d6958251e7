"""Speech recognition: characters from sound, by a bidirectional LSTM that finds the alignment itself (CTC)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Literal

import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from specdyn.tasks import datasets
from specdyn.tasks.datasets.keypad_tones import KEYS, keypad_tones
from specdyn.tasks.features import averaged, log_mel, power_mel, standardised
from specdyn.tasks.task import at_least_one, at_tier, doubling, generator, minibatch, one_of

BLANK, UNKNOWN = 0, 1
_FIRST = 2  # the id of the first character
_CHUNK = 256  # utterances that are evaluated at once


@dataclass(frozen=True)
class Alphabet:
    """Characters by number: 0 is CTC's blank, 1 the unknown character of the paper's network, then those given.

    >>> alphabet = Alphabet("abc")
    >>> len(alphabet), alphabet.encode("cab"), alphabet.decode([4, 2, 3])
    (5, [4, 2, 3], 'cab')
    """

    characters: str

    def __len__(self) -> int:
        """Return the number of outputs that a network needs; the official code counts one too few."""
        return _FIRST + len(self.characters)

    def encode(self, transcript: str) -> list[int]:
        """Return the number of each character; raise ``ValueError`` for one outside the alphabet."""
        if outside := sorted(set(transcript) - set(self.characters)):
            raise ValueError(
                f"{transcript!r} has {outside[0]!r}, but the alphabet is {self.characters!r}: "
                "spell the transcript with its characters, or leave the utterance out"
            )
        return [_FIRST + self.characters.index(character) for character in transcript]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of numbers above 0; an unknown character reads as U+FFFD."""
        return "".join("\N{REPLACEMENT CHARACTER}" if i == UNKNOWN else self.characters[i - _FIRST] for i in ids)


class BidirectionalLSTM(nn.Module):
    """The paper's network: LSTM layers that read features forwards and backwards, and a linear layer.

    Utterances are padded with zeros to the longest of their batch and read as they are, not packed, as in
    the official code: the backward direction comes through the padding before it meets the sound.

    >>> network = BidirectionalLSTM(40, 16, 2, Alphabet("abc"))
    >>> network(torch.zeros(3, 50, 40)).shape
    torch.Size([3, 50, 5])
    """

    def __init__(self, inputs: int, hidden: int, layers: int, alphabet: Alphabet) -> None:
        super().__init__()
        self.alphabet = alphabet
        self.lstm = nn.LSTM(inputs, hidden, layers, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * hidden, len(alphabet))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (N, T, alphabet) of features (N, T, inputs)."""
        logits: Tensor = self.linear(self.lstm(features)[0])
        return logits


@dataclass(frozen=True)
class LabelledSpeech:
    """Features (N, T, bins) and labels (N, S), padded with zeros, on the device; how long each is, on the CPU.

    The lengths stay there because CTC reads them there, and no batch has to fetch them from the device.
    """

    features: Tensor
    lengths: Tensor
    labels: Tensor
    label_lengths: Tensor
    transcripts: tuple[str, ...]
    alphabet: Alphabet

    @staticmethod
    def of(spoken: Iterable[tuple[str, Tensor, str]], alphabet: Alphabet, device: torch.device) -> LabelledSpeech:
        """Collect utterances, each a name, features (T, bins) and a transcript.

        Raises ``ValueError``, naming the utterance, for an empty transcript, a character outside the
        alphabet, and fewer frames than CTC needs: one a character, and a blank between two equal ones.
        """
        names, features, transcripts = zip(*spoken, strict=True)
        labels = [_labels(*utterance, alphabet) for utterance in zip(names, features, transcripts, strict=True)]
        return LabelledSpeech(
            pad_sequence(list(features), batch_first=True).to(device),
            torch.tensor([len(frames) for frames in features]),
            pad_sequence(labels, batch_first=True).to(device),
            torch.tensor([len(ids) for ids in labels]),
            transcripts,
            alphabet,
        )

    def __len__(self) -> int:
        """Return the number of utterances."""
        return len(self.lengths)

    def take(self, index: Tensor) -> LabelledSpeech:
        """Return the utterances of an index (n,), which is on the CPU, padded to the longest of them."""
        lengths, label_lengths = self.lengths[index], self.label_lengths[index]
        there = index.to(self.features.device, non_blocking=True)
        return LabelledSpeech(
            self.features[:, : int(lengths.max())][there],
            lengths,
            self.labels[:, : int(label_lengths.max())][there],
            label_lengths,
            tuple(self.transcripts[i] for i in index.tolist()),
            self.alphabet,
        )


def _labels(name: str, features: Tensor, transcript: str, alphabet: Alphabet) -> Tensor:
    if not transcript:
        raise ValueError(f"{name} has an empty transcript: leave it out, for it has no error rate")
    try:
        labels = alphabet.encode(transcript)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    needed = len(labels) + sum(a == b for a, b in itertools.pairwise(labels))
    if len(features) < needed:
        raise ValueError(
            f"{name} has {len(features)} frames, but CTC needs {needed} for the {len(labels)} characters of "
            f"{transcript!r}: take more frames a second, or leave the utterance out"
        )
    return torch.tensor(labels)


@torch.no_grad()
def transcribe(model: BidirectionalLSTM, features: Tensor, lengths: Tensor) -> list[str]:
    """Return what a network hears in features (N, T, bins), of which the first ``lengths`` (N,) frames count.

    Greedy: the likeliest output of each frame, repetitions merged, blanks dropped. Raises ``ValueError``
    for lengths that the features do not have.

    >>> network = BidirectionalLSTM(40, 16, 2, Alphabet("abc"))
    >>> _ = network.linear.bias.data[2].fill_(9.0)
    >>> transcribe(network, torch.zeros(2, 50, 40), torch.tensor([50, 20]))
    ['a', 'a']
    """
    if len(lengths) != len(features) or int(lengths.min()) < 1 or int(lengths.max()) > features.shape[1]:
        raise ValueError(
            f"lengths {lengths.tolist()} do not fit features of shape {tuple(features.shape)}: "
            f"give {len(features)} numbers from 1 to {features.shape[1]}"
        )
    return _heard(model(features), lengths, model.alphabet)


def _heard(logits: Tensor, lengths: Tensor, alphabet: Alphabet) -> list[str]:
    best = logits.argmax(-1).cpu()
    new = torch.ones_like(best, dtype=torch.bool)
    new[:, 1:] = best[:, 1:] != best[:, :-1]
    kept = new & (best != BLANK) & (torch.arange(best.shape[1]) < lengths.cpu().unsqueeze(1))
    return [alphabet.decode(ids[keep].tolist()) for ids, keep in zip(best, kept, strict=True)]


def error_rate(said: Iterable[Sequence[Hashable]], heard: Iterable[Sequence[Hashable]]) -> float:
    """Return the edits that turn what was heard into what was said, over the length of all that was said.

    Strings give the character error rate, lists of words the word error rate; it can exceed 1. Long
    utterances weigh more than short ones: it is not the mean of each one's rate. Raises ``ValueError`` where
    nothing was said.

    >>> error_rate(["abcd", "ab"], ["abd", "ba"])
    0.5
    """
    pairs = list(zip(said, heard, strict=True))
    length = sum(len(a) for a, _ in pairs)
    if not length:
        raise ValueError(f"nothing was said in {len(pairs)} utterances, of which no share can be wrong: give some text")
    return sum(Levenshtein.distance(a, b) for a, b in pairs) / length


@dataclass(frozen=True)
class SpeechData:
    """Three parts that share no sound, and the utterances of the training part that are evaluated."""

    train: LabelledSpeech
    evaluated: LabelledSpeech
    validation: LabelledSpeech
    test: LabelledSpeech


Spoken = Iterator[tuple[str, Tensor, str]]


@dataclass(frozen=True)
class _Source:
    """How so many utterances of a part are read, how large the test part is, and what may be said."""

    read: Callable[[str, int], Spoken]
    test_size: int
    characters: str
    bins: int = 40

    @property
    def alphabet(self) -> Alphabet:
        return Alphabet(self.characters)


def _telephone(waveforms: Tensor, rate: int) -> Tensor:
    return standardised(log_mel(waveforms, rate, window=256, hop=160, bins=40))


def _keyed(part: str, count: int) -> Spoken:
    clips = keypad_tones(part, count)
    features = (each for chunk in torch.split(clips.waveforms, _CHUNK) for each in _telephone(chunk, clips.rate))
    for number, (frames, keys) in enumerate(zip(features, clips.keys, strict=True)):
        yield f"{part} clip {number}", frames, keys


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _digits(part: str, count: int) -> Spoken:
    """Recordings of one speaker, two to four at a time, with pauses between; the part decides which recordings."""
    official = _recordings()
    clips = official.test if part == "test" else official.train
    held_out = clips.indices < 10  # recordings 5 to 9 of the training set's 5 to 49
    mine = range(len(clips)) if part == "test" else (held_out == (part == "validation")).nonzero().flatten().tolist()
    draws = generator("spoken digits", part)
    speakers = sorted(set(clips.speakers))
    stacks = [_dealt([i for i in mine if clips.speakers[i] == speaker], draws) for speaker in speakers]
    for number, (speaker, stack) in zip(range(count), itertools.cycle(zip(speakers, stacks, strict=True))):
        hand = list(itertools.islice(stack, int(torch.randint(2, 5, (), generator=draws))))
        pauses = [torch.zeros(int(n)) for n in torch.randint(400, 1_200, (len(hand) + 1,), generator=draws)]
        sounds = [clips.waveforms[i] for i in hand]
        whole = torch.cat([pauses[0], *itertools.chain(*zip(sounds, pauses[1:], strict=True))])
        said = " ".join(DIGITS[clips.digits[i]] for i in hand)
        yield f"{part} clip {number} of {speaker}", _telephone(whole, clips.rate), said


@lru_cache(maxsize=1)
def _recordings() -> datasets.SpokenDigits:
    return datasets.spoken_digits()


def _dealt(cards: list[int], draws: torch.Generator) -> Iterator[int]:
    """Deal all cards in a random order, then all again in another, without end."""
    while True:
        yield from (cards[i] for i in torch.randperm(len(cards), generator=draws).tolist())


def _read_aloud(part: str, count: int) -> Spoken:
    utterances = datasets.librispeech("train-clean-100" if part == "train" else "dev-clean")
    if count > len(utterances):
        raise ValueError(f"{count:,} utterances were asked for, but {part} has {len(utterances):,}: ask for fewer")
    for number in range(count):
        waveform, transcript = utterances.read(number)
        power = power_mel(waveform, utterances.rate, window=400, hop=160, bins=40)
        yield utterances.paths[number].stem, averaged(standardised(power), 3), transcript


_SOURCES = {
    "keypad-tones": _Source(_keyed, 512, KEYS),
    "spoken-digits": _Source(_digits, 300, "".join(sorted(set(" ".join(DIGITS))))),
    "librispeech": _Source(_read_aloud, 2_703, " 'ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
}


@lru_cache(maxsize=1)  # the data are those of every seed, so the runs of a sweep share them
def _loaded(dataset: str, train_size: int, validation_size: int, evaluated: int, device: torch.device) -> SpeechData:
    source = _SOURCES[dataset]
    sizes = {"train": train_size, "validation": validation_size, "test": source.test_size}
    train, validation, test = (
        LabelledSpeech.of(source.read(part, size), source.alphabet, device) for part, size in sizes.items()
    )
    some = torch.randperm(train_size, generator=generator("speech", "evaluated"))[:evaluated]
    return SpeechData(train, train.take(some), validation, test)


@dataclass(frozen=True)
class SpeechRecognition:
    """Settings of one speech-recognition run (paper section 4; task T4). CTC loss, AdamW.

    ``dataset``: ``"keypad-tones"`` (made on the spot), ``"spoken-digits"`` (two to four digits of one speaker
    in a row, spelled out; the official split, in which training and test share their six speakers) or
    ``"librispeech"`` (train-clean-100; dev-clean both for validation and, as the paper looks at no test
    set, in place of one). Losses are measured at a snapshot on ``evaluated`` training utterances drawn once
    and on the whole validation part.

    The learning rate follows a cosine to 0, in stairs of ``stair`` updates: the paper takes one an epoch.
    ``clip``: the largest norm of a gradient; the paper lets any through.

    Raises ``ValueError`` for an unknown dataset, sizes below 1, and a ``clip`` that leaves no gradient.
    """

    dataset: str
    train_size: int
    validation_size: int
    evaluated: int
    layers: int
    hidden: int
    batch_size: int
    learning_rate: float
    stair: int
    clip: float
    weight_decay: float
    steps: int
    every: int
    name: str = "speech-recognition"

    def __post_init__(self) -> None:
        """Refuse what no run could be made of."""
        one_of(self, dataset=_SOURCES)
        at_least_one(
            self, "train_size", "validation_size", "evaluated", "layers", "batch_size", "stair", "steps", "every"
        )
        if not self.clip > 0:
            raise ValueError(f"clip={self.clip} leaves no gradient: choose a norm above 0, or math.inf to clip nothing")

    @property
    def snapshots(self) -> tuple[int, ...]:
        """Steps 0, 1, 2, 4, 8 and so on up to the distance ``every``, which is kept from there to the end.

        The paper has four in the first epoch in place of these powers of two, and so 55 in all where the paper
        tier has 61.
        """
        return doubling(self.every, self.steps)

    @property
    def pairs(self) -> Literal["direct"]:
        """Every layer feeds the next, and its inputs the state that it hands from frame to frame."""
        return "direct"

    def model(self) -> BidirectionalLSTM:
        """The network for the dataset's characters."""
        source = _SOURCES[self.dataset]
        return BidirectionalLSTM(source.bins, self.hidden, self.layers, source.alphabet)

    def data(self, seed: int, device: torch.device) -> SpeechData:
        """The utterances, the same for all seeds."""
        return _loaded(self.dataset, self.train_size, self.validation_size, self.evaluated, device)

    def batch(self, data: SpeechData, step: int, seed: int) -> LabelledSpeech:
        """Training utterances, padded to the longest of them."""
        return data.train.take(minibatch(len(data.train), self.batch_size, step, seed, torch.device("cpu")))

    def inputs(self, data: SpeechData) -> Iterator[Tensor]:
        """The features of the training utterances that are evaluated."""
        return (chunk.features for chunk in _chunks(data.evaluated))

    def loss(self, model: nn.Module, batch: LabelledSpeech) -> Tensor:
        """CTC in nats a character, the mean over utterances."""
        return _ctc(model(batch.features), batch).mean()

    def optimizer(self, model: nn.Module) -> Optimizer:
        """AdamW; weight decay acts on every parameter, as in the official code."""
        optimizer = AdamW(model.parameters(), self.learning_rate, weight_decay=self.weight_decay, fused=True)
        optimizer.register_step_pre_hook(partial(_clip, largest=self.clip))
        return optimizer

    def schedule(self, optimizer: Optimizer) -> LRScheduler:
        """A cosine to 0, in stairs."""

        def factor(step: int) -> float:
            begun = step // self.stair * self.stair
            return (1 + math.cos(math.pi * begun / self.steps)) / 2

        return LambdaLR(optimizer, factor)

    def metrics(self, model: nn.Module, data: SpeechData) -> dict[str, float]:
        """Losses in nats a character, and the character error rate on the validation part."""
        train_loss, _ = _evaluated(model, data.evaluated)
        validation_loss, heard = _evaluated(model, data.validation)
        return {
            "train_loss": train_loss,
            "validation_loss": validation_loss,
            "validation_cer": error_rate(data.validation.transcripts, heard),
        }

    def quality(self, model: nn.Module, data: SpeechData) -> dict[str, float]:
        """Loss, character and word error rate on the whole test part, which decides nothing else."""
        loss, heard = _evaluated(model, data.test)
        said = data.test.transcripts
        words = ([text.split() for text in texts] for texts in (said, heard))
        return {"test_loss": loss, "test_cer": error_rate(said, heard), "test_wer": error_rate(*words)}


def _clip(optimizer: Optimizer, *_: Any, largest: float) -> None:
    clip_grad_norm_([parameter for group in optimizer.param_groups for parameter in group["params"]], largest)


def _ctc(logits: Tensor, utterances: LabelledSpeech) -> Tensor:
    """Return the loss (N,) of each utterance, divided by its characters.

    Raises ``ValueError`` for a network of another alphabet, whose missing outputs CTC would read out of bounds.
    """
    if logits.shape[-1] != len(utterances.alphabet):
        raise ValueError(
            f"the network has {logits.shape[-1]} outputs, but the alphabet {utterances.alphabet.characters!r} "
            f"needs {len(utterances.alphabet)}, with the blank and the unknown character: build it with as many"
        )
    log_probs = logits.log_softmax(-1).transpose(0, 1)
    lengths = utterances.label_lengths
    losses = F.ctc_loss(log_probs, utterances.labels, utterances.lengths, lengths, BLANK, "none")
    return losses / lengths.to(losses.device, non_blocking=True)


@torch.no_grad()
def _evaluated(model: nn.Module, utterances: LabelledSpeech) -> tuple[float, list[str]]:
    """Return the mean loss over utterances, and what the network heard."""
    losses, heard = [], []
    for chunk in _chunks(utterances):
        logits = model(chunk.features)
        losses.append(_ctc(logits, chunk))
        heard += _heard(logits, chunk.lengths, chunk.alphabet)
    return float(torch.cat(losses).mean()), heard


def _chunks(utterances: LabelledSpeech) -> Iterator[LabelledSpeech]:
    return (utterances.take(index) for index in torch.split(torch.arange(len(utterances)), _CHUNK))


_EPOCH = 892  # batches of 32 in the 28,539 utterances of train-clean-100
_PAPER = SpeechRecognition(
    dataset="librispeech", train_size=28_539, validation_size=2_703, evaluated=1_000, layers=4, hidden=256,
    batch_size=32, learning_rate=3e-4, stair=_EPOCH, clip=math.inf, weight_decay=0.1, steps=50 * _EPOCH, every=_EPOCH,
)  # fmt: skip
_LAPTOP = replace(
    _PAPER, dataset="keypad-tones", train_size=2_048, validation_size=128, evaluated=128, layers=2, hidden=64,
    batch_size=16, learning_rate=6e-3, stair=1, clip=5.0, steps=1_100, every=80,
)  # fmt: skip
_TIERS = {
    "smoke": replace(_LAPTOP, train_size=64, validation_size=32, evaluated=32, hidden=16, steps=20, every=5),
    "laptop": _LAPTOP,
    "gpu": replace(
        _PAPER, dataset="spoken-digits", train_size=6_000, validation_size=300, evaluated=300, learning_rate=1e-3,
        stair=1, clip=5.0, steps=4_000, every=200,
    ),
    "paper": _PAPER,
}  # fmt: skip


def speech_recognition(tier: str = "laptop", **changes: Any) -> SpeechRecognition:
    """Return the speech-recognition settings of a tier, with any field changed by name.

    >>> speech_recognition("laptop", weight_decay=0.0).snapshots[:8]
    (0, 1, 2, 4, 8, 16, 32, 64)
    """
    return replace(at_tier(_TIERS, tier), **changes)
