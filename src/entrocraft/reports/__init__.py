"""Words and pictures: what people read of runs, evaluations, diagnoses and explanations."""
