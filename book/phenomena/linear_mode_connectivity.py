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
from dataclasses import replace

import torch

import specdyn as sd
from specdyn.interventions import line
from specdyn.tasks.task import at_tier
from specdyn.training.loop import resolve_device

torch.set_num_threads(1)  # the networks are too small to share among cores

four = ("images", "generation", "speech", "language")
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
        "laptop": (0, 0.25, 0.5, 1, 3),
        "gpu": (0, 0.2, 1, 3),
        "paper": (0, 0.2, 0.4, 0.6, 0.8, 1, 2, 3, 4, 5),
    },
    tier,
)
strengths = at_tier(
    {"smoke": (0.5,), "laptop": (0.25, 0.5, 1.0), "gpu": (0.5, 1.0), "paper": (0.1, 0.25, 0.5, 1.0, 2.5)}, tier
)
branch_seeds = at_tier({"smoke": (110, 210), "laptop": (110, 210), "gpu": (110, 210), "paper": (110, 210, 310)}, tier)

tasks = {name: task for name, task in sd.tasks.four_tasks(tier).items() if name in epoch}
where = resolve_device(device)
data = {name: task.data(seeds[0], where) for name, task in tasks.items()}
splits = {name: [round(share * epoch[name]) for share in parting] for name in tasks}
way = {
    name: sorted({task.steps // part for part in (16, 8, 4, 2)}) for name, task in tasks.items()
}  # kept, to be drawn

# %%
trunks = {
    name: {run.seed: run for run in sd.sweep(task, seed=seeds, keep=[*splits[name], *way[name]], device=device)}
    for name, task in tasks.items()
}


def branched(name, moments, split):
    """The runs that set out from checkpoints at one step, by trunk and by the seed that orders their data."""
    brief = replace(tasks[name], every=tasks[name].steps)  # of branches only checkpoints are read
    start = {str(trunk): dict.fromkeys(branch_seeds, moment) for trunk, moment in moments.items()}
    keep = [step for step in way[name] if step >= split]
    runs = sd.sweep(brief, start=start, seed=branch_seeds, keep=keep, device=device)
    return {trunk: {run.seed: run for run in runs.sel(start=str(trunk))} for trunk in moments}


branches = {
    (name, split): branched(name, {seed: trunk.checkpoint(split) for seed, trunk in trunks[name].items()}, split)
    for name in tasks
    for split in splits[name]
}


# %% tags=["hide-input"]
networks = {
    (name, trunk, split, order): run.model()
    for (name, split), by_trunk in branches.items()
    for trunk in by_trunk
    for order, run in {trunk: trunks[name][trunk], **by_trunk[trunk]}.items()
}


def ends(name, trunk, split):
    """The trained networks that were one until a step: the trunk itself, then its branches."""
    return [networks[name, trunk, split, order] for order in (trunk, *branch_seeds)]


def between(name, one, two):
    """What the networks on the line from one to another do."""
    return line(tasks[name], one, two, data[name], points=6, batches=4, tolerance=0.02)


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

# %% [markdown]
# ## What this page does not show
#
# ## Further reading
