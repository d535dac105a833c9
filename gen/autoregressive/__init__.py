"""Autoregressive models over maps of codes: PixelSNAIL, its training, its cached sampler and the check of its draws."""
