"""This series against upstream's own code, on one machine, in turns: `python -m
f5_tts.fast.compare`.

Every side is a process of its own with its own tree of sources: `ours` this one, `upstream` an
unpatched one, `upstream-compiled` the same with `torch.compile(transformer)`. They have the same
weights, references, texts and lengths, and speak in turns, so that heat, clocks and a busy host
meet all of them alike.
"""
