"""The page: draw the curve, watch it being followed, compare runs, explain a step.

A server that reads run directories and starts the command line; it keeps nothing else and never loads torch.

server      the address, the token, and what ends when the server ends
gate        who may ask: the one check before every route
routes      what may be asked
library     the runs and studies that there are, by name
book        what a run has recorded, column by column
events      news of runs, told to all viewers at once
launch      training, as a child process
widget      the editor alone, in a notebook
"""
