"""The commands that train: ``train``, ``sweep``, ``extend``, ``confirm``, ``resume`` and ``submit``."""
