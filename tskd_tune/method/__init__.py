"""TSKD as mathematics: tensors in, tensors out; no files, no loop, no config.

Importing the package registers the transforms and the extractors.
"""

from tskd_tune.method import conv_lstm as conv_lstm
from tskd_tune.method import extractors as extractors
from tskd_tune.method import transforms as transforms
