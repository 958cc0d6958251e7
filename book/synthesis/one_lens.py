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
#   reads: claims
# ---

# %% [markdown]
# # One lens
#
# Grokking, low rank, weight decay, memorization, lottery tickets, connected networks: the paper that this book follows sees one thing in all of them. Networks that generalise have
# few directions, found early, and kept. Now that every page has its runs and its verdicts, we can ask all of them at once. Where does low rank go with generalisation, and where with
# knowing less? Do tickets, branches and wrong labels share one moment of training? And how much of the one story is left when each part of it has been tested?

# %% tags=["parameters", "hide-input"]
tier = "laptop"  # smoke (a test), laptop (this page), gpu (real datasets), paper (the paper's own settings)
seeds = [10, 11, 12]  # those of the other pages, whose runs are read; verdicts need at least three
device = "auto"  # auto, cpu or cuda

# %% tags=["hide-input"]
import copy
import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from scipy.stats import rankdata, spearmanr

import specdyn as sd
from specdyn.exercises.one_lens import check_in_order, check_settled, check_within
from specdyn.interventions import Masked, Truncation, line, magnitude_mask, random_mask, reestimate
from specdyn.show import spread
from specdyn.spectra import agreement, decompose, matrices
from specdyn.tasks.task import at_tier, build, generator
from specdyn.training import OnTestData, finished, first_at_most, side_by_side
from specdyn.training.loop import resolve_device

torch.set_num_threads(1)  # the networks are too small to share among cores
where = resolve_device(device)
four = sd.tasks.four_tasks(tier)
images = four["images"]
grokking = sd.tasks.grokking_settings(tier)["decay"]
digits = sd.tasks.noisy_labels(tier)
true, partly, permuted = 0.0, 0.4, 1.0  # shares of the labels

# %% tags=["hide-input"]
# The runs of other pages that are looked at one by one, with their settings: where those pages were executed, nothing is trained here.
# Sweeps of one run a seed come first: with one seed they need one worker, and to stop a second and start it again takes longer than they do.
plan = sd.tasks.branching(tier)["images"]
connected, brief = plan.task, replace(plan.task, every=plan.task.steps)
trunks = {run.seed: run for run in sd.sweep(connected, seed=seeds, keep={*plan.splits, *plan.path}, device=device)}
moments = list(grokking.snapshots)
moments = moments[:: max(1, len(moments) // 20)][1:-1]
grokked = sd.sweep(grokking, seed=seeds, keep=moments, device=device)
base = sd.sweep(four, seed=seeds, probe=Truncation(), device=device)
decays = sd.tasks.decay_values(tier)["images"]
sd.sweep(images, weight_decay=decays, seed=seeds, probe=Truncation(), device=device)
parts = [digits.steps // part for part in (32, 16, 8, 4, 2)]
labelled = sd.sweep(
    digits, corrupted=[true, partly, permuted], seed=seeds, probe=OnTestData(), keep=parts, device=device
)

# As on the page on connectivity: branches of the image classifier with little decay, and what is kept of them.
branches = {
    split: sd.sweep(
        brief,
        start={seed: dict.fromkeys(plan.orders, trunk.checkpoint(split)) for seed, trunk in trunks.items()},
        seed=plan.orders,
        keep=[step for step in plan.path if step >= split],
        device=device,
    )
    for split in plan.splits
}
ends = {seed: run.model() for seed, run in trunks.items()}

# And new: the largest fifth of this trunk's weights, or as many at random, trained again from the very beginning.
kept = at_tier({"smoke": 0.5} | dict.fromkeys(("laptop", "gpu", "paper"), 0.2), tier)
tickets = {seed: magnitude_mask(model, kept, allow_empty=True) for seed, model in ends.items()}
masks = {
    "ticket": {seed: Masked(mask) for seed, mask in tickets.items()},
    "random": {seed: Masked(random_mask(mask, generator(seed, "random mask"))) for seed, mask in tickets.items()},
}
start = {"rewound": {seed: run.checkpoint(0) for seed, run in trunks.items()}}
rewound = sd.sweep(brief, start=start, constraint=masks, seed=seeds, device=device)


# %% [markdown]
# ## Every run in the book
#
# Each page trained its networks for a reason of its own. Put together they are an observational study: every finished run, with its
# {term}`effective rank` at the end, the mean over its matrices, as a share of what it was before training, and with what it gets wrong on data that it has not been trained on.

# %% tags=["hide-input"]
# What is counted on held-out data and on training data: errors where there are any, of modular addition only where the mirrored sum is unknown too.
measures = {
    "modular-addition": ("modular addition", "strict_error", "train_error"),
    "noisy-labels": ("digits", "validation_error", "train_error"),
    "image-classification": ("images", "validation_error", "train_error"),
    "image-generation": ("generation", "validation_loss", "train_loss"),
    "speech-recognition": ("speech", "validation_loss", "train_loss"),
    "language-modeling": ("language", "validation_loss", "train_loss"),
}
sizes = {one.name: one for one in (*four.values(), grokking, digits)}


def of_this_tier(task):
    """Whether a run trained a network of this tier's size; other tiers' runs may lie in the same folder."""
    fields = ("plan", "width", "widths", "hidden", "layers")
    ours = sizes[task["name"]]
    return all(json.dumps(task[field]) == json.dumps(getattr(ours, field)) for field in fields if field in task)


def family_of(made):
    """What was learned, from what beginning, and whether from scratch, as a branch, or held to a mask or low rank."""
    task, kind = made["task"], ""
    name, ours = measures[task["name"]][0], sizes[task["name"]]
    if "train_fraction" in task:
        name += f", {100 * task['train_fraction']:g} % of pairs"
    if "dataset" in task and task["dataset"] != ours.dataset:
        name += f" of {task['dataset']}"
    if "corrupted" in task and task["init_scale"] != ours.init_scale:
        name += ", PyTorch's start"
    if task["steps"] < ours.steps / 2:
        name += ", short"
    if made["start"]:
        held = made["constraint"] or made["start"][0] not in everything
        kind = ", masked or low rank" if held else ", branches"
    return name + kind


def trunk_seed(made):
    """The seed of the run that a branch left; what began from weights made by hand counts by its own."""
    trunk = everything.get(made["start"][0]) if made["start"] else None
    return trunk_seed(trunk.provenance) if trunk else made["seed"]


def row(recording):
    """Where a run ended, and what an untrained network of its kind is like, if it began as one."""
    made, last = recording.provenance, {name: float(values[-1]) for name, values in recording.metrics.items()}
    first = {name: float(values[0]) for name, values in recording.metrics.items() if not made["start"]}
    task, held_out, training = measures[made["task"]["name"]]
    rank, norm = recording.effective_rank(), recording.frobenius_norm()
    return {
        "task": task,
        "family": family_of(made),
        "seed": trunk_seed(made),
        "rank": rank[-1],
        "rank at first": np.nan if made["start"] else rank[0],
        "norm": norm[-1],
        "held_out": last[held_out],
        "training": last[training],
        "untrained": first.get(held_out, np.nan),
    }


def the_same(made):
    """Two runs of one content, of which one kept more steps or reported more, are one."""
    return json.dumps([{**made["task"], "every": 0}, made["seed"], made["start"], made["constraint"]])


everything = finished()
known = [recording for recording in everything.values() if recording.provenance["task"]["name"] in measures]
known = {the_same(r.provenance): r for r in known if of_this_tier(r.provenance["task"])}
runs = pd.DataFrame(row(recording) for recording in known.values())
runs = runs[runs["seed"].isin(seeds)]
order = [name for name, *_ in measures.values()]
runs = runs.sort_values(
    ["task", "family", "seed"], key=lambda column: column.map(order.index) if column.name == "task" else column
)
runs = runs.reset_index(drop=True)
for column, unit in {"rank": "rank at first", "held_out": "untrained", "training": "untrained"}.items():
    runs[column] /= runs.groupby("task")[unit].transform("median")  # branches have no untrained network of their own
runs["gap"] = runs["held_out"] - runs["training"]

# %% tags=["hide-input"]
headline = runs.rename(
    columns={"rank": "effective rank, as a share of the untrained network's", "held_out": "held-out error left"}
)
headline["series"] = headline["task"]
x, y = "effective rank, as a share of the untrained network's", "held-out error left"
pooled = [spearmanr(part[x], part[y]).statistic for _, part in headline.groupby("seed")]
sd.show.scatter(
    headline[["series", "family", "seed", x, y]],
    x=x,
    y=y,
    name="fig-lens",
    caption="Every run in the book that has held-out data: what it still gets wrong there (error or loss, as a share of the untrained network's) against its effective rank at the end. "
    "A dot a run; colour and shape are the task.",
    alt=f"{len(runs)} runs of {runs['task'].nunique()} tasks. "
    + "; ".join(f"{task}: {len(part)} runs, rank {part['rank'].min():.2f} to {part['rank'].max():.2f}, held-out error left {part['held_out'].min():.2f} to "
                f"{part['held_out'].max():.2f}" for task, part in runs.groupby("task", sort=False))
    + f". Rank correlation over all of them {spread(pooled)}.",
)  # fmt: skip

# %% [markdown]
# :::{admonition} On this page
# **You will be able to explain** why a correlation over all runs of a book says little, in which families of runs low rank goes with generalisation and in which it does not, what it goes with
# instead, how early top directions are found and what that depends on, and which parts of the paper's one story stand after six chapters of tests.
#
# **You need** the pages before, or at least their headline figures.
# :::
#
# ## Predict first
#
# 1. Over all runs of {numref}`fig-lens`: does lower rank go with fewer errors on held-out data? And within each family of runs?
# 2. Two runs fit their training data equally well. Does the one of lower rank generalise better?
# 3. Top singular directions are found early. Early compared to what?
# 4. Branches of one run can be averaged only if they part late enough. Does a lottery ticket, too, have to be rewound to a step that is late enough?
#
# :::{admonition} Reveal
# :class: dropdown
# The first two: {numref}`fig-lens-families` and the table under it. The third: {numref}`fig-lens-settling`. The fourth: {numref}`fig-lens-moments`.
# :::

# %% [markdown]
# ## Rank and generalisation
#
# Tasks differ in rank and in difficulty for reasons that have nothing to do with each other. So a correlation over all runs mixes two questions. It can even have the other sign than all those within, which is known as
# {term}`Simpson's paradox` {cite}`simpson1951interpretation`. The honest question is asked within a *family*: one task, one kind of network, one beginning; what differs is what the pages
# did to it. The correlation in five lines, and the null: as if rank had been dealt out at random within each family.


# %%
def standard(values):
    ranks = rankdata(values) - (len(values) + 1) / 2
    return ranks / max(np.sqrt(np.sum(ranks**2)), 1e-12)


def within(part, quantity):
    """Spearman's correlation of rank with a quantity, by family."""
    return {
        family: float(standard(g["rank"]) @ standard(g[quantity])) for family, g in part.groupby("family", sort=False)
    }


draws = 1_000


def by_chance(part, quantity, seed):
    """The same for ranks that were exchanged within each family: (draws,) by family."""
    rng = np.random.default_rng(seed)
    return {
        family: rng.permuted(np.tile(standard(g["rank"]), (draws, 1)), axis=1) @ standard(g[quantity])
        for family, g in part.groupby("family", sort=False)
    }


# %% tags=["hide-input"]
counts = runs.groupby(["family", "seed"]).size().unstack(fill_value=0).reindex(columns=seeds, fill_value=0)
compared = [family for family in runs["family"].unique() if counts.loc[family].min() >= 3]
by_seed = {seed: runs[(runs["seed"] == seed) & runs["family"].isin(compared)] for seed in seeds}
quantities = {"held-out error": "held_out", "training error": "training", "held-out minus training": "gap"}
correlations = {(seed, q): within(part, q) for seed, part in by_seed.items() for q in quantities.values()}
nulls = {(seed, q): by_chance(part, q, seed) for seed, part in by_seed.items() for q in quantities.values()}
rows = [
    {"category": family, "series": title, "seed": seed, "value": value}
    for seed in seeds
    for title, q in quantities.items()
    for family, value in correlations[seed, q].items()
]
rows += [
    {"category": family, "series": "chance", "seed": seed, "value": float(np.quantile(nulls[seed, "held_out"][family], at))}
    for seed in seeds
    for family in correlations[seed, "held_out"]
    for at in (0.05, 0.95)
]  # fmt: skip
sd.show.dots(
    pd.DataFrame(rows),
    name="fig-lens-families",
    caption="Rank correlation, within each family of runs, of effective rank with the error on held-out data, with the error on training data, and with their difference. To the right of zero lower "
    f"rank goes with less of it. A dot a seed. Grey: between these lie nine in ten of {draws:,} correlations of exchanged ranks with the held-out error. (Losses where a task has no errors.)",
    xlabel="rank correlation with effective rank",
    alt="Correlation with effective rank, median over seeds. "
    + "; ".join(
        f"{family}: " + ", ".join(f"{title} {np.median([correlations[seed, q][family] for seed in seeds]):.2f}" for title, q in quantities.items())
        for family in compared
    )
    + ".",
)  # fmt: skip


# %% tags=["hide-input"]
def pairs_of(g, near):
    """The pairs of runs that are near each other in something, as two arrays of places."""
    i, j = np.triu_indices(len(g), 1)
    close = near(g.iloc[i].reset_index(drop=True), g.iloc[j].reset_index(drop=True)).to_numpy()
    return i[close], j[close]


def in_order(ranks, held_out, i, j):
    """Of these pairs, the share in which the run of lower rank has the lower held-out error; ties count half."""
    agree = np.sign(ranks[..., i] - ranks[..., j]) * np.sign(held_out[i] - held_out[j])
    return (1 + agree.mean(-1)) / 2


def equally_fitted(one, two):
    return (one["training"] - two["training"]).abs() <= 0.02


def equally_large(one, two):
    return (np.log(one["norm"]) - np.log(two["norm"])).abs() <= math.log(1.1)


def shares(part, near, seed=0, exchanged=()):
    """The share in order, by family with at least three such pairs; with ``exchanged`` draws, of ranks exchanged within it."""
    rng, found = np.random.default_rng(seed), {}
    for family, g in part.groupby("family", sort=False):
        i, j = pairs_of(g, near)
        ranks = np.tile(g["rank"].to_numpy(), (*exchanged, 1)) if exchanged else g["rank"].to_numpy()
        if len(i) >= 3:
            found[family] = in_order(
                rng.permuted(ranks, axis=-1) if exchanged else ranks, g["held_out"].to_numpy(), i, j
            )
    return found


at_equal_fit = {seed: shares(part, equally_fitted) for seed, part in by_seed.items()}
at_equal_norm = {seed: shares(part, equally_large) for seed, part in by_seed.items()}
fit_by_chance = {seed: shares(part, equally_fitted, seed, (draws,)) for seed, part in by_seed.items()}


def cell(found, family, times=1):
    """A number of a family over seeds, in words; a share, which it is times a hundred, without decimals."""
    return spread([times * found[seed][family] for seed in seeds if family in found[seed]], 2 if times == 1 else 0)


pd.DataFrame(
    {
        "": family,
        "runs a seed": spread(counts.loc[family], 0),
        **{f"with {title}": cell({seed: correlations[seed, q] for seed in seeds}, family) for title, q in quantities.items()},
        "pairs of equal fit": spread([len(pairs_of(part[part["family"] == family], equally_fitted)[0]) for part in by_seed.values()], 0),
        "% of them in order": cell(at_equal_fit, family, 100),
        "% of pairs of equal norm in order": cell(at_equal_norm, family, 100),
    }
    for family in compared
).set_index("")  # fmt: skip


# %% tags=["remove-input"]
def mean_over(found):
    """The mean over families; none where there are no families."""
    return float(np.mean(list(found.values()))) if found else np.nan


def mean_of(quantity):
    return [mean_over(correlations[seed, quantity]) for seed in seeds]


def signs(quantity, families):
    """In how many families the median over seeds is above and below zero."""
    middle = [np.median([correlations[seed, quantity][family] for seed in seeds]) for family in families]
    return sum(value > 0 for value in middle), sum(value < 0 for value in middle)


more, less = signs("held_out", compared)
most_left = runs.groupby("family")["training"].max()
fitting = [family for family in compared if most_left[family] <= 0.05]
falling_short = [family for family in compared if family not in fitting]
scarce = [family for family in runs["family"].unique() if family not in compared]
Markdown(
    f"The table has the {len(compared)} families with at least three runs in every seed; {len(scarce)} have fewer ({'; '.join(scarce) or 'none'}). *In order* are pairs of runs of which the one of lower rank has the lower "
    "held-out error. Pairs are of *equal fit* where their training errors lie within 0.02 of the untrained network's, and of *equal norm* where their norms lie within a tenth. With fewer than three such pairs there is no "
    "share. Luck has 0 for a correlation and 50 % for a share.\n\n"
    f"Over all {len(runs)} runs, as if they were one family, the correlation of rank with held-out error is **{spread(pooled)}**. Within families it is on average **{spread(mean_of('held_out'))}**: by the median over seeds "
    f"lower rank goes with fewer errors in {more} families and with more in {less}. With the *training* error it is on average {spread(mean_of('training'))}, and with the *gap* between the two {spread(mean_of('gap'))}. "
    f"Of the pairs of equal fit **{spread([100 * mean_over(at_equal_fit[seed]) for seed in seeds], 0)} %** are in order, of those of equal norm {spread([100 * mean_over(at_equal_norm[seed]) for seed in seeds], 0)} %, in the mean over "
    "families.\n\n"
    f"In {len(fitting)} of the families every run fits its training data: at most a twentieth of the untrained network's error is left ({'; '.join(fitting) or 'none'}). There networks differ only in what they do on other data, and lower "
    f"rank goes with fewer held-out errors in {signs('held_out', fitting)[0]}. In the other {len(falling_short)} families some runs do not fit. There lower rank goes with fewer held-out errors in {signs('held_out', falling_short)[0]}, "
    f"with *more* training error in {signs('training', falling_short)[1]}, and with a smaller gap in {signs('gap', falling_short)[0]}. A small gap is also what a network has that has learned nothing."
)

# %% [markdown]
# None of this shows what causes what. The pages that intervene are {doc}`../phenomena/grokking`, {doc}`../phenomena/weight_decay` and {doc}`../phenomena/memorization`.
#
# ## Early compared to what?
#
# A direction is *settled* from the first snapshot on from which its {term}`agreement` with the end stays at one half or more. Two directions may change places, so we take the best match among the first ten.


# %%
def settled(blocks, share_of_run, level=0.5):
    best = blocks.max(axis=1)  # (snapshots, places): the best match then of each direction at the end
    last = [np.flatnonzero(best[:, place] < level).max(initial=-1) for place in range(best.shape[1])]
    return share_of_run[np.minimum(np.array(last) + 1, len(best) - 1)]


# %% tags=["hide-input"]
trainings = {
    "modular addition": list(grokked),
    **{name: list(base.sel(task=name)) for name in four},
    "digits, true labels": list(labelled.sel(corrupted=true)),
    "digits, permuted labels": list(labelled.sel(corrupted=permuted)),
}
looks = at_tier({"smoke": 5, "laptop": 16, "gpu": 16, "paper": 16}, tier)


def at_looks(recording):
    """Some of the snapshots, evenly from first to last."""
    return np.unique(np.linspace(0, len(recording.vector_steps) - 1, looks).round().astype(int))


def large(recording):
    """The agreement blocks of the matrices with at least 16 singular values."""
    return [recording.agreement_blocks[name] for name, shape in recording.shapes.items() if min(shape) >= 16]


def settles(recording, chosen):
    """Share of the run by which each of ten places is settled, the median over matrices with at least 16 singular values."""
    of_run = recording.vector_steps[chosen] / recording.vector_steps[-1]
    return np.median([settled(blocks[chosen], of_run) for blocks in large(recording)], axis=0)


def random_walk(run):
    """The control: from a run's first network by random steps, as long as the learning rate then is, as far as training went."""
    model, end, steps = build(run.task, run.seed), dict(run.model().named_parameters()), run.recording.steps
    steps = steps[np.isin(steps, run.recording.vector_steps[at_looks(run.recording)])].tolist()
    squares = np.concatenate([[0], np.cumsum(sd.tasks.learning_rates(run.task) ** 2)])
    far = {name: float((end[name] - weight).detach().norm()) for name, weight in model.named_parameters()}
    draw, recorder = generator(run.seed, "random walk"), sd.Recorder(model, steps)
    for before, now in pairwise(steps):
        stride = math.sqrt((squares[now] - squares[before]) / squares[-1])
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=draw)
            weight.data += stride * far[name] * noise / noise.norm()
        recorder(now)
    return recorder.finish()


trained = {
    title: [settles(run.recording, at_looks(run.recording)) for run in found] for title, found in trainings.items()
}
exact = {title: [settles(run.recording, slice(None)) for run in found] for title, found in trainings.items()}
walked = {
    title: [settles(walk := random_walk(run), slice(None)) for run in found] for title, found in trainings.items()
}


# %% tags=["hide-input"]
sd.show.curves(
    pd.DataFrame(
        {"panel": title, "series": series, "seed": seed, "place": place, "value": value}
        for series, found in {"trained": trained, "random walk": walked}.items()
        for title in trainings
        for seed, values in zip(seeds, found[title], strict=True)
        for place, value in enumerate(values, start=1)
    ),
    x="place",
    columns=4,
    name="fig-lens-settling",
    caption=f"Share of the run after which a direction is settled, of {looks} snapshots, from the largest singular value (place 1) to the tenth; the median over matrices with at least 16 singular values. Grey: the same network moved "
    "at random, just as far. A line a seed.",
    ylabel="share of run",
    ylim=(-0.03, 1.03),
)


# %% tags=["hide-input"]
def fallen(recording):
    """Share of the run by which nine tenths of the fall of the training loss are done."""
    loss = recording.metrics["train_loss"]
    return recording.steps[np.argmax(loss <= loss[0] - 0.9 * (loss[0] - loss.min()))] / recording.steps[-1]


loss_done = {title: [fallen(run.recording) for run in found] for title, found in trainings.items()}


def head_start(values):
    """By how much of the run the first three places are settled before the last three."""
    return float(values[-3:].mean() - values[:3].mean())


pd.DataFrame(
    {
        "share of the run": title,
        "first three settled": spread([values[:3].mean() for values in exact[title]]),
        "last three of ten": spread([values[-3:].mean() for values in exact[title]]),
        "ahead by": spread(map(head_start, trained[title])),
        "ahead in a random walk by": spread(map(head_start, walked[title])),
        "nine tenths of the loss's fall": spread(loss_done[title]),
    }
    for title in trainings
).set_index("share of the run")

# %% tags=["remove-input"]
ahead = {
    title: [(head_start(a), head_start(b)) for a, b in zip(trained[title], walked[title], strict=True)]
    for title in trainings
}
first_come = [title for title, of_seeds in ahead.items() if all(a > 0 for a, _ in of_seeds)]
by_more = [title for title, of_seeds in ahead.items() if all(a > b for a, b in of_seeds)]
Markdown(
    f"In {len(first_come)} of {len(trainings)} trainings the first three are ahead of the last three with every seed; by more than in the random walk they are in {len(by_more)} ({', '.join(by_more) or 'none'}). What the walk does too says nothing "
    "of learning: a large singular value is hard to turn, whatever turns it. And *how early* is that? The same MLP on the same digits settles the first three after "
    f"{spread([100 * values[:3].mean() for values in exact['digits, true labels']], 0)} % of the run where labels are true, and after {spread([100 * values[:3].mean() for values in exact['digits, permuted labels']], 0)} % where they are "
    "permuted and have to be learned by heart."
)

# %% [markdown]
# ## One trunk, three moments
#
# Now one network, the image classifier, and three things that later pages did with its beginning: let branches part from it ({doc}`../phenomena/linear_mode_connectivity`), rewind it under the mask of a
# ticket ({doc}`../phenomena/lottery_tickets`; here to the very beginning), and, in another network, give it wrong labels ({doc}`../phenomena/memorization`). If one and the same early event made all three possible,
# their moments should be one.

# %% tags=["hide-input"]
data = connected.data(seeds[0], where)
judge = replace(connected, evaluated=min(2_048, images.train_size))


@torch.no_grad()
def training_loss(model):
    """At the end, with BatchNorm's statistics estimated again."""
    return judge.metrics(reestimate(copy.deepcopy(model).to(where), judge.inputs(data)).eval(), data)["train_loss"]


losses = {("whole", seed): training_loss(model) for seed, model in ends.items()} | {
    (kind, run.seed): training_loss(run.model()) for kind in masks for run in rewound.sel(constraint=kind)
}
added = {kind: [losses[kind, seed] - losses["whole", seed] for seed in seeds] for kind in masks}
parted = {
    (seed, split): [ends[seed], *(run.model() for run in branches[split].sel(start=seed))]
    for seed in seeds
    for split in plan.splits
}


def midway(one, two):
    """What the network in the middle between two does, and they."""
    return line(
        connected,
        one.to(where),
        two.to(where),
        connected.data(seeds[0], where),
        points=3,
        batches=4,
        tolerance=math.inf,
    )


pairs = [(*of, trunk, branch) for of, (trunk, *others) in parted.items() for branch in others]
found = side_by_side(midway, [pair[2:] for pair in pairs], device=device, name="lines")


def over_pairs(seed, split, number):
    """The mean over the pairs of a trunk that parted at a step."""
    return float(np.mean([number(each) for pair, each in zip(pairs, found, strict=True) if pair[:2] == (seed, split)]))


barriers = {of: over_pairs(*of, lambda each: each.barrier()) for of in parted}


def times_the_ends(each):
    """The loss in the middle of a line over that at its ends."""
    before, middle, after = each.values()
    return 2 * middle / (before + after)


above_ends = {of: over_pairs(*of, times_the_ends) for of in parted}


# %% tags=["hide-input"]
def best_match(recording, places):
    """Agreement with the end of some of the first ten places over time, the mean over matrices with at least 16 singular values."""
    return np.mean([blocks.max(axis=1)[:, places].mean(axis=1) for blocks in large(recording)], axis=0)


first, last = "first three", "last three"
times = []
for seed, run in [*trunks.items(), *((run.seed, run) for run in labelled.sel(corrupted=partly))]:
    panel = "images" if run.task.name == images.name else "digits, 40 % of labels permuted"
    steps = run.recording.vector_steps / run.recording.vector_steps[-1]
    times += [
        (panel, name, seed, x, y)
        for name, places in {first: slice(3), last: slice(-3, None)}.items()
        for x, y in zip(steps, best_match(run.recording, places), strict=True)
    ]
    if "wrong_error" in run.recording.metrics:
        times += [
            (panel, "wrong labels", seed, x, y)
            for x, y in zip(steps, run.recording.metrics["wrong_error"], strict=True)
        ]
times += [
    ("images", "barrier", seed, split / images.steps, value / (barriers[seed, 0] or math.nan))
    for (seed, split), value in barriers.items()
]
sd.show.curves(
    pd.DataFrame(times, columns=["panel", "series", "seed", "share of run", "value"]),
    x="share of run",
    name="fig-lens-moments",
    caption="Two runs from beginning to end. *First three*, *last three*: agreement of these of ten directions with the end. Left, the image classifier; *barrier*: between branches that part there, as "
    "a share of that at step 0. Right, the MLP; *wrong labels*: the share not yet fitted. A line a seed.",
    ylabel="agreement, or share",
    ylim=(-0.03, 1.2),
)  # fmt: skip


# %% tags=["remove-input"]
def fitted_by(recording):
    """Share of the run by which half of the wrong labels are fitted."""
    return (
        first_at_most(recording.steps, recording.metrics.get("wrong_error", recording.steps * math.nan), 0.5)
        / recording.steps[-1]
    )


first_settled = [settles(run.recording, slice(None))[:3].mean() for run in trunks.values()]
halved = [
    next((split for split in plan.splits if barriers[seed, split] <= barriers[seed, 0] / 2), math.nan) for seed in seeds
]
Markdown(
    f"In the image classifier the first three directions settle after **{spread([100 * share for share in first_settled], 0)} %** of the run, which is step {spread([share * images.steps for share in first_settled], 0)}. "
    f"The barrier between branches is down to half of what it is from step 0 when they part at step **{spread(halved, 0)}** of {images.steps}; midway between branches from step 0 the loss is "
    f"{spread([above_ends[seed, 0] for seed in seeds], 1)} times that of the ends. And the largest {100 * kept:g} % of the weights, rewound to **step 0**, add {spread(added['ticket'])} to the training loss of the whole network, where "
    f"as many at random add {spread(added['random'])}. In the other network half of the wrong labels are fitted after {spread([100 * fitted_by(run.recording) for run in labelled.sel(corrupted=partly)], 0)} % of the run."
)

# %% [markdown]
# ### Do the same directions carry them?
#
# The paper finds that connected branches share top directions, and so do a network and its pruned self. But networks that are close to each other share directions whatever brought them there. So the comparison is with noise *at the same angle*:
# to each matrix of the trunk's end random numbers are added, of the size that makes its cosine with the original what the branch's is. If sharing top directions is more than being close, branches and tickets should be above it.

# %%
noises = at_tier({"smoke": 3, "laptop": 10, "gpu": 10, "paper": 10}, tier)


def convolutions(model):
    """Those with at least 16 singular values; the last matrix is no convolution."""
    return {m.name: m.view.detach().cpu() for m in matrices(model)[:-1] if min(m.shape) >= 16}


def cosine(a, b):
    return float((a * b).sum() / (a.norm() * b.norm()))


def at_angle(W, cosine, draw):
    noise = torch.randn(W.shape, generator=draw)
    return W / W.norm() + noise / noise.norm() * math.sqrt(1 / cosine**2 - 1)


# %% tags=["hide-input"]
original = {
    seed: {name: (W, decompose(W, name=name)) for name, W in convolutions(model).items()}
    for seed, model in ends.items()
}


def shared(others, seed):
    """Agreement with the trunk's end, place by place up to the tenth, for each convolution: (convolutions, 10)."""
    found = [agreement(decompose(others[name], name=name), svd)[:10] for name, (_, svd) in original[seed].items()]
    return torch.stack(found).nan_to_num(0).numpy()


def like_noise(others, seed, what):
    """The same for noise at the angles of these convolutions: (draws, convolutions, 10)."""
    angles = {name: max(cosine(others[name], W), 1e-3) for name, (W, _) in original[seed].items()}
    draw = generator(seed, "noise at an angle", what)
    noisy = ({name: at_angle(W, angles[name], draw) for name, (W, _) in original[seed].items()} for _ in range(noises))
    return np.stack([shared(one, seed) for one in noisy])


latest = plan.splits[-1]
compared_with = {
    f"branches parted at step {latest}": lambda seed: parted[seed, latest][1:],
    "largest weights of the end": lambda seed: [tickets[seed].applied(ends[seed])],
    "ticket rewound to step 0": lambda seed: [
        next(run.model() for run in rewound.sel(constraint="ticket") if run.seed == seed)
    ],
}
seen, noise_of = {}, {}
for what, networks in compared_with.items():
    for seed in seeds:
        others = [convolutions(model) for model in networks(seed)]
        seen[what, seed] = np.mean([shared(one, seed) for one in others], axis=0)
        noise_of[what, seed] = np.mean([like_noise(one, seed, what) for one in others], axis=0)
sd.show.curves(
    pd.DataFrame(
        {"panel": what, "series": series, "seed": seed, "place": place, "value": value}
        for (what, seed), measured in seen.items()
        for series, values in {"measured": measured, "chance": noise_of[what, seed].mean(0)}.items()
        for place, value in enumerate(values.mean(0), start=1)
    ),
    x="place",
    columns=3,
    name="fig-lens-directions",
    caption="Agreement with the convolutions of the image classifier's end, place by place, the mean over convolutions with at least 16 singular values. Grey (chance): noise at the same angle to the end, "
    f"matrix by matrix, the mean of {noises} draws. A line a seed.",
    ylabel="agreement",
    ylim=(-0.03, 1.03),
)


# %% tags=["remove-input"]
branched, pruned, relearned = compared_with


def means(what, found=seen):
    return [found[what, seed].mean() for seed in seeds]


def noise_means(what):
    return [noise_of[what, seed].mean() for seed in seeds]


Markdown(
    f"Branches that parted at step {latest} agree by {spread(means(branched))} in their ten largest directions; noise at the same angle leaves {spread(noise_means(branched))}. The largest weights of the end keep "
    f"{spread(means(pruned))}, noise at their angle {spread(noise_means(pruned))}. And the ticket that learned from step 0, of which the loss stands above, agrees at its end by {spread(means(relearned))} with the whole network "
    f"(noise: {spread(noise_means(relearned))})."
)

# %% [markdown]
# ## Claims
#
# First the sentences of the paper's introduction, which sum up what it finds. Each is judged by claims of the pages before this one. The rule was fixed before those of the last page were known: a sentence holds in a seed if *every* claim
# that says a part of it does, in every task in which it was tested. "General" means everywhere. The claims were chosen by what the sentence says; those that bear on it and are not its words stand beside it, and do not count.


# %% tags=["hide-input"]
judged = sd.show.ledger()
sentences = {  # number: sentence, what each claim says of it, and what stands beside it
    "O1": (
        "Grokking is tied to rank minimisation: rank falls when networks generalise, and not where they do not.",
        {
            "C2.1": "rank falls when the network groks",
            "C2.2": "and not where, without decay, it does not",
            "C2.3": "also where more data makes it generalise, without decay",
        },
        ("C2.7", "C2.8", "G1", "G2", "G3", "G4"),
    ),
    "O2": (
        "Rank minimisation is general: large singular values outgrow small ones and effective rank falls, in every kind of network.",
        {
            "C3.1": "large singular values outgrow small ones",
            "C3.2": "effective rank falls",
            "M1": "in other kinds of network, too",
        },
        ("C3.5", "C5.4", "R3"),
    ),
    "O3": (
        "Weight decay is an implicit low-rank regulariser: with more of it rank is lower, the top is kept and the small removed, and the top half comes closer to the whole.",
        {
            "C6.1": "with more decay rank is lower",
            "C6.3": "the top is kept, the small removed",
            "C14.2": "the top half comes closer to the whole",
        },
        ("C6.2", "C14.1", "W1", "W2", "W3", "W4"),
    ),
    "O4": (
        "Solutions that generalise have lower rank than those that memorise.",
        {
            "C2.3": "where more data makes the difference",
            "C2.5": "where decay does, or data",
            "C2.8": "by degrees, with more data",
            "C8.2": "where it is the labels: true ones, or permuted",
        },
        ("C2.7", "G3", "N1", "N2", "N7"),
    ),
    "O5": (
        "Top singular vectors are preserved under magnitude pruning and between linearly connected modes.",
        {
            "C10.2": "pruning: laid on the final weights the mask keeps the top, a random one does not",
            "C10.4": "retraining: trained again under the mask, the network ends near the whole one's top",
            "C11.2": "connection: the lower the barrier, the more of the top is shared",
            "C11.3": "top: branches that part last share it rather than the rest",
        },
        ("C10.3", "C12.1", "C13.1", "C13.2", "L2", "L3", "T5"),
    ),
}


def entries(ids):
    """The rows of the ledger with these ids that have a verdict."""
    return judged[judged["id"].isin([*ids]) & (judged["verdict"] != "not judged at this tier")]


def missing(ids):
    return [one for one in ids if entries([one]).empty]


def holds_in(ids):
    """For each seed whether all of these claims hold in it, in all of their tasks."""
    return [all(seed) for seed in zip(*entries(ids)["holds"], strict=False)] or [False] * len(seeds)


def why_not(ids):
    """Why a sentence cannot be judged, if so; tests judge nothing in any case."""
    reason = f"there is no verdict on {', '.join(missing(ids))}" if missing(ids) else ""
    return at_tier({"smoke": ""} | dict.fromkeys(("laptop", "gpu", "paper"), reason), tier)


def composed(number):
    """The verdict on a sentence of the paper, from the claims it is made of."""
    sentence, ids, _ = sentences[number]
    held = {f"{one['id']}, {one['task']}": [float(held) for held in one["holds"]] for _, one in entries(ids).iterrows()}
    return sd.claim(
        number, sentence, holds=holds_in(ids), tier=tier, task="all pages", measured=held, not_judged=why_not(ids)
    )


def listed(ids):
    """Claims with links to their pages, and in how many of their tasks they hold in every seed."""
    words = []
    for one in ids:
        found = entries([one])
        full = sum(all(held) for held in found["holds"])
        words += [
            f"{{doc}}`{one} <../{found['chapter'].iloc[0]}>`&nbsp;{full}/{len(found)}"
            if len(found)
            else f"{one}&nbsp;-"
        ]
    return ", ".join(words)


def tests_of(ids):
    """How many of the tests of these claims hold: one is a claim in one task and one seed."""
    tests = [held for holds in entries(ids)["holds"] for held in holds]
    return sum(tests), len(tests)


def tests_in_words(ids):
    held, tests = tests_of(ids)
    return f" ({held} of {tests} tests hold)" if tests else ""


def verdicts(one):
    """What was found of one claim: each verdict with the tasks it was found in."""
    found = [f"{verdict} ({'; '.join(part['task'])})" for verdict, part in entries([one]).groupby("verdict")]
    return "<br>".join(found) or "not judged"


# %% tags=["remove-input"]
Markdown(
    "| | the paper's sentence | verdict | beside it |\n|---|---|---|---|\n"
    + "\n".join(
        f"| **{number}** | {sentence} | {composed(number).sentence}{tests_in_words(ids)} | {listed(beside)} |"
        for number, (sentence, ids, beside) in sentences.items()
    )
    + "\n\nBehind each claim: in how many of the tasks, or settings, in which it was tested it holds in every seed; a dash where there is no verdict. A test is one claim in one task and one seed. "
    "What each sentence is made of, and why:\n\n| | claim | its part of the sentence | verdict (where) |\n|---|---|---|---|\n"
    + "\n".join(
        f"| {number} | {listed([one])} | {part} | {verdicts(one)} |"
        for number, (_, parts_of, _) in sentences.items()
        for one, part in parts_of.items()
    )
)

# %% [markdown]
# Pruning, in O5, is two things in the paper: a mask laid on the weights that training ended with (C10.2), and training again under it. C10.4 is the part of O5 about *retraining*. C10.3 says more than the sentence does, of every
# convolution and of the last, and so it stands beside it.

# %% tags=["nbval-check-output", "hide-input"]
composed("O1")

# %% tags=["nbval-check-output", "hide-input"]
composed("O2")

# %% tags=["nbval-check-output", "hide-input"]
composed("O3")

# %% tags=["nbval-check-output", "hide-input"]
composed("O4")

# %% tags=["nbval-check-output", "hide-input"]
composed("O5")

# %% [markdown]
# ### Of this page

# %% tags=["hide-input"]
highest = {
    (seed, q): np.mean(list(nulls[seed, q].values()), axis=0) if compared else np.full(draws, np.nan)
    for seed in seeds
    for q in quantities.values()
}


def beyond(value, null):
    """Whether a number is above 95 % of those of a null."""
    return bool(value > np.quantile(null, 0.95))


def spread_of_signs(found):
    return np.var(list(found.values()), axis=0)


varied = {
    seed: (spread_of_signs(correlations[seed, "held_out"]), spread_of_signs(nulls[seed, "held_out"])) for seed in seeds
}
fit_null = {seed: np.mean(list(found.values()), axis=0) for seed, found in fit_by_chance.items()}

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "Z1",
    "Within families of runs lower rank goes with lower error on held-out data: the rank correlation, averaged over families, is above that of 95 % of exchanges of ranks within families.",
    holds=[beyond(mean_over(correlations[seed, "held_out"]), highest[seed, "held_out"]) for seed in seeds],
    tier=tier,
    task="all runs",
    measured={"mean over families": mean_of("held_out"), "all runs as one family": pooled}
    | {"95 % of exchanges": [np.quantile(highest[seed, "held_out"], 0.95) for seed in seeds]},
    chance=0.0,
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "Z2",
    "There is no one sign: the rank correlations with the held-out error differ between families more than in 95 % of exchanges of ranks within families (by their variance).",
    holds=[beyond(*varied[seed]) for seed in seeds],
    tier=tier,
    task="all runs",
    measured={"variance over families": [varied[seed][0] for seed in seeds]}
    | {"95 % of exchanges": [np.quantile(varied[seed][1], 0.95) for seed in seeds]},
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "Z3",
    "Within families lower rank goes with a smaller gap: the rank correlation with held-out minus training error, averaged over families, is above that of 95 % of exchanges of ranks within families.",
    holds=[beyond(mean_over(correlations[seed, "gap"]), highest[seed, "gap"]) for seed in seeds],
    tier=tier,
    task="all runs",
    measured={"mean over families": mean_of("gap")}
    | {"95 % of exchanges": [np.quantile(highest[seed, "gap"], 0.95) for seed in seeds]},
    chance=0.0,
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "Z4",
    "At equal fit the lower rank generalises better: of pairs of a family whose training errors lie within 0.02 of the untrained network's, the run of lower rank has the lower held-out error more often, "
    "in the mean over families, than in 95 % of exchanges of ranks within families.",
    holds=[beyond(mean_over(at_equal_fit[seed]), fit_null[seed]) for seed in seeds],
    tier=tier,
    task="all runs",
    measured={
        "share of pairs at equal fit": [mean_over(at_equal_fit[seed]) for seed in seeds],
        "at equal norm": [mean_over(at_equal_norm[seed]) for seed in seeds],
    }
    | {"95 % of exchanges": [np.quantile(fit_null[seed], 0.95) for seed in seeds]},
    chance=0.5,
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "Z5",
    "Top directions settle before lower ones by more than noise would have it: in every one of seven trainings the first three of ten places are ahead of the last three by a larger share of the run than in the random walk.",
    holds=[all(ahead[title][i][0] > ahead[title][i][1] for title in trainings) for i in range(len(seeds))],
    tier=tier,
    task="seven trainings",
    measured={title: [a - b for a, b in values] for title, values in ahead.items()},
    chance=0.0,
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "Z6",
    "Top directions are found early: in every one of seven trainings the first three settle no later than nine tenths of the fall of the training loss are done.",
    holds=[all(exact[title][i][:3].mean() <= loss_done[title][i] for title in trainings) for i in range(len(seeds))],
    tier=tier,
    task="seven trainings",
    measured={
        f"{title}: settled, loss down": [values[:3].mean() for values in exact[title]] + loss_done[title]
        for title in trainings
    },
)

# %% tags=["nbval-check-output", "hide-input"]
knowing, by_heart = exact["digits, true labels"], exact["digits, permuted labels"]
sd.claim(
    "Z7",
    "How early depends on what there is to learn: with permuted labels the first three directions settle only after all ten have with true labels.",
    holds=[b[:3].mean() > a.max() for a, b in zip(knowing, by_heart, strict=True)],
    tier=tier,
    task="digits",
    measured={
        "last of ten, true labels": [a.max() for a in knowing],
        "first three, permuted labels": [b[:3].mean() for b in by_heart],
    },
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "Z8",
    "Tickets do not wait for branches to connect: rewound to step 0 a ticket adds at most half as much to the whole network's training loss as a random mask does, while midway between branches from step 0 the loss is more than "
    "twice that of their ends.",
    holds=[
        random > 0 and ticket <= random / 2 and above_ends[seed, 0] > 2
        for seed, ticket, random in zip(seeds, added["ticket"], added["random"], strict=True)
    ],
    tier=tier,
    task="images",
    measured={f"{kind} adds": values for kind, values in added.items()}
    | {"loss midway over that of the ends": [above_ends[seed, 0] for seed in seeds]},
)


# %% tags=["nbval-check-output", "hide-input"]
def above_noise(what):
    """For each seed whether the mean agreement of ten places is above that of every draw of noise at the same angle."""
    return [seen[what, seed].mean() > noise_of[what, seed].mean((1, 2)).max() for seed in seeds]


sd.claim(
    "Z9",
    "The largest weights keep more than closeness does: laid on the final weights a ticket's mask keeps more of the ten largest directions, in the mean over convolutions, than every draw of noise at the same angle.",
    holds=above_noise(pruned),
    tier=tier,
    task="images",
    measured={"agreement": means(pruned), "noise at the same angle": noise_means(pruned)},
)


# %% tags=["nbval-check-output", "hide-input"]
def beyond_noise(what, seed):
    """What is shared of each place beyond the mean of noise, ranked within its convolution: (convolutions, 10)."""
    return np.stack([standard(values) for values in seen[what, seed] - noise_of[what, seed].mean(0)])


def together(seed):
    """The correlation of the two over places, the mean over convolutions, and the same with places exchanged."""
    by_mask, by_branch = beyond_noise(pruned, seed), beyond_noise(branched, seed)
    rng = np.random.default_rng(seed)
    exchanged = rng.permuted(np.tile(by_mask, (draws, 1, 1)), axis=-1)
    return (by_mask * by_branch).sum(-1).mean(), (exchanged * by_branch).sum(-1).mean(-1)


joint = {seed: together(seed) for seed in seeds}
sd.claim(
    "Z10",
    "The same directions carry both: place by place, what the largest weights keep and what branches share, each beyond noise at the same angle, go together more than in 95 % of exchanges of places within convolutions.",
    holds=[beyond(*joint[seed]) for seed in seeds],
    tier=tier,
    task="images",
    measured={"rank correlation": [joint[seed][0] for seed in seeds]}
    | {"95 % of exchanges": [np.quantile(joint[seed][1], 0.95) for seed in seeds]},
    chance=0.0,
)


# %% [markdown]
# ### Reading the verdicts

# %% tags=["remove-input"]
Markdown(
    f"""
- **O1 to O5** are strict on purpose: one task in which one part of a sentence fails in a seed, and the sentence does not hold in it. The table says how far each is from that. A sentence with "mostly" in it would be easier to bear out, and say less.
- **Z1** and **Z3** average over {len(compared)} families, each counted once, whatever its size. Runs of one family share data and code, so a seed is one draw, not as many as it has runs. Exchanges are {draws:,} a seed, here and in **Z2**, **Z4** and **Z10**.
- **Z4** holds the fit equal, which the pages did not plan: which pairs are close is itself an outcome of training.
- **Z5** has the order that noise shows as its baseline; **Z6** the loss, which falls at other times for other reasons, such as the learning rate. Z5 compares {looks} snapshots a run of both, Z6 and Z7 take all there are; what settles between two is put down to the later.
- **Z8** takes the bound that T1 of {{doc}}`../phenomena/lottery_tickets` has. With one random mask a seed its luck is in the number.
- **Z9** is about the mean over convolutions, against {noises} draws a seed. Noise spreads over all directions; what a mask takes away lies where the weights are small. Whether *branches* share less than noise leaves is L3 of {{doc}}`../phenomena/linear_mode_connectivity`, with a null
  that has the same distance and the same middle; and whether distance tells the barrier as well as agreement does is its L2.
"""
)

# %% [markdown]
# ## Where the one story fails

# %% tags=["remove-input"]
whose = judged["id"].str.startswith("C").map({True: "of the paper", False: "of this book"}).rename("claims")
failed = judged[(whose == "of the paper") & (judged["verdict"] == "does not hold here")]
Markdown(
    f"Of {(whose == 'of the paper').sum()} verdicts on the paper's own claims, one a claim and task, {len(failed)} are that it holds in no seed:\n\n"
    + "\n".join(
        f"- {{doc}}`../{page}`: "
        + ", ".join(f"{one} ({'; '.join(part['task'])})" for one, part in found.groupby("id", sort=False))
        for page, found in failed.groupby("chapter", sort=False)
    )
)

# %% tags=["hide-input"]
pd.crosstab(whose, judged["verdict"])

# %% [markdown]
# ## What we now believe, and how strongly

# %% tags=["remove-input"]
beliefs = {
    "Singular values fan out while networks learn, and effective rank falls, in most trained matrices of most networks, more than in noise.": ("C3.1", "C3.2", "M1", "C5.4"),
    "More decay, lower rank; and through relative step size rather than through small weights.": ("C6.1", "W2", "W3", "W4"),
    "Large singular components carry more of the function than small ones.": ("C4.1", "C4.2", "M10"),
    "Rank follows understanding more than it leads it; low rank alone is not enough, and falling on is not needed.": ("G1", "G3", "G4"),
    "Truth is learned before wrong labels, and what wrong labels add needs more directions.": ("N1", "N2", "N3", "N4"),
    "Wrong labels leave a higher rank in the weights themselves.": ("C8.2",),
    "A network whose middle matrices are held to few directions can memorise all the same.": ("N7",),
    "A ticket is places and signs more than it is an approximation of low rank.": ("T1", "T3", "T5", "T6", "T8"),
    "Branches that part later end more alike, and can be averaged.": ("C11.1", "C11.2", "C11.3", "C12.1"),
    "Shared directions of connected networks say hardly more than that these are near each other.": ("L2", "L3"),
    "Layers align with their neighbours a little; it is not what lowers the rank.": ("C5.1", "C5.2", "C5.4", "C7.1"),
}  # fmt: skip


def strength(ids):
    """How strongly to believe what these claims say, from the share of their tests that hold."""
    held, tests = tests_of(ids)
    words = {1.0: "as strongly as three seeds allow", 0.9: "strongly", 0.6: "with exceptions", 0.0: "hardly"}
    return next((word for least, word in words.items() if tests and held / tests >= least), "not judged")


Markdown(
    "| we believe that | how strongly | from |\n|---|---|---|\n"
    + "\n".join(
        f"| {belief} | {strength(ids)}{tests_in_words(ids)} | {listed(ids)} |" for belief, ids in beliefs.items()
    )
    + "\n\n*As strongly as three seeds allow*: all of them hold. *Strongly*: at least nine in ten. *With exceptions*: at least six in ten. *Hardly*: fewer."
)

# %% tags=["remove-input"]
outcomes = pd.Series([composed(number).verdict for number in sentences]).value_counts()
Markdown(
    f"And the one story? Of the paper's {len(sentences)} sentences: {'; '.join(f'*{verdict}* {count}' for verdict, count in outcomes.items())}. A lens shows many things, and they are not therefore one thing. Large "
    "directions have one thing in common that needs no learning: they are hard to turn, for noise as for training. How much of what comes first, stays, survives cuts and is shared goes beyond that, the verdicts above say one by one."
)

# %% [markdown]
# ## Paper and this book
#
# - **The sentences** O1 to O5 are those of the paper's introduction {cite}`yunis2024approaching`, shortened. Its body is more careful than its introduction: it says that low rank and generalisation coincide, not that one makes the other.
# - **The paper compares within a figure**, two to five settings of one task. All runs together, families, exchanges of ranks, equal fit and noise at the same angle are this book's.
# - **Runs** are those of the other pages, at this page's tier and seeds; only the tickets rewound to step 0 are trained here (at the decay of the page on connectivity). Where another page was not executed, its runs are fewer or absent above, and its claims count as not judged.
# - **Choices**: claims, bounds and families were fixed on seeds 0 to 2 and on the sentences' words. The verdicts of all pages but the last were known by then; which claims make up a sentence was decided by its words.

# %% [markdown]
# ## Exercises
#
# Each check says what is wrong with an answer. The cells below hold answers that are not right yet: edit and run them.
#
# ```{exercise} Within families
# :label: ex-lens-within
#
# Write `mean_within(x, y, family)`: Spearman's correlation of the arrays `x` and `y` within each family (`family` names that of every entry), averaged over families, each counted once.
# *(5 minutes)*
# ```


# %%
def mean_within(x, y, family):
    return spearmanr(x, y).statistic


check_within(mean_within)

# %% [markdown]
# ```{hint}
# :class: dropdown
# `x[family == name]` for every `name` in `set(family)`.
# ```
#
# ```{solution-start} ex-lens-within
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def mean_within(x, y, family):
    return np.mean([spearmanr(x[family == name], y[family == name]).statistic for name in set(family)])


check_within(mean_within)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Settled for good
# :label: ex-lens-settled
#
# Write `settled_at(steps, agreement, level)`: the first of the steps from which on `agreement` stays at `level` or above until the end. A curve that is below at its last step has not settled: return `np.nan`. *(5 minutes)*
# ```


# %%
def settled_at(steps, agreement, level):
    return steps[np.argmax(agreement >= level)]


check_settled(settled_at)

# %% [markdown]
# ```{hint}
# :class: dropdown
# Where is it below for the last time? `np.flatnonzero(agreement < level)`.
# ```
#
# ```{solution-start} ex-lens-settled
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def settled_at(steps, agreement, level):
    below = np.flatnonzero(agreement < level)
    after = below[-1] + 1 if len(below) else 0
    return steps[after] if after < len(steps) else np.nan


check_settled(settled_at)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Your own family of runs
# :label: ex-lens-own
#
# Write `share_in_order(rank, held_out, training, within)`: of all pairs of runs whose training errors differ by at most `within`, the share in which the run of lower rank has the lower held-out error; a tie in either counts
# half. Then give it *your* runs: one network, trained a dozen times with other decays, widths of step, or amounts of data. Does lower rank generalise better at equal fit? And without the condition? *(30 minutes)*
# ```

# %%
my_runs = by_seed[seeds[0]]  # put your own here: columns rank, held_out, training


def share_in_order(rank, held_out, training, within):
    i, j = np.triu_indices(len(rank), 1)
    return np.mean((1 + np.sign(rank[i] - rank[j]) * np.sign(held_out[i] - held_out[j])) / 2)


check_in_order(share_in_order, *(my_runs[column].to_numpy() for column in ("rank", "held_out", "training")), 0.02)

# %% [markdown]
# ```{hint}
# :class: dropdown
# The product of the signs is 1, 0 or -1, so ties are counted as asked. Which pairs are meant? `np.abs(training[i] - training[j])`.
# ```
#
# ```{solution-start} ex-lens-own
# :class: dropdown
# ```


# %%
def share_in_order(rank, held_out, training, within):
    i, j = np.triu_indices(len(rank), 1)
    near = np.abs(training[i] - training[j]) <= within
    i, j = i[near], j[near]
    return np.mean((1 + np.sign(rank[i] - rank[j]) * np.sign(held_out[i] - held_out[j])) / 2)


check_in_order(share_in_order, *(my_runs[column].to_numpy() for column in ("rank", "held_out", "training")), 0.02)

# %% [markdown]
# The runs above are of several families at once. Do it again for one of them, `my_runs[my_runs["family"] == ...]`, and see what the mixture hid.
#
# ```{solution-end}
# ```
#
# ## What this page does not show
#
# - **Causes.** All runs together are an observational study. What was intervened upon stands on the pages before.
# - **Planned families.** The settings were chosen by other questions. A sweep made for this one would vary one thing at a time, at equal training loss.
# - **One network for all three moments.** Wrong labels were learned by an MLP, branches and tickets by a ConvNet.
# - **Rewinding between.** Tickets were rewound to step 0 here and to one early step on their own page, at other decay.
# - **Other nulls.** Noise at the same angle spreads over all directions. A null that keeps the spectrum of the difference would be another one.
# - **Scale, and many seeds.** Small networks, three seeds. The claims of the paper were made on larger ones.
#
# ## Further reading
#
# The thesis itself: {cite:t}`yunis2024approaching`. Measures of complexity and what they say of generalisation when many networks are compared, and why one should intervene: {cite:t}`jiang2020fantastic`,
# {cite:t}`dziugaite2020search`. Why rank is not what implicit regularisation minimises in general: {cite:t}`razin2020implicit`.
