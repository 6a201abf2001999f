"""The study ``target``: dynamic or static, attached or detached, for increments and feature maps."""
