"""The probe reports what the task says of its test data, at every snapshot, and changes nothing else."""

import numpy as np
import pytest
import torch

import specdyn as sd
from specdyn.training import OnTestData, Run


@pytest.fixture
def run() -> Run:
    return sd.train(sd.tasks.noisy_labels("smoke"), 0, probe=OnTestData(), keep=[8], progress=False)


def test_it_reports_the_quality_of_the_network_at_that_step(run: Run) -> None:
    data = run.task.data(0, torch.device("cpu"))
    model = run.model(8)
    with torch.no_grad():
        images = data.prepared(data.test)
        wrong = model(images).argmax(dim=1) != data.test_labels
    place = list(run.recording.steps).index(8)
    assert run.recording.metrics["test_error"][place] == pytest.approx(float(wrong.double().mean()))


def test_the_run_is_the_one_without_it(run: Run) -> None:
    plain = sd.train(run.task, 0, progress=False).recording
    np.testing.assert_array_equal(plain.metrics["train_loss"], run.recording.metrics["train_loss"])
    assert not [name for name in plain.metrics if name.startswith("test")]


def test_a_task_without_test_data_is_named() -> None:
    with pytest.raises(TypeError, match="modular-addition has no test data"):
        sd.train(sd.tasks.modular_addition("smoke"), 0, probe=OnTestData(), progress=False)
