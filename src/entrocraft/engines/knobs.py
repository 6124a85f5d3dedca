"""How the knobs that a decision turns get to where a framework computes its loss: beside the batch, in own fields."""

KNOB_FIELDS = {name: f"entrocraft_{name}" for name in ("entropy_coef", "clip_low", "clip_high", "learning_rate")}
"""By knob: the field of a batch, or the setting beside it, that holds its value."""
