"""The models, one file each, with one alphabet for every shape comment.

B batch, N rows, C features (columns after encoding) or channels, D width of a hidden layer or of a head,
L layers, K members of a stack, O outputs, P parameters; T target length, S source length, H heads,
V vocabulary, F frames, `h w` pixels.
"""
