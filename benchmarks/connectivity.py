"""What it costs to look between two networks and to match them, as ratios within one run.

    python benchmarks/connectivity.py            # or: python benchmarks/connectivity.py cuda

1. All points of a line in one batched call, stacked by torch.func, against one network after another, with BatchNorm's
   statistics estimated again in both: the classifier of cluttered digits and the UNet of digits, at the laptop tier.
2. Points looked at until a barrier is known to the tolerance, against as fine a grid over the whole line.
3. Networks mixed of components, with the decompositions made once, against a decomposition for every network.
4. Matching two VGG-16: the search for symmetries, and the orders by weights.

Measured on one thread of a CPU: the batch takes 1.4 to 1.6 times as long for the classifier (a convolution with other
weights for every network is one in groups, and has none of the fast kernels) and 0.9 to 1.0 times for the UNet, so
`specdyn.interventions.line` goes one by one. A grid takes 1.3, 3.0 and 4.8 times as many points for barriers of width
0.3, 0.1 and 0.05; decompositions for every mixture take 2.8 to 4.0 times as long; VGG-16 takes 3.2 s.
Seconds are of the processor, in one thread, and medians over repeats taken in turn.
"""

import copy
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim.swa_utils import update_bn

from specdyn.interventions import Mixer, combined, line, match_weights, symmetries
from specdyn.tasks import build, image_classification, image_generation

SHARES = np.linspace(0, 1, 11).tolist()
Inputs = tuple[Tensor, ...]


def one_by_one(networks: list[nn.Module], estimated: list[Tensor], inputs: Inputs) -> Tensor:
    """Return the outputs (P, N, ...) of networks, each after its statistics are estimated on batches."""
    outputs = []
    for network in networks:
        update_bn(estimated, network)
        outputs.append(network.eval()(*inputs))
    return torch.stack(outputs)


def batched(networks: list[nn.Module], estimated: list[Tensor], inputs: Inputs) -> Tensor:
    """Return the same from one call over all networks."""
    shared = copy.deepcopy(networks[0]).eval()
    parameters, buffers = stack_module_state(networks)
    for norm in (module for module in shared.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.train().momentum = None  # the average over all batches
    for name in [name for name in buffers if name.endswith("num_batches_tracked")]:
        buffers[name] = torch.zeros_like(buffers[name][0])  # one count for all, by which each batch is weighted
    axes = {name: 0 if buffer.ndim else None for name, buffer in buffers.items()}
    for batch in estimated:
        vmap(lambda p, b, x: functional_call(shared, (p, b), (x,)), (0, axes, None))(parameters, buffers, batch)
    shared.eval()
    outputs: Tensor = vmap(lambda p, b: functional_call(shared, (p, b), inputs), (0, axes))(parameters, buffers)
    return outputs


def cases(device: torch.device) -> dict[str, tuple[list[nn.Module], list[Tensor], Inputs]]:
    """Return what there is to evaluate: points of a line, batches to estimate statistics on, and a batch."""
    found = {}
    for task, count in ((image_classification(), 1), (image_generation(), 2)):
        data = task.data(0, device)
        ends = [build(task, seed).to(device) for seed in (0, 1)]
        networks = [combined(ends, [1 - share, share]).eval() for share in SHARES]
        found[task.name] = networks, list(task.inputs(data)), task.batch(data, 0, 0)[:count]
    return found


def seconds(*calls: Callable[[], object], repeats: int = 5) -> list[float]:
    """Return the median seconds of each call, taken in turn, of the processor or of the device it waits for."""
    rounds = []
    for _ in range(repeats + 1):
        marks = [_now()]
        for call in calls:
            call()
            marks.append(_now())
        rounds.append(np.diff(marks))
    return [median(times) for times in zip(*rounds[1:], strict=True)]  # the first one loads code and claims memory


def _now() -> float:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def narrow(width: float, place: float = 0.537) -> Callable[[float], float]:
    """Return a loss along a line with a barrier of height 1."""
    return lambda share: float(np.exp(-(((share - place) / width) ** 2)))


def points(width: float, tolerance: float) -> tuple[int, int]:
    """Return how many points a line takes, and how many a grid that is as exact wherever it falls."""
    looked = line(_Curve(narrow(width)), _Place(0.0), _Place(1.0), None, tolerance=tolerance, most=1000)
    return len(looked.at), int(np.ceil(1 / (2 * width * np.sqrt(-np.log1p(-tolerance))))) + 1


class _Place(nn.Module):
    """A network that is one number."""

    def __init__(self, place: float) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.tensor(place, dtype=torch.float64))


class _Curve:
    """A task whose loss is a curve over that number."""

    def __init__(self, curve: Callable[[float], float]) -> None:
        self.curve = curve

    def batch(self, data: object, step: int, seed: int) -> None:
        return None

    def inputs(self, data: object) -> list[Tensor]:
        return []

    def loss(self, model: Any, batch: object) -> float:
        return self.curve(float(model.place))

    def metrics(self, model: Any, data: object) -> dict[str, float]:
        return {}


def mixed_once(one: nn.Module, two: nn.Module) -> list[nn.Module]:
    """Return eleven mixtures of which the decompositions are shared."""
    mixer = Mixer(one, two, 0.3)
    return [mixer(top=share) for share in SHARES]


def mixed_each(one: nn.Module, two: nn.Module) -> list[nn.Module]:
    """Return the same, decomposed each time."""
    return [Mixer(one, two, 0.3)(top=share) for share in SHARES]


def row(name: str, ours: float, theirs: float) -> str:
    """Return one line of the table: ours, the other way, and how many times as long that takes."""
    return f"{name:<52}{ours:>10.3f}{theirs:>10.3f}{theirs / ours:>8.2f}"


@torch.no_grad()
def main(device: torch.device) -> None:
    """Print the tables."""
    print(f"on {device}, {torch.get_num_threads()} thread\n{'':<52}{'ours':>10}{'other':>10}{'ratio':>8}")
    for name, case in cases(device).items():
        ways = [partial(way, *case) for way in (one_by_one, batched)]
        print(row(f"11 points, s: one by one, batched ({name})", *seconds(*ways)))
    for width in (0.3, 0.1, 0.05):
        print(row(f"points: a barrier of width {width} to 0.01, even grid", *points(width, 0.01)))
    ends = [build(image_classification(), seed).to(device) for seed in (0, 1)]
    ways = [partial(way, *ends) for way in (mixed_once, mixed_each)]
    print(row("11 mixtures, s: decomposed once, each time", *seconds(*ways)))

    task = image_classification("paper")
    one, two = (build(task, seed).to(device).eval() for seed in (0, 1))
    examples = torch.randn(2, 3, 32, 32, device=device)
    print("\nVGG-16, seconds")
    print(f"{'symmetries':<52}{seconds(lambda: symmetries(one, examples), repeats=1)[0]:>10.2f}")
    found = symmetries(one, examples)
    print(f"{'orders by weights':<52}{seconds(lambda: match_weights(one, two, found), repeats=1)[0]:>10.2f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(torch.device(sys.argv[1] if len(sys.argv) > 1 else "cpu"))
