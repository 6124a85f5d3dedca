"""How the knobs that a decision turns get to where a framework computes its loss: beside the batch, in own fields."""

KNOB_FIELDS = {"entropy_coef": "entrocraft_entropy_coef", "clip_high": "entrocraft_clip_high"}
"""By knob: the field of a batch, or the setting beside it, that holds its value."""
