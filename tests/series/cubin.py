"""What a compiled kernel needs of a multiprocessor, read from its machine code (an ELF file)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

# Notes of `.nv.info`, as NVIDIA's own tools print them: EIATTR_FRAME_SIZE, EIATTR_REGCOUNT.
_FRAME_SIZE, _REGISTERS = 0x11, 0x2F
_WITH_SIZE = 4


@dataclass(frozen=True)
class Needs:
    """`registers` a thread; `local`: bytes of local memory, where spilled registers go."""

    registers: int
    local: int


def needs(cubin: bytes) -> dict[str, Needs]:
    """Of every kernel by its name."""
    (table,) = struct.unpack_from("<Q", cubin, 40)
    count, names = struct.unpack_from("<HH", cubin, 60)
    headers = [struct.unpack_from("<IIQQQQ", cubin, table + 64 * i) for i in range(count)]

    def text(at: int) -> str:
        return cubin[at : cubin.index(b"\0", at)].decode()

    sections = {text(headers[names][4] + header[0]): header[4:6] for header in headers}
    symbols, strings = sections[".symtab"][0], sections[".strtab"][0]
    at, size = sections[".nv.info"]
    end = at + size
    found: dict[int, dict[int, int]] = {}
    while at < end:
        form, note, size = struct.unpack_from("<BBH", cubin, at)
        at += 4
        if form != _WITH_SIZE:
            continue
        if note in (_FRAME_SIZE, _REGISTERS):
            symbol, value = struct.unpack_from("<II", cubin, at)
            found.setdefault(symbol, {})[note] = value
        at += size
    return {
        text(strings + struct.unpack_from("<I", cubin, symbols + 24 * symbol)[0]): Needs(
            notes[_REGISTERS], notes[_FRAME_SIZE]
        )
        for symbol, notes in found.items()
        if _REGISTERS in notes
    }
