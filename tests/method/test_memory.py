from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from tskd_tune.contracts import Classified, Features
from tskd_tune.errors import RunError
from tskd_tune.method.memory import Frozen, Memory
from tskd_tune.networks import NETWORKS


class Net(nn.Module):
    def __init__(self, channels=3):
        super().__init__()
        self.conv = nn.Conv2d(1, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(channels, 2)

    def forward(self, images):
        before = self.norm(self.conv(images))
        after = self.drop(before.relu())
        pooled = after.mean((2, 3))
        return Classified(self.head(pooled), {"stage1": after}, {"stage1": before}, pooled)


def net(seed=0, channels=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net(channels)


def images(seed=0):
    return 2 + torch.randn(4, 1, 5, 5, generator=torch.Generator().manual_seed(seed))


def logits(outputs):
    return [output.logits for output in outputs]


def test_frozen_takes_no_gradient_and_stays_asleep():
    network, x = net(), images()
    frozen = Frozen(network)
    before = frozen(x).logits
    frozen.train()
    nn.Sequential(frozen).train()
    assert not frozen.training
    assert not any(module.training for module in frozen.modules())
    assert torch.equal(frozen(x).logits, before)
    assert not frozen(x.requires_grad_()).logits.requires_grad
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    # Eval mode: a sample knows nothing of its batch, but for the rounding of kernels that suit the batch's size.
    torch.testing.assert_close(frozen(x[:1]).logits, frozen(x).logits[:1], rtol=1e-5, atol=1e-6)


def test_frozen_copies_unless_told_to_take():
    network = net().train()
    frozen = Frozen(network)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    with torch.no_grad():
        network.conv.weight.zero_()
    assert frozen.network.conv.weight.any()
    taken = Frozen(network, True)
    assert taken.network is network
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_batch_norms_in_train_mode():
    frozen, x = Frozen(net(), batch_norm="train"), images()
    frozen.eval()
    assert frozen.network.norm.training
    assert not frozen.network.drop.training
    mean = frozen.network.norm.running_mean.clone()
    normalized = frozen(x).preactivations["stage1"]
    torch.testing.assert_close(normalized.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert not torch.equal(frozen.network.norm.running_mean, mean)
    still = Frozen(net())
    assert still(x).preactivations["stage1"].mean((0, 2, 3)).abs().max() > 0.1
    assert torch.equal(still.network.norm.running_mean, mean)


def test_the_last_k_oldest_first():
    memory, x = Memory(3), images()
    for seed in range(5):
        assert (len(memory), memory.full) == (min(seed, 3), seed >= 3)
        memory.memorize(net(seed))
    found = logits(memory.recall(x))
    expected = [Frozen(net(seed))(x).logits for seed in (2, 3, 4)]
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert memory.memorized == 5


def test_a_slot_is_allocated_once_and_shifts_by_copying():
    memory = Memory(2)
    places = []
    for seed in range(5):
        memory.memorize(net(seed))
        places.append([parameter.data_ptr() for parameter in memory.parameters()])
    assert places[1] == places[2] == places[4]


def test_a_snapshot_may_be_taken_before_it_is_kept():
    memory, student, x = Memory(1), net(), images()
    for number in range(3):
        before = Frozen(student)(x).logits
        memory.prepare(student)
        with torch.no_grad():
            student.conv.weight.add_(1)
        assert len(memory) == min(number, 1)
        memory.memorize(student)
        assert torch.equal(logits(memory.recall(x))[0], before)
    memory.memorize(student)
    assert torch.equal(logits(memory.recall(x))[0], Frozen(student)(x).logits), "a prepared copy is kept once"


def test_a_prepared_snapshot_outlives_a_resume():
    memory, student, x = Memory(1), net(), images()
    memory.prepare(student)
    resumed = Memory(1)
    resumed.restore(memory.snapshot_state(), net(5))
    for one in (memory, resumed):
        one.memorize(net(9))
    assert torch.equal(logits(resumed.recall(x))[0], logits(memory.recall(x))[0])
    assert "pending" not in resumed.snapshot_state()


def test_a_snapshot_outlives_the_student():
    memory, student, x = Memory(1), net(), images()
    memory.memorize(student)
    before = logits(memory.recall(x))[0]
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    assert torch.equal(logits(memory.recall(x))[0], before)
    assert not torch.equal(Frozen(student)(x).logits, before)


def test_nothing_in_the_memory_is_trainable():
    memory = Memory(2)
    memory.memorize(net())
    memory.memorize(net(1))
    memory.train()
    assert list(memory.parameters())
    assert not any(parameter.requires_grad for parameter in memory.parameters())
    assert not any(output.logits.requires_grad for output in memory.recall(images()))


def test_an_early_recall_is_refused():
    memory = Memory(3)
    memory.memorize(net())
    with pytest.raises(RunError, match="the memory holds 1 of 3 snapshots; memorize 3 epochs"):
        memory.recall(images())


def test_random_memories():
    asked = []

    def untrained(index):
        asked.append(index)
        return net(100 + index)

    memory, x = Memory(2, untrained), images()
    for seed in range(3):
        memory.memorize(net(seed))
    assert asked == [0, 1, 2]
    expected = [Frozen(net(seed))(x).logits for seed in (101, 102)]
    assert all(torch.equal(*pair) for pair in zip(logits(memory.recall(x)), expected, strict=True))


@pytest.mark.parametrize("memorized", [0, 1, 2, 5])
@pytest.mark.parametrize("batch_norm", ["eval", "train"])
def test_a_resume_is_exact(memorized, batch_norm):
    memory, template, x = Memory(2, batch_norm=batch_norm), net(9), images()
    for seed in range(memorized):
        memory.memorize(net(seed))
    if memory.full:
        memory.recall(x)  # which moves the statistics of batch norms in train mode
    file = io.BytesIO()
    torch.save(memory.snapshot_state(), file)
    file.seek(0)
    asked = []
    resumed = Memory(2, lambda index: asked.append(index) or net(index), batch_norm=batch_norm)
    resumed.restore(torch.load(file, weights_only=True), template)
    assert (len(resumed), resumed.memorized) == (len(memory), memorized)
    for ours, theirs in zip(memory.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(memory.buffers(), resumed.buffers(), strict=True):
        assert torch.equal(ours, theirs)
    if memory.full:
        again = zip(logits(memory.recall(x)), logits(resumed.recall(x)), strict=True)
        assert all(torch.equal(*pair) for pair in again)
    resumed.memorize(net())
    assert asked == [memorized], "the count of replacements goes on"


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing():
    memory = Memory(2)
    memory.memorize(net())
    memory.memorize(net(1))
    other = Memory(3)
    other.memorize(net(5))
    kept = logits([other._slots[0](images())])[0]
    with pytest.raises(RunError, match="holds 2 snapshots of 7 memorized ones, which does not fit k = 3"):
        other.restore({**memory.snapshot_state(), "memorized": 7}, net())
    with pytest.raises(
        RunError, match=r"does not fit the student \(size mismatch for conv.weight: .*\[4, 1, 3, 3\]\)\); resume"
    ):
        other.restore(memory.snapshot_state(), net(channels=4))
    assert (len(other), other.memorized) == (1, 1)
    assert torch.equal(other._slots[0](images()).logits, kept)


@pytest.mark.parametrize("batch_norm", ["eval", "train"])
def test_a_memory_ends_at_the_last_tap_where_the_bits_of_all_states_stay_the_same(batch_norm):
    """Heads with batch norms that go on updating their statistics are computed, so that a checkpoint has the same."""
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network = NETWORKS.build("shufflenet_v2", 2)
    memory, frozen = Memory(1, batch_norm=batch_norm), Frozen(network, batch_norm=batch_norm)
    memory.memorize(network)
    (found,), whole = memory.recall(x), frozen(x)
    assert isinstance(found, Features) == (batch_norm == "eval") and isinstance(whole, Classified)
    assert all(torch.equal(found.features[stage], map_) for stage, map_ in whole.features.items())
    state = frozen.network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in memory.snapshot_state()["snapshots"][0].items())
