"""The claims of the TSKD paper that the studies test, in the words of the page "What reviewing does".

The texts have no numbers: every number on that page comes from a study's file.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and the study that tests the claim.

    Attributes:
        study: the name of the study.
        title: the claim as a question.
        paper: what the paper says, and what the paper does not show.
        asks: what the study compares, and on which data.
        matters: why the answer matters to a user.
        stays_open: what the study does not answer.
    """

    study: str
    title: str
    paper: str
    asks: str
    matters: str
    stays_open: str


CLAIMS = (
    Claim(
        "temporal",
        "Do features evolve in a predictable way?",
        "The paper predicts one neuron of a small network with an ARIMA model and shows that the curve fits. It names "
        "no other forecast, no error and no seeds.",
        "How well does ARIMA predict the values of the next epochs, compared with simple forecasts: the last value "
        "(persistence), a line from the first to the last value (drift), the latest slope (local slope), and a slope "
        "that fades out (damped trend)? The networks and their data are named in the table.",
        "A review predicts the next increment of feature maps. If a simple forecast is as good as ARIMA, the features "
        "only relax smoothly, and no extractor can find more than that. If no forecast beats persistence on attention "
        "maps, the sequence has nothing to predict.",
        "Whether large networks on large data sets behave like these small ones.",
    ),
    Claim(
        "extractor",
        "Does the ConvLSTM use the order in time?",
        "The paper says that the ConvLSTM extracts spatiotemporal features. It compares with no other extractor, and "
        "not with a sequence in another order.",
        "How much of the next map does each extractor predict on held-out sequences whose structure is known, such as "
        "a moving blob and noise, and on sequences of real trainings? How much is lost if the order is reversed or "
        "shuffled?",
        "An extractor that predicts as well from a shuffled sequence uses no order in time. Then a simpler and cheaper "
        "extractor does the same work.",
        "Whether an extractor that predicts better also makes a better student: `tskd-tune sweep ablate_extractor` "
        "trains students with each extractor.",
    ),
    Claim(
        "overhead",
        "What does reviewing cost?",
        "The paper gives no costs.",
        "How many seconds, operations and bytes does a review need, by the number of snapshots, the interval between "
        "snapshots and the width of the extractor, measured and predicted, beside other methods of distillation?",
        "The same seconds can train the student for longer, or with another method.",
        "The costs on a GPU, and on your machine: run the study there. Seconds depend on the machine and on what else "
        "runs on it; operations and bytes do not.",
    ),
    Claim(
        "target",
        "Is a target that moves better than a fixed one?",
        "The paper says that its dynamic target, the gap between teacher and student, teaches better than the "
        "teacher's maps alone. It does not compare the two.",
        "How good are students with the gap as the target, with the teacher's maps as the target, and with the "
        "prediction multiplied by factors down to zero, at the same number of reviews and with the same seeds?",
        "Without the prediction, a review is attention transfer in the review epochs, which needs no snapshots and no "
        "extractor. If its students are as good, the snapshots and the extractor add nothing.",
        "The effect on your own data. `controls: true` adds the same comparisons to any sweep.",
    ),
)
