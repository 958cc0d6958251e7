"""The plan of branches: the paper's at its own tier, and at each one that can be trained."""

import pytest

from specdyn.tasks import TIERS, branching, four_tasks


def test_the_paper_tier_branches_where_the_paper_does() -> None:
    plans = branching("paper")
    assert list(plans) == ["images", "generation", "speech", "language"]
    assert plans["images"].splits == (0, 70, 141, 211, 282, 352, 704, 1056, 1408, 1760)
    assert plans["images"].task == four_tasks("paper")["images"]
    assert [len(plan.orders) for plan in plans.values()] == [3] * 4


@pytest.mark.parametrize("tier", TIERS)
def test_an_epoch_of_images_is_as_long_as_their_training_data(tier: str) -> None:
    plan = branching(tier)["images"]
    assert plan.epoch == -(-plan.task.train_size // plan.task.batch_size)


@pytest.mark.parametrize("tier", TIERS)
def test_branches_part_before_training_ends_and_order_their_data_as_no_trunk_does(tier: str) -> None:
    for plan in branching(tier).values():
        assert plan.splits[0] == 0
        assert list(plan.splits) == sorted(set(plan.splits))
        assert max(plan.splits[-1], plan.path[-1]) < plan.task.steps
        assert list(plan.path) == sorted(set(plan.path))
        assert min(plan.orders) > 12, "the seed of a trunk that pages show"
