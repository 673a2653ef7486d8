"""A simulated Jetson: a root tree that looks like an Orin box, and stand-ins for NVIDIA's tools.

Nothing of it is NVIDIA's: the files are written here, from documented behaviour. A simulated box
carries `/etc/ishowtts-sim.json`, which says so.
"""
