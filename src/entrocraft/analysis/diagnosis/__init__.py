"""What entropy control would meet on a model and a task, before anything is trained.

Rollouts are sampled and scored once, one pass gives their logits, and everything else follows from that: where
entropy starts and how noisily one batch reads it, which rules would see the sign of an update's effect, and
so which settings to begin with.
"""

from entrocraft.analysis.diagnosis.diagnosis import Diagnosis, diagnose, diagnosis_of

__all__ = ["Diagnosis", "diagnose", "diagnosis_of"]
