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
# # Measure your own network
#
# You have a network and a loop that trains it. Three more lines record, for every weight, which directions it stretches and by how
# much. This page does it with a convolutional network (CNN), an LSTM and a Transformer that read handwritten digits, and asks of
# every picture: what would it look like if nothing were learned? In the figure, the direction that each weight stretches most is
# compared with the one at the end of training: 1 means that it is there already. Blue is training. Grey is the same network, moved as
# far at random. Blue and grey both rise. Only in the LSTM does training get there clearly before the random moves do.

# %% tags=["parameters", "hide-input"]
tier = "laptop"  # smoke (a test), laptop (this page), gpu and paper (longer training)
seeds = [10, 11, 12]  # one network of each kind for each; verdicts need at least three
device = "auto"  # auto, cpu or cuda

# %% tags=["hide-input"]
import copy
import json
from itertools import product
from textwrap import fill

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.optim.swa_utils import update_bn

import specdyn as sd
from specdyn.exercises.foundations import random_rank
from specdyn.exercises.your_own_network import check_furthest, check_kernel_rank, check_settles, check_stands_out
from specdyn.interventions import truncations
from specdyn.show import spread
from specdyn.tasks.task import at_tier
from specdyn.training import book_root
from specdyn.training.loop import resolve_device

torch.set_num_threads(1)  # the networks are too small to share among cores
device = resolve_device(device)
steps = at_tier({"smoke": 60, "laptop": 600, "gpu": 3_000, "paper": 3_000}, tier)

# %% tags=["hide-input"]
digits = load_digits()  # 1,797 images of 8 x 8 pixels, bundled with scikit-learn
images = torch.tensor(digits.images / 16, dtype=torch.float32, device=device)
labels = torch.tensor(digits.target, device=device)
order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
training, held_out = order[:1200], order[1200:]


class CNN(nn.Module):
    """Sees the digit as an image."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.norm3 = nn.BatchNorm2d(64)
        self.head = nn.Linear(64, 10)

    def forward(self, image):
        x = F.relu(self.norm1(self.conv1(image.unsqueeze(1))))
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        x = F.relu(self.norm3(self.conv3(x)))
        return self.head(x.mean((2, 3)))


class LSTM(nn.Module):
    """Reads the digit row by row."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 48, num_layers=2, batch_first=True)
        self.head = nn.Linear(48, 10)

    def forward(self, image):
        states, _ = self.lstm(image)
        return self.head(states[:, -1])


class Transformer(nn.Module):
    """Looks at all eight rows at once."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.position = nn.Parameter(0.1 * torch.randn(8, 32))
        self.blocks = nn.Sequential(self.block(), self.block())
        self.head = nn.Linear(32, 10)

    def block(self):
        return nn.TransformerEncoderLayer(
            32,
            nhead=2,
            dim_feedforward=64,
            dropout=0.0,
            batch_first=True,
            norm_first=True,
        )

    def forward(self, image):
        rows = self.blocks(self.embed(image) + self.position)
        return self.head(rows.mean(-2))


# %%
moments = range(0, steps + 1, steps // 60)  # the steps at which to look


def train(model, seed):
    """A loop as you would write it, and the three lines."""
    start = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.1)
    draw = torch.Generator().manual_seed(seed)
    recorder = sd.Recorder(model, moments, pairs=sd.feeds(model), rule="norm")  # 1
    for step in range(1, steps + 1):
        batch = training[torch.randint(len(training), (64,), generator=draw)]
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recorder(step, loss=loss, **distances(model, start))  # 2
    return recorder.finish({"seed": seed})  # 3


# %% tags=["hide-input"]
def distances(model, start):
    """How far each weight is from where it began; the control needs to know."""
    pairs = zip(model.named_parameters(), start.parameters(), strict=True)
    return {f"moved {name}": (now - then).norm() for (name, now), then in pairs}


def random_walk(model, recording, seed):
    """The control: as far from the start as training had got, at random.

    Random steps are nearly at right angles to each other, so the squares of their lengths add up.
    """
    draw = torch.Generator().manual_seed(seed)
    recorder = sd.Recorder(model, recording.steps.tolist(), pairs=recording.alignments, rule="norm")
    weights = dict(model.named_parameters())
    so_far = dict.fromkeys(weights, 0.0)
    for i, step in enumerate(recording.steps[1:].tolist(), start=1):
        for name, weight in weights.items():
            far = max(recording.metrics[f"moved {name}"][i], so_far[name])
            noise = torch.randn(weight.shape, generator=draw).to(weight.device)
            stride = (far**2 - so_far[name] ** 2) ** 0.5
            weight.data += stride * noise / noise.norm()
            so_far[name] = far
        recorder(step)
    return recorder.finish({"seed": seed})


# %% tags=["hide-input"]
networks = {"CNN": CNN, "LSTM": LSTM, "Transformer": Transformer}


def fresh(name, seed):
    """A network before training; the same one at every call."""
    torch.manual_seed(seed)
    return networks[name]().to(device)


models, walkers, trained, walks = {}, {}, {}, {}
for name, seed in product(networks, seeds):
    models[name, seed], walkers[name, seed] = fresh(name, seed), fresh(name, seed)
    trained[name, seed] = train(models[name, seed], seed)
    walks[name, seed] = random_walk(walkers[name, seed], trained[name, seed], seed)


# %% tags=["hide-input"]
both = {"trained": trained, "random walk": walks}


def over_steps(quantity):
    """A quantity of the trained networks and of their random walks over time, a panel a network."""
    panels = {label: {name: [kind[name, seed] for seed in seeds] for name in networks} for label, kind in both.items()}
    return pd.concat(sd.show.over_steps(groups, {label: quantity}) for label, groups in panels.items())


def large(recording):
    """The matrices with at least 16 singular values: of the others, ten directions are nearly all."""
    return [matrix for matrix, shape in recording.shapes.items() if min(shape) >= 16]


def agreement(recording):
    """Agreement with the last snapshot, averaged over the large matrices: an array (steps, components)."""
    return np.mean([recording.agreements[matrix] for matrix in large(recording)], axis=0)


sd.show.curves(
    over_steps(lambda recording: agreement(recording)[:, 0]),
    name="fig-own-first-direction",
    caption="Agreement of the first singular direction with the one at the end of training, averaged over the matrices of a network "
    "that have at least 16 singular values, a line a seed. Grey: the same network moved as far as training moved it, at random.",
    ylabel="agreement with the end",
    columns=3,
    ylim=(0, 1.03),
)

# %% [markdown]
# :::{admonition} On this page
# **You will be able to** record a network of your own, whatever it is made of; read four plots, and say of each what noise would look
# like in it; find something, and try to break it; and recognise what goes wrong without an error.
#
# **You need** a network in PyTorch and its loop. Singular values, effective rank, agreement and alignment are introduced in
# {doc}`singular_values`. This page trains its networks itself each time it is executed; nothing is kept.
# :::

# %% [markdown]
# (look-first)=
# ## Look at the network first
#
# Before anything is measured, ask what there is to measure. `sd.describe` lists every {term}`matrix` and every parameter that is left out,
# with the reason; nothing is skipped in silence. The column *feeds* says whose input a matrix writes. It was found by following
# the data through the network, not by the order in which the layers happen to be written down.

# %% tags=["output_scroll"]
sd.describe(CNN())

# %% [markdown]
# A convolution is read as one matrix: a row for each output channel, a column for every number under its kernel, here
# $16 \times 3 \times 3 = 144$ for the second one. The scales and shifts of {term}`BatchNorm` are vectors and have no singular values. They
# will matter all the same.

# %% tags=["output_scroll"]
sd.describe(LSTM())

# %% [markdown]
# An LSTM stores the weights of its four {term}`gates <gate>` stacked on each other: $4 \times 48$ rows. `ih` reads what comes from below,
# `hh` the state of the step before, so it feeds itself. `sd.describe(model, split="gates")` takes the gates apart.

# %% tags=["output_scroll"]
sd.describe(Transformer())

# %% [markdown]
# In a Transformer, three kinds of link differ. The arrow `->` feeds directly; `+>` arrives through the {term}`residual stream`, past at
# least one layer between; `~` joins two matrices neither of which feeds the other: the outputs of {term}`query and key` meet in a product.
# `[q*]`, `[k*]` and `[v]` are parts of one stored weight: the queries and the keys of each head, and the values. And one matrix is left
# out, `position`: the library knows no layer called `Transformer`. We come back to it {ref}`below <own-layer>`.
#
# (three-lines)=
# ## Three lines
#
# The loop above the first figure is an ordinary one. The first line, before it, makes a recorder and takes the snapshot of step 0;
# `pairs` asks for the alignment of matrices that feed each other, and `rule="norm"` counts all gates and all positions of a kernel.
# The second line hands it the number of updates made, and whatever scalars are worth keeping; at the steps asked for it takes a
# {term}`snapshot`. The third returns a {term}`recording`, and `recording.save("run.npz")` keeps it in a file that plain NumPy reads.
# What does it cost? Ask before you start:

# %%
recorder = sd.Recorder(CNN(), moments, pairs=sd.feeds(CNN()))
recorder.cost()


# %% tags=["remove-input"]
def accuracy(model, part=held_out):
    """Share of the digits of one part that are named rightly."""
    model.eval()
    with torch.no_grad():
        return (model(images[part]).argmax(1) == labels[part]).float().mean().item()


accuracies = {name: [accuracy(models[name, seed]) for seed in seeds] for name in networks}
Markdown(
    f"The three kinds of network are trained alike: AdamW, {steps} steps of 64 digits, the same learning rate and weight decay. On the "
    f"{len(held_out)} digits held out they are right in "
    + ", ".join(f"{spread([100 * x for x in values], 1)} % ({name})" for name, values in accuracies.items())
    + "."
)

# %% [markdown]
# ## Predict, then reveal
#
# A picture of training shows at least two things: that the weights were *moved*, and *where* they were moved to. Only the second is
# learning. So each of the four plots of the next section has a {term}`control`, a {term}`random walk`. `random_walk`, folded above
# the first figure, takes the same network with the same initial weights. At each snapshot it asks how far training has moved a weight
# from its start, and moves its own copy out to that distance by one more step in a random direction. The distance is
# nearly that of training (where training comes back, the walk stays). Nothing else is: no digit is ever shown to it.
#
# :::{admonition} Which of these will the random walk show too: growing singular values, falling effective rank, alignment between neighbours, top directions that settle first?
# :class: dropdown
# It shows the first: adding noise makes singular values larger, though not the largest ones more than the others. It does not show
# the second, and its alignment stays around chance. And it does show the fourth, without learning anything
# ({numref}`fig-own-settling`). That is the one which is easiest to take for learning.
# :::

# %% [markdown]
# ## Read the plots
#
# ### Singular values over time

# %%
example = "lstm.weight_hh_l0"

# %% tags=["hide-input"]
sd.show.singular_values(
    {"trained": trained["LSTM", seeds[0]], "random walk": walks["LSTM", seeds[0]]},
    example,
    columns=2,
    name="fig-own-singular-values",
    caption=f"All singular values of one weight of the LSTM, `{example}`, over training (seed {seeds[0]}) and over its random walk, from "
    "the largest (dark; bright on a dark page) to the smallest.",
)


# %% tags=["remove-input"]
def growth(recordings, matrix=example):
    """By what factors the largest and the median singular value grow, for each seed."""
    pairs = []
    for seed in seeds:
        s = recordings["LSTM", seed].singular_values[matrix]
        pairs.append((s[-1, 0] / s[0, 0], np.median(s[-1]) / np.median(s[0])))
    return np.array(pairs).T


grown, walked = growth(trained), growth(walks)
Markdown(
    f"""**How to read it.** Each line is one singular value, in order of size; colour is its place in that order. Ask not whether lines rise,
but whether they rise *apart*. Training multiplies the largest by {spread(grown[0], 1)} and the median by {spread(grown[1], 1)}; the random
walk, which moves just as far, by {spread(walked[0], 1)} and {spread(walked[1], 1)}.

**What it cannot tell.** Which direction a line belongs to: lines never cross, because they are sorted. When two directions
change places, you see two lines touch. And a norm that grows under a normalisation layer means nothing for the function."""
)

# %% [markdown]
# ### Effective rank, matrix by matrix
#
# One number a spectrum: the share of directions in use. Where do you expect it to fall?


# %% tags=["hide-input"]
def change_of_rank(recording):
    return {m: recording.effective_rank(m)[-1] - recording.effective_rank(m)[0] for m in recording.matrices}


changes = pd.DataFrame(
    {"category": matrix, "series": label, "seed": seed, "value": change, "network": name}
    for name, seed in product(networks, seeds)
    for label, recordings in both.items()
    for matrix, change in change_of_rank(recordings[name, seed]).items()
)


def medians(data):
    """What the dots show, in words: for each category the median of both series."""
    found = data.groupby(["category", "series"], sort=False)["value"].median().unstack(sort=False)
    words = [f"{at}: trained {row['trained']:+.2f}, random walk {row['random walk']:+.2f}" for at, row in found.iterrows()]
    return "; ".join(words) + "."


changes["category"] = changes["network"] + " " + changes["category"].str.removesuffix(".weight")
sd.show.dots(
    changes,
    name="fig-own-ranks",
    caption="Change of effective rank from start to end for every matrix of the three networks, a dot a seed.",
    xlabel="change of effective rank",
    alt="Change of effective rank, median over seeds. " + medians(changes),
)

# %% tags=["remove-input"]
walk_changes = changes[changes["series"] == "random walk"]["value"]
by_matrix = changes[changes["series"] == "trained"].groupby(["network", "category"], sort=False)["value"].median()
most = by_matrix.groupby("network").idxmin()
Markdown(
    f"""**How to read it.** Left of zero, fewer directions are in use than at the start. The random walk stays within
{max(abs(walk_changes)):.2f} of zero everywhere, so falls larger than that are not just movement. They differ between matrices far more than
between seeds: in the CNN nearly all of it is in `{most["CNN"][1].removeprefix("CNN ")}` ({by_matrix[most["CNN"]]:+.2f}), while
`conv2` hardly changes ({by_matrix["CNN", "CNN conv2"]:+.2f}). So do not average before you have looked.

**What it cannot tell.** Two matrices of different shape cannot be compared by it: at the start, with random entries, a square
matrix has {random_rank((48, 48)):.2f} and one four times as long {random_rank((192, 48)):.2f}. And a share of directions in use is not a
share of directions *needed*: see the experiment on the gates."""
)

# %% [markdown]
# ### Alignment with the neighbour
#
# Does a matrix read what the one before it writes? {term}`Alignment <alignment>` says how much, for each pair that `sd.feeds` found.
# Random matrices have some alignment too, and the fewer dimensions they share the more. So look at the score *above its chance level*.


# %%
def at_the_end(recording):
    """Alignment of every pair at the end (mean of the top ten), and its chance level."""
    return {pair: (recording.alignment(pair)[-1], recording.alignment_chance(pair)) for pair in recording.alignments}


# %% tags=["hide-input"]
def short(name):
    """A name with its parts left out that say nothing here."""
    for part in ("self_attn.", "blocks.", "_proj_weight", "lstm.weight_", ".weight"):
        name = name.replace(part, "")
    return name


def shown(pair):
    """Pairs that feed directly, and of the many within the LSTM those that begin with what comes from below."""
    return pair.arrow != "+>" and "weight_hh" not in pair.previous


aligned = pd.DataFrame(
    {"category": f"{name} {short(str(pair))}", "series": label, "seed": seed, "value": score - chance}
    for name, seed in product(networks, seeds)
    for label, recordings in both.items()
    for pair, (score, chance) in at_the_end(recordings[name, seed]).items()
    if shown(pair)
)
sd.show.dots(
    aligned,
    name="fig-own-alignment",
    caption="Alignment at the end minus its chance level, for pairs of matrices that feed each other directly, a dot a seed; mean of "
    "the ten largest components, over all gates and all positions of a kernel. Zero is chance.",
    xlabel="alignment minus its chance level",
    alt="Alignment minus chance, median over seeds. " + medians(aligned),
)


# %% tags=["remove-input"]
def times_chance(name, *wanted, recordings=trained):
    """Alignment over chance at the end of the pairs whose names hold one of the words: (seeds, pairs)."""
    ends = [at_the_end(recordings[name, seed]).items() for seed in seeds]
    return np.array([[a / b for pair, (a, b) in end if any(word in str(pair) for word in wanted)] for end in ends])


meeting, convolutions = times_chance("Transformer", "~"), times_chance("CNN", "-> conv")
last = [times_chance(name, "-> head") for name in ("CNN", "Transformer")]
walking = np.concatenate([times_chance(name, "->", "~", recordings=walks).ravel() for name in networks])
query_key = min(b for pair, (_, b) in at_the_end(trained["Transformer", seeds[0]]).items() if pair.arrow == "~")
Markdown(
    f"""**How to read it.** Right of zero, a matrix reads what the one before it writes more than unrelated matrices would. The walks
scatter around chance ({spread(walking, 1)} times it): with ten components in few dimensions, one dot by itself says little. In the
Transformer most pairs lie to the right. Query and key do in both blocks: {spread(meeting.ravel(), 1)} times their chance level, which
with 16 dimensions a head is high, {query_key:.2f}. So does the pair that ends in the last matrix, in the CNN ({spread(last[0].ravel(), 1)}
times chance) and in the Transformer ({spread(last[1].ravel(), 1)}). One convolution and the next stay at chance
({spread(convolutions.ravel(), 1)} times it).

**What it cannot tell.** Whether anything flows along the directions that align; between two linear layers there may be a nonlinearity
that mixes them. And low alignment is not "no communication": a diagonal score sees only the $j$-th direction of one
with the $j$-th of the other. `recording.alignment_blocks` holds the table around the diagonal."""
)

# %% [markdown]
# ### Agreement with the end
#
# Finally: when does each direction become what it will be? {term}`Agreement <agreement>` compares component $j$ of a weight at each time
# with component $j$ of the same weight at the end. It ends at 1 by definition. The paper finds that top directions get there
# before lower ones {cite}`yunis2024approaching`. And here?


# %% tags=["hide-input"]
def over_components(name, seed, recordings):
    """Agreement averaged over training, for each of the first ten components."""
    return agreement(recordings[name, seed]).mean(axis=0)


settling = pd.concat(
    pd.DataFrame(
        {
            "panel": name,
            "series": label,
            "seed": seed,
            "component": np.arange(1, 11),
            "value": over_components(name, seed, recordings),
        }
    )
    for name, seed in product(networks, seeds)
    for label, recordings in both.items()
)
sd.show.curves(
    settling,
    x="component",
    name="fig-own-settling",
    caption="Agreement with the end for each of the ten largest components, averaged over training and over the same matrices as in "
    "the first figure, a line a seed. A component that settles earlier has the higher average.",
    ylabel="mean agreement with the end",
    columns=3,
    ylim=(0, 1.03),
)


# %% tags=["remove-input"]
def first_direction(name, recordings):
    return [over_components(name, seed, recordings)[0] for seed in seeds]


Markdown(
    "**How to read it.** A line that falls to the right says that top directions settle first. But the grey lines fall as well. A "
    "random matrix has gaps between its largest singular values, and a gap protects a direction: what is added must be comparable with it "
    "to turn the direction far {cite}`wedin1972perturbation`. So *top directions settle first* needs no learning. What needs it is settling earlier "
    "than by chance. For the first direction the averages are, trained and random walk, "
    + "; ".join(
        f"**{spread(first_direction(name, trained))}** and {spread(first_direction(name, walks))} ({name})"
        for name in networks
    )
    + "."
)

# %% [markdown]
# In the LSTM the first directions are found early and kept. In the Transformer the first direction is only a little ahead of the walk. In
# the CNN it is behind: training turns the largest directions for longer than random moves do.
#
# **What it cannot tell.** Agreement follows the *place* in the order. When two singular values change places, the
# agreement of both drops to nothing although no direction has turned; `recording.agreement_blocks` holds the table around the
# diagonal, and `sd.spectra.subspace_agreement` compares the ten directions together. And it looks back from the end: had training
# stopped earlier, the end would be another one.
#
# ## A finding: the gates differ
#
# So far the LSTM's {term}`gates <gate>` were stacked. Take them apart:


# %%
def gate_ranks(model):
    snapshot = sd.measure(model, split="gates")
    return {name: snapshot[name].effective_rank for name in snapshot}


before = {seed: gate_ranks(fresh("LSTM", seed)) for seed in seeds}
after = {seed: gate_ranks(models["LSTM", seed]) for seed in seeds}
at_random = {seed: gate_ranks(walkers["LSTM", seed]) for seed in seeds}

# 48 x 48 for each gate; weight_ih_l0, which reads the image, is 48 x 8
square = ["lstm.weight_hh_l0", "lstm.weight_ih_l1", "lstm.weight_hh_l1"]

# %% tags=["hide-input"]
gate_names = {"i": "i, input", "f": "f, forget", "g": "g, candidate", "o": "o, output"}
gates = pd.DataFrame(
    {"category": short(matrix), "series": said, "seed": seed, "value": end[seed][one] - before[seed][one]}
    for matrix in square
    for gate, gate_name in gate_names.items()
    for end, said in [(after, gate_name), (at_random, "random walk")]
    for seed in seeds
    for one in [f"{matrix}[{gate}]"]
)
sd.show.dots(
    gates,
    name="fig-own-gates",
    caption="Change of effective rank of each gate of the LSTM, in its three weights that are square by gate, a dot a seed; and of all "
    "four gates in the random walk.",
    xlabel="change of effective rank",
    alt="Change of effective rank by gate, median over seeds. "
    + "; ".join(
        f"{matrix}: "
        + ", ".join(f"{gate} {part['value'].median():+.2f}" for gate, part in rows.groupby("series", sort=False))
        for matrix, rows in gates.groupby("category", sort=False)
    )
    + ".",
)

# %% tags=["remove-input"]
all_before = [before[seed][f"{matrix}[{gate}]"] for seed in seeds for matrix in square for gate in "ifgo"]
moved_at_random = gates[gates["series"] == "random walk"]["value"].abs().max()
lower = sum(
    max(after[seed][f"{m}[{a}]"] for a in "io") < min(after[seed][f"{m}[{b}]"] for b in "fg")
    for seed, m in product(seeds, square)
)
Markdown(
    f"At the start all twelve matrices look alike: effective rank {spread(all_before)}. At the end both the *input* and the *output* gate "
    f"have fewer directions in use than the *forget* gate and the *candidate*, in {lower} of {len(seeds) * len(square)} cases (three "
    f"weights, {len(seeds)} seeds). If the four gates stood in random order, one case in six would look so. In the random walk no gate's rank "
    f"changes by more than {moved_at_random:.3f}. That is a finding: it was seen on ten other seeds, written down, and then tested on these "
    "(M4 below)."
)

# %% [markdown]
# It also invites a story: input and output gates only need few directions; the candidate, which carries the content, and the forget
# gate, which keeps it, need many. A story makes predictions. If it is true, then the input and output gates can be cut down to few
# components at little cost, and the other two cannot.
#
# :::{admonition} Predict, then reveal: which gates can be cut down to a handful of their 48 components?
# :class: dropdown
# Three of four, the forget gate among them: {numref}`fig-own-cut`. Only the candidate loses much. The finding stands, the story does not.
# :::
#
# ## An intervention: cut the gates


# %%
def cut(model, gate, kept):
    """A copy in which one gate keeps only the largest components of its weights."""
    model, names = copy.deepcopy(model), [f"{weight}[{gate}]" for weight in square]
    for matrix in sd.matrices(model, split="gates"):
        if matrix.name in names:
            svd = sd.decompose(matrix.view)
            matrix.view.copy_(sd.truncate(svd, kept))
    return model


# %% tags=["hide-input"]
kept = [48, 24, 12, 6, 3, 1]
cuts = pd.DataFrame(
    {
        "panel": "LSTM",
        "series": said,
        "seed": seed,
        "components kept": k,
        "value": accuracy(cut(models["LSTM", seed], gate, k)),
    }
    for (gate, said), seed, k in product(gate_names.items(), seeds, kept)
)

sd.show.curves(
    cuts,
    x="components kept",
    name="fig-own-cut",
    caption="Accuracy on held-out digits when one gate keeps only its largest components, in all three square weights at once, without "
    "any retraining. A line a seed.",
    ylabel="accuracy",
    ylim=(0, 1.03),
)


# %% tags=["remove-input"]
def loss_of(gate, k):
    """Accuracy lost when a gate keeps k components, one number a seed."""
    at = cuts[cuts["series"] == gate_names[gate]].set_index(["seed", "components kept"])["value"]
    return [at[seed, 48] - at[seed, k] for seed in seeds]


Markdown(
    f"With 6 of 48 components the input gate costs {spread([100 * x for x in loss_of('i', 6)], 1)} points of accuracy, the output gate "
    f"{spread([100 * x for x in loss_of('o', 6)], 1)}, the forget gate {spread([100 * x for x in loss_of('f', 6)], 1)}, and the candidate "
    f"**{spread([100 * x for x in loss_of('g', 6)], 1)}**. So effective rank says how many directions are *there*, not how many are "
    "*needed*. Why the ranks differ, we do not know."
)

# %% [markdown]
# ### Keep the top half
#
# The same kind of experiment on whole networks is the paper's: of every weight but the last keep the top half of the components, or the
# bottom half, and evaluate without retraining. Two details decide what one sees.


# %%
def half(model, *spare, keep="top", count_again=True):
    """Accuracy with half of the components of every matrix but those spared."""
    (halved,) = truncations(model, [0.5], keep=keep, spare=["head.weight", *spare])
    if count_again:  # what BatchNorm remembers is of the whole network
        update_bn([images[training]], halved)
    return accuracy(halved)


# %% tags=["hide-input"]
reads_the_image = {"CNN": "conv1.weight", "LSTM": "lstm.weight_ih_l0", "Transformer": "embed.weight"}


def all_halves(name):
    first = reads_the_image[name]
    ways = {
        "whole": accuracy,
        "top half, old BatchNorm statistics": lambda model: half(model, count_again=False),
        "top half": half,
        "top half, first layer spared": lambda model: half(model, first),
        "bottom half, first layer spared": lambda model: half(model, first, keep="bottom"),
    }
    return {way: [cut_down(models[name, seed]) for seed in seeds] for way, cut_down in ways.items()}


halves = {name: all_halves(name) for name in networks}
pd.DataFrame({name: {what: spread(values) for what, values in rows.items()} for name, rows in halves.items()})

# %% [markdown]
# Compare the rows. In the CNN most of the loss in the second row is an artefact: {term}`BatchNorm` divides each channel by a spread that
# it has remembered from the network before it was cut. The third row lets it count again; the other two networks have no BatchNorm, so
# nothing changes there. What is still lost in the third row says little about learning: the layer that reads the image has only eight or
# nine singular values, one for each number it is given at a time, and the cut throws half of them away. With that layer
# spared, the top half of the other matrices does nearly all of the work. The bottom half is right about as often as a guess, one in ten.
#
# (your-own-fails)=
# ## When this fails
#
# The first four of these raise no error. That is what makes them dangerous. The last two ask for one line from you.
#
# ### An untrained network looks structured
#
# Here is a Transformer that has never seen a digit:

# %%
untrained = fresh("Transformer", seeds[0])
pairs = [pair for pair in sd.feeds(untrained) if pair.arrow != "+>"]
snapshot = sd.measure(untrained, pairs=pairs)
looks = pd.DataFrame(
    {
        "pair": short(str(pair)),
        "alignment": sd.top_score(snapshot.alignment(pair)).item(),
        "chance": snapshot.alignment_chance(pair),
    }
    for pair in pairs
)
looks.round(3)

# %% tags=["remove-input"]
attention = looks["pair"].str.contains("~")
Markdown(
    f"By the raw score query and key stand out, {looks[attention]['alignment'].mean():.2f} on average against "
    f"{looks[~attention]['alignment'].mean():.2f} for the other pairs. They meet in the 16 dimensions of a head, the others in 32 or 64. "
    "It is the chance level, nothing else. The same holds for rank: compare with a random matrix of the same shape, not with "
    "another layer."
)

# %% [markdown]
# ### Half precision
#
# A network stored in {term}`bfloat16` keeps eight significant bits of each number. Rounding is like adding noise to every entry, and
# noise has full rank: it lifts the tail of a spectrum. Take the LSTM with the top half of each weight, whose other half is exactly
# zero, and store it:

# %%
(low_rank,) = truncations(models["LSTM", seeds[0]], [0.5])
stored = copy.deepcopy(low_rank).bfloat16()
master = dict(low_rank.named_parameters())  # as mixed-precision training keeps it
measured = {
    "float32": sd.measure(low_rank),
    "bfloat16, as it is stored": sd.measure(stored),
    "the same, from its master copy": sd.measure(stored, weights=master),
}

# %% tags=["hide-input"]
pd.DataFrame(
    {
        said: {
            "effective rank": f"{spectrum.effective_rank:.4f}",
            "smallest singular value": f"{spectrum.singular_values[-1]:.1e}",
            "singular values above a millionth of the largest": sum(s > 1e-6 * s[0]),
        }
        for said, snapshot in measured.items()
        for spectrum in [snapshot[example]]
        for s in [spectrum.singular_values]
    }
).T

# %% [markdown]
# Effective rank hardly notices, the smallest singular values are all rounding. Whoever counts them, or takes their logarithm, should read the
# master copy that mixed-precision training keeps {cite}`micikevicius2018mixed`.
#
# ### Tied weights
#
# {term}`Tied weights <tied weights>` are one tensor in two places. A language model often uses one to embed words and to predict them
# {cite}`press2017using`. It is decomposed once:


# %%
class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.mix = nn.Linear(16, 16)
        self.decode = nn.Linear(16, 50, bias=False)
        self.decode.weight = self.embed.weight

    def forward(self, words):
        return self.decode(self.mix(self.embed(words)))


sd.describe(Tied())

# %% [markdown]
# Count it once when you average over matrices. In an alignment it has two roles all the same: as embedding it writes, as decoder it reads.
#
# ### BatchNorm
#
# After a convolution {term}`BatchNorm` divides each channel by its spread {cite}`ioffe2015batch`. So multiply each channel by any positive
# number: the network computes what it did before {cite}`vanlaarhoven2017l2`. Or fold the normalisation into the
# convolution, as one does before shipping a network: again the same function. Are the spectra the same?


# %%
def rescaled(model):
    """Every channel before BatchNorm times a random number above 1."""
    model = copy.deepcopy(model).eval()
    draw = torch.Generator().manual_seed(0)
    for k in "123":
        conv, norm = getattr(model, f"conv{k}"), getattr(model, f"norm{k}")
        factor = torch.randn(len(conv.weight), generator=draw).abs().exp().to(device)
        conv.weight.data *= factor[:, None, None, None]
        conv.bias.data *= factor
        norm.running_mean *= factor  # what it would have counted
        norm.running_var *= factor**2
    return model


def folded(model):
    """BatchNorm's scale and shift multiplied into the convolutions."""
    model = copy.deepcopy(model).eval()
    for k in "123":
        conv, norm = getattr(model, f"conv{k}"), getattr(model, f"norm{k}")
        setattr(model, f"conv{k}", fuse_conv_bn_eval(conv, norm))
        setattr(model, f"norm{k}", nn.Identity())
    return model


same = {
    "as trained": models["CNN", seeds[0]].eval(),
    "channels rescaled": rescaled(models["CNN", seeds[0]]),
    "BatchNorm folded in": folded(models["CNN", seeds[0]]),
}


# %% tags=["hide-input"]
def outputs(model):
    with torch.no_grad():
        return model(images[held_out])


def row(model):
    snapshot, right = sd.measure(model), outputs(same["as trained"])
    return {
        "largest change of an output": f"{((outputs(model) - right).abs().max() / right.abs().max()).item():.0e}",
        **{f"effective rank, conv{k}": round(snapshot[f"conv{k}.weight"].effective_rank, 3) for k in "123"},
        "largest singular value, conv3": round(snapshot["conv3.weight"].spectral_norm, 2),
    }


functions = pd.DataFrame({said: row(model) for said, model in same.items()}).T
functions

# %% [markdown]
# Three networks, one function, three spectra. (The change of an output is relative to the largest one. It is not quite zero: BatchNorm adds
# a small number to each variance before it divides.) So the spectrum of a weight before a normalisation is not a property of the function. Within one
# run, where the channels' scales drift slowly, it is still a good thing to watch. Between networks, fold first: then the scales
# are those that the network uses. And after any intervention on weights, let BatchNorm count again, as above.
#
# ### A network that cannot be traced
#
# `sd.feeds` follows the data with `torch.fx`. Where the path depends on the data, it cannot, and says so. Then declare in one line a block
# who feeds whom; every name and every shape is checked against the model.


# %%
class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 24), nn.Linear(24, 10)

    def forward(self, row):
        hidden = self.first(row)
        return self.second(hidden if hidden.sum() > 0 else -hidden)


try:
    sd.feeds(Branching())
except ValueError as error:
    print(fill(str(error), 66))
sd.declare(Branching(), "first -> second")

# %% [markdown]
# (own-layer)=
# ### A layer of your own
#
# The Transformer's table of positions was left out, because no rule says how to read it. One decorated function is such a rule. Each position
# is an input, like a word of an embedding, so the table is transposed:


# %%
@sd.spectra.read_module.register
def _(module: Transformer):
    return [sd.spectra.Part("position", "positions", module.position.T)]


sd.measure(models["Transformer", seeds[0]])["position"]

# %% [markdown]
# Where your own layers hold attention made of linear layers, `sd.spectra.heads` and `sd.spectra.cut` name the pieces in one line.

# %% [markdown]
# ## How large can it be?
#
# `recorder.cost()` answers for your network on your machine. In general the cost of a matrix grows with its longer side times the square
# of its shorter side. At a given shape that is the cube of the number of rows:

# %% tags=["hide-input"]
table = json.loads((book_root() / "recordings" / "spectra_cost.json").read_text())


def cost_curves(shape, rows):
    """Milliseconds against rows, and the operations of the method, scaled to meet the last point."""
    at_the_end = rows[-1]["ms"]["ours full"] / rows[-1]["operations"]["ours full"]
    series = {
        "values": lambda row: row["ms"]["ours values"],
        "values and vectors": lambda row: row["ms"]["ours full"],
        "torch.linalg.svd": lambda row: row["ms"]["torch full"],
        "the same, turned tall": lambda row: row["ms"]["turned full"],
        "operations": lambda row: row["operations"]["ours full"] * at_the_end,
    }
    return [
        {"panel": shape, "series": said, "seed": 0, "rows": row["rows"], "value": of(row)}
        for said, of in series.items()
        for row in rows
    ]


made, limits = table["provenance"], table["rows at the limit"]
sd.show.curves(
    pd.DataFrame(line for shape, rows in table["size"].items() for line in cost_curves(shape, rows)),
    x="rows",
    scale="log",
    name="fig-own-cost",
    caption="Milliseconds for one matrix against its number of rows, both axes logarithmic: singular values only, values and vectors, and "
    "PyTorch's own decomposition in single precision, as it is and of the matrix turned tall. Grey: the number of operations of our "
    "method, scaled to meet the last point. Recorded on "
    f"{made['date']} on {made['processor']} with {made['threads']} threads, torch {made['torch']}.",
    ylabel="milliseconds",
)


# %% tags=["hide-input"]
many = pd.DataFrame(
    {"panel": "128 x 128", "series": way, "seed": 0, "matrices": row["number"], "value": ms}
    for row in table["number"]
    for way, ms in row["ms"].items()
).replace("torch", "torch.linalg.svd")
sd.show.curves(
    many,
    x="matrices",
    scale="log",
    name="fig-own-number",
    caption="Milliseconds for many matrices of 128 rows and columns, with all their vectors. Recorded with the figure above.",
    ylabel="milliseconds",
)


# %% tags=["remove-input"]
def limit_of(shape):
    rows = limits[shape]["ours full"]
    return "at no size that was measured" if rows is None else f"from about {round(rows, -2):,.0f} rows on"


vgg, checkpoint, most = table["vgg"]["ms"], table["checkpoint"]["ms"], table["number"][-1]
Markdown(
    f"The {table['vgg']['matrices']} matrices of VGG-16 take {vgg['ours full']:,.0f} milliseconds with vectors and "
    f"{vgg['ours values']:,.0f} without (PyTorch's own: {vgg['torch full']:,.0f} and {vgg['torch values']:,.0f}); all that the paper measures at "
    f"one checkpoint takes {checkpoint['ours']:,.0f}, and {checkpoint['theirs']:,.0f} where every question gets a decomposition of its own. "
    f"The cost grows with the number of matrices ({{numref}}`fig-own-number`); {most['number']} of them take {most['ms']['as a batch'] / most['ms']['one by one']:.1f} times "
    "as long as a batch as one by one. "
    f"A hundred snapshots of one matrix with all its vectors take more than a minute {limit_of('square')} where it is square, and "
    f"{limit_of('nine times as wide')} where it is nine times as wide. Beyond that, take values often and vectors seldom: "
    "`sd.Recorder(model, steps, vectors=1_000)`."
)

# %% [markdown]
# ## Claims
#
# What this page says, tested on every seed. Networks, bounds and the choice of what to test were settled on seeds 0 to 9.


# %% tags=["remove-input"]
def per_seed(test):
    return [bool(test(i)) for i in range(len(seeds))]


def share_that_fell(name, recordings):
    return [np.mean([change < 0 for change in change_of_rank(recordings[name, seed]).values()]) for seed in seeds]


def order(name, recordings):
    """Rank correlation between the place of a component and its agreement over training, one number a seed."""
    return [
        np.mean([spearmanr(range(10), recording.agreements[m][:-1].mean(axis=0))[0] for m in large(recording)])
        for recording in (recordings[name, seed] for seed in seeds)
    ]


def lost(name, what):
    return np.subtract(halves[name]["whole"], halves[name][what])


def narrow_gates(i):
    """Whether input and output gates end below the other two in each of the three weights."""
    end = after[seeds[i]]
    return all(max(end[f"{m}[{a}]"] for a in "io") < min(end[f"{m}[{b}]"] for b in "fg") for m in square)


cost = {gate: loss_of(gate, 6) for gate in "ifgo"}
gate_means = {gate: [np.mean([after[seed][f"{m}[{gate}]"] for m in square]) for seed in seeds] for gate in "ifgo"}

# %% tags=["nbval-check-output", "hide-input"]
for name in networks:
    display(
        sd.claim(
            "M1",
            f"In the {name} effective rank falls in at least nine of ten matrices.",
            holds=[share >= 0.9 for share in share_that_fell(name, trained)],
            tier=tier,
            task=f"{name}, digits",
            measured={
                "share of matrices whose rank falls": share_that_fell(name, trained),
                "the same of the random walk": share_that_fell(name, walks),
            },
            chance=float(np.mean(share_that_fell(name, walks))),
        )
    )

# %% tags=["nbval-check-output", "hide-input"]
for name in networks:
    display(
        sd.claim(
            "M2",
            f"In the {name} top directions settle before lower ones: over the first ten components, place and agreement with the "
            "end are negatively correlated, on average over the matrices with at least 16 singular values.",
            holds=[rho < 0 for rho in order(name, trained)],
            tier=tier,
            task=f"{name}, digits",
            measured={"rank correlation": order(name, trained), "the same of the random walk": order(name, walks)},
            chance=float(np.mean(order(name, walks))),
        )
    )

# %% tags=["nbval-check-output", "hide-input"]
for name in networks:
    ahead = np.subtract(first_direction(name, trained), first_direction(name, walks))
    display(
        sd.claim(
            "M3",
            f"In the {name} the first directions settle earlier than in a random walk that moves as far: their agreement with the "
            "end, averaged over training and over the matrices with at least 16 singular values, is higher.",
            holds=(ahead > 0).tolist(),
            tier=tier,
            task=f"{name}, digits",
            measured={
                "mean agreement": first_direction(name, trained),
                "the same of the random walk": first_direction(name, walks),
            },
            chance=float(np.mean(first_direction(name, walks))),
        )
    )

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "M4",
    "In each of the three weights that are square by gate, input and output gates end with lower effective rank than the forget "
    "gate and the candidate.",
    holds=per_seed(narrow_gates),
    tier=tier,
    task="LSTM, digits",
    measured={f"mean effective rank, {gate_names[gate]}": gate_means[gate] for gate in "iofg"},
    chance=random_rank((48, 48)),
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "M5",
    "The gates of higher rank are those that need more directions: cut to 6 of 48 components, the forget gate and the candidate each "
    "lose at least one point of accuracy more than the input and output gates do.",
    holds=per_seed(lambda i: min(cost[g][i] for g in "fg") > max(cost[g][i] for g in "io") + 0.01),
    tier=tier,
    task="LSTM, digits",
    measured={f"accuracy lost, {gate_names[gate]}": cost[gate] for gate in "iofg"},
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "M6",
    "Only the candidate needs more than 6 of its 48 components: cut to them it loses at least three points of accuracy, each other "
    "gate at most two.",
    holds=per_seed(lambda i: cost["g"][i] >= 0.03 and max(cost[g][i] for g in "ifo") <= 0.02),
    tier=tier,
    task="LSTM, digits",
    measured={f"accuracy lost, {gate_names[gate]}": cost[gate] for gate in "iofg"},
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "M7",
    "Query and key of both blocks end aligned at one and a half times their chance level or more.",
    holds=(meeting >= 1.5).all(axis=1).tolist(),
    tier=tier,
    task="Transformer, digits",
    measured={
        "alignment over chance, first block": meeting[:, 0],
        "alignment over chance, second block": meeting[:, 1],
    },
    chance=1.0,
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "M8",
    "A convolution and the next do not find each other: their alignment ends below one and a half times its chance level.",
    holds=(convolutions < 1.5).all(axis=1).tolist(),
    tier=tier,
    task="CNN, digits",
    measured={"alignment over chance, 1 to 2": convolutions[:, 0], "alignment over chance, 2 to 3": convolutions[:, 1]},
    chance=1.0,
)

# %% tags=["nbval-check-output", "hide-input"]
for name in networks:
    display(
        sd.claim(
            "M9",
            f"In the {name} the top half of every matrix but the last keeps the accuracy within five points.",
            holds=(lost(name, "top half") < 0.05).tolist(),
            tier=tier,
            task=f"{name}, digits",
            measured={"accuracy": halves[name]["whole"], "top half": halves[name]["top half"]},
        )
    )

# %% tags=["nbval-check-output", "hide-input"]
for name in networks:
    top, bottom = "top half, first layer spared", "bottom half, first layer spared"
    display(
        sd.claim(
            "M10",
            f"In the {name}, with the layer that reads the image spared as well, the top half keeps the accuracy within five "
            "points, and the bottom half is right in less than a quarter of all cases.",
            holds=[a < 0.05 and b < 0.25 for a, b in zip(lost(name, top), halves[name][bottom], strict=True)],
            tier=tier,
            task=f"{name}, digits",
            measured={
                "accuracy": halves[name]["whole"],
                "top half": halves[name][top],
                "bottom half": halves[name][bottom],
            },
            chance=0.1,
        )
    )

# %% [markdown]
# ### Reading the verdicts

# %% tags=["remove-input"]
by_chance = [share for name in networks for share in share_that_fell(name, walks)]
margins = {name: np.subtract(first_direction(name, trained), first_direction(name, walks)) for name in networks}
Markdown(
    f"""
- **M1**: "rank falls in nearly all matrices" is a statement about which matrices there are. The CNN has four, and its fall is in one. It
  also counts falls of any size, and the rank of a random walk falls a little in a share of {spread(by_chance)} of the matrices.
- **M2** is the statement one usually sees. But the random walk shows the order too: in the Transformer the rank correlation is
  {spread(order("Transformer", trained))} in training and {spread(order("Transformer", walks))} in the walk. **M3** is what is left of it: a margin of
  {spread(margins["LSTM"])} in the LSTM, of {spread(margins["Transformer"])} in the Transformer and of {spread(margins["CNN"])} in the CNN.
  On the ten seeds on which this page was made, the LSTM's margin was clear in all of them, and the Transformer's was above zero in some
  and below in others. So trust the first, and do not trust three seeds with the second.
- **M4 to M6**: the gates do differ in rank, and that does not say what each needs. M6 was written down after M5 had failed on seeds 0 to 9.
- **M9 and M10**: one layer decides. Say which layers you spare whenever you truncate.
"""
)

# %% [markdown]
# ## Paper and this book
#
# The networks here are not the paper's {cite}`yunis2024approaching`; the way of looking is.
#
# | | the paper | this page |
# |---|---|---|
# | networks | VGG-16, UNet, a 4-layer LSTM, a 12-layer Transformer | the smallest of their kinds that read digits well |
# | what is compared | one matrix with itself over time, without a control | the same, beside a random walk that moves as far |
# | alignment | centre of the kernel, gate $g$, raw | all positions and gates, minus chance; `rule="paper"` gives theirs |
# | gates | stacked | stacked, and one by one |
# | top directions settle first | seen in all four networks | seen, and seen in the random walk too (M2, M3) |
# | the top half does the work | all but the last matrix cut | only with the first layer spared too (M9, M10) |
#
# Small networks with eight inputs are not large ones: where the first layer has hundreds of singular values the last row may well look
# different. The later chapters ask.
#
# ## Exercises
#
# Each check says what is wrong with an answer. The cells below hold answers that are not right yet: edit and run them.
#
# ```{exercise} The matrix of a convolution
# :label: ex-kernel-rank
#
# Write `kernel_rank(weight)`: the effective rank of the matrix of a convolution, from its weight as a NumPy array of shape (outputs, inputs,
# height, width). `sd.effective_rank` takes singular values. *(5 minutes)*
# ```


# %%
def kernel_rank(weight):
    s = np.linalg.svd(weight, compute_uv=False)
    return sd.effective_rank(s).mean()


check_kernel_rank(kernel_rank)

# %% [markdown]
# ```{hint}
# :class: dropdown
# What is one row? All the numbers that one output channel multiplies. How many are these?
# ```
#
# ```{solution-start} ex-kernel-rank
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def kernel_rank(weight):
    s = np.linalg.svd(weight.reshape(len(weight), -1), compute_uv=False)
    return sd.effective_rank(s)


check_kernel_rank(kernel_rank)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Which pair stands out?
# :label: ex-stands-out
#
# Somebody shows you alignment scores and says that the attention heads are remarkable. Write `stands_out(scores, d)`: both are dictionaries
# by pair, of the score and of the number of dimensions in which the two matrices meet. Return the pair that is furthest above its chance level,
# as a ratio. *(5 minutes)*
# ```


# %%
def stands_out(scores, d):
    return max(scores, key=lambda pair: scores[pair])


check_stands_out(stands_out)

# %% [markdown]
# ```{hint}
# :class: dropdown
# `sd.alignment_chance(d)` is the mean of $|\langle u, v \rangle|$ for random directions in $d$ dimensions.
# ```
#
# ```{solution-start} ex-stands-out
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def stands_out(scores, d):
    return max(scores, key=lambda pair: scores[pair] / sd.alignment_chance(d[pair]))


check_stands_out(stands_out)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} When has a direction settled?
# :label: ex-settles
#
# Write `settles(steps, agreement, level)`: the first step from which on the agreement with the end is at least `level` and stays there.
# *(10 minutes)*
# ```


# %%
def settles(steps, agreement, level):
    return steps[agreement >= level][0]


check_settles(settles)

# %% [markdown]
# ```{hint}
# :class: dropdown
# Look for the *last* snapshot that is below the level. What if there is none?
# ```
#
# ```{solution-start} ex-settles
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def settles(steps, agreement, level):
    stays = np.logical_and.accumulate((agreement >= level)[::-1])[::-1]  # from here to the end
    return steps[stays][0]


check_settles(settles)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Your own network
# :label: ex-your-own-network
#
# Now yours. Put the three lines into *your* loop, with `**distances(model, start)`, and make its random walk with `random_walk` from a model with the
# same initial weights. Write `furthest(trained, walk)`: the name of the matrix whose effective rank at the end is furthest from that of the
# walk, as a ratio, up or down. Is it the matrix you expected? Which of the plots of this page would you show to somebody, and what
# would you say noise looks like in it? *(an hour)*
# ```


# %%
my_training = my_walk = trained["CNN", seeds[0]]  # put your two recordings here


def furthest(trained, walk):
    return min(trained.matrices, key=lambda name: trained.effective_rank(name)[-1])


check_furthest(furthest, my_training, my_walk)

# %% [markdown]
# ```{hint}
# :class: dropdown
# Twice as many directions and half as many are equally far: compare logarithms of ratios, or the larger of a ratio and its inverse.
# ```
#
# ```{solution-start} ex-your-own-network
# :class: dropdown
# ```
#
# Here with this page's own LSTM:


# %%
def furthest(trained, walk):
    ratio = {name: trained.effective_rank(name)[-1] / walk.effective_rank(name)[-1] for name in trained.matrices}
    return max(ratio, key=lambda name: abs(np.log(ratio[name])))


check_furthest(furthest, trained["LSTM", seeds[0]], walks["LSTM", seeds[0]])

# %% [markdown]
# ```{solution-end}
# ```
#
# ## What this page does not show
#
# - **Large networks.** Everything here trains in seconds. How findings change with size is not asked.
# - **Other controls.** The random walk keeps the distance and gives up all structure. A control that keeps more, such as training on
#   random labels, may explain more.
# - **Why the gates differ.** We report that they do, and that the story told here does not hold.
# - **Activations.** Singular values of a weight say what it *could* do to any input, not what it does to the inputs it gets.
# - **The convolution itself.** The matrix of a kernel is not the matrix of the whole convolution, whose singular values are others
#   {cite}`sedghi2019singular`.
#
# ## Further reading
#
# What spectra of trained weights look like beside random matrices: {cite:t}`martin2021implicit`. Singular values of the whole convolution:
# {cite:t}`sedghi2019singular`. The LSTM and its gates: {cite:t}`hochreiter1997long`; what each gate is good for, by leaving it out:
# {cite:t}`greff2017lstm`. Ranks of attention while it learns: {cite:t}`boixadsera2023transformers`. Cutting single weights of large language models
# to low rank: {cite:t}`sharma2024truth`. Scales that normalisation makes meaningless: {cite:t}`vanlaarhoven2017l2`. How far noise turns a
# singular direction: {cite:t}`wedin1972perturbation`.
