"""A slider over training steps that needs no server and no library, with a still image where scripts are off."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from string import Template
from typing import Any

import numpy as np

from specdyn.training import Recording


@dataclass(frozen=True)
class Scrubber:
    """Singular values of a recording at the step the slider stands at, beside its metrics over time.

    ``metrics`` maps the words of the legend to names of up to three metrics between 0 and 1; the mean effective rank is
    always drawn. The page holds a thinned copy of the data, at most ``frames`` steps. Raises ``KeyError``
    for a metric the recording does not have.
    """

    recording: Recording
    metrics: Mapping[str, str]
    name: str
    caption: str
    frames: int = 101

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": self.alt, "text/html": self._html()}

    @property
    def alt(self) -> str:
        """The same in words: where every curve begins and ends."""
        steps = self.recording.steps
        said = [f"{label} {values[0]:.2f} to {values[-1]:.2f}" for label, values in self._lines().items()]
        return f"{self.caption} From step {steps[0]} to {steps[-1]}: {', '.join(said)}."

    def _lines(self) -> dict[str, Any]:
        named = {label: self.recording.metrics[metric] for label, metric in self.metrics.items()}
        return {**named, "mean effective rank": self.recording.effective_rank()}

    def _hues(self) -> list[int]:
        """Blue, orange and red for the metrics, the book's green for the rank."""
        return [*(0, 1, 3)[: len(self.metrics)], 2]

    def _data(self) -> dict[str, Any]:
        """Return what the script draws, to three significant digits."""
        count = len(self.recording.steps)
        kept = np.unique(np.linspace(0, count - 1, min(count, self.frames)).round().astype(int))
        return {
            "steps": self.recording.steps[kept].tolist(),
            "lines": {label: _short(values[kept]) for label, values in self._lines().items()},
            "spectra": {
                matrix: [_short(row) for row in values[kept]]
                for matrix, values in self.recording.singular_values.items()
            },
        }

    def _html(self) -> str:
        return _PAGE.substitute(
            id=html.escape(self.name),
            alt=html.escape(self.alt),
            caption=html.escape(self.caption),
            first=self.recording.steps[0],
            last=self.recording.steps[-1],
            still=self._still(),
            # "</" would end the script element it stands in
            data=json.dumps(self._data(), separators=(",", ":")).replace("</", "<\\/"),
            legend="".join(
                f'<span class="key key-{hue}">{html.escape(label)}</span>'
                for hue, label in zip(self._hues(), self._lines(), strict=True)
            ),
            options="".join(f"<option>{html.escape(matrix)}</option>" for matrix in self.recording.matrices),
        )

    def _still(self) -> str:
        """Return the curves of the left panel as plain SVG lines, drawn without any script."""
        steps = self.recording.steps
        x = 40 + 300 * (steps - steps[0]) / max(1, steps[-1] - steps[0])
        return "".join(
            f'<polyline class="line line-{hue}" points="'
            + " ".join(
                f"{a:.1f},{190 - 170 * min(1.0, b):.1f}" for a, b in zip(x, values, strict=True) if np.isfinite(b)
            )
            + '"/>'
            for hue, values in zip(self._hues(), self._lines().values(), strict=True)
        )


def _short(values: Any) -> list[float | None]:
    """Three significant digits; a number that was not measured is null."""
    return [float(f"{value:.3g}") if np.isfinite(value) else None for value in values]


_PAGE = Template("""\
<figure class="scrubber" id="$id">
<style>
.scrubber { margin: 1.5rem 0; --hue-0: #0072b2; --hue-1: #d55e00; --hue-2: #008763; --hue-3: #a3123f; }
html[data-theme="dark"] .scrubber { --hue-0: #56a8e0; --hue-1: #f28e4b; --hue-2: #3cc39b; --hue-3: #f2788f; }
.scrubber figcaption { text-align: left; font-weight: normal; font-style: normal; color: inherit; }
.scrubber-panels { display: flex; flex-wrap: wrap; gap: 1rem; }
.scrubber svg { flex: 1 1 280px; min-width: 0; max-width: 100%; height: auto; }
.scrubber text { font-size: 12px; fill: currentColor; }
.scrubber path, .scrubber polyline { fill: none; stroke: currentColor; }
.scrubber .line { stroke-width: 2; }
.scrubber .line-0 { stroke: var(--hue-0); } .scrubber .line-1 { stroke: var(--hue-1); }
.scrubber .line-2 { stroke: var(--hue-2); } .scrubber .line-3 { stroke: var(--hue-3); }
.scrubber .now { stroke-dasharray: 4 3; }
.scrubber .bars { fill: var(--hue-2); stroke: none; }
.scrubber .first { fill: currentColor; fill-opacity: 0.18; stroke: none; }
.scrubber .key { margin-right: 1.2rem; white-space: nowrap; }
.scrubber .key::before { content: ""; display: inline-block; width: 1.4em; height: 3px;
  margin-right: 0.4em; vertical-align: middle; background: var(--hue-0); }
.scrubber .key-1::before { background: var(--hue-1); } .scrubber .key-2::before { background: var(--hue-2); }
.scrubber .key-3::before { background: var(--hue-3); }
.scrubber-controls:not([hidden]) { display: flex; flex-wrap: wrap; gap: 0.6rem 1.2rem; align-items: center; }
.scrubber-controls label:first-of-type { flex: 1 1 240px; display: flex; gap: 0.6rem; }
.scrubber-controls input { flex: 1; min-width: 0; }
.scrubber-controls select { max-width: 100%; }
@media print { .scrubber-controls, .scrubber-now { display: none !important; } }
</style>
<div class="scrubber-panels">
<svg class="scrubber-time" viewBox="0 0 360 225" role="img" aria-label="$alt">
<g class="axes"><path d="M40 20V190H340"/>
<text x="34" y="24" text-anchor="end">1</text><text x="34" y="194" text-anchor="end">0</text>
<text x="40" y="206">$first</text><text x="340" y="206" text-anchor="end">$last</text>
<text x="190" y="218" text-anchor="middle">step</text></g>$still<path class="now" d=""/></svg>
<svg class="scrubber-spectrum" viewBox="0 0 360 225" role="img" aria-label="Singular values at the chosen step">
<g class="axes"><path d="M40 20V190H340"/><text class="top" x="34" y="24" text-anchor="end"></text>
<text x="34" y="194" text-anchor="end">0</text>
<text x="190" y="218" text-anchor="middle">index of the singular value, largest first</text></g>
<path class="first"/><path class="bars"/></svg>
</div>
<p class="scrubber-legend">$legend</p>
<div class="scrubber-controls" hidden>
<button type="button" aria-pressed="false">Play</button>
<label>Step <input type="range" min="0" value="0"></label>
<label>Matrix <select>$options</select></label>
</div>
<output class="scrubber-now" aria-live="polite"></output>
<noscript><p>The slider needs scripts; the curves above are the whole run.</p></noscript>
<figcaption>$caption</figcaption>
<script type="application/json">$data</script>
<script>
(function (root) {
  "use strict";
  const data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
  const find = (selector) => root.querySelector(selector);
  const slider = find("input"), matrix = find("select"), play = find("button");
  const last = data.steps.length - 1, names = Object.keys(data.lines);
  const x = (step) => 40 + 300 * (step - data.steps[0]) / Math.max(1, data.steps[last] - data.steps[0]);
  let timer = null;

  function outline(values, top) {
    const wide = 300 / values.length;
    return values.map((s, i) => {
      const y = 190 - 170 * s / top;
      return "M" + (40 + i * wide) + " 190V" + y + "h" + Math.max(0.8, wide * 0.82) + "V190Z";
    }).join("");
  }

  function show() {
    const i = Number(slider.value), spectra = data.spectra[matrix.value];
    const top = Math.max(...spectra.map((s) => s[0])) || 1;
    find(".now").setAttribute("d", "M" + x(data.steps[i]) + " 20V190");
    find(".bars").setAttribute("d", outline(spectra[i], top));
    find(".first").setAttribute("d", outline(spectra[0], top));
    find(".top").textContent = top.toPrecision(2);
    const said = "step " + data.steps[i] + ": " +
      names.map((name) => name + " " + (data.lines[name][i] ?? NaN).toFixed(2)).join(", ");
    find(".scrubber-now").textContent = said;
    slider.setAttribute("aria-valuetext", said);
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }

  play.addEventListener("click", () => {
    if (timer) { stop(); return; }
    if (Number(slider.value) === last) slider.value = 0;
    play.textContent = "Stop";
    play.setAttribute("aria-pressed", "true");
    timer = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      show();
      if (Number(slider.value) === last) stop();
    }, 80);
  });
  slider.max = last;
  slider.value = last;
  slider.addEventListener("input", () => { stop(); show(); });
  matrix.addEventListener("change", show);
  // who asked for less motion moves the slider; nothing moves by itself
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) play.hidden = true;
  find(".scrubber-controls").hidden = false;
  show();
})(document.currentScript.parentElement);
</script>
</figure>
""")
