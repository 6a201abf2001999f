"""Feature maps -> the maps on which a review compares networks (TSKD, Eq. 10), one transform a file."""

from tskd_tune.method.transforms.attention import Attention
from tskd_tune.method.transforms.base import TRANSFORMS, Transform
from tskd_tune.method.transforms.channels import Channels
from tskd_tune.method.transforms.principal_components import PrincipalComponents

__all__ = ["TRANSFORMS", "Attention", "Channels", "PrincipalComponents", "Transform"]
