"""The extractors: the paper's ConvLSTM, and rivals to compare with it; one file each."""

from tskd_tune.method.extractors.base import EXTRACTORS, Extractor, ExtractorSite, OddInt, build_extractors
from tskd_tune.method.extractors.conv3d import Conv3d
from tskd_tune.method.extractors.conv_gru import ConvGRU
from tskd_tune.method.extractors.conv_lstm import ConvLSTM
from tskd_tune.method.extractors.last_step import LastStep
from tskd_tune.method.extractors.linear import Linear
from tskd_tune.method.extractors.mean import Mean
from tskd_tune.method.extractors.pixel_ar import PixelAR
from tskd_tune.method.extractors.temporal_attention import TemporalAttention

__all__ = [
    "EXTRACTORS",
    "Conv3d",
    "ConvGRU",
    "ConvLSTM",
    "Extractor",
    "ExtractorSite",
    "LastStep",
    "Linear",
    "Mean",
    "OddInt",
    "PixelAR",
    "TemporalAttention",
    "build_extractors",
]
