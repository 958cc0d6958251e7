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
# # Grokking
#
# A small network learns to add modulo a prime. Soon it is right on every example it was trained on and wrong on most
# others. Nothing seems to happen for a long time. Then, within a few hundred steps, it is right on nearly all of
# them: it *groks*. Below, the error tells that story, and the singular values of the weights tell what goes on
# underneath: how much of its matrices the network uses, on average, shrinks twice, once while it memorises, and once more about when
# it understands.

# %% tags=["parameters", "hide-input"]
tier = "laptop"  # smoke (a test), laptop (this page), gpu, paper (the paper's own settings)
seeds = [10, 11, 12]  # one run of everything for each; verdicts need at least three
device = "auto"  # auto, cpu or cuda

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from IPython.display import Markdown
from scipy.stats import spearmanr

import specdyn as sd
from specdyn.exercises.grokking import check_factor, check_half_fall, check_strict
from specdyn.interventions import HoldNorm, truncations
from specdyn.show import spread
from specdyn.training import book_root, first_at_most, half_fall

settings = sd.tasks.grokking_settings(tier)
snapshots = list(settings["decay"].snapshots)
kept = snapshots[:: max(1, len(snapshots) // 20)][1:-1]  # checkpoints to branch from later

# To try something, change it here: settings["decay"] = dataclasses.replace(settings["decay"], weight_decay=0.3)
runs = sd.sweep(settings, seed=seeds, keep=kept, device=device)
recordings = {name: [run.recording for run in runs.sel(task=name)] for name in settings}
titles = {
    name: f"{100 * task.train_fraction:g} % of pairs, "
    + ("slingshot" if task.layer_norm else f"decay {task.weight_decay:g}")
    for name, task in settings.items()
}

# %% tags=["hide-input"]
quantities = {
    "training error": lambda recording: recording.metrics["train_error"],
    "validation error": lambda recording: recording.metrics["validation_error"],
    "effective rank": lambda recording: recording.effective_rank(),
}
groks = {f"seed {recording.provenance['seed']}": [recording] for recording in recordings["decay"]}
sd.show.curves(
    sd.show.over_steps(groks, quantities),
    name="fig-grokking",
    caption="Grokking with three seeds. Blue: error on the pairs trained on. Orange: error on the others. "
    "Green: effective rank, the share of directions in use, averaged over the six matrices of the network.",
    ylabel="error rate, effective rank",
    columns=3,
    ylim=(-0.03, 1.03),
)

# %% [markdown]
# The spikes are part of the picture: at this learning rate the optimizer now and then jumps out of the valley it is in and comes
# back (our reading; no experiment here explains it). Where a number stands for the end of a run it is
# the median of the last tenth, so that a spike does not decide.
#
# :::{admonition} On this page
# **You will be able to explain** what grokking looks like in the singular values of the weights, what weight decay
# has and has not to do with it, why low rank is not enough for understanding, and why the second fall of rank is not needed.
#
# **You need** matrices and gradient descent, and roughly what a transformer layer and Adam are. Effective rank and alignment
# are introduced in {doc}`../foundations/singular_values`.
# :::

# %% [markdown]
# ## Predict first
#
# We train the same network in four ways: on less than half of all pairs without and with weight decay, once more with
# layer normalisation, a warm-up and more data (a setting called *slingshot*), and on nine tenths of the pairs without
# decay.
#
# :::{admonition} Which of the four will be right on pairs they have never seen? And whose matrices will have low rank?
# :class: dropdown
# Decide before you open the next section. If you think that rank and generalisation go together, the two answers must
# be the same. They are not, quite: look at the fourth network in {numref}`fig-grokking-errors` and
# {numref}`fig-grokking-ranks`, and at the experiments in which we take norm and rank apart.
# :::

# %% [markdown]
# ## The phenomenon
#
# The task {cite}`power2022grokking`: given $a$ and $b$, say $a + b \bmod p$. The network reads the three tokens
# $(a, b, =)$ and is asked at the last one. It is the paper's network {cite}`yunis2024approaching`: one transformer
# layer, trained with AdamW on all training pairs at once.

# %% tags=["hide-input"]
words = {
    "modulus": "modulus p",
    "train_fraction": "fraction of pairs trained on",
    "weight_decay": "weight decay",
    "learning_rate": "learning rate",
    "warmup": "steps of warm-up",
    "layer_norm": "layer normalisation",
    "width": "width",
    "heads": "attention heads",
    "hidden": "hidden units of the MLP",
    "init_scale": "initial weights times",
    "steps": "steps",
    "every": "steps between snapshots",
}
pd.DataFrame({titles[name]: {words[key]: getattr(task, key) for key in words} for name, task in settings.items()})

# %%
sd.describe(sd.tasks.build(settings["decay"], seed=seeds[0]))

# %% [markdown]
# Addition is symmetric. A network that has only memorised $(b, a)$ may still answer $(a, b)$: it looks as if it had
# generalised a little. So we also report the **strict error**, over the pairs that were not seen in either order. The
# paper does not; where most pairs are training pairs this makes all the difference.

# %%
errors = {
    "training error": lambda recording: recording.metrics["train_error"],
    "validation error": lambda recording: recording.metrics["validation_error"],
    "strict error": lambda recording: recording.metrics["strict_error"],
}
by_title = {titles[name]: recordings[name] for name in settings}

# %% tags=["hide-input"]
sd.show.curves(
    sd.show.over_steps(by_title, errors),
    name="fig-grokking-errors",
    caption="Error on training pairs, on validation pairs, and on those validation pairs whose mirror image was not trained "
    "on either (strict). A line a seed.",
    ylabel="error rate",
    ylim=(-0.03, 1.03),
)


# %% tags=["remove-input"]
def late(values):
    """The median of the last tenth of a curve: a loss spike at the very end should not decide."""
    return float(np.median(values[-max(1, len(values) // 10) :]))


def lates(name, quantity):
    return [late(quantity(recording)) for recording in recordings[name]]


Markdown(
    f"At the end the strict error over the seeds is **{spread(lates('no decay', errors['strict error']))}** without weight decay "
    f"and **{spread(lates('decay', errors['strict error']))}** with it. With {100 * settings['more data'].train_fraction:g} % of the "
    f"pairs and no decay the validation error is {spread(lates('more data', errors['validation error']))}, which looks like "
    f"understanding, but the strict error is {spread(lates('more data', errors['strict error']))}: part of the success was "
    f"mirror images. The slingshot setting ends at a strict error of {spread(lates('slingshot', errors['strict error']))}."
)

# %% [markdown]
# ## Through its spectrum
#
# Move the slider. On the left the run as a whole, on the right all singular values of one matrix at the chosen step
# (grey: as they were at the start). Watch the embedding just after the validation error has fallen: a handful of directions stay, the rest
# melts away.

# %% tags=["hide-input"]
sd.show.Scrubber(
    recordings["decay"][0],
    {"training error": "train_error", "validation error": "validation_error"},
    name="scrubber-grokking",
    caption=f"One run with weight decay (seed {seeds[0]}), step by step. Use the mouse, or the arrow keys on the slider.",
)

# %%
matrix = "attention.in_proj_weight"
grid = {
    f"{titles[name]}\nseed {recording.provenance['seed']}": recording
    for name in settings
    for recording in recordings[name]
}

# %% tags=["hide-input"]
sd.show.singular_values(
    grid,
    matrix,
    name="fig-grokking-singular-values",
    caption="All singular values of the attention's input projection over training, from the largest (dark; bright on a dark "
    "page) to the smallest. A row a setting, a column a seed.",
)

# %% [markdown]
# Without decay one value runs away and the rest grow with it. With decay most values sink towards zero once the network has
# understood. One number sums up such a spectrum. Divide the singular values by their sum, so that they are shares $p_i = s_i /
# \sum_j s_j$, and take the exponential of their entropy: this is the number of directions in use. Divided by how many
# there are it lies between 0 and 1, and is called the **effective rank** here:
#
# $$ \mathrm{er}(W) = \frac{1}{R} \exp\Big(-\sum_{i=1}^{R} p_i \log p_i\Big) $$


# %%
def effective_rank(s):
    p = s / s.sum()
    p = p[p > 0]  # 0 log 0 is 0
    return np.exp(-(p * np.log(p)).sum()) / len(s)


s = recordings["decay"][0].singular_values[matrix][-1]
print(f"by hand {effective_rank(s):.4f}, by the library {sd.effective_rank(s):.4f}")

# %%
ranks = {
    key.removesuffix(".weight"): lambda recording, key=key: recording.effective_rank(key)
    for key in recordings["decay"][0].matrices
}

# %% tags=["hide-input"]
sd.show.curves(
    sd.show.over_steps(by_title, ranks),
    name="fig-grokking-ranks",
    caption="Effective rank of the six matrices, a line a seed.",
    ylabel="effective rank",
    ylim=(0, 1.03),
)

# %% [markdown]
# In every setting the rank falls at once, while the network memorises. Only with weight decay does the mean of all six fall
# clearly a second time.
#
# ### What the embedding writes, does attention read it?
#
# **Alignment** of two layers compares the output directions $u_j$ of the first with the input directions $v'_j$ of
# the next, in order of size: $|\langle u_j, v'_j \rangle|$, here averaged over the ten largest. Two unrelated
# matrices have an alignment above zero too; that chance level is the dotted line.

# %%
pair = sd.spectra.Pair(*settings["decay"].pairs[0])
chance = recordings["decay"][0].alignment_chance(pair)

# %% tags=["hide-input"]
sd.show.curves(
    sd.show.over_steps(by_title, {"alignment": lambda recording: recording.alignment(pair)}),
    name="fig-grokking-alignment",
    caption="Alignment between embedding and attention input, top ten directions, a line a seed.",
    ylabel="alignment",
    level={"chance": chance},
    ylim=(0, 1),
)

# %% [markdown]
# ### Is it just the norm?
#
# Weight decay shrinks weights, so perhaps low rank is a side effect of small norm. Effective rank does not change
# when a matrix is multiplied by a number, and AdamW's decay is just such a multiplication: on its own it cannot
# change the rank of anything. What it does is to make every direction that the gradient does not rebuild fade away.

# %%
ends = pd.DataFrame(
    {
        "series": titles[name],
        "seed": recording.provenance["seed"],
        "Frobenius norm of all matrices": late(recording.frobenius_norm()),
        "effective rank": late(recording.effective_rank()),
        "strict error": late(recording.metrics["strict_error"]),
    }
    for name in settings
    for recording in recordings[name]
)

# %% tags=["hide-input"]
sd.show.scatter(
    ends,
    x="Frobenius norm of all matrices",
    y="effective rank",
    name="fig-grokking-norm",
    caption="Norm and effective rank at the end of every run.",
    alt="Norm against effective rank at the end. "
    + "; ".join(
        f"{series}: norm {part['Frobenius norm of all matrices'].median():.0f}, rank {part['effective rank'].median():.2f}"
        for series, part in ends.groupby("series", sort=False)
    ),
)

# %% [markdown]
# The networks with decay have the smallest norm *and* the lowest rank, so this picture cannot tell the two apart. The experiments
# below can.
#
# ## Which falls first?
#
# The paper reads the fall of the rank as coinciding with the fall of the error, in all matrices at once. That is its central claim about grokking, so we measure it. The window is fixed beforehand. It opens when
# the training error first reaches 1 %, which leaves out the fall of rank while memorising, and closes with the run.
# In it, each curve has a moment at which it has lost half of all it will lose.

# %%
window = [first_at_most(r.steps, r.metrics["train_error"], 0.01) for r in recordings["decay"]]
lags = pd.DataFrame(
    {
        "category": key.removesuffix(".weight"),
        "series": f"seed {r.provenance['seed']}",
        "value": half_fall(r.steps, r.effective_rank(key), opens)
        - half_fall(r.steps, r.metrics["validation_error"], opens),
    }
    for r, opens in zip(recordings["decay"], window, strict=True)
    for key in r.matrices
)

# %% tags=["hide-input"]
sd.show.dots(
    lags,
    name="fig-grokking-lag",
    caption="How many steps after the validation error each matrix's effective rank has fallen half of its way. "
    "Right of zero: the rank falls later.",
    xlabel="lag of the rank behind the error (steps)",
    alt="Lag of the rank behind the validation error in steps, median over seeds. "
    + "; ".join(f"{c}: {part['value'].median():.0f}" for c, part in lags.groupby("category", sort=False)),
)

# %% tags=["remove-input"]
earlier = lags[lags["value"] < 0]["category"].value_counts()
Markdown(
    f"Of {len(lags)} lags (six matrices, {len(seeds)} seeds) **{int((lags['value'] > 0).sum())} are positive**; the median is "
    f"{lags['value'].median():.0f} steps, {lags['value'].median() / settings['decay'].steps:.0%} of the run. "
    + (
        "The rank came first in "
        + ", ".join(f"{name} ({count} of {len(seeds)} seeds)" for name, count in earlier.items())
        + "."
        if len(earlier)
        else ""
    )
)

# %% [markdown]
# ## Take norm and rank apart
#
# Weight decay changes two things at once, the norm and, in time, the rank. Three experiments take them apart.
#
# **1. Hold the norm, drop the decay.** We train without any weight decay, but after every step each matrix is
# rescaled to a fixed Frobenius norm: the one it started with, times 1, 3 or 5.

# %%
scales = (1.0, 3.0, 5.0)
held = sd.sweep(
    settings["no decay"],
    constraint={f"norm times {scale:g}": HoldNorm(scale) for scale in scales},
    seed=seeds,
    device=device,
)
held_recordings = {scale: [run.recording for run in held.sel(constraint=f"norm times {scale:g}")] for scale in scales}

# %% tags=["hide-input"]
sd.show.curves(
    sd.show.over_steps({f"norm times {scale:g}": held_recordings[scale] for scale in scales}, quantities),
    name="fig-grokking-norm-held",
    caption="No weight decay, norms held. A line a seed.",
    ylabel="error rate, effective rank",
    columns=3,
    ylim=(-0.03, 1.03),
)


# %% tags=["remove-input"]
def held_late(scale, metric):
    return [late(r.metrics[metric]) for r in held_recordings[scale]]


def held_rank(scale):
    return [late(r.effective_rank()) for r in held_recordings[scale]]


Markdown(
    "\n".join(
        f"- norm times {scale:g}: strict error {spread(held_late(scale, 'strict_error'))}, training error "
        f"{spread(held_late(scale, 'train_error'))}, effective rank {spread(held_rank(scale))}"
        for scale in scales
    )
)

# %% [markdown]
# Held at the smallest norm, the network has the lowest rank of all and has not even memorised: low rank by itself is not
# understanding. At the large norm it memorises and stays there. In between it generalises without any weight decay, with all
# seeds or most: compare its rank with that of the network which had decay.
#
# :::{admonition} Predict: we switch weight decay off at the moment the validation error falls below 5 %. What happens to the error, and what to the rank?
# :class: dropdown
# If low rank is what understanding *is*, then freezing its fall early on should leave the network between memorising and understanding, or send it back. If low rank is what weight decay *does to* a network
# that has understood, the error stays down and the rank stops falling. {numref}`fig-grokking-switched-off` shows which.
# :::
#
# **2. Switch the decay off**, at the first checkpoint after generalisation, and, as a control, soon after
# memorisation. A branch starts from the full state of the run: weights, momentum, schedule.


# %%
def first_kept(run, metric, level):
    """The first step, among those whose checkpoints were kept, at which a metric is at most a level."""
    recording = run.recording
    below = {s for s, value in zip(recording.steps.tolist(), recording.metrics[metric], strict=True) if value <= level}
    return next((step for step in kept if step in below), kept[-1])


grokked = {run.seed: run for run in runs.sel(task="decay")}
moments = {
    "off after memorising": {seed: first_kept(run, "train_error", 0.01) for seed, run in grokked.items()},
    "off after generalising": {seed: first_kept(run, "validation_error", 0.05) for seed, run in grokked.items()},
}
branches = sd.sweep(
    sd.tasks.modular_addition(tier, weight_decay=0.0),
    start={
        moment: {seed: grokked[seed].checkpoint(step) for seed, step in steps.items()}
        for moment, steps in moments.items()
    },
    seed=seeds,
    device=device,
)
branch_recordings = {moment: [run.recording for run in branches.sel(start=moment)] for moment in moments}

# %% tags=["hide-input"]
sd.show.curves(
    sd.show.over_steps({"decay stays on": recordings["decay"], **branch_recordings}, quantities),
    name="fig-grokking-switched-off",
    caption="Weight decay left on, switched off soon after the training error reached 1 %, and switched off after the "
    "validation error fell below 5 %. The lines of a branch begin where it begins.",
    ylabel="error rate, effective rank",
    columns=3,
    sharex=True,
    ylim=(-0.03, 1.03),
)

# %% tags=["remove-input"]
after = branch_recordings["off after generalising"]
memorised = [
    r.effective_rank()[list(r.steps).index(moments["off after memorising"][r.provenance["seed"]])]
    for r in recordings["decay"]
]
Markdown(
    f"In {sum(r.metrics['validation_error'][0] <= 0.05 for r in after)} of {len(after)} seeds the validation error was below 5 % when "
    f"decay was switched off the second time. It ends at {spread([late(r.metrics['validation_error']) for r in after], 3)}. "
    f"The rank does not go on falling: it was {spread([r.effective_rank()[0] for r in after])} at the switch and is "
    f"{spread([late(r.effective_rank()) for r in after])} at the end (the medians of the last tenth, as everywhere), against {spread(lates('decay', quantities['effective rank']))} where "
    f"decay stays on and {spread(memorised)} when the same networks had just memorised: these networks generalise with about the "
    f"rank they had when they had only memorised. On the way, single loss spikes take the validation error up to "
    f"{max(r.metrics['validation_error'][1:].max() for r in after if len(r.steps) > 1):.2f} and back."
)

# %% [markdown]
# **3. Truncate.** Keep only the largest singular components of every matrix but the last, without retraining. If the
# memorising network contained the general solution in its top directions, cutting the rest away should reveal it.

# %%
fractions = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0]
rows = []
for name in ("no decay", "decay"):
    for run in runs.sel(task=name):
        data = run.task.data(run.seed, "cpu")
        for fraction, cut in zip(fractions, truncations(run.model(), fractions), strict=True):
            metrics = run.task.metrics(cut, data)
            row = {"panel": titles[name], "seed": run.seed, "kept fraction": fraction}
            rows.append({**row, "series": "training error", "value": metrics["train_error"]})
            rows.append({**row, "series": "strict error", "value": metrics["strict_error"]})
truncated = pd.DataFrame(rows)

# %% tags=["hide-input"]
sd.show.curves(
    truncated,
    x="kept fraction",
    name="fig-grokking-truncated",
    caption="Error of the trained networks after keeping only this fraction of the singular components of every matrix but "
    "the last. A line a seed. A run whose last step falls into a loss spike has an error at 1.0 as well.",
    ylabel="error rate",
    ylim=(-0.03, 1.03),
)

# %% tags=["remove-input"]
lowest = truncated[(truncated.series == "strict error") & (truncated.panel == titles["no decay"])]["value"].min()
fine = truncated[(truncated.series == "strict error") & (truncated.panel == titles["decay"])]
enough = fine.groupby("kept fraction")["value"].median()
whole = enough.iloc[-1]
Markdown(
    f"However much is cut, the strict error of the memorising networks stays at {lowest:.2f} or more: no general solution is hidden in "
    f"their top directions. The networks that grokked need {enough[enough <= whole + 0.01].index[0]:.0%} of their components to be as good as "
    "whole (median over the seeds)."
)

# %% [markdown]
# ## When this fails
#
# Three of the settings above are failures of the simple story "low rank and understanding come together", and they
# ran on this page: the small held norm (lowest rank, no understanding), the branch without decay (understanding, rank
# stops falling), and the large held norm (does not grok within the steps of this page).
#
# The *slingshot* is a fourth. In the literature networks without weight decay can generalise late, in bursts
# {cite}`thilak2022slingshot`; the paper shows it at its full size over 100,000 steps. For the small network of the
# laptop tier we searched for such a setting on seed 0, over learning rates from 0.003 to 0.02, initial scales from 0.25
# to 1, moduli from 31 to 53 and up to 5,000 steps. The best, learning rate 0.02, we tried with seeds 0 to 2 modulo 53: one
# of them came near a strict error of 5 %, the other two did not. What runs here is the same modulo 47, which is quicker.
# Unless it generalises with all seeds of this page, the claim about it is not judged.

# %% [markdown]
# ## Claims
#
# Every claim of the paper about grokking, tested on each seed; the bounds are ours and were chosen on other seeds (what was
# revised is told below, under *Choices*).
# *Late* means the median over the last tenth of a run. Then four statements of our own (G).


# %% tags=["remove-input"]
def per_seed(test):
    return [bool(test(i)) for i in range(len(seeds))]


first_rank = [r.effective_rank()[0] for r in recordings["decay"]]
strict_late = {name: lates(name, errors["strict error"]) for name in settings}
plain = {name: lates(name, errors["validation error"]) for name in settings}
strict_pairs = [int(settings["more data"].data(seed, "cpu").strict.sum()) for seed in seeds]
rank = {name: lates(name, quantities["effective rank"]) for name in settings}
norm = {name: lates(name, lambda r: r.frobenius_norm()) for name in settings}
align = {name: lates(name, lambda r: r.alignment(pair)) for name in settings}
largest = {name: lates(name, lambda r: r.singular_values[matrix][:, 0]) for name in settings}
t_val = [half_fall(r.steps, r.metrics["validation_error"], o) for r, o in zip(recordings["decay"], window, strict=True)]
t_rank = [half_fall(r.steps, r.effective_rank(), o) for r, o in zip(recordings["decay"], window, strict=True)]
left = [max(late(r.effective_rank(m)) / r.effective_rank(m)[0] for m in r.matrices) for r in recordings["decay"]]

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "C2.1",
    "With weight decay the network groks, and the fall of the validation error coincides with the fall of the mean effective "
    "rank (within 20 % of the time), every matrix ending clearly (20 %) below its initial rank.",
    holds=per_seed(
        lambda i: plain["decay"][i] < 0.05 and abs(t_val[i] - t_rank[i]) <= 0.2 * t_val[i] and left[i] <= 0.8
    ),
    tier=tier,
    task="modular addition",
    measured={
        "late validation error": plain["decay"],
        "step of half fall, error": t_val,
        "step of half fall, rank": t_rank,
        "largest ratio of last to first rank": left,
    },
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "C2.2",
    "Without weight decay the network neither generalises nor finds a low-rank solution: the mean effective rank stays within "
    "15 % of the initial one and far (0.15) above that with decay.",
    holds=per_seed(
        lambda i: (
            strict_late["no decay"][i] > 0.5
            and rank["no decay"][i] >= 0.85 * first_rank[i]
            and rank["no decay"][i] >= rank["decay"][i] + 0.15
        )
    ),
    tier=tier,
    task="modular addition",
    measured={
        "late strict error": strict_late["no decay"],
        "first rank": first_rank,
        "late rank": rank["no decay"],
        "late rank with decay": rank["decay"],
    },
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "C2.3",
    "With 90 % of the pairs and no weight decay the network generalises (strict error below 5 %), with a rank below the initial "
    "one and below that of the network which only memorises.",
    holds=per_seed(
        lambda i: strict_late["more data"][i] < 0.05 and rank["more data"][i] < min(first_rank[i], rank["no decay"][i])
    ),
    tier=tier,
    task="modular addition",
    measured={
        "late strict error": strict_late["more data"],
        "strict pairs": strict_pairs,
        "late validation error": plain["more data"],
        "late rank": rank["more data"],
        "late rank, memorising": rank["no decay"],
    },
)

# %% tags=["remove-input"]
slingshot_groks = all(error < 0.05 for error in strict_late["slingshot"])


def width(r):
    """Steps between 10 % and 90 % of the strict error's fall, as a share of the run."""
    error = r.metrics["strict_error"]
    at = [first_at_most(r.steps, error, error[0] - share * (error[0] - error.min())) for share in (0.1, 0.9)]
    return (at[1] - at[0]) / r.steps[-1]


widths = {name: [width(r) for r in recordings[name]] for name in ("decay", "slingshot")}

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "C2.4",
    "In the slingshot setting validation is fitted gradually: the middle of its fall takes a larger share of the run than with "
    "weight decay.",
    holds=per_seed(lambda i: widths["slingshot"][i] > widths["decay"][i]),
    tier=tier,
    task="modular addition",
    measured={
        **{f"share of the run, {name}": value for name, value in widths.items()},
        "late strict error": strict_late["slingshot"],
    },
    not_judged="" if slingshot_groks else "no slingshot setting that generalises with every seed is known at this size",
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "C2.5",
    "Where networks generalise (with decay; with more data) they have lower rank and a stronger embedding-attention alignment "
    "in the top ranks than where they memorise.",
    holds=per_seed(
        lambda i: all(
            rank[name][i] < rank["no decay"][i] and align[name][i] > align["no decay"][i]
            for name in ("decay", "more data")
        )
    ),
    tier=tier,
    task="modular addition",
    measured={
        f"late {what}, {name}": values[name]
        for what, values in (("rank", rank), ("alignment", align))
        for name in ("no decay", "decay", "more data")
    },
    chance=chance,
)


# %% tags=["remove-input"]
def drift(r):
    """Rank correlation of the step with the index at which alignment is largest."""
    with np.errstate(invalid="ignore"):
        found = spearmanr(r.steps, np.nanargmax(r.alignments[pair], axis=1))
    return found.statistic, found.pvalue


drifts = [drift(r) for r in recordings["decay"]]

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "C2.6",
    "While the network groks, the strongest alignment moves up the diagonal, to larger singular values (negative rank "
    "correlation between step and index, p < 0.01).",
    holds=[statistic < 0 and p < 0.01 for statistic, p in drifts],
    tier=tier,
    task="modular addition",
    measured={"rank correlation": [statistic for statistic, _ in drifts]},
    chance=0.0,
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "C2.7",
    "Norm is not the explanation: the network with more data and no decay generalises (validation error below 5 %) with a larger "
    "norm and a larger top singular value than the grokked one.",
    holds=per_seed(
        lambda i: (
            max(plain["more data"][i], plain["decay"][i]) < 0.05
            and norm["more data"][i] > norm["decay"][i]
            and largest["more data"][i] > largest["decay"][i]
        )
    ),
    tier=tier,
    task="modular addition",
    measured={
        **{f"late norm, {name}": norm[name] for name in ("decay", "more data")},
        **{f"top singular value, {name}": largest[name] for name in ("decay", "more data")},
        "late strict error, more data": strict_late["more data"],
    },
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "C2.8",
    "More data does part of the work of weight decay: without decay, more data lowers the strict error and the rank, though not "
    "as far as decay does.",
    holds=per_seed(
        lambda i: (
            strict_late["more data"][i] < strict_late["no decay"][i]
            and rank["decay"][i] < rank["more data"][i] < rank["no decay"][i]
        )
    ),
    tier=tier,
    task="modular addition",
    measured={
        **{f"late strict error, {name}": strict_late[name] for name in ("no decay", "more data", "decay")},
        **{f"late rank, {name}": rank[name] for name in ("no decay", "more data", "decay")},
    },
)

# %% tags=["nbval-check-output", "hide-input"]
late_ones = ("attention.out_proj", "linear1", "linear2", "decoder")  # which these are was seen on seeds 0 to 9
lag_of = lags.set_index(["series", "category"])["value"]
sd.claim(
    "G1",
    "The rank follows the error: after memorisation, the mean effective rank and the ranks of the attention output, both MLP matrices "
    "and the decoder fall after the validation error does.",
    holds=per_seed(
        lambda i: t_rank[i] > t_val[i] and all(lag_of[f"seed {seeds[i]}", matrix] > 0 for matrix in late_ones)
    ),
    tier=tier,
    task="modular addition",
    measured={
        "lag of the mean rank in steps": np.subtract(t_rank, t_val),
        **{
            f"lag in steps, {name}": [lag_of[f"seed {seed}", name] for seed in seeds]
            for name in lags["category"].unique()
        },
    },
    chance=0.0,
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "G2",
    "Weight decay is not needed: with norms held at 3 times the initial and no decay the network generalises (strict error "
    "below 5 %); held at 5 times it does not (above 50 %).",
    holds=per_seed(lambda i: held_late(3.0, "strict_error")[i] < 0.05 and held_late(5.0, "strict_error")[i] > 0.5),
    tier=tier,
    task="modular addition",
    measured={f"late strict error, norm times {scale:g}": held_late(scale, "strict_error") for scale in scales},
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "G3",
    "Low rank is not enough: with norms held at the initial ones the rank ends below that of the grokked network and the strict "
    "error stays above 50 %.",
    holds=per_seed(lambda i: held_rank(1.0)[i] < rank["decay"][i] and held_late(1.0, "strict_error")[i] > 0.5),
    tier=tier,
    task="modular addition",
    measured={
        "late rank, norm held": held_rank(1.0),
        "late rank, decay": rank["decay"],
        "late strict error, norm held": held_late(1.0, "strict_error"),
    },
)

# %% tags=["nbval-check-output", "hide-input"]
sd.claim(
    "G4",
    "Falling on is not needed: with decay switched off once the validation error is below 5 % it stays there, while the rank stays "
    "within 10 % of where it was.",
    holds=[
        late(r.metrics["validation_error"]) < 0.05 and abs(late(r.effective_rank()) / r.effective_rank()[0] - 1) < 0.1
        for r in after
    ],
    tier=tier,
    task="modular addition",
    measured={
        "late validation error": [late(r.metrics["validation_error"]) for r in after],
        "rank when switched off": [r.effective_rank()[0] for r in after],
        "late rank": [late(r.effective_rank()) for r in after],
        "late rank with decay on": rank["decay"],
    },
)

# %% [markdown]
# ### Reading the verdicts


# %% tags=["remove-input"]
def fell(name):
    """By how much of its first value the mean effective rank fell, per seed."""
    return [1 - end / start for end, start in zip(rank[name], first_rank, strict=True)]


behind = np.subtract(t_rank, t_val)
drifted = [late(r.effective_rank()) / r.effective_rank()[0] - 1 for r in after]
went_on = [end / r.effective_rank()[0] - 1 for end, r in zip(rank["decay"], after, strict=True)]
Markdown(
    f"""
- **C2.1 and G1** belong together. The middle of the rank's fall comes {spread(behind, 0)} steps after that of
  the error; {sum(behind <= 0.2 * np.array(t_val))} of {len(seeds)} seeds are within the bound of 20 % that we call coinciding. Near each
  other, but in an order, and not in all matrices at once: {{numref}}`fig-grokking-lag`.
- **C2.2** has two halves. Without weight decay the strict error ends at {spread(strict_late["no decay"])}. But the mean effective rank
  falls by {min(fell("no decay")):.0%} to {max(fell("no decay")):.0%} there as well, while memorising (by {min(fell("decay")):.0%} to
  {max(fell("decay")):.0%} with decay); our bound for "no low-rank solution" was 15 %.
- **C2.3 and C2.7** hang on the same network, trained on nine tenths of the pairs. Its strict error is {spread(strict_late["more data"])} on the
  {min(strict_pairs)} to {max(strict_pairs)} pairs that are strict there, so that one pair counts {1 / max(strict_pairs):.0%}, its validation error {spread(plain["more data"], 3)}.
- **C2.5**: the alignment with decay is {spread(align["decay"])}, without {spread(align["no decay"])}; chance is {chance:.2f}.
- **C2.6** compares 100 snapshots of one run, which resemble their neighbours, so its p-value promises too much; correlations this small
  say little in either direction.
- **C2.7 and G2**: across different amounts of data, norm does not order the networks. With the same data, and the norm held, networks that
  understand and networks that memorise differ in the norm at which they were held.
- **G4**: once decay is off, the rank changes by {min(drifted):+.0%} to {max(drifted):+.0%} until the end; with decay on, the same
  networks change by {min(went_on):+.0%} to {max(went_on):+.0%}.
"""
)

# %% [markdown]
# ## The paper's own run
#
# The same at the paper's own size (modulus 113, width 128, 30 % of the pairs, learning rate 0.001, weight decay 1,
# 40,000 steps), recorded once with one seed. One seed is a picture, not a verdict.

# %% tags=["hide-input"]
paper = sd.Recording.load(book_root() / "recordings" / "grokking_paper.npz")
about = paper.provenance
sd.show.curves(
    sd.show.over_steps({"the paper's settings": [paper]}, quantities),
    name="fig-grokking-paper",
    caption=f"Recorded run of the paper's own settings, seed {about['seed']}: {about['device']}, {about['threads']} thread(s), "
    f"{about['seconds'] / 60:.0f} minutes, {about['date']}, commit {about['commit']}.",
    ylabel="error rate, effective rank",
    ylim=(-0.03, 1.03),
)

# %% tags=["remove-input"]
opens = first_at_most(paper.steps, paper.metrics["train_error"], 0.01)
fall = half_fall(paper.steps, paper.metrics["validation_error"], opens)
paper_lags = {
    key.removesuffix(".weight"): half_fall(paper.steps, paper.effective_rank(key), opens) - fall
    for key in paper.matrices
}
Markdown(
    f"The training error first reaches 1 % at step {opens:.0f}; half of the validation error is gone at step {fall:.0f}; the strict "
    f"error ends at {late(paper.metrics['strict_error']):.3f}. The mean effective rank goes from {paper.effective_rank()[0]:.2f} to "
    f"{late(paper.effective_rank()):.2f}, and has lost half of what it loses in the window "
    f"{half_fall(paper.steps, paper.effective_rank(), opens) - fall:+.0f} steps from there. Per matrix the lag is "
    + ", ".join(f"{lag:+.0f} ({key})" for key, lag in paper_lags.items())
    + f"; snapshots are {int(np.diff(paper.steps).min())} steps apart. So at this size "
    f"{sum(lag < 0 for lag in paper_lags.values())} of the six matrices are half-way down before the error is, and "
    f"{sum(lag > 0 for lag in paper_lags.values())} after it: the training error reaches 1 % early here, and the window holds the "
    "long wait, in which the rank sinks slowly. Which falls first depends on the matrix, and on where one begins to count."
)

# %% [markdown]
# ## Paper and this book

# %% tags=["remove-input"]
original = sd.tasks.modular_addition("paper")
pd.DataFrame(
    {
        "the paper": {words[key]: f"{getattr(original, key):g}" for key in words},
        "this page": {words[key]: f"{getattr(settings['decay'], key):g}" for key in words},
    }
)

# %% [markdown]
# - **Effective rank**: the paper's Equation 1 is the entropy itself; its code, which we take to have made its
#   figures, uses   $\exp(H)/R$. So do we.
# - **Batch**: the paper's configuration for the slingshot names a batch of 512, its code trains on all pairs at once.
#   We follow the code.
# - **Strict error**: not in the paper. Its fourth row (90 % of the pairs) has to be read with it.
# - **Positions**: fixed sinusoids, as in the paper and its code. **Snapshots**: every 100 steps in the paper, every 200 in our
#   recorded run.
# - **Slingshot**: here modulo 47; the paper too takes a smaller prime there (97).
# - **Decoder**: the paper does not say how its bias starts; here at zero.
# - **Choices**: settings and bounds were chosen on seeds 0 to 9. Two were revised there after a first, shorter build had already shown
#   us seeds 10 to 12: the length of the runs, and the held norm (3 instead of 2.5 times the initial). G1 said "every matrix" then; with
#   the longer runs that was false, and it now names the four matrices that seeds 0 to 9 point to.
# - The network here computes keys and values once for each number and position, not once for each example. It is the
#   same   function with the same gradient (a test compares both with PyTorch's own layer), several times faster.

# %% [markdown]
# ## Exercises
#
# Each check says what is wrong with an answer. The cells below hold answers that are not right yet: edit and run
# them.
#
# ```{exercise} Strict pairs
# :label: ex-grokking-strict
#
# Write `strict(train, validation)`: both are arrays of pairs, of shapes (N, 2) and (M, 2). Return M booleans that say
# which validation pairs a network could not know from having memorised the mirror image. *(5 minutes)*
# ```


# %%
def strict(train, validation):
    return np.ones(len(validation), dtype=bool)


check_strict(strict)

# %% [markdown]
# ```{hint}
# :class: dropdown
# Make a set of tuples of the training pairs. Which tuple must not be in it?
# ```
#
# ```{solution-start} ex-grokking-strict
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def strict(train, validation):
    seen = {tuple(pair) for pair in train.tolist()}
    return np.array([(b, a) not in seen for a, b in validation.tolist()])


check_strict(strict)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Dating a fall
# :label: ex-grokking-half-fall
#
# Write `my_half_fall(steps, values, opens)`: the first step in the window from `opens` to the end at which the curve has
# lost half of what it loses in the window, from its value when the window opens down to its lowest value in it. *(10
# minutes)*
# ```


# %%
def my_half_fall(steps, values, opens):
    return steps[values <= values[0] / 2][0]


check_half_fall(my_half_fall)

# %% [markdown]
# ```{hint}
# :class: dropdown
# First cut both arrays to the window with one boolean mask. The level lies half-way between two values of the curve,
# not half-way to zero.
# ```
#
# ```{solution-start} ex-grokking-half-fall
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def my_half_fall(steps, values, opens):
    inside = steps >= opens
    steps, values = steps[inside], values[inside]
    level = (values[0] + values.min()) / 2
    return steps[values <= level][0]


check_half_fall(my_half_fall)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} What decay alone can do
# :label: ex-grokking-factor
#
# One step of AdamW's weight decay without any gradient multiplies every weight by the same number, say 1/2. By what
# factor does each of these change: `"effective rank"`, `"stable rank"`, `"Frobenius norm"`, `"largest singular
# value"`? Write `factor(quantity)`. What does your answer say about the claim that decay lowers the rank? *(5
# minutes)*
# ```


# %%
def factor(quantity):
    return 1 / 2


check_factor(factor)

# %% [markdown]
# ```{hint}
# :class: dropdown
# Halve every singular value in the formulas. In which of them does the 1/2 cancel?
# ```
#
# ```{solution-start} ex-grokking-factor
# :class: dropdown
# ```


# %% tags=["nbval-check-output"]
def factor(quantity):
    return {"effective rank": 1, "stable rank": 1, "Frobenius norm": 1 / 2, "largest singular value": 1 / 2}[quantity]


check_factor(factor)

# %% [markdown]
# Both ranks compare singular values with each other, so a common factor cancels. Decay can lower the rank only
# together with the gradient, which rebuilds some directions and not others.
#
# ```{solution-end}
# ```
#
# ```{exercise} A task of your own
# :label: ex-grokking-own
#
# Subtraction is not symmetric. Copy the task `lib/specdyn/tasks/modular_addition.py`, change the sum to $a - b$, and
# run the four settings with three seeds. Do validation error and strict error still differ? Is the lag of the rank
# still there? Then watch a network of your own: put `recorder = sd.Recorder(model, steps=sd.log_spaced(10_000, 100))`
# before your training loop and `recorder(step, loss=loss)` inside it, and show
# `sd.show.singular_values(recorder.finish())`. *(an afternoon)*
# ```
#
# ```{hint}
# :class: dropdown
# A pair and its mirror image now have different answers, so what the mirror image teaches is no longer the answer
# itself. Compare with chance, $1 - 1/p$, before you call an error low.
# ```

# %% [markdown]
# ## What this page does not show
#
# - *What* the network has learned. After grokking it computes with a few Fourier frequencies
#   {cite}`nanda2023progress`, which by itself implies low rank; the directions left over in the slider are probably
#   those frequencies. We did not test this here.
# - Other tasks, networks and optimizers. One layer, one operation, AdamW.
# - Causes finer than our experiments: holding every matrix at one multiple of its initial norm is one way to hold the
#   norm, there are others {cite}`liu2023omnigrok`. A larger held norm also means smaller steps relative to the weights; we
#   did not separate the two.
# - Many seeds. Three show that a result is not one lucky draw; they do not give its probability.
#
# ## Further reading
#
# Grokking was found by {cite:t}`power2022grokking`. {cite:t}`nanda2023progress` took a grokked network apart.
# {cite:t}`liu2023omnigrok` tie grokking to the norm of the weights, which our first experiment agrees with.
# {cite:t}`thilak2022slingshot` describe late generalisation without decay. All of it through singular values:
# {cite:t}`yunis2024approaching`.
