"""The heart: where entropy should be, and what each update may learn from so that it gets there. Knows no engine.

settings      EntropyControl: what a user says
course        band + pace + guard + first entropy -> the Goal of each decision
methods/      one module each: Batch and Goal -> Decision
planning/     how entropy answers to what is kept, and how much to leave out
surrogate     what a method sees of a mini-batch, and asks of its loss
controller    a course and a method together
signals       what a method may ask an engine for
capabilities  what an engine can carry out, held against what a method asks
steering      the file that bends a running job's curve
"""

from entrocraft.control.settings import EntropyControl

__all__ = ["EntropyControl"]
