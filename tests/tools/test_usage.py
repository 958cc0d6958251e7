"""What is asked wrongly gets one line with the cure, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from filelock import FileLock

from tools.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tier", "desktop"], "there is no tier 'desktop': choose smoke, laptop, gpu, paper"),
        (["--chapter", "groking"], "there is no chapter 'groking': the book has small, other"),
        (["--seeds", ""], "seeds are whole numbers with commas between, such as 10,11,12, not ''"),
        (["--seeds", "10,x"], "not '10,x'"),
        (["--seeds", "10,1.5"], "not '10,1.5'"),
        (["--seeds", "10,10"], "seeds are different numbers"),
        (["--seeds=-1"], "from 0 on"),
        (["--device", "tpu"], "there is no device 'tpu': choose auto, cpu or cuda"),
    ],
)
def test_a_wrong_question(small: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(["book", *arguments]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_gpu_that_is_not_there(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["book", "--device", "cuda", "--chapter", "other"]) == 2
    assert capsys.readouterr().err == (
        "error: CUDA was asked for and PyTorch finds none: choose the device cpu or auto\n"
    )


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "_toc.yml").write_text((small / "_toc.yml").read_text())
    (tmp_path / "_config.yml").touch()
    (tmp_path / "_build").write_text("a file where a folder should be")
    monkeypatch.chdir(tmp_path)
    assert main(["book"]) == 2
    assert "_build cannot be written" in capsys.readouterr().err


def test_two_builds_at_once(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(small / "_build" / ".lock"):
        assert main(["book", "--tier", "smoke"]) == 2
    assert capsys.readouterr().err == "error: another build is at work in this folder: wait until it is done\n"


def test_a_folder_without_a_book(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["book"]) == 2
    assert "there is no _toc.yml here" in capsys.readouterr().err
    assert not (tmp_path / "_build").exists()


@pytest.mark.parametrize(("content", "words"), [("root: [index", "is not YAML"), ("", "names no pages")])
def test_a_broken_table_of_contents(small: Path, capsys: pytest.CaptureFixture[str], content: str, words: str) -> None:
    (small / "_toc.yml").write_text(content)
    assert main(["book"]) == 2
    message = capsys.readouterr().err
    assert f"_toc.yml {words}" in message
    assert message.count("\n") == 1
