# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,mystnb,-all
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Linear mode connectivity
#
# Train a network for a while, then let two copies go on with other orders of the data. Each ends somewhere else. Is every network on the straight line between the two ends as
# good as they are? If the copies part at the very beginning, there is a wall of high loss between them. If they part a little later, there is none. And the later they part, the
# more of the top singular vectors of their weights they have in common at the end.

# %% tags=["parameters", "hide-input"]
tier = "laptop"  # smoke (a test), laptop (this page), gpu (real datasets), paper (the paper's own settings)
seeds = [10, 11, 12]  # one trunk, with its branches, for each; verdicts need at least three
device = "auto"  # auto, cpu or cuda

# %% tags=["hide-input"]
import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from scipy.stats import spearmanr

import specdyn as sd
from specdyn.exercises.linear_mode_connectivity import (
    SHARES,
    check_agreement,
    check_barrier,
    check_matched,
    check_middle,
    check_noisy,
    check_reordered,
)
from specdyn.interventions import (
    combined,
    line,
    match_weights,
    permuted,
    perturbed,
    reestimate,
    symmetries,
    with_weights,
)
from specdyn.show import spread
from specdyn.spectra import (
    agreement,
    agreement_chance,
    decompose,
    matrices,
    subspace_agreement,
    subspace_agreement_chance,
)
from specdyn.tasks.task import at_tier, generator
from specdyn.training import side_by_side
from specdyn.training.loop import resolve_device

torch.set_num_threads(1)  # the networks are too small to share among cores

epoch = at_tier(  # updates in one pass through the training data
    {
        "smoke": {"images": 16},
        "laptop": {"images": 32},
        "gpu": {"images": 352, "generation": 422, "speech": 188, "language": 127},
        "paper": {"images": 352, "generation": 422, "speech": 892, "language": 222},
    },
    tier,
)
parting = at_tier(  # epochs after which branches part
    {
        "smoke": (0, 0.5, 1),
        "laptop": (0, 0.25, 0.75, 2, 5),
        "gpu": (0, 0.2, 1, 3),
        "paper": (0, 0.2, 0.4, 0.6, 0.8, 1, 2, 3, 4, 5),
    },
    tier,
)
strengths = at_tier(  # of noise, beside the size of each matrix
    {"smoke": (0.5, 2.5), "laptop": (0.5, 1.0, 2.5), "gpu": (0.5, 2.5), "paper": (0.1, 0.25, 0.5, 1.0, 2.5)}, tier
)
noise_after = at_tier({"smoke": 0.5, "laptop": 2, "gpu": 3, "paper": 5}, tier)  # epochs; one of those of parting
branch_seeds = at_tier({"paper": (110, 210, 310)} | dict.fromkeys(("smoke", "laptop", "gpu"), (110, 210)), tier)
gentle = at_tier({"paper": 1e-4} | dict.fromkeys(("smoke", "laptop", "gpu"), 1e-3), tier)  # weight decay of the images

tasks = {name: task for name, task in sd.tasks.four_tasks(tier).items() if name in epoch}
tasks["images"] = replace(tasks["images"], weight_decay=gentle)
where = resolve_device(device)
data = {name: task.data(seeds[0], where) for name, task in tasks.items()}
splits = {name: [round(share * steps) for share in parting] for name, steps in epoch.items()}
moment = {name: round(noise_after * steps) for name, steps in epoch.items()}
on_the_way = (0.0125, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.625, 0.75, 0.875)  # of training, for paths
way = {name: sorted({round(share * task.steps) for share in on_the_way}) for name, task in tasks.items()}

# %%
trunks = {
    name: {run.seed: run for run in sd.sweep(task, seed=seeds, keep={*splits[name], *way[name]}, device=device)}
    for name, task in tasks.items()
}


def branched(name, moments, split):
    """Branches from checkpoints of one step, given by trunk and by the seed that is to order their data."""
    brief = replace(tasks[name], every=tasks[name].steps)  # of branches only checkpoints are read
    keep = [step for step in way[name] if step >= split]
    runs = sd.sweep(brief, start=moments, seed=branch_seeds, keep=keep, device=device)
    return {trunk: {run.seed: run for run in runs.sel(start=trunk)} for trunk in moments}


branches = {
    (name, split): branched(
        name, {trunk: dict.fromkeys(branch_seeds, run.checkpoint(split)) for trunk, run in trunks[name].items()}, split
    )
    for name in tasks
    for split in splits[name]
}

# %% tags=["hide-input"]
networks = {
    (name, split, trunk, order): run.model()
    for (name, split), by_trunk in branches.items()
    for trunk, runs in by_trunk.items()
    for order, run in ({trunk: trunks[name][trunk]} | runs).items()
}


def ends(name, trunk, split):
    """The trained networks that were one until a step: that of the trunk, then those of its branches."""
    return [networks[name, split, trunk, order] for order in (trunk, *branch_seeds)]


def between(name, one, two):
    """What the networks on the line from one to another do."""
    task = tasks[name]
    return line(task, one.to(where), two.to(where), task.data(seeds[0], where), points=6, batches=4, tolerance=0.02)


def with_lines(pairs):
    """Pairs, dictionaries with task, one and two among their entries, with the line between each."""
    pairs = list(pairs)
    jobs = [(pair["task"], pair["one"], pair["two"]) for pair in pairs]
    found = side_by_side(between, jobs, device=device, name="lines")
    return [pair | {"line": each} for pair, each in zip(pairs, found, strict=True)]


siblings = with_lines(
    {"task": name, "kind": "one trunk", "split": split, "seed": trunk, "one": one, "two": two}
    for name in tasks
    for split in splits[name]
    for trunk in seeds
    for one, two in itertools.combinations(ends(name, trunk, split), 2)
)

# %% tags=["hide-input"]
share = "share of the second network"


def along(pair, number):
    """The loss along a line, for a figure."""
    panel = f"parted at step {pair['split']}" if len(tasks) == 1 else f"{pair['task']}, step {pair['split']}"
    values = {"series": "training loss", "seed": number, share: pair["line"].at, "value": pair["line"].values()}
    return pd.DataFrame({"panel": panel} | values)


def barriers(name, split, kind="line"):
    """The barriers of all pairs that parted at a step."""
    found = [pair["line"] for pair in siblings if (pair["task"], pair["split"]) == (name, split)]
    return [each.barrier(over=kind) for each in found]


in_panels = [
    pair for pair in siblings if pair["split"] in [splits[pair["task"]][i] for i in (0, len(parting) // 2, -1)]
]
replace(
    sd.show.curves(
        pd.concat(along(pair, number) for number, pair in enumerate(in_panels)),
        x=share,
        name="fig-connectivity",
        caption="Training loss of the networks on the straight line between two trained ones that were one network until the step above the panel. A line a pair: three pairs of "
        f"each of {len(seeds)} trunks. BatchNorm is estimated again at each point.",
        ylabel="training loss",
        columns=3,
    ),
    alt="How far the training loss rises above the straight line between two trained networks, by the step at which they parted. "
    + "; ".join(
        f"{name}: " + ", ".join(f"{spread(barriers(name, split))} at step {split}" for split in splits[name])
        for name in tasks
    )
    + ".",
)

# %% [markdown]
# :::{admonition} On this page
# **You will be able to explain** what linear mode connectivity is.
# :::

# %% [markdown]
# ## Predict first

# %% [markdown]
# ## The phenomenon
#
# ### Branches
#
# ### Barriers

# %% [markdown]
# ## Through its spectrum

# %% [markdown]
# ## Other beginnings, the same data

# %% [markdown]
# ## An intervention: noise

# %% [markdown]
# ## Beyond the paper

# %% [markdown]
# ## When this fails

# %% [markdown]
# ## Claims
#
# ### Of the paper

# %% [markdown]
# ### Of this book

# %% [markdown]
# ## Paper and this book

# %% [markdown]
# ## Exercises
#
# Each check says what is wrong with an answer. The cells below hold answers that are not right yet: edit and run them.
#
# ```{exercise} How high is it?
# :label: ex-connectivity-barrier
#
# Write `my_barrier(at, losses)`: the barrier on the whole line, from the shares of the second network (an array, growing from 0 to 1, not always in even steps) and the losses
# there. *(5 minutes)*
# ```


# %%
def my_barrier(at, losses):
    return losses.max() - (losses[0] + losses[-1]) / 2


check_barrier(my_barrier)

# %% [markdown]
# ```{hint}
# :class: dropdown
# At the share $a$ the straight line between the ends is $1 - a$ times the loss of the first plus $a$ times that of the second.
# ```
#
# ```{solution-start} ex-connectivity-barrier
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def my_barrier(at, losses):
    straight = (1 - at) * losses[0] + at * losses[-1]
    return (losses - straight).max()


check_barrier(my_barrier)

# %% [markdown]
# At the ends the gap is 0, so on the whole line no barrier is below zero. The official code leaves the ends out and can report less.
#
# ```{solution-end}
# ```
#
# ```{exercise} The same components?
# :label: ex-connectivity-agreement
#
# Write `my_score(A, B, k)`: the mean agreement of the first `k` components of two weights of one shape. *(5 minutes)*
# ```


# %%
def my_score(A, B, k):
    U, _, V = np.linalg.svd(A, full_matrices=False)
    X, _, Y = np.linalg.svd(B, full_matrices=False)
    left, right = (U * X).sum(axis=0)[:k], (V * Y).sum(axis=0)[:k]
    return np.abs(left * right).mean()


check_agreement(my_score)

# %% [markdown]
# ```{hint}
# :class: dropdown
# `np.linalg.svd` returns `U, s, Vh`, and the last is $V^\top$. Along which axis do the right singular vectors lie?
# ```
#
# ```{solution-start} ex-connectivity-agreement
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def my_score(A, B, k):
    U, _, Vh = np.linalg.svd(A, full_matrices=False)
    X, _, Yh = np.linalg.svd(B, full_matrices=False)
    left, right = (U * X).sum(axis=0)[:k], (Vh * Yh).sum(axis=1)[:k]
    return np.abs(left * right).mean()


check_agreement(my_score)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Noise of a strength
# :label: ex-connectivity-noise
#
# Write `with_noise(W, E, eta)`: the weight `W` plus the noise `E`, brought to `eta` times the Frobenius norm of `W`, and the sum brought back to the norm that `W` had. What is the
# cosine between `W` and the result, if `E` is at right angles to `W`? *(5 minutes)*
# ```


# %%
def with_noise(W, E, eta):
    return W + eta * E


check_noisy(with_noise)

# %% [markdown]
# ```{hint}
# :class: dropdown
# `E / np.linalg.norm(E)` is noise of length 1.
# ```
#
# ```{solution-start} ex-connectivity-noise
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def with_noise(W, E, eta):
    moved = W + eta * np.linalg.norm(W) * E / np.linalg.norm(E)
    return moved * np.linalg.norm(W) / np.linalg.norm(moved)


check_noisy(with_noise)

# %% [markdown]
# $1 / \sqrt{1 + \eta^2}$: weight and noise are the two short sides of a right triangle. In thousands of dimensions random noise is nearly at right angles to anything.
#
# ```{solution-end}
# ```
#
# ```{exercise} The same network in another order
# :label: ex-connectivity-order
#
# A network computes `W2 @ relu(W1 @ x + b1)`. Write `in_order(W1, b1, W2, order)`: the three arrays with the hidden feature `order[i]` at place `i`, so that the network computes
# what it did. Then: what have `W1` and the new `W1` in common, their singular values or their left singular vectors? *(10 minutes)*
# ```


# %%
def in_order(W1, b1, W2, order):
    return W1[order], b1[order], W2


check_reordered(in_order)

# %% [markdown]
# ```{hint}
# :class: dropdown
# Who gives a feature, and who reads it?
# ```
#
# ```{solution-start} ex-connectivity-order
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def in_order(W1, b1, W2, order):
    return W1[order], b1[order], W2[:, order]


check_reordered(in_order)

# %% [markdown]
# The singular values, and the right singular vectors too. The entries of the left ones stand in the new order, so their agreement with the old ones is near chance, though nothing
# that the network computes has changed.
#
# ```{solution-end}
# ```
#
# ```{exercise} Half-way
# :label: ex-connectivity-middle
#
# Write `half_way(one, two, batches)`: the network half-way between two networks, ready to be evaluated; `batches` are inputs. The networks that you are given have BatchNorm, and
# stay as they are. *(10 minutes)*
# ```


# %%
def half_way(one, two, batches):
    return combined([one, two], [0.5, 0.5])


check_middle(half_way)

# %% [markdown]
# ```{hint}
# :class: dropdown
# Which numbers in a network with BatchNorm are not trained, but measured?
# ```
#
# ```{solution-start} ex-connectivity-middle
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def half_way(one, two, batches):
    return reestimate(combined([one, two], [0.5, 0.5]), batches)


check_middle(half_way)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The line between your networks
# :label: ex-connectivity-own
#
# Train one architecture of *yours* twice, from two seeds. Write `before_and_after(one, two, loss, example)`: the barrier on the straight line between the two, and the barrier
# after the features of the second are put into the order in which its weights fit those of the first. `loss(network)` is a number; `example` is a batch of inputs, by which
# `symmetries(one, example)` finds which features may trade places. `rises(one, two, loss)` below is a barrier from five points. How much of your barrier was a matter
# of order? *(30 minutes)*
# ```

# %%
my_task, my_data = tasks["images"], data["images"]
my_one, my_two = (trunks["images"][seed].model().to(where) for seed in (seeds[0], seeds[-1]))  # put your own here
my_batches = [my_task.batch(my_data, step, 0) for step in range(4)]
my_example = next(iter(my_task.inputs(my_data)))


@torch.no_grad()
def my_loss(network):
    network = reestimate(network, my_task.inputs(my_data)).eval()  # without BatchNorm: network.eval()
    return np.mean([my_task.loss(network, batch).item() for batch in my_batches])


def rises(one, two, loss):
    return my_barrier(np.array(SHARES), np.array([loss(combined([one, two], [1 - a, a])) for a in SHARES]))


# %%
def before_and_after(one, two, loss, example):
    permuted(two, match_weights(one, two, symmetries(one, example)))
    return rises(one, two, loss), rises(one, two, loss)


check_matched(before_and_after, my_one, my_two, my_loss, my_example)

# %% [markdown]
# ```{hint}
# :class: dropdown
# `permuted` returns a copy, and leaves the network that it is given as it is.
# ```
#
# ```{solution-start} ex-connectivity-own
# :class: dropdown
# ```


# %%
def before_and_after(one, two, loss, example):
    fitting = permuted(two, match_weights(one, two, symmetries(one, example)))
    return rises(one, two, loss), rises(one, fitting, loss)


check_matched(before_and_after, my_one, my_two, my_loss, my_example)

# %% [markdown]
# What is left may have three causes: features that the other network does not have, a better order that was not found, and differences other than order. The next exercise has one
# of the last kind.
#
# ```{solution-end}
# ```
#
# ```{exercise} A network and itself
# :label: ex-connectivity-itself
#
# An open question, without a check. In a network of two layers with ReLU between them and no normalisation, multiply the first weight and its bias by 10, and divide the second
# weight by 10. The network computes what it did.
#
# 1. What does the network half-way between it and its copy compute? Will the barrier be seen in the loss, in the error, or in both?
# 2. Would matching find it? Would it be there if BatchNorm followed the first layer?
# 3. What, then, does a barrier between two networks say about what they compute, and what does its absence say? Can you think of a measure that does not depend on how a function is
#    written down, and of its price? *(30 minutes, best in pairs)*
# ```
#
# ```{solution-start} ex-connectivity-itself
# :class: dropdown
# ```
#
# Half-way the first layer is 5.5 times the original and the second 0.55 times, so that the outputs, but for the last bias, are 3.025 times what they should be. A classifier
# gives nearly the same answers, too sure of them: the error hardly moves, the loss does. No order undoes a scale. Before BatchNorm the scale of a weight makes no
# difference, so there is no barrier.
#
# A straight line without a barrier says that two networks are close in a strong sense. A barrier says less: the functions may be the same, and only written down in another way
# {cite}`dinh2017sharp`. Orders and scales can be taken out where one knows them; a curved path between two networks, on which the loss stays low, was found wherever it was looked for
# {cite}`garipov2018loss`. What compares functions alone, such as how often two networks disagree on pictures that neither has seen, asks for data and says nothing about the weights.
#
# ```{solution-end}
# ```

# %% [markdown]
# ## What this page does not show
#
# ## Further reading
