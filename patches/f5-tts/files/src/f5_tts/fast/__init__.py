"""Fast inference for F5-TTS: the same model, restructured.

Nothing here trains, downloads or imports upstream's modules at import time. The parts:

- `switches`     one environment variable per optimisation
- `reference`    voices cached by content, never by object identity
- `text`         tokens, chunks with a hard cap, predicted durations
- `schedule`     ODE time points and the modulation that depends on nothing else
- `arch`, `weights`   the network's sizes and its parameters, folded for inference
- `ops`, `attention`, `kernels`   the arithmetic, in plain torch and as fused CUDA kernels
- `nvrtc`, `trial`   kernels compiled, kept and launched; and held against plain torch before use
- `gemm`, `conv`, `hopper_layers`   products and convolution of Hopper with what follows them
- `step`, `embed`, `plan`         one ODE step, what precedes it, and both in CUDA graphs
- `vocoder`      Vocos and its inverse STFT without a host synchronisation
- `synthesizer`  the public interface
- `bridge`       the same speed behind upstream's `infer_batch_process`
- `verify`       proof on a box that all of it is really on
"""
