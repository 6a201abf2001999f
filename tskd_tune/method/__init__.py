"""TSKD as mathematics: tensors in, tensors out; no files, no loop, no config.

This package imports none of its modules, so that the review plan can be drawn without torch.
"""
