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
# # Singular values you can see
#
# Every layer of a network holds a matrix, and every matrix stretches a few directions a lot and the rest a little. The list of
# these stretches, its {term}`singular values <singular value>`, tells what the layer has learned and how much of itself it uses.
# This page makes that concrete on matrices one can look at: a photograph, a network made by hand, and a small network that
# learns a family tree. For the last one theory says, without a single fitted number, when each piece of the tree will be
# learned. The coloured lines are the network, the grey ones the theory:

# %% tags=["parameters", "hide-input"]
tier = "laptop"  # smoke (a test), laptop (this page), gpu, paper (larger trees)
seeds = [10, 11, 12]  # one run of everything for each; verdicts need at least three
device = "auto"  # auto, cpu or cuda

# %% tags=["hide-input"]
from collections import OrderedDict

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from sklearn.datasets import load_digits, load_sample_image
from sklearn.neural_network import MLPClassifier
from torch import nn

import specdyn as sd
from specdyn.exercises.foundations import (
    check_alignment,
    check_components,
    check_effective_rank,
    check_half_time,
    check_most_ordered,
    random_rank,
)

settings = {
    "decoupled start": sd.tasks.linear_network(tier),
    "small random start": sd.tasks.linear_network(tier, initial="random"),
    "large random start": sd.tasks.linear_network(tier, initial="random", strength=1.0),
    "unbalanced start": sd.tasks.linear_network(tier, imbalance=32.0),
    "strengths turned round": sd.tasks.linear_network(tier, initial="random", reverse=True),
}
runs = sd.sweep(settings, seed=seeds, keep=[0], device=device)
task = settings["decoupled start"]


def closed_form(time, s, a0):
    """The strength a(t) of a mode that ends at s and starts at a0: the solution of da/dt = 2 a (s - a)."""
    return s / (1 + (s / a0 - 1) * np.exp(-2 * s * time))


def starting_strength(network, U, V):
    """What each mode starts with: the part of both layers that the first updates make grow."""
    reads = network.first.weight.detach().numpy() @ V  # (hidden, modes): what the first layer makes of each v
    writes = network.second.weight.detach().numpy().T @ U  # (hidden, modes): what the second turns into each u
    return (((reads + writes) / 2) ** 2).sum(axis=0)


# %% tags=["hide-input"]
def levels(s):
    """The modes that share a singular value, largest first: {label: indices}."""
    values = np.unique(s.round(3))[::-1]
    return {f"s = {value:.2f}": np.flatnonzero(np.isclose(s, value, atol=2e-3)) for value in values}


def learning_curves(name):
    """Measured and predicted strength over time, averaged over the modes that share a singular value."""
    frames = []
    for run in runs.sel(task=name):
        U, s, V = (part.numpy() for part in run.task.modes)
        recording, a0 = run.recording, starting_strength(run.model(0), U, V)
        time = recording.steps * run.task.learning_rate
        for label, modes in levels(s).items():
            measured = np.mean([recording.metrics[f"mode_{k + 1}"] for k in modes], axis=0)
            exact = np.mean([closed_form(time, s[k], a0[k]) for k in modes], axis=0)
            curve = {"time": time, "measured": measured, "exact": exact, "final": s[modes[0]]}
            frames.append(pd.DataFrame({"panel": name, "series": label, "seed": run.seed, **curve}))
    return pd.concat(frames, ignore_index=True)


def gap(curves):
    """The largest distance from the prediction, as a share of the mode's singular value, one number a seed."""
    distance = (curves["measured"] - curves["exact"]).abs() / curves["final"]
    return distance.groupby(curves["seed"]).max().loc[seeds].tolist()


def largest_modes(curves):
    """The rows of the first two levels, whose singular values no other mode shares."""
    return curves[curves["series"].isin(list(modes_of)[:2])]


learned = {name: learning_curves(name) for name in settings}
learned["unbalanced start"]["exact"] = learned["decoupled start"]["exact"]  # the same function at the start
gaps = {name: gap(curves) for name, curves in learned.items()}
U, s, V = (part.numpy() for part in task.modes)
modes_of = levels(s)

sd.show.against_theory(
    pd.concat([learned["decoupled start"], learned["small random start"]]),
    name="fig-learning-curves",
    caption="A two-layer linear network learns a family tree by gradient descent, a line a seed. Each colour is one singular value "
    "of the tree; the line shows how strongly the network has learned what belongs to it. Grey: the closed form.",
    ylabel="strength of the mode",
    x="time",
    alt="Strength of the modes of the tree over time. Each rises in an S-shaped curve to its singular value, the larger ones "
    f"earlier. Largest distance from the closed form: {max(gaps['decoupled start']):.1%} of the singular value from a decoupled "
    f"start, {max(gaps['small random start']):.1%} from a small random start.",
)

# %% [markdown]
# :::{admonition} On this page
# **You will be able to explain** what the singular values and vectors of a weight matrix are; what effective rank, agreement and
# alignment measure, and what they are by chance; and why large singular values are learned first.
#
# **You need** matrix products and the idea of gradient descent. You need not train anything first.
# :::

# %% [markdown]
# ## A photograph
#
# A grey photograph is a matrix: one number a pixel. Any matrix $W$ with $m$ rows and $n$ columns can be written as a sum of
# $R = \min(m, n)$ very simple ones,
#
# $$ W = \sum_{j=1}^{R} s_j\, u_j v_j^\top, \qquad s_1 \ge s_2 \ge \dots \ge s_R \ge 0. $$
#
# Each term is a column pattern $u_j$ times a row pattern $v_j$, all patterns of length 1 and at right angles to each other. The
# $s_j$ are the {term}`singular values <singular value>`, together the {term}`spectrum` of $W$; the patterns are its
# {term}`singular vectors <singular vector>`. Keeping only the first $k$ terms is a {term}`truncation`, and no other matrix of rank
# $k$ is closer to $W$ {cite}`eckart1936approximation`.

# %%
photo = load_sample_image("china.jpg").mean(axis=2) / 255  # grey values from 0 to 1
photo = photo[::2, ::2]  # every second pixel is enough
svd = sd.decompose(torch.from_numpy(photo))
kept = [1, 5, 20, 60]
truncated = {k: sd.truncate(svd, k).numpy().clip(0, 1) for k in kept}

# %% tags=["hide-input"]
energy = (svd.S**2 / (svd.S**2).sum()).numpy()
held = {k: energy[:k].sum() for k in kept}
sd.show.images(
    {**{f"{k} of {len(svd.S)}": image for k, image in truncated.items()}, "all": photo},
    columns=3,
    name="fig-photo",
    caption="A photograph and its truncations to the largest singular values (photo bundled with scikit-learn).",
    alt="Five versions of a photograph of a pavilion. With "
    + ", ".join(f"{k} components {share:.1%}" for k, share in held.items())
    + " of the squared norm; the building is a blur of stripes at first and plain to see at the end.",
    data=pd.DataFrame({"components": kept, "share of the squared norm": list(held.values())}),
)

# %% [markdown]
# The squared singular values add up to the squared {term}`Frobenius norm`, the sum of all squared entries. So one can say what
# share of a picture is in its first $k$ components. But does a fast fall of the spectrum say anything? Compare with a control:
# the same grey values, shuffled. Same numbers, same norm, no picture.


# %%
def shuffle(seed):
    return np.random.default_rng(seed).permutation(photo.ravel()).reshape(photo.shape)


of_noise = [sd.singular_values(torch.from_numpy(shuffle(seed))) for seed in seeds]

# %% tags=["hide-input"]
sd.show.spectra(
    {
        "photograph": [svd.S.numpy()],
        "shuffled": [spectrum.numpy() for spectrum in of_noise],
    },
    name="fig-photo-spectrum",
    caption="Singular values of the photograph and of its shuffled pixels (a line a seed), on a logarithmic axis. Both have one "
    "large value, the mean brightness. After it the photograph's fall steeply, the noise has a shelf.",
)

# %% [markdown]
# ## How many directions are in use?
#
# Count the singular values that are not zero, and you have the {term}`rank`. For a photograph, as for every trained weight, it is
# useless: nothing is ever exactly zero. A softer count treats the spectrum as shares $p_i = s_i / \sum_j s_j$ and asks how evenly
# they are spread, by their {term}`spectral entropy` $H$. Then $\exp(H)$ is a number of directions, and divided by the number
# there are it is the {term}`effective rank` {cite}`roy2007effective`:
#
# $$ H = -\sum_{i=1}^{R} p_i \log p_i, \qquad \mathrm{er}(W) = \frac{\exp(H)}{R} \in (0, 1]. $$
#
# It is 1 if all singular values are equal, $1/R$ if there is only one, and it does not change when $W$ is multiplied by a number.

# %%
of_photo = float(sd.effective_rank(svd.S))
of_shuffled = [float(sd.effective_rank(spectrum)) for spectrum in of_noise]

# %% tags=["remove-input"]
Markdown(
    f"The photograph has effective rank **{of_photo:.3f}**: in effect {of_photo * len(svd.S):.0f} of its {len(svd.S)} directions. "
    f"Its shuffled pixels have **{min(of_shuffled):.3f} to {max(of_shuffled):.3f}**."
)

# %% [markdown]
# ## A network made by hand
#
# Now a network without training, whose spectra can be worked out on paper. It reads eight numbers on a ring. `shift` moves each one
# place further. `blur` replaces each by $\tfrac14, \tfrac12, \tfrac14$ of its left neighbour, itself and its right neighbour. `mean`
# replaces all by their average. `pairs` adds the first two, the next two, and so on.

# %%
ring = torch.eye(8)
layers = OrderedDict(
    shift=ring.roll(1, dims=0),
    blur=ring / 2 + (ring.roll(1, dims=0) + ring.roll(-1, dims=0)) / 4,
    mean=torch.full((8, 8), 1 / 8),
    pairs=torch.eye(4).repeat_interleave(2, dim=1),
)
network = nn.Sequential(
    OrderedDict((name, nn.Linear(8, len(W), bias=False)) for name, W in layers.items()),
)
for name, W in layers.items():
    network.get_submodule(name).weight.data = W
sd.describe(network)

# %% tags=["hide-input"]
sd.show.images(
    layers,
    name="fig-hand-made",
    caption="The four weight matrices. Each row is what one output reads. White is the largest entry, black is zero.",
    alt="Four matrices: a diagonal moved by one place, a broad diagonal band, a uniform grey square, and a staircase of four "
    "rows with two entries each.",
    data=pd.concat(
        pd.DataFrame(W.numpy())
        .rename_axis("row")
        .melt(ignore_index=False, var_name="column")
        .assign(matrix=name)
        .reset_index()
        for name, W in layers.items()
    ),
)

# %% [markdown]
# :::{admonition} Predict, then reveal: which of the four uses all of its directions, and which only one?
# :class: dropdown
# `shift` only moves numbers about. It stretches nothing: all singular values are 1, effective rank 1. So do all rotations.
#
# `pairs` adds two numbers for each of its four outputs. Its rows are at right angles and equally long, $\sqrt 2$: all four singular
# values are $\sqrt 2$, effective rank 1, although half of what it reads is lost. Effective rank counts only the $R = \min(m, n)$
# directions a matrix of this shape can have.
#
# `mean` has only one direction, the constant one: effective rank $1/8$.
#
# `blur` is in between. On a ring the patterns are waves; a wave with $k$ periods is blurred by the factor $(1 + \cos(2 \pi k / 8)) / 2$.
# Slow waves pass, the fastest one is wiped out.
# :::

# %%
waves = np.sort((1 + np.cos(2 * np.pi * np.arange(8) / 8)) / 2)[::-1]
predicted = {
    "shift": np.ones(8),
    "blur": waves,
    "mean": np.eye(8)[0],
    "pairs": np.full(4, 2**0.5),
}
snapshot = sd.measure(network)  # every matrix decomposed once
measured = {name: snapshot[f"{name}.weight"] for name in predicted}  # all else is read off it

pd.DataFrame(
    {
        "largest error of a singular value": np.abs(measured[name].singular_values - x).max(),
        "effective rank predicted": sd.effective_rank(x),
        "effective rank measured": measured[name].effective_rank,
        "stable rank": measured[name].stable_rank,
    }
    for name, x in predicted.items()
).set_axis(list(predicted)).round(6)

# %% [markdown]
# ### Does one layer read what the other writes?
#
# A layer reads along its right vectors $v_j$ and writes along its left vectors $u_j$. If layer 1 feeds layer 2, their
# {term}`alignment` compares what is written with what is read, $|\langle u_j, v'_j \rangle|$, for each $j$:

# %%
blur, mean, pairs = (measured[name].svd for name in ("blur", "mean", "pairs"))
{
    "blur, then mean": sd.alignment(blur, mean).numpy().round(3),
    "mean, then pairs": sd.alignment(mean, pairs).numpy().round(3),
}

# %% [markdown]
# What `blur` lets through best is the constant pattern, and it is just what `mean` reads: the first number is 1. The others are
# `nan`, *undefined*, because `mean` has no second component. Undefined is not zero; the library leaves such entries out of every
# average. The single number for `mean, then pairs` has another catch: `pairs` stretches four directions equally, so *which* of them
# is called the first is arbitrary. We come back to this {ref}`below <singular-values-fail>`.
#
# The same idea compares one matrix with another of the same shape, say a weight before and after training, or in two networks: the
# {term}`agreement` $|\langle u_j, u'_j\rangle \langle v_j, v'_j\rangle|$.
#
# ### What would chance give?
#
# Two random directions are not at right angles exactly. In $d$ dimensions the mean of $|\langle u, v \rangle|$ is
#
# $$ c(d) = \frac{\Gamma(d/2)}{\sqrt\pi\, \Gamma((d+1)/2)} \approx \sqrt{\frac{2}{\pi d}}, $$
#
# and for agreement the two sides multiply. A score means little before it is compared with this {term}`chance level`: an alignment
# of 0.2 is nothing in 16 dimensions and a lot in 1,000.

# %%
repeats = 400
(outputs, inputs), hidden = task.target.shape, task.hidden  # the network of the next section


def random_scores(seed):
    """Alignment and agreement of random matrices: (mean, standard error) each."""
    draw = torch.Generator().manual_seed(seed)
    first = sd.decompose(torch.randn(repeats, hidden, inputs, generator=draw))
    other = sd.decompose(torch.randn(repeats, hidden, inputs, generator=draw))
    second = sd.decompose(torch.randn(repeats, outputs, hidden, generator=draw))
    scores = [sd.alignment(first, second), sd.agreement(first, other)]
    each = [x.mean(-1) for x in scores]  # one number a matrix
    return [(float(x.mean()), float(x.std()) / repeats**0.5) for x in each]


by_chance = [sd.alignment_chance(hidden), sd.agreement_chance(hidden, inputs)]
drawn = {seed: random_scores(seed) for seed in seeds}

# %% tags=["remove-input"]
Markdown(
    f"For matrices as large as those of the next section the formula says {by_chance[0]:.4f} for alignment and {by_chance[1]:.4f} for "
    f"agreement; {repeats} random matrices give, seed by seed, "
    + "; ".join(f"{a:.4f} and {b:.4f}" for (a, _), (b, _) in drawn.values())
    + "."
)

# %% [markdown]
# ## A network that learns a family tree
#
# Eight musical instruments hang on a tree: violin and cello, guitar and harp, flute and clarinet, trumpet and horn. They all make sound;
# the first four have strings, the others are blown; of the strings two are bowed and two plucked, of the winds two are of wood and two of
# brass; and each has something that none of the others has. The matrix to learn has a column for each instrument and a row for each
# property, 1 where it applies. (The higher tiers grow larger trees.)

# %%
tree = task.target.numpy()
svd_tree = sd.decompose(task.target)

# %% tags=["hide-input"]
parts = {label: sum(s[k] * np.outer(U[:, k], V[:, k]) for k in modes) for label, modes in modes_of.items()}
sd.show.images(
    {"the tree": tree, **parts},
    columns=5,
    signed=True,
    name="fig-tree",
    caption="The tree (rows: properties, from the one that all have to those that only one has; columns: instruments) and its "
    "singular components, those with equal singular values added up. Purple is positive, orange negative.",
    alt=f"The tree as a matrix of {tree.shape[0]} rows and {tree.shape[1]} columns, and its components. The first says what all "
    "instruments share, the second sets one half of them against the other, the next ones split the halves, then the quarters.",
    data=pd.concat(
        pd.DataFrame(part)
        .rename_axis("row")
        .melt(ignore_index=False, var_name="column")
        .assign(matrix=name)
        .reset_index()
        for name, part in {"the tree": tree, **parts}.items()
    ),
)

# %% [markdown]
# The singular components are the branches of the tree, from broad to fine: this construction is due to
# {cite:t}`saxe2019mathematical`. Their sizes can be worked out on paper. Two instruments share as many properties as they have
# common ancestors, and counting along each split gives for depth $D$ the squared singular values $2^{D+1} - 1$ once, and
# $2^{j} - 1$ for $j = D, \dots, 1$, in turn 1, 2, 4, … times.

# %% tags=["remove-input"]
depth = task.depth
by_hand = [2 ** (depth + 1) - 1] + [2**j - 1 for level, j in enumerate(range(depth, 0, -1)) for _ in range(2**level)]
Markdown(
    f"By hand for depth {depth}: {', '.join(map(str, by_hand[:8]))}{', …' if len(by_hand) > 8 else ''}. "
    f"Measured, squared: {', '.join(f'{x:.4g}' for x in (svd_tree.S[:8] ** 2).tolist())}. The tree uses "
    f"{float(sd.effective_rank(svd_tree.S)) * len(s):.1f} of {len(s)} directions."
)

# %% [markdown]
# The network has two layers and nothing else: no bias, no nonlinearity. As a function it is just the product $W_2 W_1$, a single
# matrix. As a learner it is more than that, because gradient descent acts on the two factors.

# %%
sd.describe(sd.tasks.build(task, seed=seeds[0]))

# %% [markdown]
# :::{admonition} Predict, then reveal: all branches start equally small. Which are learned first, and what does the effective rank do?
# :class: dropdown
# The broad ones first, each with a sudden rise after a long wait: {numref}`fig-learning-curves`. The effective rank of $W_2 W_1$ goes
# *down* before it goes up: {numref}`fig-directions`. At the start everything is equally small, which counts as many directions. When
# the first branch shoots up, one direction outgrows all others. Then the others join, one level at a time.
# :::
#
# ### The closed form
#
# Write $a(t)$ for the strength of one {term}`mode` $u v^\top$ of the tree in the product, $a = u^\top W_2 W_1 v$, and $s$ for its
# singular value. If each mode has a hidden direction of its own, and both layers have the same share in it, then gradient descent with
# small steps obeys {cite}`saxe2014exact`
#
# $$ \frac{da}{dt} = 2 a\, (s - a), \qquad a(t) = \frac{s}{1 + (s/a_0 - 1)\, e^{-2 s t}}, $$
#
# with time $t$ = learning rate times step. While $a$ is small it grows like $e^{2st}$: a mode with twice the singular value is learned
# in about half the time. The two lines at the top of this page that matter are these:
#
# ```python
# def closed_form(time, s, a0):
#     return s / (1 + (s / a0 - 1) * np.exp(-2 * s * time))
# ```
#
# In the *decoupled* start of {numref}`fig-learning-curves` these conditions hold, and only the hidden directions are random. The other
# panel starts like any network, from small random weights. There the conditions hold only roughly, and the starting strength $a_0$ has
# to be read off the initial weights: what the first layer makes of $v$ and what the second turns into $u$, averaged, squared. Nothing is
# fitted.

# %% tags=["remove-input"]
singles = max(gap(largest_modes(learned["small random start"])))
Markdown(
    f"From the decoupled start the network stays within **{max(gaps['decoupled start']):.1%}** of the closed form (of the mode's "
    f"singular value, at any time, worst mode and seed); the rest is the size of the steps. The seeds only turn the hidden layer, so "
    f"their curves are the same. From small random weights the two largest modes stay within **{singles:.1%}**. The finer ones, of which "
    f"several share one singular value, come a little late, and where a curve is steep a little late is far off: "
    f"**{max(gaps['small random start']):.1%}** at worst. They compete for hidden directions, which the closed form leaves out."
)

# %% [markdown]
# ### Through its spectrum
#
# Each snapshot of the run holds the singular values of both layers. Move the slider: level by level they rise out of the floor. The second
# layer has more singular values than there are modes; the ones left over never move.

# %% tags=["hide-input"]
sd.show.Scrubber(
    runs.sel(task="small random start")[0].recording,
    {"share of the error left": "share_left"},
    name="scrubber-linear-network",
    caption=f"One run from small random weights (seed {seeds[0]}), step by step. Use the mouse, or the arrow keys on the slider.",
)

# %%
R = len(s)


def directions(recording):
    """exp(H): how many directions the product of both layers uses."""
    spectrum = [recording.metrics[f"product_{k}"] for k in range(1, R + 1)]
    return sd.effective_rank(np.column_stack(spectrum)) * R


def recordings(*names):
    return {name: [run.recording for run in runs.sel(task=name)] for name in names}


# %% tags=["hide-input"]
sd.show.curves(
    sd.show.over_steps(
        recordings("decoupled start", "small random start"),
        {"product of both layers": directions},
    ),
    ylabel="directions in use, exp(H)",
    level={"the tree itself": float(sd.effective_rank(svd_tree.S)) * R},
    ylim=(0, R + 0.3),
    name="fig-directions",
    caption="Directions that the product of both layers uses, over training, a line a seed. Effective rank is this number divided by "
    "how many there are.",
)

# %% [markdown]
# This fall and rise is worth remembering. *Low rank* need not mean that something was thrown away: here it means that the rest has not
# been learned yet. And effective rank is blind to size: it falls while the product as a whole is still small.
#
# ### The layers find each other
#
# Start again from small random weights. At first the two layers know nothing of each other. But what one learns shapes the gradient of the
# other: the difference $W_1 W_1^\top - W_2^\top W_2$ never changes under gradient descent with small steps {cite}`arora2018optimization`.
# It starts small, so whatever grows must grow in both layers, along the same hidden directions. As the layers
# grow, the difference becomes small beside them: they are nearly {term}`balanced`, and aligned.


# %%
def first_two(recording):
    diagonal = recording.alignments[sd.spectra.Pair("first.weight", "second.weight")]
    return diagonal[:, :2].mean(axis=1)


# %% tags=["hide-input"]
sd.show.curves(
    sd.show.over_steps(
        recordings("small random start", "large random start"),
        {"alignment": first_two},
    ),
    ylabel="alignment",
    level={"chance": sd.alignment_chance(task.hidden)},
    ylim=(0, 1.03),
    name="fig-layers-align",
    caption="Alignment of both layers in their two largest components, a line a seed. Right: the same network from large weights.",
)

# %% [markdown]
# ### Same function, other weights
#
# Two seeds learn the same product. Do they have the same weights?

# %%
finals = {run.seed: run.model() for run in runs.sel(task="small random start")}
products = {seed: sd.decompose(model.product) for seed, model in finals.items()}
firsts = {seed: sd.measure(model)["first.weight"].svd for seed, model in finals.items()}


def compare(a, b):
    """Scores of the first two components, which share their singular value with no other."""
    read = (firsts[a].Vh * firsts[b].Vh).sum(-1).abs()
    return {
        "seeds": f"{a} and {b}",
        "agreement of the products": sd.top_score(sd.agreement(products[a], products[b]), k=2).item(),
        "agreement of the first layers": sd.top_score(sd.agreement(firsts[a], firsts[b]), k=2).item(),
        "of what these read": read[:2].mean().item(),
    }


each_with_the_next = zip(seeds, seeds[1:] + seeds[:1], strict=True)
agreements = pd.DataFrame(compare(a, b) for a, b in each_with_the_next)
agreements.round(3)

# %% tags=["remove-input"]
Markdown(
    "The products agree. The first layers do not: they read the same input patterns, but write them in hidden directions of their own. Since "
    "what they read agrees, chance for the two sides together is that of the hidden side alone, "
    f"{sd.alignment_chance(task.hidden):.3f}. Any rotation of the hidden layer gives the same function. Keep this in mind when networks are "
    "compared weight by weight, as in the chapters to come."
)

# %% [markdown]
# ## An intervention: turn the strengths round
#
# The broad branches are learned first, says the theory, *because* their singular values are large. But they also differ in other ways:
# they concern more instruments. So we turn the strengths round and leave all directions as they are: each singular value $s_j$ is
# replaced by $s_1 s_R / s_j$. Now the finest distinctions are the strongest. If breadth were what counts, the order of learning would
# stay.


# %%
def half_times(name, column="measured"):
    """When each level is half learned, strongest first: an array (seeds, levels)."""

    def half(curve):
        share = np.maximum.accumulate(curve[column] / curve["final"])
        return np.interp(0.5, share, curve["time"])

    curves = learned[name].groupby(["seed", "series"], sort=False)
    return np.array([half(curve) for _, curve in curves]).reshape(len(seeds), -1)


as_it_is = half_times("small random start")  # the strongest level is the broadest
turned_round = half_times("strengths turned round")[:, ::-1]  # here the weakest one is

# %% tags=["hide-input"]
branches = ["what all share"] + [f"{2**level} branches" for level in range(1, len(modes_of))]
sd.show.dots(
    pd.DataFrame(
        {"category": branch, "series": name, "seed": seed, "value": times[i, j], "faint": False}
        for name, times in {"the tree": as_it_is, "strengths turned round": turned_round}.items()
        for i, seed in enumerate(seeds)
        for j, branch in enumerate(branches)
    ),
    xlabel="time at which half is learned",
    name="fig-turned-round",
    caption="When each level of the tree is half learned, from small random weights, a dot a seed: for the tree itself, and for the same "
    "directions with their strengths turned round.",
    alt="Time at which half is learned, median over seeds. "
    + "; ".join(
        f"{branch}: {a:.2f} in the tree, {b:.2f} turned round"
        for branch, a, b in zip(branches, np.median(as_it_is, axis=0), np.median(turned_round, axis=0), strict=True)
    )
    + ".",
)

# %% [markdown]
# (singular-values-fail)=
# ## When this fails
#
# ### Large or unbalanced weights
#
# The closed form needs a small start, or balanced layers. Start the same network from random weights of ordinary size, or give one layer
# all the weight and the other none (the second layer times a large number, the first divided by it: the same function at the start!).

# %% tags=["hide-input"]
sd.show.against_theory(
    pd.concat([learned["large random start"], learned["unbalanced start"]]).query("time <= 2"),
    name="fig-theory-fails",
    caption="The same network and tree from large random weights, and from layers of very different size; the first third of the run. "
    "Grey: the closed form, with the starting strength read off the initial weights (left), and for balanced layers that begin as the "
    "same function (right).",
    ylabel="strength of the mode",
    x="time",
    alt="Strength of the modes over time where the closed form fails. Largest distance from it, as a share of the singular value, "
    f"over the seeds: {min(gaps['large random start']):.2f} to {max(gaps['large random start']):.2f} from large weights, "
    f"{min(gaps['unbalanced start']):.2f} to {max(gaps['unbalanced start']):.2f} from unbalanced layers.",
)

# %% [markdown]
# From large weights the network learns everything at once and hardly aligns ({numref}`fig-layers-align`, right). There are no stages to
# be seen in its spectrum. Unbalanced layers do not wait: the large layer carries the gradient to the small one from the first step on, and
# the curves lose the foot of their S. Whether a real network is near the one or the other end is a question to measure.
#
# ### Equal singular values
#
# {numref}`fig-layers-align` shows the alignment of the first *two* components. Why stop at two? Because the tree's next two singular
# values are equal. Here is the whole table $|\langle u_j, v'_k \rangle|$ for one run, before and after training:


# %%
def table(model):
    snapshot = sd.measure(model)
    first, second = snapshot["first.weight"].svd, snapshot["second.weight"].svd
    return (first.U.mT @ second.Vh.mT).abs()[:, :R].numpy()


run = runs.sel(task="small random start")[0]
tables = {"before": table(run.model(0)), "after": table(run.model())}

# %% tags=["hide-input"]
sd.show.images(
    tables,
    columns=2,
    name="fig-overlap",
    caption=f"What each hidden direction that the first layer writes (rows) has in common with each that the second layer reads "
    f"(columns), seed {seeds[0]}. Black is 0, white is 1. Alignment is the diagonal.",
    alt="Two tables of overlaps. Before training all entries are small. After training the first two diagonal entries are "
    + " and ".join(f"{x:.2f}" for x in np.diagonal(tables["after"])[:2])
    + "; then the diagonal entries are "
    + " and ".join(f"{x:.2f}" for x in np.diagonal(tables["after"])[2:4])
    + ", and those beside the diagonal "
    + " and ".join(f"{tables['after'][i, 5 - i]:.2f}" for i in (2, 3))
    + ".",
    data=pd.concat(
        pd.DataFrame(x).rename_axis("written").melt(ignore_index=False, var_name="read").assign(when=when).reset_index()
        for when, x in tables.items()
    ),
)

# %% [markdown]
# The third component of one layer is the *fourth* of the other, and the diagonal sees nothing. This is no accident: both modes end at
# the same strength, so where the first layer took a little more of one, the second layer took a little less, and their order swaps.
# In a real network exactly equal singular values are rare, close ones are not. An alignment or agreement below chance is a hint to
# look at the table around the diagonal.

# %% [markdown]
# ## Claims
#
# What this page says, tested on every seed.


# %% tags=["remove-input"]
def per_seed(test):
    return [bool(test(i)) for i in range(len(seeds))]


def over_seeds(name, quantity):
    return [quantity(run.recording) for run in runs.sel(task=name)]


exact_times, whole = half_times("small random start", "exact"), float(sd.effective_rank(svd_tree.S)) * R
late_by = (np.abs(as_it_is / exact_times - 1)).max(axis=1).tolist()
used = {name: over_seeds(name, directions) for name in ("small random start", "large random start")}
ends = {name: [x[-1] for x in over_seeds(name, first_two)] for name in ("small random start", "large random start")}

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "F1",
    "From a balanced, decoupled start every mode's strength follows the closed form at all times, within 2 % of its singular value.",
    holds=per_seed(lambda i: gaps["decoupled start"][i] < 0.02),
    tier=tier,
    task="linear network",
    measured={"largest distance": gaps["decoupled start"]},
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "F2",
    "From small random weights the modes are half learned in the order of their singular values, each within 15 % of the time that the "
    "closed form gives for the strength read off the initial weights.",
    holds=per_seed(lambda i: bool((np.diff(as_it_is[i]) > 0).all()) and late_by[i] < 0.15),
    tier=tier,
    task="linear network",
    measured={
        "half time, largest relative error": late_by,
        "half time, first mode": as_it_is[:, 0],
        "half time, last mode": as_it_is[:, -1],
    },
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "F3",
    "From small random weights the product's directions in use first fall to less than half of the tree's, and then rise to within 0.1 "
    "of them.",
    holds=per_seed(
        lambda i: (
            min(used["small random start"][i]) < whole / 2 and abs(used["small random start"][i][-1] - whole) < 0.1
        )
    ),
    tier=tier,
    task="linear network",
    measured={
        "directions at the start": [x[0] for x in used["small random start"]],
        "directions, fewest": [min(x) for x in used["small random start"]],
        "directions at the end": [x[-1] for x in used["small random start"]],
        "directions of the tree": whole,
    },
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "F4",
    "From small random weights both layers end aligned in their first two components (above 0.95); from large ones they do not (below 0.5).",
    holds=per_seed(lambda i: ends["small random start"][i] > 0.95 and ends["large random start"][i] < 0.5),
    tier=tier,
    task="linear network",
    measured={f"final alignment, {name}": values for name, values in ends.items()},
    chance=sd.alignment_chance(task.hidden),
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "F5",
    "Size, not breadth, decides what is learned first: with the strengths turned round, the order of learning turns round.",
    holds=per_seed(lambda i: bool((np.diff(as_it_is[i]) > 0).all() and (np.diff(turned_round[i]) < 0).all())),
    tier=tier,
    task="linear network",
    measured={"half time, broadest": turned_round[:, 0], "half time, finest": turned_round[:, -1]},
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "F6",
    "Two seeds learn the same product (agreement of the first two components above 0.99) with different first layers (below 0.8).",
    holds=per_seed(
        lambda i: (
            agreements["agreement of the products"][i] > 0.99 and agreements["agreement of the first layers"][i] < 0.8
        )
    ),
    tier=tier,
    task="linear network",
    measured={name: agreements[name] for name in ("agreement of the products", "agreement of the first layers")},
    chance=sd.alignment_chance(task.hidden),
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "F7",
    "The closed forms of the chance levels agree with the mean over random matrices, within four standard errors.",
    holds=[
        all(abs(mean - level) < 4 * error for (mean, error), level in zip(scores, by_chance, strict=True))
        for scores in drawn.values()
    ],
    tier=tier,
    task="random matrices",
    measured={
        "alignment": [scores[0][0] for scores in drawn.values()],
        "agreement": [scores[1][0] for scores in drawn.values()],
        "agreement by the closed form": by_chance[1],
    },
    chance=by_chance[0],
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "F8",
    "From large random weights there are no stages: the product never uses fewer than three quarters of its directions.",
    holds=per_seed(lambda i: min(used["large random start"][i]) > 0.75 * R),
    tier=tier,
    task="linear network",
    measured={"fewest directions": [min(x) for x in used["large random start"]]},
)

# %% [markdown]
# ## Paper and this book
#
# This page is about words that the paper {cite}`yunis2024approaching` uses and every later chapter needs; its experiments are ours.
#
# | | the paper | this book |
# |---|---|---|
# | effective rank | the text gives $H/R$ (Equation 1), the code computes $\exp(H)/R$ | $\exp(H)/R$, which lies in $(0, 1]$ like the paper's figures |
# | alignment, agreement | Equations 3 and 5, their diagonals; the mean of the first ten is the score | the same, with the chance level beside every score |
# | undefined directions | not treated | left out of every mean |
# | decomposition | single precision | double precision; every singular value above $10^{-6}$ of the largest is exact to four digits |
# | embeddings | stored as (words, width), read with their ends exchanged | transposed, so that every matrix maps input to output; same spectrum |

# %% [markdown]
# ## Exercises
#
# Each check says what is wrong with an answer. The cells below hold answers that are not right yet: edit and run them.
#
# ```{exercise} Effective rank by hand
# :label: ex-effective-rank
#
# Write `my_effective_rank(W)` for a matrix $W$ as a NumPy array, with NumPy alone. *(10 minutes)*
# ```


# %%
def my_effective_rank(W):
    s = np.linalg.svd(W, compute_uv=False)
    p = s / s.sum()
    return np.exp(-(p * np.log(p)).sum()) / min(W.shape)


check_effective_rank(my_effective_rank)

# %% [markdown]
# ```{hint}
# :class: dropdown
# There are three steps: shares that sum to 1, their entropy, then the exponential divided by $R$. What is $R$ for a 6 by 4 matrix, and what
# is $0 \log 0$ to a computer?
# ```
#
# ```{solution-start} ex-effective-rank
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def my_effective_rank(W):
    s = np.linalg.svd(W, compute_uv=False)
    p = s / s.sum()
    p = p[p > 0]  # 0 log 0 is 0
    return np.exp(-(p * np.log(p)).sum()) / min(W.shape)


check_effective_rank(my_effective_rank)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} How many components does a picture need?
# :label: ex-components
#
# Write `components(W, share)`: the smallest number of top components that hold at least this share of the squared Frobenius norm. Then try
# a picture of your own: `matplotlib.pyplot.imread` gives you an array, its mean over the last axis a matrix. *(10 minutes)*
# ```


# %%
def components(W, share):
    s = np.linalg.svd(W, compute_uv=False)
    return int((s.cumsum() < share * s.sum()).sum()) + 1


check_components(components)

# %% [markdown]
# ```{hint}
# :class: dropdown
# The squared norm is the sum of *squared* singular values. And an index that counts from 0 is one less than a number of components.
# ```
#
# ```{solution-start} ex-components
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def components(W, share):
    energy = np.linalg.svd(W, compute_uv=False) ** 2
    reached = energy.cumsum() / energy.sum() >= share
    return int(np.argmax(reached)) + 1  # the first place where it is reached


check_components(components)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Alignment by hand
# :label: ex-alignment
#
# Write `my_alignment(first, second)` for the weights of two layers, `first` feeding `second`: $|\langle u_j, v'_j\rangle|$ for every $j$
# that both have. *(10 minutes)*
# ```


# %%
def my_alignment(first, second):
    U = np.linalg.svd(first, full_matrices=False)[0]
    Vh = np.linalg.svd(second, full_matrices=False)[2]
    return np.diagonal(U.T @ Vh.T)


check_alignment(my_alignment)

# %% [markdown]
# ```{hint}
# :class: dropdown
# `np.linalg.svd` returns $V^\top$: its rows are the $v_j$. What does a sign mean for a singular vector?
# ```
#
# ```{solution-start} ex-alignment
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def my_alignment(first, second):
    U, _, _ = np.linalg.svd(first, full_matrices=False)
    _, _, Vh = np.linalg.svd(second, full_matrices=False)
    k = min(U.shape[1], Vh.shape[0])
    return np.abs(np.sum(U[:, :k] * Vh[:k].T, axis=0))


check_alignment(my_alignment)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} When is a mode half learned?
# :label: ex-half-time
#
# Solve the closed form for the time at which $a(t) = s/2$ and write it as `half_time(s, a0)`. By how much is a mode with half the singular
# value later, if both start at $s/1000$? *(10 minutes)*
# ```


# %%
def half_time(s, a0):
    return np.log(s / a0 - 1) / s


check_half_time(half_time)

# %% [markdown]
# ```{hint}
# :class: dropdown
# $a(t) = s/2$ means that the denominator $1 + (s/a_0 - 1)\, e^{-2st}$ equals 2.
# ```
#
# ```{solution-start} ex-half-time
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def half_time(s, a0):
    return np.log(s / a0 - 1) / (2 * s)


check_half_time(half_time)

# %% [markdown]
# With $a_0 = s/1000$ the logarithm is the same for both modes, so half the singular value takes exactly twice the time.
#
# ```{solution-end}
# ```
#
# ```{exercise} Your own network
# :label: ex-own-network
#
# Take a network that *you* have trained, in PyTorch or anywhere else (copy its weights into `nn.Linear` layers). Write
# `most_ordered(model)`: the name of the matrix whose effective rank lies furthest below that of a random matrix of its shape, as a ratio.
# `sd.measure(model)` is a dictionary of spectra by name, and `random_rank(shape)` gives the effective rank of a random matrix. Which
# matrix is it, and did you expect it? *(half an hour)*
# ```


# %%
my_network = nn.Sequential(nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 10))  # put yours here


def most_ordered(model):
    return min(sd.measure(model).values(), key=lambda matrix: matrix.effective_rank).name


check_most_ordered(most_ordered, my_network)

# %% [markdown]
# ```{hint}
# :class: dropdown
# The effective rank of a random matrix depends on its shape: a long one has nearly equal singular values, a square one has not. Each entry
# of the snapshot knows its `name`, `shape` and `effective_rank`.
# ```
#
# ```{solution-start} ex-own-network
# :class: dropdown
# ```
#
# Here on a small classifier of scikit-learn's digits, which scikit-learn trains:


# %%
def most_ordered(model):
    snapshot = sd.measure(model)
    ratio = {name: m.effective_rank / random_rank(m.shape) for name, m in snapshot.items()}
    return min(ratio, key=lambda name: ratio[name])


digits = load_digits()
trained = MLPClassifier((64, 64), alpha=1.0, batch_size=600, learning_rate_init=0.01, tol=1e-2, random_state=seeds[0])
trained.fit(digits.data / 16, digits.target)
my_network = nn.Sequential(*[nn.Linear(*weight.shape, bias=False) for weight in trained.coefs_])
for layer, weight in zip(my_network, trained.coefs_, strict=True):
    layer.weight.data = torch.from_numpy(weight.T).float()

check_most_ordered(most_ordered, my_network)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ## What this page does not show
#
# - **Nonlinear networks.** The closed form is exact for this network only. That large singular values grow first in real networks is an
#   observation, and the subject of the chapters to come.
# - **Noise and generalisation.** The tree is learned from all of its entries, without noise; nothing is held out.
# - **Causes of low rank at the end.** Here the final rank is the tree's. Weight decay, small batches or a large learning rate, which may lower
#   the rank of real weights, play no part.
# - **Depth.** With more than two layers the waits grow longer and the rises steeper {cite}`saxe2014exact`; here there are two.
#
# ## Further reading
#
# The closed form and its consequences for depth: {cite:t}`saxe2014exact`. What it says about how children and networks learn categories:
# {cite:t}`saxe2019mathematical`. Why one mode is learned after another, in deeper and other models: {cite:t}`gissin2020implicit`. Effective
# rank: {cite:t}`roy2007effective`. Truncation as best approximation: {cite:t}`eckart1936approximation`. Singular values of networks in
# practice, and the reason for this book: {cite:t}`yunis2024approaching`.
