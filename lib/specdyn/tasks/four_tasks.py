"""The four tasks of the paper's section 4 side by side, and how strong a weight decay each is given."""

from __future__ import annotations

from specdyn.tasks.image_classification import image_classification
from specdyn.tasks.image_generation import image_generation
from specdyn.tasks.language_modeling import language_modeling
from specdyn.tasks.speech_recognition import speech_recognition
from specdyn.tasks.task import Task, at_tier

Values = dict[str, tuple[float, ...]]

_SHORT: Values = {
    "images": (0.0, 1e-3, 1e-2, 0.1),
    "generation": (0.0, 0.1, 1.0, 10.0),
    "speech": (0.0, 0.1, 1.0),
    "language": (0.0, 0.1, 1.0, 10.0),
}
_DECAYS: dict[str, Values] = {
    "smoke": _SHORT | {"images": (0.0, 1e-2, 0.1), "generation": (0.0, 10.0)},
    "laptop": _SHORT | {"images": (0.0, 1e-3, 1e-2, 3e-2, 0.1)},
    "gpu": _SHORT,
    "paper": dict.fromkeys(_SHORT, (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)),
}


def four_tasks(tier: str = "laptop") -> dict[str, Task]:
    """Return the four tasks of a tier by name; at the paper tier each has the decay of prior literature (section 4.1).

    >>> [(name, task.weight_decay) for name, task in four_tasks("paper").items()]
    [('images', 0.0001), ('generation', 0.0), ('speech', 0.1), ('language', 0.1)]
    """
    return {
        "images": image_classification(tier),
        "generation": image_generation(tier),
        "speech": speech_recognition(tier),
        "language": language_modeling(tier),
    }


def decay_values(tier: str = "laptop") -> Values:
    """Return the weight decays to compare, by the names of `four_tasks`, whose own are among them.

    The paper tier has the paper's values (section 5), the others fewer, none and a strong one among them. Of speech
    that is 1: at 3 the laptop tier's network hears nothing but blanks.

    >>> decay_values("laptop")["speech"]
    (0.0, 0.1, 1.0)
    """
    return dict(at_tier(_DECAYS, tier))
