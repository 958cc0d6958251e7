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
# Train a network for a while, then let copies of it go on with the data in other orders. Each ends somewhere else. Is every network on the straight line between two ends as good as they are? The paper
# {cite}`yunis2024approaching` says: copies that part at the very beginning have a wall of high loss between them; the later they part, the lower it is, and the more top singular vectors their weights have in
# common at the end. Noise undoes both. Is it the shared directions that connect them? We ask when they were learned, whether mere nearness would tell as much, and what happens when only the top
# components are averaged, or only the rest.

# %% tags=["parameters", "hide-input"]
tier = "laptop"  # smoke (a test), laptop (this page), gpu (real datasets), paper (the paper's own settings)
seeds = [10, 11, 12]  # one trunk, with its branches, for each; verdicts need at least three
device = "auto"  # auto, cpu or cuda

# %% tags=["hide-input"]
import copy
import itertools
from contextlib import suppress
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display
from scipy.stats import spearmanr
from torch.nn import functional as F

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
    Mixer,
    Plane,
    combined,
    line,
    match_activations,
    match_weights,
    permuted,
    perturbed,
    reestimate,
    repaired,
    symmetries,
    with_weights,
)
from specdyn.interventions.symmetries import shuffled
from specdyn.show import spread
from specdyn.spectra import (
    agreement,
    agreement_chance,
    decompose,
    matrices,
    subspace_agreement,
    subspace_agreement_chance,
)
from specdyn.tasks.image_data import logits
from specdyn.tasks.task import at_tier, build, generator
from specdyn.training import side_by_side
from specdyn.training.loop import resolve_device

torch.set_num_threads(1)  # the networks are too small to share among cores

plans = sd.tasks.branching(tier)  # images at the smoke and laptop tiers, all four tasks at the higher ones
tasks = {name: plan.task for name, plan in plans.items()}
splits = {name: plan.splits for name, plan in plans.items()}  # the steps at which branches part
epoch, branch_seeds = plans["images"].epoch, plans["images"].orders
parting = [split / epoch for split in splits["images"]]  # the same in epochs
strengths = at_tier(  # of noise, beside the size of each matrix
    {"smoke": (2.5,), "laptop": (0.5, 1.0, 2.5), "gpu": (0.5, 2.5), "paper": (0.1, 0.25, 0.5, 1.0, 2.5)}, tier
)
noise_place = at_tier({"smoke": 1, "laptop": 2, "gpu": 3, "paper": 9}, tier)  # which of these moments gets the noise

if clash := {*seeds} & {*branch_seeds}:
    raise ValueError(
        f"seed {min(clash)} would order the data of a trunk and of its branch, one run: choose other seeds"
    )

where = resolve_device(device)
data = {name: task.data(seeds[0], where) for name, task in tasks.items()}
moment = {name: found[noise_place] for name, found in splits.items()}

# %%
trunks = {
    name: {run.seed: run for run in sd.sweep(task, seed=seeds, keep={*splits[name], *plans[name].path}, device=device)}
    for name, task in tasks.items()
}


def branched(name, moments, split):
    """Branches from checkpoints of one step, given by trunk and by the seed that is to order their data."""
    brief = replace(tasks[name], every=tasks[name].steps)  # of branches only checkpoints are read
    keep = [step for step in plans[name].path if step >= split]
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


known = dict(tasks)  # with those that come up further below


def ends(name, trunk, split):
    """The trained networks that were one until a step: that of the trunk, then those of its branches."""
    return [networks[name, split, trunk, order] for order in (trunk, *branch_seeds)]


def between(name, one, two):
    """What the networks on the line from one to another do."""
    task = known[name]
    return line(task, one.to(where), two.to(where), task.data(seeds[0], where), points=6, batches=4, tolerance=0.02)


def with_lines(pairs):
    """Pairs, dictionaries with task, one and two among their entries, with the line between each."""
    pairs = list(pairs)
    jobs = [(pair["task"], pair["one"], pair["two"]) for pair in pairs]
    found = side_by_side(between, jobs, device=device, name="lines") if jobs else []
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
    pair for pair in siblings if pair["split"] in [splits[pair["task"]][i] for i in (0, (len(parting) - 1) // 2, -1)]
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
# **You will be able to explain** what linear mode connectivity is and how it is measured; what two trained networks must have in common to be averaged, and what they need not; how to tell a shared
# direction from mere nearness; what the order of the channels hides from a comparison of singular vectors; when an average of many networks is worth having.
#
# **You need** {term}`agreement` of singular vectors ({doc}`../foundations/singular_values`), and roughly how a ConvNet with {term}`BatchNorm` is trained.
# :::

# %% [markdown]
# ## Predict first

# %% tags=["remove-input"]
Markdown(
    f"""
A small ConvNet learns to read digits through clutter, in {tasks["images"].steps:,} updates, {epoch} to an epoch.

1. Two copies of one *untrained* network are trained with the data in two orders. Then their weights are averaged. Is the average better than guessing, whose loss is {np.log(10):.1f}?
2. Copies part at step {", ".join(map(str, splits["images"][1:-1]))} or {splits["images"][-1]} instead. From which on is the average as good as the ends?
3. With which does a trained network have more top directions in common: with the network from which it parted, or with its twin that parted there too and went its own way?
4. Two different initialisations, but the very same data in the very same order. How many top directions do they share?
"""
)

# %% [markdown]
# :::{admonition} Reveal
# :class: dropdown
# {numref}`fig-connectivity` and {numref}`fig-connectivity-splits` answer the first two questions, the table under [what a sceptic would ask](connectivity-sceptic) the third, and
# {numref}`fig-connectivity-others` the last.
# :::

# %% [markdown]
# ## The phenomenon
#
# ### Branches
#
# A *trunk* is trained to its end, and its full state is kept on the way: weights, momentum, BatchNorm's running statistics, the place in the learning-rate schedule. A *branch* starts
# from one of these states and differs from the trunk in nothing but the order in which it sees the data, which follows from its own seed. So a branch with the *trunk's* seed must
# be the trunk, to the last bit:

# %%
first, last = seeds[0], splits["images"][-1]
brief = replace(tasks["images"], every=tasks["images"].steps)
again = sd.train(brief, seed=first, start=trunks["images"][first].checkpoint(last), device=device, progress=False)
states = [run.checkpoint(brief.steps) for run in (trunks["images"][first], again)]
print(f"bit for bit the same at the end: {states[0].digest == states[1].digest}")

# %% [markdown]
# That is no matter of course. `load_state_dict` of an optimizer keeps references to the momentum of the state that it is given: a second branch from the same state then begins with the
# momentum at which the first one ended. The library copies what it restores. It also means that the trunk *is* one more branch at every split point, at no cost.
#
# (connectivity-barriers)=
# ### Barriers
#
# Networks on the straight line between two have the weights $(1-\alpha) W_1 + \alpha W_2$. The {term}`barrier` is how far the loss rises, at most, above the straight line between the
# losses of the two. In three lines:


# %%
def highest(at, losses):
    straight = (1 - at) * losses[0] + at * losses[-1]
    return (losses - straight).max()


one = siblings[0]["line"]
print(f"the same as the library's: {np.isclose(highest(one.at, one.values()), one.barrier())}")

# %% [markdown]
# The library looks at six points first, and at more where the loss bends. So it finds a barrier that is as wide as these are apart, wherever it lies; a narrower one shows if one of the points meets its flank. *Room* is how much
# higher the loss could be between points if it bends four times as much there as at them: an estimate, no bound. BatchNorm's statistics are estimated again at every point {cite}`jordan2023repair`. Losses are means over the
# same few batches for all pairs, so a barrier has a standard error. Two definitions are in use: the paper's, over the whole line with its ends, is never negative; the official code leaves the ends out, and can be.


# %% tags=["hide-input"]
def mean_over(found):
    return float(np.mean(list(found)))


def row_of(name, split):
    """What was found between the pairs that parted at a step."""
    found = [pair["line"] for pair in siblings if (pair["task"], pair["split"]) == (name, split)]
    errors = [100 * each.barrier("train_error") for each in found if "train_error" in each.metrics]
    return {
        "": f"{name}, step {split}" if len(tasks) > 1 else f"step {split}",
        "barrier": spread([each.barrier() for each in found]),
        "inside only": spread([each.barrier(over="interior") for each in found]),
        "standard error": spread([each.standard_error() for each in found], 3),
        "room": spread([each.room for each in found], 3),
        "points on a line": spread([len(each.at) for each in found], 0),
        "barrier in error, points": spread(errors, 1) if errors else "",
    }


pd.DataFrame(row_of(name, split) for name in tasks for split in splits[name]).set_index("")

# %% [markdown]
# ## Through its spectrum
#
# What do the two ends have in common? Component by component, the {term}`agreement` is $|\langle u_j, u'_j\rangle \langle v_j, v'_j\rangle|$: 1 if both matrices have the same $j$-th left and
# right singular vectors. The paper's score {cite}`yunis2024approaching` is the mean over the first ten. We take the mean of that over all matrices with at least 16 components; in smaller ones
# ten are most of what there is.


# %%
@cache
def components(network):
    """The decompositions of a network's matrices."""
    return {matrix.name: decompose(matrix.view, name=matrix.name) for matrix in matrices(network)}


judged = {
    name: [matrix.name for matrix in matrices(trunks[name][seeds[0]].model()) if min(matrix.shape) >= 16]
    for name in tasks
}


def agreements(name, one, two):
    """Agreement component by component, for each of the matrices that are judged."""
    one, two = components(one), components(two)
    return {key: agreement(one[key], two[key]).nan_to_num(0).numpy() for key in judged[name]}


def score(values):
    """The mean over the first ten components, and of that the mean over the matrices."""
    return mean_over(found[:10].mean() for found in values.values())


# %% tags=["hide-input"]
def weights(name, network):
    """The matrices that are judged."""
    return {matrix.name: matrix.view.double() for matrix in matrices(network) if matrix.name in judged[name]}


def spaces(name, one, two):
    """How much of the spaces of the ten largest components is shared, in whatever order; mean over the matrices."""
    one, two = components(one), components(two)
    return mean_over(float(subspace_agreement(one[key], two[key])) for key in judged[name])


def distance(name, one, two):
    """How far two networks lie apart, as a share of their size; mean over the matrices."""
    one, two = weights(name, one), weights(name, two)
    return mean_over(float((one[key] - two[key]).norm() / (one[key].norm() * two[key].norm()).sqrt()) for key in one)


def at_random(name, one, two, seed):
    """The agreement of networks with the same middle and the same distance, but apart in a random direction."""
    one, two = weights(name, one), weights(name, two)
    found = {}
    for key in one:
        middle, half = (one[key] + two[key]) / 2, (one[key] - two[key]).norm() / 2
        noise = torch.randn(middle.shape, generator=generator(seed, "apart", key), dtype=torch.float64)
        noise *= half / noise.norm()
        found[key] = agreement(decompose(middle + noise), decompose(middle - noise)).numpy()
    return score(found)


def row(pair):
    """What is read off a pair and its line."""
    which, found = (pair["task"], pair["one"], pair["two"]), pair["line"]
    return {key: value for key, value in pair.items() if key not in ("one", "two", "line")} | {
        "barrier": found.barrier(),
        "standard error": found.standard_error(),
        "room": found.room,
        "error": found.barrier("train_error") if "train_error" in found.metrics else np.nan,
        "agreement": score(agreements(*which)),
        "spaces": spaces(*which),
        "distance": distance(*which),
        "at random": at_random(*which, pair["seed"]),
    }


together = pd.DataFrame(row(pair) for pair in siblings)


def pairs_of(table, name, trunk=None, **values):
    """Rows of a table of pairs that have to do with a task, a trunk (or any), and have some values."""
    found = table[table["task"] == name]
    if trunk is not None:
        found = found[found[["seed", *({"with"} & {*found})]].eq(trunk).any(axis=1)]
    for column, value in values.items():
        found = found[found[column] == value]
    return found


def unrelated(name, of=agreement_chance):
    """The agreement to be expected of unrelated matrices of these shapes; mean over those that are judged."""
    return mean_over(
        of(*matrix.shape) for matrix in matrices(trunks[name][seeds[0]].model()) if matrix.name in judged[name]
    )


chance = {name: unrelated(name) for name in tasks}
chance_of_spaces = {name: unrelated(name, lambda m, n: subspace_agreement_chance(m, n, 10)) for name in tasks}


PARTED, NOISE = "parted at step", "strength of the noise"  # what figures run over, by what pairs are told apart by


def panels(table, columns, key, x):
    """Rows for a figure with a panel for each task and each of some columns of a table of pairs."""
    return pd.concat(
        pd.DataFrame(
            {
                "panel": title if len(tasks) == 1 else f"{name}: {title}",
                "series": part["kind"],
                "seed": part["seed"],
                x: part[key],
                "value": part[column],
            }
        )
        for name, part in table.groupby("task", sort=False)
        for column, title in columns.items()
    )


measures = {"barrier": "barrier in the loss", "agreement": "agreement of the ten largest"}
sd.show.by_setting(
    panels(together, measures, "split", PARTED),
    x=PARTED,
    name="fig-connectivity-splits",
    caption="Barrier between two branches, and agreement of the singular vectors of their weights, against the step at which they parted. A dot a pair, a line through the medians.",
    ylabel="barrier or agreement",
    sharey=False,
)

# %% [markdown]
# Which components are these?


# %% tags=["hide-input"]
def by_component(pairs, key, x, most=100):
    """Agreement component by component of one matrix of each task, for a heat map."""
    return pd.DataFrame(
        {
            "panel": f"{pair['task']}, {example[pair['task']]}",
            "series": str(j + 1),
            "seed": pair["seed"],
            x: pair[key],
            "value": value,
        }
        for pair in pairs
        for j, value in enumerate(agreements(pair["task"], pair["one"], pair["two"])[example[pair["task"]]][:most])
    )


def by_matrix(pairs):
    """The score of every matrix, for a heat map."""
    return pd.DataFrame(
        {
            "panel": f"{pair['task']}, {pair['kind']}",
            "series": matrix,
            "seed": pair["seed"],
            PARTED: pair["split"],
            "value": float(found[:10].mean()),
        }
        for pair in pairs
        for matrix, found in agreements(pair["task"], pair["one"], pair["two"]).items()
    )


example = {name: keys[2 * len(keys) // 3] for name, keys in judged.items()}  # two thirds of the way through
sd.show.fingerprint(
    by_component(siblings, "split", PARTED),
    x=PARTED,
    name="fig-connectivity-components",
    caption="Agreement of two branches, component by component (the largest on top) of one matrix, against the step at which they parted. The mean over all pairs.",
    quantity="agreement",
    limits=(0, 1),
)

# %% [markdown]
# In most matrices the largest and the smallest components stand apart in size, and those in the middle are the most alike, so the first to be mixed. Is it the same in every layer?

# %% tags=["hide-input"]
sd.show.fingerprint(
    by_matrix(siblings),
    x=PARTED,
    name="fig-connectivity-layers",
    caption="The score of every matrix, from the first (on top) to the last, against the step at which the branches parted. The mean over all pairs.",
    quantity="agreement of the ten largest",
    limits=(0, 1),
)


# %% [markdown]
# (connectivity-sceptic)=
# ### What a sceptic would ask
#
# **Did components only change places?** Singular values lie close together, and the score compares the fifth component with the fifth alone. What the *spaces* of the ten largest share does not
# depend on their order.
#
# **Have branches that part late simply had no time to move?** Then the network from which they parted would agree with the ends as they do with each other.
#
# **Is it distance alone?** Take two networks with the same middle and at the same distance from each other, but apart in a *random* direction. What agreement does that leave?


# %% tags=["hide-input"]
def with_parting(pair):
    """Agreement of both ends with the network from which they parted."""
    parted = trunks[pair["task"]][pair["seed"]].model(pair["split"])
    return mean_over(score(agreements(pair["task"], pair[end], parted)) for end in ("one", "two"))


together["with parting"] = [with_parting(pair) for pair in siblings]
pd.DataFrame(
    {
        "": f"{name}, step {split}" if len(tasks) > 1 else f"step {split}",
        "distance": spread(part["distance"]),
        "agreement of the ends": spread(part["agreement"]),
        "with the network they parted from": spread(part["with parting"]),
        "at that distance in a random direction": spread(part["at random"]),
        "spaces of ten, shared": spread(part["spaces"]),
    }
    for (name, split), part in together.groupby(["task", "split"], sort=False)
).set_index("")


# %% tags=["remove-input"]
def wherever(column, sign=1):
    """At how many split points the mean of a column is above (1) or below (-1) that of the agreement of the ends."""
    found = together.groupby(["task", "split"])[[column, "agreement"]].mean()
    return f"{(sign * (found[column] - found['agreement']) > 0).sum()} of {len(found)} split points"


Markdown(
    f"Unrelated matrices of these shapes have an agreement of {spread(chance.values(), 3)} and share {spread(chance_of_spaces.values())} of such spaces. "
    f"More is shared of the spaces than the score says, for components change places, at {wherever('spaces')}. "
    f"The ends agree *less* with the network they parted from than with each other at {wherever('with parting', -1)}. Where they do, much of what they share was not there yet, and both have "
    f"learned it since. And a random difference of the same size would leave *more* agreement at {wherever('at random')}. Where it would, branches differ in their top components more than in others."
)

# %% [markdown]
# ## Other beginnings, the same data
#
# Perhaps it is the data that decide the top directions, and all branches saw the same. So we compare branches of *different* trunks that had the data in the very same order from the split point on.

# %%
others = with_lines(
    {"task": name, "kind": "other trunks", "split": split, "seed": one, "with": two}
    | {"one": networks[name, split, one, branch_seeds[0]], "two": networks[name, split, two, branch_seeds[0]]}
    for name in tasks
    for split in splits[name]
    for one, two in itertools.combinations(seeds, 2)
)

# %% tags=["hide-input"]
apart = pd.DataFrame([row(pair) for pair in others], columns=[*together.columns.drop("with parting"), "with"])
sd.show.by_setting(
    panels(pd.concat([together, apart] if len(apart) else [together]), measures, "split", PARTED),
    x=PARTED,
    name="fig-connectivity-others",
    caption="Barrier and agreement between branches of one trunk and between branches of different trunks, which had the data in the same order from the split point on. A dot a pair.",
    ylabel="barrier or agreement",
    sharey=False,
)

# %% tags=["hide-input"]
sd.show.fingerprint(
    by_matrix([*siblings, *others]),
    x=PARTED,
    name="fig-connectivity-others-layers",
    caption="The score of every matrix for branches of one trunk and of different trunks. The mean over all pairs.",
    quantity="agreement of the ten largest",
    limits=(0, 1),
)

# %% [markdown]
# If the common data made common directions, networks of different trunks would come to agree as branches of one do. If it is the beginning, the wall between them stays wherever the branches parted, and
# agreement stays at chance: C12.1 [below](connectivity-claims) has the verdict. (Agreement is blind to the order of the channels; see [below](connectivity-permutations).)
#
# ## An intervention: noise
#
# If shared top directions connect two branches, then destroying them should part the branches again. So noise is added to every matrix but the last, as large as $\eta$ times the matrix itself,
# different noise in either branch; each matrix is then brought back to its former norm. From there training goes on to the end.


# %%
def shaken(name, strength):
    """The trunks at one moment with noise of a strength, other noise for each branch, by trunk and by branch."""
    task, step = tasks[name], moment[name]

    def with_weights_of(run, order):
        noisy = perturbed(run.model(step), strength, generator(order, "perturbation"))
        return with_weights(run.checkpoint(step), reestimate(noisy.to(where), task.inputs(data[name])))

    return {
        trunk: {order: with_weights_of(run, order) for order in branch_seeds} for trunk, run in trunks[name].items()
    }


noise = {
    (name, strength): branched(name, shaken(name, strength), moment[name]) for name in tasks for strength in strengths
}
noisy = with_lines(
    {"task": name, "kind": "noise", "strength": strength, "seed": trunk, "one": one.model(), "two": two.model()}
    for (name, strength), by_trunk in noise.items()
    for trunk, runs in by_trunk.items()
    for one, two in itertools.combinations(runs.values(), 2)
)

# %% tags=["hide-input"]
quiet = [
    pair | {"kind": "noise", "strength": 0.0} for pair in siblings if pair["split"] == moment[pair["task"]]
]  # branches of the same moment without noise
shaken_apart = pd.DataFrame(row(pair) for pair in [*quiet, *noisy])
sd.show.by_setting(
    panels(shaken_apart, measures, "strength", NOISE),
    x=NOISE,
    name="fig-connectivity-noise",
    caption=f"Barrier and agreement at the end, against the strength of noise in the weights {parting[noise_place]:.2g} epochs after the beginning. Without noise: branches that parted at that step. A dot a pair.",
    ylabel="barrier or agreement",
    sharey=False,
)

# %% tags=["hide-input"]
sd.show.fingerprint(
    by_component([*quiet, *noisy], "strength", NOISE, most=32),
    x=NOISE,
    name="fig-connectivity-noise-components",
    caption="Agreement component by component (the largest on top) of the first 32 components of one matrix, against the strength of the noise. The mean over all pairs.",
    quantity="agreement",
    limits=(0, 1),
)

# %% [markdown]
# ## What tells the height of the barrier?
#
# Agreement is one guide to the height of a barrier. Distance is a simpler one. Which of the two is the better? Here are all pairs against either.

# %% tags=["hide-input"]
kinds = [together, apart, shaken_apart[shaken_apart["strength"] > 0]]
everything = pd.concat([kind for kind in kinds if len(kind)], ignore_index=True)


def against(column, xlabel, name, caption):
    """All pairs, their barrier against something else."""
    shown = everything.rename(columns={column: xlabel, "kind": "series", "barrier": "barrier in the loss"})
    related = "; ".join(
        f"{kind}: {spread(part[xlabel])} with barriers of {spread(part['barrier in the loss'])}"
        for kind, part in shown.groupby("series", sort=False)
    )
    return sd.show.scatter(
        shown[["task", "series", "seed", xlabel, "barrier in the loss"]],
        x=xlabel,
        y="barrier in the loss",
        name=name,
        caption=caption,
        alt=f"Barrier against {xlabel}. {related}.",
    )


against(
    "agreement",
    "agreement of the ten largest",
    name="fig-connectivity-agreement",
    caption="All pairs: barrier against agreement.",
)

# %% tags=["hide-input"]
against(
    "distance",
    "distance as a share of size",
    name="fig-connectivity-distance",
    caption="The same pairs: barrier against their distance, as a share of the size of each matrix.",
)


# %% tags=["hide-input"]
def related(table, column, beside="barrier"):
    """Rank correlation of the barrier, or another column, with something else; none where one of them is constant."""
    varies = table[[beside, column]].nunique().min() > 1
    return float(spearmanr(table[beside], table[column]).statistic) if varies else np.nan


def of_trunk(name, trunk):
    """Pairs of one trunk, with noise and without."""
    found = pairs_of(everything, name, trunk)
    return found[found["kind"] != "other trunks"]


guides = {"agreement": "agreement", "spaces": "spaces of ten, shared", "distance": "distance"}
pd.DataFrame(
    {
        "": f"{name}, {title}" if len(tasks) > 1 else title,
        "pairs of one trunk, with noise and without": spread(
            [related(of_trunk(name, trunk), column) for trunk in seeds]
        ),
        "all pairs, of other trunks as well": f"{related(pairs_of(everything, name), column):.2f}",
        "pairs that parted at one step": spread(
            [related(part, column) for _, part in pairs_of(together, name).groupby("split")]
        ),
    }
    for name in tasks
    for column, title in guides.items()
).set_index("")

# %% [markdown]
# These are rank correlations; in the first column with their spread over trunks. The last asks a harder question. Among pairs that parted at the *same* step, does the one that agrees more have
# the lower barrier? It is taken over all trunks, with its spread over split points.

# %% [markdown]
# ## Beyond the paper
#
# (connectivity-permutations)=
# ### Is it only the order of the features?
#
# Between trunks there is a wall, and no common direction. But the features of a layer have no order: put the channels of one layer into another order, and what the next layer reads from them too, and
# the network computes what it did. Agreement is blind to that; so "no common direction" may only say that the same things stand in other places. Can it be undone? Take a network, put its features
# into random orders, and search for the orders in which the weights of the copy fit the original best: one linear assignment for each layer, in turns, until nothing gains
# {cite}`ainsworth2023git`.


# %%
def there(network):
    """A copy on the device that computes."""
    return copy.deepcopy(network).to(where)


def inputs_of(task, network, batch):
    """What a network is given, on the way to a loss."""
    seen = []
    with network.register_forward_pre_hook(lambda module, given: seen.append(given)):
        task.loss(network, batch)
    return seen[0]


def which_may_trade_places(task, network, its_data):
    return symmetries(network, *inputs_of(task, network, task.batch(its_data, 0, 0)))


def in_random_order(network, found, seed):
    """A copy that computes the same."""
    return permuted(network, {each: shuffled(each, generator(seed, "order", *each.rows)) for each in found})


@torch.no_grad()
def same_outputs(one, two):
    given = inputs_of(tasks["images"], one, tasks["images"].batch(data["images"], 0, 0))
    return torch.allclose(one(*given), two(*given), atol=1e-3)


one = there(networks["images", 0, seeds[0], branch_seeds[0]])
found = which_may_trade_places(tasks["images"], one, data["images"])
copied = in_random_order(one, found, seeds[0])
back = permuted(copied, match_weights(one, copied, found))
for title, network in {"in random orders": copied, "matched again": back}.items():
    same = all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in one.state_dict().items())
    print(f"{title}: every number where it was: {same}; same outputs: {same_outputs(one, network)}")

# %% [markdown]
# Now two networks of *different* trunks. Their features are matched once by weights and once by what they do on data: the sum of correlations between features of the two is made the greatest
# {cite}`li2016convergent`. The control is an order drawn at random. Beside the ConvNet there is a network without BatchNorm, the multilayer perceptron of {doc}`memorization`, trained on true labels
# for a sixth of its steps. Only what computes the same afterwards was matched: all channels and hidden features of these two. In other networks it is less: not the residual stream of a Transformer, nor its heads.

# %%
digits = sd.tasks.noisy_labels(tier)
digits = replace(digits, steps=max(1, digits.steps // 6), every=max(1, digits.steps // 6))
known["perceptron"], data["perceptron"] = digits, digits.data(seeds[0], where)
strangers = {
    (name, trunk): networks[name, 0, trunk, branch_seeds[0]] for name in tasks for trunk in seeds
}  # as above: other trunks, the same order of data
strangers |= {("perceptron", run.seed): run.model() for run in sd.sweep(digits, seed=seeds, device=device)}
judged["perceptron"] = [
    matrix.name for matrix in matrices(strangers["perceptron", seeds[0]]) if min(matrix.shape) >= 16
]
following = dict(zip(seeds, [*seeds[1:], seeds[0]], strict=True))  # each trunk with the next one


def second_in_order(name, one, two, seed):
    """The second of two networks in several orders of its features."""
    task, its_data = known[name], data[name]
    found = which_may_trade_places(task, one, its_data)
    yield "as it is", copy.deepcopy(two)
    yield "random order", in_random_order(two, found, seed)
    yield "matched by weights", permuted(two, match_weights(one, two, found))
    with suppress(ValueError):  # what an LSTM does within is not seen
        yield "matched by what it does", permuted(two, match_activations(task, one, two, its_data, found))


# %% tags=["hide-input"]
ordered = with_lines(
    {"task": name, "kind": kind, "seed": trunk, "one": strangers[name, trunk], "two": two.cpu()}
    for name, trunk in strangers
    for kind, two in second_in_order(
        name, there(strangers[name, trunk]), there(strangers[name, following[trunk]]), trunk
    )
)
untrained = {
    (name, trunk): dict(
        second_in_order(name, *(there(build(known[name], of)).eval() for of in (trunk, following[trunk])), trunk)
    )
    for name, trunk in strangers
}


# %% tags=["hide-input"]
def compared(name, one, two):
    """Agreement of the ten largest components, and what their spaces share."""
    which = (name, one, two.cpu())
    return {"agreement": score(agreements(*which)), "spaces": spaces(*which)}


matched = pd.DataFrame(
    {key: pair[key] for key in ("task", "kind", "seed")}
    | {"barrier": pair["line"].barrier()}
    | compared(pair["task"], pair["one"], pair["two"])
    | {
        f"{key}, untrained": value
        for key, value in compared(
            pair["task"],
            build(known[pair["task"]], pair["seed"]),
            untrained[pair["task"], pair["seed"]][pair["kind"]],
        ).items()
    }
    for pair in ordered
)
pd.DataFrame(
    {
        "": f"{name}, {kind}",
        "barrier": spread(part["barrier"]),
        "agreement of the ten largest": spread(part["agreement"], 3),
        "the same, untrained": spread(part["agreement, untrained"], 3),
        "spaces of ten, shared": spread(part["spaces"]),
        "spaces, untrained": spread(part["spaces, untrained"]),
    }
    for (name, kind), part in matched.groupby(["task", "kind"], sort=False)
).set_index("")


# %% tags=["hide-input"]
beside = pd.concat(
    [together[together["task"] == "images"].assign(kind="branches of one trunk"), matched[matched["kind"] != "random order"]]
)  # fmt: skip
two_axes = pd.DataFrame(
    {
        "series": beside["task"] + ": " + beside["kind"],
        "seed": beside["seed"],
        "agreement of the ten largest": beside["agreement"],
        "barrier in the loss": beside["barrier"],
    }
)
sd.show.scatter(
    two_axes,
    x="agreement of the ten largest",
    y="barrier in the loss",
    name="fig-connectivity-matched",
    caption="Barrier against agreement: branches of one trunk, parted at all our steps, and networks of different trunks before and after their features were matched.",
    alt="; ".join(
        f"{series}: agreement {part['agreement of the ten largest'].median():.2f}, barrier {part['barrier in the loss'].median():.2f}"
        for series, part in two_axes.groupby("series", sort=False)
    )
    + " (medians).",
)


# %% [markdown]
# One thing more goes wrong halfway. Features that do not agree partly cancel, so their average has less spread than either, and the next layer reads signals that are too weak. BatchNorm's statistics, estimated again,
# repair that, and so they were on every line of this page. Where there is no BatchNorm, rows and biases can be rescaled until every feature has the mean and the spread it has in the two
# ends {cite}`jordan2023repair`. How much of the loss halfway is that?


# %% tags=["hide-input"]
@torch.no_grad()
def loss_of(name, network):
    """Training loss as the network is, on the batches on which barriers are read."""
    task, its_data = known[name], known[name].data(seeds[0], where)
    return float(np.mean([float(task.loss(network, task.batch(its_data, step, 0))) for step in range(4)]))


def estimated(name, network):
    """A copy on the device, with the statistics of BatchNorm estimated again."""
    return reestimate(there(network), known[name].inputs(known[name].data(seeds[0], where))).eval()


def with_statistics(name, network, ends):
    """The network halfway with its features repaired."""
    if name == "images":
        return estimated(name, network)
    return repaired(digits, network, ends, [0.5, 0.5], data[name])


halfway = pd.DataFrame(
    {
        "task": pair["task"],
        "kind": pair["kind"],
        "seed": pair["seed"],
        "ends": np.mean([loss_of(pair["task"], end) for end in both]),
        "as it is": loss_of(pair["task"], middle),
        "repaired": loss_of(pair["task"], with_statistics(pair["task"], middle, both)),
    }
    for pair in ordered
    if pair["task"] in ("images", "perceptron")
    for both in [(there(pair["one"]).eval(), there(pair["two"]).eval())]
    for middle in [there(combined(both, [0.5, 0.5])).eval()]
)
pd.DataFrame(
    {
        "": f"{name}, {kind}",
        "loss of the ends": spread(part["ends"], 3),
        "halfway, statistics averaged": spread(part["as it is"]),
        "halfway, repaired": spread(part["repaired"]),
    }
    for (name, kind), part in halfway.groupby(["task", "kind"], sort=False)
).set_index("")


# %% tags=["remove-input"]
def found_in(name, kind, column):
    """A column for one kind of order, trunk by trunk."""
    return pairs_of(matched, name, kind=kind)[column]


before, after = (
    {name: found_in(name, kind, "barrier") for name in ("images", "perceptron")}
    for kind in ("as it is", "matched by weights")
)
agreed = {
    name: f"{spread(found_in(name, 'matched by weights', 'agreement'), 3)}, untrained "
    f"{spread(found_in(name, 'matched by weights', 'agreement, untrained'), 3)}"
    for name in before
}
Markdown(
    f"Between trunks the ConvNet has a barrier of {spread(before['images'])}; with its features matched by weights it is **{spread(after['images'])}**, and between branches that parted at step "
    f"{splits['images'][0]} it is {spread(barriers('images', splits['images'][0]))}. The perceptron has {spread(before['perceptron'])} before and **{spread(after['perceptron'])}** after. In a random order they have "
    f"{spread(found_in('images', 'random order', 'barrier'))} and {spread(found_in('perceptron', 'random order', 'barrier'))}. What matching takes away was the order of the features. Agreement of matched networks has to be compared with what "
    f"matching makes of untrained ones, for it *looks* for what fits, and chance is no longer the level: {agreed['images']} in the ConvNet, {agreed['perceptron']} in the perceptron. Where it is small and the barrier "
    f"low, networks are connected that share few of their top directions. Repair alone, without any matching, changes the perceptron's loss halfway from "
    f"{spread(pairs_of(halfway, 'perceptron', kind='as it is')['as it is'])} to {spread(pairs_of(halfway, 'perceptron', kind='as it is')['repaired'])}."
)

# %% [markdown]
# *What this does not show.* Matching is a search, and may miss a better order. That a wall remains does not mean that no order is without one. And agreement compares the fifth component with the fifth: the
# shared spaces in the table do not depend on that.

# %% [markdown]
# (connectivity-causal)=
# ### Are the top components what is destroyed?
#
# The paper offers an explanation {cite}`yunis2024approaching`: halfway between two networks the top components are kept if both share them, and the rest, at right angles in the two, averages out; where the
# top is not shared, it is the top that interpolation destroys. So build networks in which only one of them is averaged. Of two branches, the second lends its half to the *top* components of
# each matrix alone, the rest and everything else staying with the first; or to the *rest* alone.
#
# A top and a rest of any size will not do: at small fractions the rest is most of the matrix, and moves further. So the fraction varies, and we look at the loss against the *distance moved*. Two
# yardsticks go with it. A **random part** of the difference between the two networks: its projection on random directions of every layer's features, as many as make it as long as the top's. And **all
# components** alike, as far along the straight line.

# %%
shown_task = next(iter(tasks))  # in maps and words
cut_at = (0.1, 0.2, 0.3, 0.5)  # the top's share of all components


@torch.no_grad()
def random_part(one, two, like, seed):
    """The first network, moved along random rows of the difference as far as another one was, in each matrix."""
    moved = combined([one], [1])
    for matrix, end, goal in zip(*(matrices(network)[:-1] for network in (moved, two, like)), strict=True):
        difference, far = (end.view - matrix.view).double(), (goal.view - matrix.view).double().norm()
        draw = torch.randn(len(difference), len(difference), generator=generator(seed, "part", matrix.name)).double()
        basis = torch.linalg.qr(draw).Q.to(difference)
        rows = basis.T @ difference
        enough = rows.square().sum(1).cumsum(0).sqrt() < far
        part = basis[:, enough] @ rows[enough] if enough.any() else difference
        matrix.write((matrix.view + part * far / part.norm()).float())
    return moved


def halves_and_swaps(name, one, two, seed):
    """Networks between two of one trunk, with how much of what was lent, and the fraction that is the top, or the share of the way."""
    mixers = {fraction: Mixer(one, two, fraction) for fraction in (*cut_at, 1)}
    for fraction in cut_at:
        top = mixers[fraction](top=0.5)
        yield "halfway", "top components", fraction, top
        yield "halfway", "the rest", fraction, mixers[fraction](rest=0.5)
        yield "halfway", "random part", fraction, random_part(one, two, top, seed)
        yield "swapped", "top components", fraction, mixers[fraction](top=1)
        yield "swapped", "the rest", fraction, mixers[fraction](rest=1)
    for far in (0.5, 0.75, 1):
        yield "halfway", "all components", far, mixers[1](top=far / 2)
        yield "swapped", "all components", far, mixers[1](top=far)


# %% tags=["hide-input"]
def training_loss(name, network):
    return loss_of(name, estimated(name, network))


def taken_apart(name, split, trunk, number, one, two):
    """How far each of them lies from the first network, as a share of its size, and by how much its loss is higher."""

    def matrices_of(network):
        return torch.cat([matrix.view.double().cpu().flatten() for matrix in matrices(network)[:-1]])

    start, level = matrices_of(one), training_loss(name, one)
    return [
        {"task": name, "split": split, "seed": trunk, "pair": number, "lent": lent, "series": series, "place": place}
        | {"moved": float((matrices_of(network) - start).norm() / start.norm())}
        | {"value": training_loss(name, network) - level}
        for lent, series, place, network in halves_and_swaps(name, one, two, trunk)
    ]


turns = list(itertools.pairwise([*range(1 + len(branch_seeds)), 0]))  # each of them with the next
outer = {name: (splits[name][0], splits[name][-1]) for name in tasks}
parts = pd.DataFrame(
    itertools.chain(
        *side_by_side(
            taken_apart,
            [
                (name, split, trunk, number, *(ends(name, trunk, split)[i] for i in turn))
                for name in tasks
                for split in outer[name]
                for trunk in seeds
                for number, turn in enumerate(turns)
            ],
            device=device,
            name="pairs",
        )
    )
)

# %% tags=["hide-input"]
moved = "distance moved, as a share of the weights"
shown = parts.groupby(["task", "split", "lent", "series", "seed", "place"], sort=False)[["moved", "value"]].mean()
shown = shown.reset_index().rename(columns={"moved": moved})
shown["panel"] = [
    f"{name + ', ' if len(tasks) > 1 else ''}parted at step {split}, {lent}"
    for name, split, lent in zip(shown["task"], shown["split"], shown["lent"], strict=True)
]
lines_of_parts = sd.show.curves(
    shown.sort_values(["task", "split", "lent", "series", "seed", moved]),
    x=moved,
    name="fig-connectivity-parts",
    caption="By how much the training loss of a network rises when its twin lends it half (halfway) or all (swapped) of its top components, or of the rest, against the distance "
    f"the weights move. Fractions from {min(cut_at):g} to {max(cut_at):g} of the components are the top; a larger top moves further, a larger rest too. A line a trunk, the mean over its pairs.",
    ylabel="rise of the training loss",
    sharey=False,
)
most_moved = shown.groupby(["panel", "series"], sort=False)[[moved, "value"]].max()
replace(
    lines_of_parts,
    alt="Rise of the training loss against the distance moved. At most, by panel: "
    + "; ".join(
        f"{panel}, {series}: {found['value']:.2f} with distances up to {found[moved]:.2f}"
        for (panel, series), found in most_moved.iterrows()
    )
    + ".",
)


# %% tags=["hide-input"]
def at_equal_distance(found):
    """The rise of the loss, in each series, at the distance at which the top and the rest move equally far."""
    curves = {
        series: part.sort_values("moved")[["moved", "value"]].to_numpy().T for series, part in found.groupby("series")
    }
    far, near = curves["top components"][0], curves["the rest"][0][::-1]  # both by growing fraction
    lead = far - near
    meets = float(np.interp(0, lead, far, left=np.nan, right=np.nan))
    return {"distance": meets} | {
        series: float(np.interp(meets, [0, *x], [0, *y])) for series, (x, y) in curves.items()
    }


equal = pd.DataFrame(
    dict(zip(("task", "split", "lent", "seed", "pair"), key, strict=True)) | at_equal_distance(found)
    for key, found in parts.groupby(["task", "split", "lent", "seed", "pair"], sort=False)
)
pd.DataFrame(
    {
        "": f"{name}, step {split}, {lent}" if len(tasks) > 1 else f"step {split}, {lent}",
        "distance moved": spread(part["distance"]),
        **{series: spread(part[series].dropna()) for series in ("top components", "the rest", "random part", "all components") if part[series].notna().any()},
    }
    for (name, split, lent), part in equal.groupby(["task", "split", "lent"], sort=False)
).set_index("").fillna("")  # fmt: skip


# %% tags=["remove-input"]
def first_of(name, lent, place=0):
    """Rises at equal distance of all pairs that parted at the first (0) or the last (-1) step."""
    return pairs_of(equal, name, split=splits[name][place], lent=lent)


wall, open_land = first_of(shown_task, "halfway"), first_of(shown_task, "halfway", -1)
Markdown(
    f"Of branches that parted at step {splits[shown_task][0]}, averaging the top alone raises the loss by **{spread(wall['top components'])}**, averaging the rest alone by **{spread(wall['the rest'])}**, if both move equally far; the top costs "
    f"more in {int((wall['top components'] > wall['the rest']).sum())} of {len(wall)} pairs. A random part that is as long costs {spread(wall['random part'])}, as long a way along the line "
    f"{spread(wall['all components'])}. Where the rest costs nearly as much, it does not average out without harm. Of those that parted at step {splits[shown_task][-1]} the line costs {spread(open_land['all components'], 3)}, but the top alone "
    f"{spread(open_land['top components'], 3)} and the rest alone {spread(open_land['the rest'], 3)}. Where either part costs more than the whole, our reading is: what connects two networks is not a "
    "part of their components that they share. Top and rest have moved *together*, and a network tolerates that better than either half of it."
)

# %% [markdown]
# *What this does not show.* That sharing does not matter. Where branches share more, less of either part is lost, and which comes first these networks cannot tell. Biases, BatchNorm's parameters and the last matrix stay with the first network, also
# where nearly all of the matrices are the second's.

# %% [markdown]
# ### What does the land between them look like?
#
# Three networks span a plane: the trunk and two of its branches, with every network that is a sum of the three in it {cite}`garipov2018loss`. Its loss can be drawn as a map, and training as a path in it: each checkpoint is
# drawn at its foot, the nearest place of the plane. But a checkpoint is not in the plane. How far beside it it lies is the size of its dot.

# %% tags=["hide-input"]
sides = at_tier({"smoke": 3, "laptop": 11, "gpu": 15, "paper": 25}, tier)  # places in a row of the map


def walked(name, split, trunk):
    """The checkpoints of a trunk and its branches since they parted, in the plane of the three trained networks."""
    runs = {"trunk": trunks[name][trunk]} | {
        f"branch {order}": run for order, run in branches[name, split][trunk].items()
    }
    plane = Plane(*(run.model() for run in runs.values()))
    steps = sorted({split, *(step for step in plans[name].path if step > split), tasks[name].steps})
    places = pd.DataFrame(
        [
            (
                name,
                split,
                trunk,
                series,
                step,
                *plane.place((trunks[name][trunk] if step == split else run).model(step)),
            )
            for series, run in runs.items()
            for step in steps
        ],
        columns=["task", "split", "seed", "series", "step", "x", "y", "beside"],
    )
    return plane, places


def heights(name, corners, x, along_y):
    """Training losses of a column of the map."""
    plane = Plane(*corners)
    return [training_loss(name, plane.network(x, y)) for y in along_y]


def mapped(name, split, trunk):
    """The map around three networks and the paths that end there."""
    _, places = walked(name, split, trunk)
    low, high = places[["x", "y"]].min(), places[["x", "y"]].max()
    edge = 0.3 * (high - low).max()
    across, up = (np.linspace(low[axis] - edge, high[axis] + edge, sides) for axis in ("x", "y"))
    corners = ends(name, trunk, split)[:3]
    columns = side_by_side(heights, [(name, corners, x, up) for x in across], device=device, name="columns of the map")
    land = pd.DataFrame({"x": x, "y": y, "value": value} for x, column in zip(across, columns, strict=True) for y, value in zip(up, column, strict=True))  # fmt: skip
    panel = f"{name}, parted at step {split}"
    return land.assign(panel=panel), places.assign(panel=panel)


maps, walks = (pd.concat(each) for each in zip(*(mapped(shown_task, split, seeds[0]) for split in outer[shown_task]), strict=True))  # fmt: skip
sd.show.landscape(
    maps,
    walks[["panel", "series", "step", "x", "y", "beside"]],
    name="fig-connectivity-plane",
    caption=f"Training loss over the plane of a trained network and two branches (stars), with the paths of all three since they parted; seed {seeds[0]}. The larger a dot, the further "
    "its network lies beside the plane. BatchNorm is estimated again at each place.",
    quantity="training loss",
)

# %% tags=["hide-input"]
paths = pd.concat(walked(name, split, trunk)[1] for name in tasks for split in outer[name] for trunk in seeds)


def triangle(name, split, trunk):
    """Loss in the middle of three networks above their mean, how far beside the plane they parted, and how far apart they are."""
    three = ends(name, trunk, split)[:3]
    losses = [training_loss(name, network) for network in three]
    mine = pairs_of(paths, name, trunk, split=split)
    last = mine[mine["step"] == mine["step"].max()][["x", "y"]].to_numpy()
    return {
        "task": name,
        "split": split,
        "seed": trunk,
        "middle": training_loss(name, combined(three, [1 / 3] * 3)) - np.mean(losses),
        "beside": mine.loc[mine["step"] == split, "beside"].max(),
        "apart": np.mean([np.linalg.norm(one - two) for one, two in itertools.combinations(last, 2)]),
    }


triangles = pd.DataFrame(triangle(name, split, trunk) for name in tasks for split in outer[name] for trunk in seeds)


# %% tags=["remove-input"]
def of_triangle(place, column):
    return pairs_of(triangles, shown_task, split=splits[shown_task][place])[column]


Markdown(
    f"In the middle of three networks that parted at step {splits[shown_task][0]} the loss is {spread(of_triangle(0, 'middle'))} above their mean, and {spread(of_triangle(-1, 'middle'), 3)} if they parted at step "
    f"{splits[shown_task][-1]}. Where that is much, three basins lie around a ridge; where it is nothing, one flat basin holds all three. The paths of the first three seem to begin near the middle. But "
    f"there the checkpoints lie {spread(of_triangle(0, 'beside'), 1)} beside the plane, whose corners are {spread(of_triangle(0, 'apart'), 1)} apart: training came down through other land than the map shows."
)

# %% [markdown]
# *What this does not show.* What lies beside the plane. Three corners always make a symmetric picture: any three networks that are equally far from each other and from where they came have paths like these.

# %% [markdown]
# ### Is the average better than its members?
#
# Where there is no wall, weights can be averaged, of many networks at once. Such a *soup* costs no more to run than one of them {cite}`wortsman2022model`. Members that parted late are cheap too: most of their training they have in common. The
# reference is the *ensemble*, the mean of what the members predict, which has to run them all. All are judged on the test set, which decided nothing.

# %%
crowd = at_tier({"smoke": (310, 410), "laptop": (310, 410), "gpu": (310,), "paper": (410, 510, 610)}, tier)
images, its_images = tasks["images"], data["images"]
late = splits["images"][-1]
more = sd.sweep(
    replace(images, every=images.steps),
    start={trunk: run.checkpoint(late) for trunk, run in trunks["images"].items()},
    seed=crowd,
    device=device,
)


# %% tags=["hide-input"]
@torch.no_grad()
def on_test(said):
    """Loss and error of logarithms of probabilities."""
    labels = its_images.test_labels
    return {"loss": float(F.nll_loss(said, labels)), "error": float((said.argmax(1) != labels).float().mean())}


@torch.no_grad()
def says(network):
    return logits(estimated("images", network), its_images, its_images.test).log_softmax(1)


def soups(split, trunk, members):
    """Soups of some of the members, and of all, beside what they are made of."""
    said = [says(network) for network in members]
    alone = pd.DataFrame(on_test(each) for each in said)
    whole = tuple(range(len(members)))
    for chosen in sorted(
        {*itertools.combinations(range(1 + len(branch_seeds)), 2), whole[: 1 + len(branch_seeds)], whole}
    ):
        pairs = list(itertools.combinations([members[i] for i in chosen], 2))
        found = {
            "soup": on_test(says(combined([members[i] for i in chosen], [1 / len(chosen)] * len(chosen)))),
            "ensemble": on_test(torch.stack([said[i].exp() for i in chosen]).mean(0).log()),
            "mean member": dict(alone.loc[list(chosen)].mean()),
            "best member": dict(alone.loc[alone.loc[list(chosen), "loss"].idxmin()]),
        }
        yield {"split": split, "seed": trunk, "members": len(chosen)} | {
            f"{who}, {what}": value for who, both in found.items() for what, value in both.items()
        } | {guide: np.mean([of("images", *pair) for pair in pairs]) for guide, of in (("agreement", lambda name, one, two: score(agreements(name, one, two))), ("distance", distance))}  # fmt: skip


pots = pd.DataFrame(
    itertools.chain(
        *(
            soups(split, trunk, [*ends("images", trunk, split), *([run.model() for run in more.sel(start=trunk)] if split == late else [])])
            for split in splits["images"]
            for trunk in seeds
        )
    )
)  # fmt: skip
made = ("soup", "best member", "mean member", "ensemble")
of_three = pots[pots["members"] == 1 + len(branch_seeds)]
sd.show.by_setting(
    pd.DataFrame(
        {"panel": f"{what} on the test set", "series": who, "seed": pot["seed"], PARTED: pot["split"], "value": pot[f"{who}, {what}"]}
        for what in ("loss", "error")
        for who in made
        for _, pot in of_three.iterrows()
    ),
    x=PARTED,
    name="fig-connectivity-soup",
    caption=f"The average of the weights of {1 + len(branch_seeds)} networks, its members, and the mean of their predictions (ensemble), against the step at which they parted. A dot a trunk.",
    ylabel="loss or error",
    sharey=False,
)  # fmt: skip

# %% [markdown]
# And soups of other numbers of members: errors in %, by how much the loss of the soup exceeds the mean loss of its members, and how much these agree.

# %% tags=["hide-input"]
pd.DataFrame(
    {
        "": f"step {split}, of {count}",
        **{f"{who}, %": spread(100 * part[f"{who}, error"], 1) for who in made},
        "soup less mean, loss": spread(part["soup, loss"] - part["mean member, loss"], 3),
        "agreement": spread(part["agreement"]),
    }
    for (split, count), part in pots.groupby(["split", "members"])
).set_index("")


# %% tags=["hide-input"]
two_members = pots[pots["members"] == 2].assign(gain=lambda table: table["mean member, loss"] - table["soup, loss"])


def told_in_trunk(guide):
    """Rank correlation of what a soup of two gains over its members with something known before, for each trunk."""
    return [related(two_members[two_members["seed"] == trunk], guide, "gain") for trunk in seeds]


def told_at_split(guide):
    return [related(part, guide, "gain") for _, part in two_members.groupby("split")]


# %% tags=["remove-input"]
def soup_gain(split, count, who):
    """By how much the soup's loss is below another's, trunk by trunk."""
    part = (
        pots[(pots["split"] == split) & (pots["members"] == count)]
        .groupby("seed")[[f"{who}, loss", "soup, loss"]]
        .mean()
    )
    return part[f"{who}, loss"] - part["soup, loss"]


all_of_them = 1 + len(branch_seeds)
better = [split for split in splits["images"] if (soup_gain(split, all_of_them, "best member") > 0).all()]
Markdown(
    f"Soups of {all_of_them} have a lower test loss than their best member in every trunk where they parted at step {' or '.join(map(str, better)) or 'none of these'}. What their loss has more than the mean member's is "
    f"{spread(-soup_gain(splits['images'][0], all_of_them, 'mean member'), 3)} at step {splits['images'][0]} and {spread(-soup_gain(late, all_of_them, 'mean member'), 3)} at step {late}; there it is "
    f"{spread(-soup_gain(late, 2, 'mean member'), 3)} for two members and {spread(-soup_gain(late, all_of_them + len(crowd), 'mean member'), 3)} for {all_of_them + len(crowd)}. The ensemble's loss is "
    f"{spread(of_three.loc[of_three['split'] == splits['images'][0], 'ensemble, loss'])} where they parted first and {spread(of_three.loc[of_three['split'] == late, 'ensemble, loss'])} where they parted last: an ensemble may "
    f"gain from differences that a soup cannot bear. Over all pairs of a trunk, what a soup of two gains has a rank correlation of {spread(told_in_trunk('agreement'))} with agreement and of "
    f"{spread(told_in_trunk('distance'))} with distance, which takes no decomposition. Among pairs that parted at the same step: {spread(told_at_split('agreement'))} and {spread(told_at_split('distance'))}."
)

# %% [markdown]
# *What this does not show.* Members that differ in more than the order of their data, such as in learning rate or augmentation, from which soups are usually made. The test set is small, and what members share with their soup is not
# independent of it.

# %% [markdown]
# ## When this fails
#
# If it were the shared top directions that connect, there would be a wall wherever branches share as few of them as those do that are walled off. Here is an easier task for the same network: plain digits, without
# clutter. The branches part at initialisation.

# %%
easier = at_tier(
    {
        "smoke": {"dataset": "digits"},
        "laptop": {"dataset": "digits", "train_size": 1_200, "validation_size": 200, "steps": 120, "milestones": (90,)},
        "gpu": {"dataset": "mnist"},
        "paper": {"dataset": "mnist"},
    },
    tier,
)
plain = replace(tasks["images"], **easier)
plain_trunks = {run.seed: run for run in sd.sweep(plain, seed=seeds, keep=[0], device=device)}
start = {trunk: {branch_seeds[0]: run.checkpoint(0)} for trunk, run in plain_trunks.items()}
plain_branches = sd.sweep(plain, start=start, seed=branch_seeds[:1], device=device)

# %% tags=["hide-input"]
known["plain digits"], judged["plain digits"] = plain, judged["images"]
plain_pairs = with_lines(
    {"task": "plain digits", "kind": "plain digits", "split": 0, "seed": trunk, "one": run.model()}
    | {"two": plain_branches.sel(start=trunk)[0].model()}
    for trunk, run in plain_trunks.items()
)
without = pd.DataFrame(row(pair) for pair in plain_pairs)
cluttered = pairs_of(together, "images")
LIMIT = 0.02  # of error: what is more, is not linearly connected (Frankle et al. 2020)
walled = cluttered[cluttered["error"] >= LIMIT]
pd.DataFrame(
    {
        "": title,
        "loss of the ends": spread(losses, 3),
        "barrier": spread(part["barrier"], 3),
        "barrier in error, points": spread(100 * part["error"], 1),
        "agreement of the ten largest": spread(part["agreement"]),
        "distance": spread(part["distance"]),
    }
    for title, part, losses in (
        (
            "plain digits, parted at step 0",
            without,
            [pair["line"].values()[i] for pair in plain_pairs for i in (0, -1)],
        ),
        *(
            (
                f"with clutter, parted at step {split}",
                cluttered[cluttered["split"] == split],
                [
                    pair["line"].values()[i]
                    for pair in siblings
                    if (pair["task"], pair["split"]) == ("images", split)
                    for i in (0, -1)
                ],
            )
            for split in splits["images"]
        ),
    )
).set_index("")

# %% [markdown]
# The case is made where there is no barrier on plain digits, and no more in common than cluttered branches had that were walled off; L4 [below](connectivity-claims) asks for both. Then a task may leave so
# much room that networks whose top components differ can be averaged all the same, how much must be shared is a question of the task, and no threshold of agreement separates the connected from the walled off.

# %% [markdown]
# (connectivity-claims)=
# ## Claims
#
# A seed stands for its trunk: pairs of it or, in C12.1, pairs with it. How much two networks share is put on one scale: 0 is what unrelated matrices of these shapes share, 1 is what the branches do that parted last. Below
# a tenth we say that they share *nothing*.
#
# ### Of the paper


# %% tags=["hide-input"]
def at_split(name, trunk, place):
    return pairs_of(together, name, trunk, split=splits[name][place])


place_of = {name: f"In {name}" for name in tasks} | {"perceptron": "In the perceptron"}
NOTHING = 0.1  # what is less, we say, is not shared


def shared(name, trunk, values):
    """Agreement on the scale from unrelated matrices, 0, to branches that parted last, 1."""
    most = at_split(name, trunk, -1)["agreement"].mean()
    return (np.asarray(values) - chance[name]) / (most - chance[name])


def surely(table, sign):
    """Barriers with twice their standard error taken off (-1), or put on with the room between points (1)."""
    return table["barrier"] + sign * 2 * table["standard error"] + (table["room"] if sign > 0 else 0)


def goes_away(name, trunk):
    early, late = at_split(name, trunk, 0), at_split(name, trunk, -1)
    return bool((surely(early, -1) > 0).all() and (surely(late, 1) <= 0.1 * early["barrier"].mean()).all())


def goes_together(name, trunk):
    early = shared(name, trunk, at_split(name, trunk, 0)["agreement"])
    return bool(related(pairs_of(together, name, trunk), "agreement") <= -0.7 and (early < NOTHING).all())


def by_quarter(name, trunk):
    """Agreement above chance by quarters of the components, from the largest on, of every matrix at the last split (M, 4)."""
    network, *_ = nets = ends(name, trunk, splits[name][-1])
    found = [agreements(name, one, two) for one, two in itertools.combinations(nets, 2)]
    by_chance = {matrix.name: agreement_chance(*matrix.shape) for matrix in matrices(network)}
    above = {key: np.mean([each[key] for each in found], axis=0) - by_chance[key] for key in judged[name]}
    return np.array([[part.mean() for part in np.array_split(values, 4)] for values in above.values()])


def at_the_top(name, trunk):
    top, _, *lower = by_quarter(name, trunk).mean(axis=0)
    return top >= 2 * np.mean(lower)


def stays_walled(name, trunk):
    found = pairs_of(apart, name, trunk)
    wall = at_split(name, trunk, 0)["barrier"].mean()
    return bool((surely(found, -1) > wall / 2).all() and (shared(name, trunk, found["agreement"]) < NOTHING).all())


def by_strength(name, trunk, column):
    return pairs_of(shaken_apart, name, trunk).groupby("strength")[column].mean()


def halfway_at(values):
    """Between which two values of a setting something is halfway from its first value to its last."""
    goal = (values.iloc[0] + values.iloc[-1]) / 2
    return int(np.argmax((values.to_numpy() > goal) != (values.iloc[0] > goal)))


def falls_apart(name, trunk):
    wall, common = by_strength(name, trunk, "barrier"), by_strength(name, trunk, "agreement")
    most = pairs_of(shaken_apart, name, trunk, strength=max(strengths))
    return bool(
        wall.is_monotonic_increasing
        and common.is_monotonic_decreasing
        and (surely(most, -1) > wall.iloc[0]).all()
        and shared(name, trunk, common.iloc[-1]) < NOTHING
        and abs(halfway_at(wall) - halfway_at(common)) <= 1
    )


tests = {
    (claim, name): [bool(test(name, trunk)) for trunk in seeds]
    for name in tasks
    for claim, test in {
        "C11.1": goes_away,
        "C11.2": goes_together,
        "C11.3": at_the_top,
        "C12.1": stays_walled,
        "C13.1": falls_apart,
    }.items()
}


def means(name, table, column):
    """The mean of a column at every split point or strength, for each seed."""
    x = "strength" if "strength" in table else "split"
    found = [pairs_of(table, name, trunk).groupby(x)[column].mean() for trunk in seeds]
    values = found[0].index
    wide = {
        value: f"{value:g}".rjust(len(f"{max(values):g}") if x == "split" else 0) for value in values
    }  # in their order
    return {f"{column}, {x} {wide[value]}": [each[value] for each in found] for value in values}


# %% tags=["nbval-check-output", "hide-input"]
for name in tasks:
    display(
        sd.claim(
            "C11.1",
            f"{place_of[name]}, branches that part at initialisation have a barrier between them, branches that part later next to none: at the first split point it is above twice its standard error in every pair, at the "
            "last below a tenth of the mean barrier at the first.",
            holds=tests["C11.1", name],
            tier=tier,
            task=name,
            measured=means(name, together, "barrier"),
        )
    )

# %% tags=["nbval-check-output", "hide-input"]
for name in tasks:
    display(
        sd.claim(
            "C11.2",
            f"{place_of[name]}, the barrier falls as the agreement of top singular vectors rises, with a rank correlation of -0.7 or below over all pairs, and branches that part at initialisation share nothing.",
            holds=tests["C11.2", name],
            tier=tier,
            task=name,
            measured={"rank correlation": [related(pairs_of(together, name, trunk), "agreement") for trunk in seeds]}
            | means(name, together, "agreement"),
            chance=chance[name],
        )
    )

# %% tags=["nbval-check-output", "hide-input"]
for name in tasks:
    display(
        sd.claim(
            "C11.3",
            f"{place_of[name]}, branches agree in their top ranks: those that part last share, above chance, at least twice as much in the first quarter of the components as in the second half, in the mean over matrices.",
            holds=tests["C11.3", name],
            tier=tier,
            task=name,
            measured={
                f"agreement above chance, {place} quarter": [by_quarter(name, trunk)[:, i].mean() for trunk in seeds]
                for i, place in enumerate(("first", "second", "third", "last"))
            },
            chance=0.0,
        )
    )

# %% tags=["nbval-check-output", "hide-input"]
for name in tasks:
    display(
        sd.claim(
            "C12.1",
            f"{place_of[name]}, branches of different trunks with the data in the same order share nothing, and between them is a barrier of at least half that between branches that part at initialisation, whichever the split "
            "point.",
            holds=tests["C12.1", name],
            tier=tier,
            task=name,
            measured=means(name, apart, "barrier") | means(name, apart, "agreement"),
            chance=chance[name],
        )
    )

# %% tags=["nbval-check-output", "hide-input"]
for name in tasks:
    display(
        sd.claim(
            "C13.1",
            f"{place_of[name]}, the stronger the noise, the higher the barrier and the smaller the agreement, until branches share nothing; and both are halfway there at the same strength, to within one of those tried.",
            holds=tests["C13.1", name],
            tier=tier,
            task=name,
            measured=means(name, shaken_apart, "barrier") | means(name, shaken_apart, "agreement"),
            chance=chance[name],
        )
    )


# %% tags=["nbval-check-output", "hide-input"]
def mean_rises(name, lent, place):
    """Rise of the loss at equal distance, the mean over the pairs of each trunk, for a claim."""
    kinds = ["top components", "the rest", "random part", "all components"]
    which = {"lent": lent, "split": splits[name][place]}
    return {
        f"{lent}, {kind}, parted at step {splits[name][place]}": [pairs_of(equal, name, trunk, **which)[kind].mean() for trunk in seeds]
        for kind in kinds
        if equal.loc[equal["lent"] == lent, kind].notna().any()
    }  # fmt: skip


def destroys_the_top(name, trunk):
    mine = pairs_of(equal, name, trunk, lent="halfway", split=splits[name][0])
    return bool(mine["the rest"].mean() < 0.5 * mine["top components"].mean())


for name in tasks:
    display(
        sd.claim(
            "C13.2",
            f"{place_of[name]}, interpolation destroys top components that are not shared, and averages out the rest: of branches that part at initialisation, averaging the rest alone raises the loss less than half as much as "
            "averaging the top alone does, where both move equally far.",
            holds=[destroys_the_top(name, trunk) for trunk in seeds],
            tier=tier,
            task=name,
            measured=mean_rises(name, "halfway", 0) | mean_rises(name, "swapped", 0),
        )
    )

# %% [markdown]
# ### Of this book


# %% tags=["hide-input"]
def at_every_split(name, trunk, column, sign):
    """Whether the mean of a column lies above (1) or below (-1) that of the agreement of the ends, wherever they parted."""
    found = pairs_of(together, name, trunk).groupby("split")[[column, "agreement"]].mean()
    return bool((sign * (found[column] - found["agreement"]) > 0).all())


def as_good_a_guide(name, trunk):
    mine = of_trunk(name, trunk)
    return abs(related(mine, "distance")) >= abs(related(mine, "agreement")) - 0.05


def connected_without(trunk):
    mine, wall = pairs_of(without, "plain digits", trunk), at_split("images", trunk, 0)["barrier"].mean()
    theirs = pairs_of(walled, "images", trunk)["agreement"]
    return bool(
        (mine["error"] < LIMIT).all()
        and (surely(mine, 1) < 0.1 * wall).all()
        and (mine["agreement"] <= theirs.max()).all()
    )


# %% tags=["nbval-check-output", "hide-input"]
for name in tasks:
    display(
        sd.claim(
            "L1",
            f"{place_of[name]}, what branches have in common was in part not there when they parted: wherever they do, they agree more with each other than with the network they parted from.",
            holds=[at_every_split(name, trunk, "with parting", -1) for trunk in seeds],
            tier=tier,
            task=name,
            measured=means(name, together, "with parting") | means(name, together, "agreement"),
            chance=chance[name],
        )
    )

# %% tags=["nbval-check-output", "hide-input"]
for name in tasks:
    display(
        sd.claim(
            "L2",
            f"{place_of[name]}, distance tells the height of the barrier as well as agreement does: over all pairs of a trunk, with noise and without, its rank correlation with the barrier is as strong, to within 0.05.",
            holds=[as_good_a_guide(name, trunk) for trunk in seeds],
            tier=tier,
            task=name,
            measured={
                f"rank correlation, {title}": [related(of_trunk(name, trunk), column) for trunk in seeds]
                for column, title in guides.items()
            },
        )
    )

# %% tags=["nbval-check-output", "hide-input"]
for name in tasks:
    display(
        sd.claim(
            "L3",
            f"{place_of[name]}, branches agree less than their distance asks for: wherever they part, networks with the same middle and distance, but apart in a random direction, agree more.",
            holds=[at_every_split(name, trunk, "at random", 1) for trunk in seeds],
            tier=tier,
            task=name,
            measured=means(name, together, "at random") | means(name, together, "agreement"),
            chance=chance[name],
        )
    )

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "L4",
    "On plain digits branches that part at initialisation are linearly connected, though they share no more than branches with a barrier do on cluttered ones.",
    holds=[connected_without(trunk) for trunk in seeds],
    tier=tier,
    task="images",
    measured={
        "barrier, plain digits": list(without["barrier"]),
        "barrier in error, plain digits": list(without["error"]),
        "agreement, plain digits": list(without["agreement"]),
        "most agreement with a barrier, cluttered digits": [
            pairs_of(walled, "images", trunk)["agreement"].max() for trunk in seeds
        ],
    },
    chance=chance["images"],
)


# %% tags=["hide-input"]
def by_order(name, trunk, column):
    """A column of the table of orders for one trunk, by the kind of order."""
    return pairs_of(matched, name, trunk).set_index("kind")[column]


def order_is_the_wall(name, trunk):
    barrier = by_order(name, trunk, "barrier")
    found = [value for kind, value in barrier.items() if kind.startswith("matched")]
    return max(found) < 0.5 * barrier["as it is"] < barrier["random order"]


def little_in_common(name, trunk):
    kind = "matched by weights"
    return bool(by_order(name, trunk, "agreement, untrained")[kind] < by_order(name, trunk, "agreement")[kind] < 0.5)


def all_orders(name, column):
    return {
        f"{column}, {kind}": [by_order(name, trunk, column)[kind] for trunk in seeds]
        for kind in matched[matched["task"] == name]["kind"].unique()
    }


# %% tags=["nbval-check-output", "hide-input"]
for name in matched["task"].unique():
    display(
        sd.claim(
            "L5",
            f"{place_of[name]}, most of the wall between networks of different trunks is the order of their features: matched, by weights or by what they do, they have less than half the barrier; put in a random "
            "order, they have more than half.",
            holds=[order_is_the_wall(name, trunk) for trunk in seeds],
            tier=tier,
            task=name,
            measured=all_orders(name, "barrier"),
        )
    )

# %% tags=["nbval-check-output", "hide-input"]
for name in matched["task"].unique():
    display(
        sd.claim(
            "L6",
            f"{place_of[name]}, matched networks share few of their top directions: the agreement of the ten largest is above what matching makes of untrained networks, but below a half.",
            holds=[little_in_common(name, trunk) for trunk in seeds],
            tier=tier,
            task=name,
            measured=all_orders(name, "agreement") | all_orders(name, "spaces"),
            chance=float(pairs_of(matched, name, kind="matched by weights")["agreement, untrained"].mean()),
        )
    )

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "L7",
    "Without BatchNorm, most of the loss halfway between networks that were not matched comes of features that shrink: with their means and spreads repaired, less than half of what it exceeds the ends by is left.",
    holds=[
        row["repaired"] - row["ends"] < 0.5 * (row["as it is"] - row["ends"])
        for trunk in seeds
        for _, row in pairs_of(halfway, "perceptron", trunk, kind="as it is").iterrows()
    ],
    tier=tier,
    task="perceptron",
    measured={
        f"halfway, {kind}, {state}": list(pairs_of(halfway, "perceptron", kind=kind)[state])
        for kind in ("as it is", "matched by weights")
        for state in ("as it is", "repaired")
    },
)

# %% tags=["nbval-check-output", "hide-input"]
for name in tasks:
    late_ones = {trunk: pairs_of(equal, name, trunk, lent="halfway", split=splits[name][-1]) for trunk in seeds}
    display(
        sd.claim(
            "L8",
            f"{place_of[name]}, without a wall, too, a part alone costs more than the whole: of branches that part at the last split point, averaging the top alone and averaging the rest alone each raise the loss more than going as far "
            "along the line does, in every pair.",
            holds=[
                bool((mine[["top components", "the rest"]].min(axis=1) > mine["all components"]).all())
                for mine in late_ones.values()
            ],
            tier=tier,
            task=name,
            measured=mean_rises(name, "halfway", -1) | mean_rises(name, "swapped", -1),
        )
    )


# %% tags=["nbval-check-output", "hide-input"]
def between_best_and_ensemble(trunk):
    mine = pots[(pots["seed"] == trunk) & (pots["members"] == 1 + len(branch_seeds))].set_index("split")
    first, last = splits["images"][0], splits["images"][-1]
    return bool(
        mine.loc[last, "soup, loss"] < mine.loc[last, "best member, loss"]
        and mine.loc[first, "soup, loss"] > mine.loc[first, "mean member, loss"]
        and (mine["ensemble, loss"] < mine["soup, loss"]).all()
    )


sd.claim(
    "L9",
    "Soups of branches that part at the last split point have a lower test loss than their best member, soups of branches that part at initialisation a higher one than the mean member; the ensemble has a lower one than "
    "the soup at every split point.",
    holds=[between_best_and_ensemble(trunk) for trunk in seeds],
    tier=tier,
    task="images",
    measured={
        f"{who}, loss, parted at step {split}": [
            float(part.loc[part["seed"] == trunk, f"{who}, loss"].iloc[0]) for trunk in seeds
        ]
        for split, part in of_three.groupby("split")
        if split in outer["images"]
        for who in made
    },
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "L10",
    "Agreement tells beforehand what a soup of two will gain over its members, with a rank correlation of at least 0.7 over all pairs of a trunk; and distance tells it as well, to within 0.05.",
    holds=[
        agreed >= 0.7 and -far >= agreed - 0.05
        for agreed, far in zip(told_in_trunk("agreement"), told_in_trunk("distance"), strict=True)
    ],
    tier=tier,
    task="images",
    measured={
        "rank correlation, agreement": told_in_trunk("agreement"),
        "rank correlation, distance": told_in_trunk("distance"),
        "agreement, among pairs that parted at one step": float(np.mean(told_at_split("agreement"))),
        "distance, among pairs that parted at one step": float(np.mean(told_at_split("distance"))),
    },
    chance=0.0,
)

# %% [markdown]
# ### Reading the verdicts

# %% tags=["remove-input"]
common = tasks["images"]
halves = [
    (halfway_at(by_strength("images", trunk, "agreement")), halfway_at(by_strength("images", trunk, "barrier")))
    for trunk in seeds
]
tried = [0, *strengths]
walls = first_of("images", "halfway")


def times_the_top(part):
    """How much a part costs, beside the top, in the mean over the pairs of each trunk."""
    rises = walls.groupby("seed")[[part, "top components"]].mean()
    return spread(rises[part] / rises["top components"])


def halved_by(kind):
    """In how many pairs of other trunks a way of matching leaves less than half of the barrier."""
    left = [by_order(name, trunk, "barrier") for name in ("images", "perceptron") for trunk in seeds]
    return f"{sum(each[kind] < 0.5 * each['as it is'] for each in left)} of {len(left)}"


Markdown(
    f"""
- **C11.1** is about loss. In error, by the stricter rule that more than {100 * LIMIT:g} points are a barrier {{cite}}`frankle2020linear`, pairs with one are, of {len(seeds) * 3 if len(branch_seeds) == 2 else "all"}:
  {"; ".join(f"{int((part['error'] >= LIMIT).sum())} that parted at step {split}" for split, part in cluttered.groupby("split"))}. Errors are counted on {common.evaluated} images.
- **C11.2** has two halves. The rank correlation is {spread([related(pairs_of(together, "images", trunk), "agreement") for trunk in seeds])}; and pairs that parted at initialisation share
  {spread([each for trunk in seeds for each in shared("images", trunk, at_split("images", trunk, 0)["agreement"])])} of what those that parted last do, where each has to be below {NOTHING:g} to be called nothing. It
  compares two things that both follow the split point, and so says nothing of cause. Within one split point the correlation is {spread([related(part, "agreement") for _, part in cluttered.groupby("split")])},
  that of distance {spread([related(part, "distance") for _, part in cluttered.groupby("split")])}.
- **C11.3** is about the mean. Taken matrix by matrix it fails in {spread([sum(by_quarter("images", trunk)[:, 0] < by_quarter("images", trunk)[:, 2:].mean(1) * 2) for trunk in seeds], 0)} of {len(judged["images"])}.
  And it would hold for any two networks that are merely near each other: a small difference turns the top vectors least.
- **C12.1** and agreement at large do not know that channels have no order. [What is left once they are put in order](connectivity-permutations) is another question.
- **C13.1**: by noise, agreement is half gone between {"; ".join(f"{tried[a - 1]:g} and {tried[a]:g}" for a in sorted({a for a, _ in halves}))}, and the barrier is halfway up between
  {"; ".join(f"{tried[b - 1]:g} and {tried[b]:g}" for b in sorted({b for _, b in halves}))}. {"So agreement goes first, and" if all(a < b for a, b in halves) else "So"} "at once" is as coarse as the strengths that were tried.
- **C13.2** is a hypothesis of the paper, and the test is ours. It was chosen on seeds 0 to 2, on which the top cost more than the rest in most pairs, but in none twice as much. "Averages out" could be read either way. By the
  weaker reading, that the top costs more at all, it holds in {int((walls["top components"] > walls["the rest"]).sum())} of {len(walls)} pairs here. By ours it is a matter of size: in the mean over the pairs of a trunk the rest costs
  {times_the_top("the rest")} times as much as the top, and a random part {times_the_top("random part")} times.
- **L1** has an innocent reading in part: the network at the split point still has the noise of a high learning rate in it, and its ends have not. Where it holds, twins that part at initialisation agree more
  with each other too, and there is no such noise yet.
- **L2** and **L3** do not say that shared directions are nothing. Where they hold, they say that agreement tells no more of the barrier than how near networks lie does, and that training drives branches apart just where it hurts agreement most.
  It takes an intervention to tell more: [above](connectivity-causal).
- **L5** asks for both ways of matching. By what features do, the barrier is less than half of what it was in {halved_by("matched by what it does")} pairs, by weights in {halved_by("matched by weights")}.
- **L5** and **L6** are about pairs of trunks, each with the next; so every trunk is in two of them. Theirs is no chance level but a control each: a random order, and networks matched before training.
- **L10** compares pairs that parted at different steps, as C11.2 does, and both guides follow the step. Among pairs that parted at one step the rank correlation with the gain is {spread(told_at_split("agreement"))} for agreement
  and {spread(told_at_split("distance"))} for distance.
"""
)

# %% [markdown]
# ## Paper and this book


# %% tags=["remove-input"]
def settings(of_tier, shown, task):
    """What the images are trained with, in words."""
    steps, after, noise_sizes, orders = shown
    return {
        "dataset": task.dataset,
        "convolutions": f"{sum(item != 'pool' for item in task.plan)}",
        "updates": f"{task.steps:,}",
        "weight decay": f"{task.weight_decay:g}",
        "branches part after, epochs": ", ".join(f"{each:.2g}" for each in steps),
        "the last of it, % of training": f"{100 * max(steps) * of_tier / task.steps:.0f}",
        "trunks, and branches of each": f"3, and {orders}",
        "noise after, epochs": f"{after:.2g}",
        "strengths of noise": ", ".join(f"{each:g}" for each in noise_sizes),
    }


original = sd.tasks.image_classification("paper")
pd.DataFrame(
    {
        "the paper": settings(
            352, ((0, 0.2, 0.4, 0.6, 0.8, 1, 2, 3, 4, 5), 5, (0, 0.1, 0.25, 0.5, 1, 2.5), "3"), original
        ),
        "this page": settings(
            epoch,
            (parting, parting[noise_place], (0, *strengths), f"{len(branch_seeds)} and the trunk itself"),
            tasks["images"],
        ),
    }
)

# %% [markdown]
# - **Tasks**: the paper shows four; this page shows images, and the other three at the higher tiers, of which the paper tier has the paper's networks, datasets and split points.
# - **Weight decay** is ten times the paper's and a tenth of what our other chapters give to images. With theirs a laptop's network forgets its beginning within an epoch or two: barriers were as high, but agreement
#   stayed small even where branches parted after three epochs (tried on seeds 0 to 2).
# - **The trunk** is one more branch at every split point. In the paper branches all have other orders than their trunk.
# - **Barriers**: the paper's, over the whole line, from an adaptive set of points and a few batches that are the same for all pairs. The official code takes eleven points and the whole training set, and leaves out the
#   ends, so that its barriers can be negative. The table under [barriers](connectivity-barriers) has both.
# - **BatchNorm** is estimated again at every point, the ends included. The paper says the same of GroupNorm, which has nothing to estimate; the official code does nothing there, and nor do we.
# - **Noise**: the paper tells of adding it, the official code also brings each matrix back to its norm, and so do we. Momentum is that of before the noise, in both.
# - **Scores**: the mean over matrices is ours; the paper shows heat maps.
# - **Ours**: standard errors, the room between points, chance levels, the spaces of ten, all nulls, and everything called L.

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
# The singular values, and the right singular vectors too. The entries of the left ones stand in the new order, so that they agree with the old ones hardly more than by chance, though
# the network computes what it did.
#
# ```{solution-end}
# ```
#
# ```{exercise} Halfway
# :label: ex-connectivity-middle
#
# Write `middle_of(one, two, batches)`: the network halfway between two networks, ready to be evaluated; `batches` are inputs. The networks that you are given have BatchNorm, and
# stay as they are. *(10 minutes)*
# ```


# %%
def middle_of(one, two, batches):
    return combined([one, two], [0.5, 0.5])


check_middle(middle_of)

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
def middle_of(one, two, batches):
    return reestimate(combined([one, two], [0.5, 0.5]), batches)


check_middle(middle_of)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The line between your networks
# :label: ex-connectivity-own
#
# Train one architecture of *yours* twice, from two seeds. Write `before_and_after(one, two, loss, example)`: the barrier on the straight line between the two, and the barrier
# after the features of the second are put into the order in which its weights fit those of the first. `loss(network)` is a number; `example` is a batch of inputs, by which
# `symmetries(one, example)` finds which features may trade places. `rises(one, two, loss)` below is a barrier from five points. Without BatchNorm your loss needs no `reestimate`. How much of
# your barrier was a matter of order? *(30 minutes)*
# ```

# %%
# Put your own here: two networks of one architecture, a loss, and a batch of inputs.
my_one, my_two = (trunks["images"][seed].model().to(where) for seed in (seeds[0], seeds[-1]))
my_task, my_data = tasks["images"], data["images"]
my_batches = [my_task.batch(my_data, step, 0) for step in range(4)]
my_example = next(iter(my_task.inputs(my_data)))


@torch.no_grad()
def my_loss(network):
    network = reestimate(network, my_task.inputs(my_data)).eval()
    return np.mean([my_task.loss(network, batch).item() for batch in my_batches])


def rises(one, two, loss):
    losses = [loss(combined([one, two], [1 - share, share])) for share in SHARES]
    return my_barrier(np.array(SHARES), np.array(losses))


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
# 1. What does the network halfway between it and its copy compute? Will the barrier be seen in the loss, in the error, or in both?
# 2. Would matching find it? Would it be there if BatchNorm followed the first layer?
# 3. What, then, does a barrier between two networks say about what they compute, and what does its absence say? Can you think of a measure that does not depend on how a function is
#    written down, and of its price? *(30 minutes, best in pairs)*
# ```
#
# ```{solution-start} ex-connectivity-itself
# :class: dropdown
# ```
#
# Halfway the first layer is 5.5 times the original and the second 0.55 times, so that the outputs, but for the last bias, are 3.025 times what they should be. A classifier
# gives nearly the same answers, too sure of them: the error hardly moves, the loss does. No order undoes a scale. Before BatchNorm the scale of a weight makes no
# difference, so there is no barrier.
#
# A straight line without a barrier says that two networks are close in a strong sense. A barrier says less: the functions may be the same, and only written down in another way
# {cite}`dinh2017sharp`. Orders and scales can be taken out where one knows them; and between many networks with a barrier there is a curved path on which the loss stays low
# {cite}`garipov2018loss`. What compares functions alone, such as how often two networks disagree on pictures that neither has seen, asks for data and says nothing about the weights.
#
# ```{solution-end}
# ```

# %% [markdown]
# ## What this page does not show
#
# - **Curved paths.** Networks with a wall on the straight line between them are often connected by a bent one {cite}`garipov2018loss`. Nothing here is about those.
# - **Why** twins that part go the same way, as far as they do: what in the data or in the beginning sends them there was not taken apart.
# - **Momentum.** Branches inherit it, here as in the paper. Whether they would part further without it was not tried.
# - **Independent pairs.** The three pairs of a trunk at a split point share networks, and the trunk is in two of them at every split point. Verdicts are over three trunks; a rank correlation over a trunk's pairs has fewer
#   independent ones than it seems.
# - **Width.** Wider networks have lower barriers {cite}`entezari2022role`. Ours are narrow, so that barriers show.
# - **The other tasks at this tier**, and the paper's own networks: see the higher tiers.
#
# ## Further reading
#
# The instability of early training and its connection to lottery tickets: {cite:t}`frankle2020linear`. The paths between minima that are not straight: {cite:t}`garipov2018loss`. Permutations: {cite:t}`entezari2022role` for the
# conjecture, {cite:t}`ainsworth2023git` for methods, {cite:t}`jordan2023repair` for what averaging does to the statistics of features. Averages of many networks: {cite:t}`wortsman2022model`; of one network at many times:
# {cite:t}`izmailov2018averaging`. All of it through singular vectors: {cite:t}`yunis2024approaching`.
