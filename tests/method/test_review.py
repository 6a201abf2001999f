from __future__ import annotations

import pytest
import torch

from tskd_tune.contracts import Classified, Shapes
from tskd_tune.errors import InputError
from tskd_tune.method.extractors import EXTRACTORS, build_extractors
from tskd_tune.method.review import ReviewLoss
from tskd_tune.method.sequences import KnowledgeSequence, Target
from tskd_tune.method.taps import Taps
from tskd_tune.method.transforms import Attention

torch.set_num_threads(1)
SIZES = {"stem": 8, "stage1": 8, "stage2": 4}
K = 3


def output(seed, channels=2, gradient=False):
    generator = torch.Generator().manual_seed(seed)
    features = {
        name: torch.randn(2, channels, size, size, generator=generator, dtype=torch.float64).requires_grad_(gradient)
        for name, size in SIZES.items()
    }
    return Classified(torch.zeros(2, 3), features, {}, torch.zeros(2, channels))


def review(  # one review of every part's default, but for what is given
    seed=0, sequence=None, target=None, extractor="conv_lstm", share=False, **options
):
    shapes = Shapes.of(output(0))
    taps = Taps(shapes, shapes)
    made_sequence = KnowledgeSequence(**(sequence or {}))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        extractors = build_extractors(
            lambda site: EXTRACTORS.build(extractor, site).double(), made_sequence.steps(K), taps.sites, share=share
        )
    return ReviewLoss(taps, Attention(), made_sequence, Target(**(target or {})), extractors, **options)


STUDENT, TEACHER, PAST = output(1), output(2, channels=5), [output(3 + i) for i in range(K)]


def attention(features):
    powers = features.square().sum(1)
    return powers / powers.square().sum((1, 2), keepdim=True).sqrt()


def at_by_hand(student, teacher):
    names = ("stage1", "stage2")
    return sum((attention(student.features[n]) - attention(teacher.features[n])).square().mean() for n in names)


def gradients(loss, student):
    return torch.autograd.grad(loss, [student.features["stage1"], student.features["stage2"]], allow_unused=True)


def by_hand(found):
    """Eq. 4 to 8 of the defaults, tap by tap; returns the losses ``[taps, B, H, W]`` as a list, and the gaps."""
    squares, gaps = [], []
    for tap, name in enumerate(("stage1", "stage2")):
        maps = [attention(memory.features[name]) for memory in PAST] + [attention(STUDENT.features[name])]
        sequence = torch.stack([(maps[i] - maps[i + 1]).abs() for i in range(K)]).unsqueeze(2)
        gap = (attention(TEACHER.features[name]) - maps[-1]).abs()
        squares.append((found.extractors[tap](sequence)[:, 0] - gap) ** 2)
        gaps.append(gap.mean())
    return squares, gaps


def test_the_loss_against_its_equations():
    found = review()
    terms = found(STUDENT, TEACHER, PAST)
    (first, second), gaps = by_hand(found)
    torch.testing.assert_close(terms.loss, first.mean() + second.mean())
    torch.testing.assert_close(terms.teacher_gap, (gaps[0] + gaps[1]) / 2)
    assert terms.loss.shape == terms.teacher_gap.shape == ()


def test_reductions():
    (first, second), _ = by_hand(review())
    means = review(tap_reduction="mean")(STUDENT, TEACHER, PAST).loss
    torch.testing.assert_close(means, (first.mean() + second.mean()) / 2)
    sums = review(reduction="sum")(STUDENT, TEACHER, PAST).loss
    torch.testing.assert_close(sums, first.sum() / 2 + second.sum() / 2)


@pytest.mark.parametrize("sequence", [{}, {"sequence": "feature_map"}])
@pytest.mark.parametrize("extractor", EXTRACTORS.names())
def test_a_prediction_scale_of_zero_is_attention_transfer(sequence, extractor):
    student = output(1, gradient=True)
    found = review(sequence=sequence, extractor=extractor, target={"prediction_scale": 0.0})
    loss, expected = found(student, TEACHER, PAST).loss, at_by_hand(student, TEACHER)
    torch.testing.assert_close(loss, expected, rtol=1e-14, atol=0)
    for ours, theirs in zip(gradients(loss, student), gradients(expected, student), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-17)


def test_gradients_flow_into_the_student_and_the_extractors_only():
    student, teacher = output(1, gradient=True), output(2, channels=5, gradient=True)
    past = [output(3 + i, gradient=True) for i in range(K)]
    found = review()
    terms = found(student, teacher, past)
    assert not terms.teacher_gap.requires_grad
    terms.loss.backward()
    assert all(student.features[name].grad.abs().sum() > 0 for name in ("stage1", "stage2"))
    assert student.features["stem"].grad is None
    assert all(parameter.grad is not None for parameter in found.parameters())
    for other in (teacher, *past):
        assert all(map_.grad is None for map_ in other.features.values())


def test_the_two_paths_of_the_students_gradient():
    student = output(1, gradient=True)

    def gradient(sequence, target):
        loss = review(sequence={"sequence_gradient": sequence}, target={"gradient": target})(student, TEACHER, PAST)
        return gradients(loss.loss, student)

    both, by_target, by_sequence = (
        gradient(*modes) for modes in (("attach", "attach"), ("detach", "attach"), ("attach", "detach"))
    )
    for whole, first, second in zip(both, by_target, by_sequence, strict=True):
        assert first.abs().sum() > 0
        assert second.abs().sum() > 0
        torch.testing.assert_close(whole, first + second)
    neither = review(sequence={"sequence_gradient": "detach"}, target={"gradient": "detach"})
    loss = neither(student, TEACHER, PAST).loss
    assert gradients(loss, student) == (None, None)
    assert loss.requires_grad, "the extractors still learn"


def test_a_sequence_of_zeros_hears_nothing_of_the_past():
    found = review(sequence={"sequence_order": "zeros"})
    others = [output(30 + i) for i in range(K)]
    assert torch.equal(found(STUDENT, TEACHER, PAST).loss, found(STUDENT, TEACHER, others).loss)
    assert not torch.equal(review()(STUDENT, TEACHER, PAST).loss, review()(STUDENT, TEACHER, others).loss)


def test_shuffling_takes_its_order_from_the_generator():
    found = review(sequence={"sequence_order": "shuffled"})
    losses = {
        found(STUDENT, TEACHER, PAST, torch.Generator().manual_seed(seed)).loss.item() for seed in (1, 1, 2, 3, 4)
    }
    assert 1 < len(losses) < 5


def test_shared_extractors():
    found = review(share=True)
    assert len(found.extractors) == 1
    assert len(list(found.parameters())) * 2 == len(list(review().parameters()))
    assert found(STUDENT, TEACHER, PAST).loss > 0


def test_the_number_of_extractors():
    shapes = Shapes.of(output(0))
    taps = Taps(shapes, shapes, layers=["stem", "stage1", "stage2"])
    extractors = list(review().extractors)
    with pytest.raises(InputError, match="2 extractors for 3 taps; give one per tap, or one"):
        ReviewLoss(taps, Attention(), KnowledgeSequence(), Target(), extractors)


def test_the_loss_is_wide_under_autocast():
    found = review().float()
    narrow = [
        Classified(o.logits, {name: map_.float() for name, map_ in o.features.items()}, {}, o.embedding)
        for o in (STUDENT, TEACHER, *PAST)
    ]
    plain = found(narrow[0], narrow[1], narrow[2:])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = found(narrow[0], narrow[1], narrow[2:])
    assert terms.loss.dtype == terms.teacher_gap.dtype == torch.float32
    assert torch.equal(terms.teacher_gap, plain.teacher_gap)
    torch.testing.assert_close(terms.loss, plain.loss, rtol=0.05, atol=0)


def test_the_loss_draws_no_random_numbers():
    found, before = review(), torch.random.get_rng_state()
    found(STUDENT, TEACHER, PAST)
    assert torch.equal(torch.random.get_rng_state(), before)
