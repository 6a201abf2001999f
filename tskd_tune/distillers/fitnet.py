"""FitNets: a regressor on the student's features of one stage predicts the teacher's features (Romero et al., 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional

from tskd_tune.contracts import AnyBatch, Output, Probe, exact
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.padded import inside_of, mean_square, normed, zeroed
from tskd_tune.distillers.stages import require_stage
from tskd_tune.errors import InputError
from tskd_tune.method.padding import Padding

MapShape = tuple[int, ...]


@DISTILLERS.register(
    "fitnet",
    source="Romero et al. 2015, arXiv 1412.6550, equation 3; joint training, regressor, weight of RepDistiller",
)
class FitNet(Distiller[Output]):
    """The mean squared difference between the student's regressed features and the teacher's, at one stage.

    The paper first trains the hint and then the task. Here, as in later comparisons, both are trained together. The
    regressor is a convolution with a batch norm and a ReLU. Its kernel follows from the two sizes: 3x3 with stride 2
    where the student's map is twice as large, a transposed 4x4 with stride 2 where it is half as large, and ``1 +
    difference`` without padding where it is otherwise no smaller.

    Of images of different sizes the padding counts neither in the batch norm nor in the mean, which is then the mean
    over the images of each image's mean.
    """

    needs = frozenset({Need.FEATURES})
    in_pieces = True
    masks = True

    def __init__(
        self,
        probe: Probe,
        *,
        stage: str = "stage2",
        activation: Literal["relu", "none"] = "relu",
        weight: NonNegativeFloat = 100.0,
    ) -> None:
        """Set the hint stage, which both networks must have, the end of the regressor and the loss weight.

        Args:
            stage: the stage, of both networks, whose features are regressed, such as stage2; or a level of a detector's
                pyramid, such as fpn1.
            activation: the end of the regressor: ``relu``, for features that are never negative; ``none``, for signed
                ones, such as the levels of a pyramid.
            weight: weight of the hint loss.

        Raises:
            InputError: a network lacks the stage, or the student's map is smaller than the teacher's but not half.
        """
        super().__init__()
        require_stage(probe, stage, "fitnet")
        given, wanted = probe.student.features[stage], probe.teacher.features[stage]
        self.regressor = nn.Sequential(
            _convolution(stage, given, wanted, probe.varying),
            nn.BatchNorm2d(wanted[0]),
            nn.ReLU(inplace=True) if activation == "relu" else nn.Identity(),
        )
        self.stage = stage
        self.weight = weight

    def forward(self, student: Output, teacher: Output, batch: AnyBatch) -> Mapping[str, Tensor]:
        """Return ``{"fitnet": ...}`` from the stage's features ``[B, C, H, W]``."""
        given, wanted, padding = student.features[self.stage], exact(teacher.features[self.stage]), Padding.of(batch)
        inside = inside_of(wanted, padding)
        if inside is None:
            return {"fitnet": self.weight * functional.mse_loss(exact(self.regressor(given)), wanted)}
        convolution, norm, activation = self.regressor
        guess = activation(normed(norm, convolution(zeroed(given, inside_of(given, padding))), inside))
        return {"fitnet": self.weight * mean_square(exact(guess) - wanted, inside)}


def _convolution(stage: str, given: MapShape, wanted: MapShape, varying: bool) -> nn.Module:
    """Return the module that maps ``[C_s, H_s, W_s]`` to ``[C_t, H_t, W_t]``, examples of sizes if these vary."""
    channels, target = (given[0], wanted[0]), wanted[1:]
    if given[1:] == tuple(2 * side for side in target):
        return nn.Conv2d(*channels, 3, stride=2, padding=1)
    if tuple(2 * side for side in given[1:]) == target:
        return nn.ConvTranspose2d(*channels, 4, stride=2, padding=1)
    if given[1] < wanted[1] or given[2] < wanted[2]:
        raise InputError(
            f"distiller: 'fitnet' cannot regress '{stage}' of {given[1]}x{given[2]} pixels in the student to"
            f" {wanted[1]}x{wanted[2]} in the teacher, but the teacher's map must be of equal size, smaller, or twice"
            " as large; choose another stage, or 'vid' or 'at', which pool the larger map"
        )
    if varying and given != (given[0], *target):
        raise InputError(
            f"distiller: 'fitnet' cannot regress '{stage}' for images of different sizes, with {given[1]}x{given[2]}"
            f" cells in the student and {wanted[1]}x{wanted[2]} in the teacher; choose a stage of equal size, twice it"
            " or half it, or review_kd, which resizes"
        )
    return nn.Conv2d(*channels, (1 + given[1] - wanted[1], 1 + given[2] - wanted[2]))
