"""Claims: verdicts follow from the seeds, words are the same everywhere, numbers stay out of the words."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import specdyn as sd


def judged(holds: list[bool], **options: object) -> sd.show.Claim:
    settings = {"tier": "laptop", "task": "toy", "measured": {}, **options}
    return sd.claim("C0.0", "A statement", holds=holds, **settings)


@pytest.mark.parametrize(
    ("holds", "options", "sentence"),
    [
        ([True, True, True], {}, "holds: in 3 of 3 seeds"),
        ([True, False, True], {}, "holds in part: in 2 of 3 seeds"),
        ([False, False, False], {}, "does not hold here: in 0 of 3 seeds"),
        ([True, True, True], {"tier": "smoke"}, "not judged at this tier: the smoke tier only tests the code"),
        ([True, True], {}, "not judged at this tier: fewer than 3 seeds"),
        ([True] * 3, {"not_judged": "no such setting"}, "not judged at this tier: no such setting"),
        ([False] * 3, {"interpretation": True}, "interpretation: the paper offers it as a reading"),
    ],
)
def test_the_verdict_follows_from_the_seeds(holds: list[bool], options: dict[str, object], sentence: str) -> None:
    claim = judged(holds, **options)
    assert claim.sentence == sentence
    assert claim.verdict == sentence.split(":")[0]


def test_the_ledger_has_exactly_its_keys_and_plain_numbers() -> None:
    claim = judged(
        [np.True_, np.False_, True],
        measured={"array": np.array([0.123456, np.nan, 1e-9]), "number": np.float32(2)},
        chance=1 / 3,
    )
    _, metadata = claim._repr_mimebundle_()
    ledger = metadata["specdyn"]["claim"]
    assert set(ledger) == {"id", "task", "tier", "statement", "holds", "verdict", "measured", "chance"}
    again = json.loads(json.dumps(ledger, allow_nan=False))
    assert again["measured"] == {"array": [0.1235, None, 1e-9], "number": 2.0}
    assert again["holds"] == [True, False, True]
    assert again["chance"] == 0.3333


def test_words_hold_no_measured_number_and_are_safe_html() -> None:
    one = judged([True] * 3, measured={"x": [0.7512, 0.1, 0.2]})
    two = judged([True] * 3, measured={"x": [0.9923, 0.3, 0.4]})
    assert one._repr_mimebundle_()[0] == two._repr_mimebundle_()[0]
    claim = sd.claim("C1", "a < b & c", holds=[True], tier="laptop", task="toy", measured={"x": math.pi})
    html = claim._repr_mimebundle_()[0]["text/html"]
    assert "a &lt; b &amp; c" in html
    assert not re.search(r"\d\.\d", html)


def test_a_claim_tested_on_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"C0\.0 was tested on no seed"):
        judged([])


def test_the_ledger_has_what_the_build_left_and_is_empty_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_toc.yml").touch()
    monkeypatch.chdir(tmp_path)
    assert sd.show.ledger().empty
    entry = judged([True, False, True], chance=0.5, measured={"rank": [0.1, 0.2, 0.3]})._repr_mimebundle_()[1]
    (tmp_path / "_build").mkdir()
    (tmp_path / "_build" / "claims.json").write_text(json.dumps([entry["specdyn"]["claim"] | {"chapter": "a/page"}]))
    found = sd.show.ledger()
    assert list(found.columns) == [
        "id",
        "task",
        "tier",
        "statement",
        "holds",
        "verdict",
        "measured",
        "chance",
        "chapter",
    ]
    assert found.loc[0, "holds"] == [True, False, True]
    assert found.loc[0, "measured"] == {"rank": [0.1, 0.2, 0.3]}
    assert (found.loc[0, "chapter"], found.loc[0, "chance"]) == ("a/page", 0.5)
