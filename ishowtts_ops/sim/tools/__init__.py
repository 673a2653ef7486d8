"""Stand-ins for NVIDIA's tools and, for boxes in a folder, for systemd's.

None of this is NVIDIA's or systemd's software. The modules are copied into a simulated box, below
`/usr/lib/ishowtts-sim/standin_tools`, with a small launcher under the tool's name; there they run
as programs of the box and need the standard library only. They see the box at `$ISHOWTTS_BOX_ROOT`
(`/` when it is not set, which is how they run in a container that *is* the simulated box).
"""
