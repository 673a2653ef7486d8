"""The inference daemon: text comes in over HTTP, speech goes out, one thread owns the model."""
