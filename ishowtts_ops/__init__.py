"""ishowtts-ops: a fast, supervised text-to-speech box out of a Jetson Orin."""

__version__ = "0.1.0"
