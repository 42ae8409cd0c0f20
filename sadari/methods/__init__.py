"""Methods that cut across the ladders and never fork the loop: each maps a model, a task or data to another.

lora.py             a model to one that learns low-rank changes of its matrices
distill.py          a task to one that is taught by a teacher
across.py           a contrast to one over the pairs of all processes
gradient_cache.py   a contrast to one over more pairs than a network holds at once
"""
