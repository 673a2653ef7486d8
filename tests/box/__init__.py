"""Tests that boot real systemd in a container that is a simulated Jetson."""
