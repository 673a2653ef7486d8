"""systemctl's command line."""

from __future__ import annotations

from dataclasses import dataclass, field

_TAKE_VALUE = ("-p", "--property", "-n", "--lines", "-t", "--type", "-s", "--signal", "--state")


@dataclass
class Words:
    """A command line: `options` maps a long or short option to its value, "" without one."""

    verb: str = ""
    units: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)

    def has(self, *names: str) -> bool:
        return any(name in self.options for name in names)

    def value(self, *names: str) -> str:
        return next((self.options[name] for name in names if name in self.options), "")


def parse(argv: list[str]) -> Words:
    words = Words()
    todo = list(argv)
    while todo:
        word = todo.pop(0)
        if word.startswith("--") and "=" in word:
            option, _, value = word.partition("=")
            _add(words, option, value)
        elif word in _TAKE_VALUE and todo:
            _add(words, word, todo.pop(0))
        elif word[:2] in ("-p", "-n", "-t") and not word.startswith("--") and len(word) > 2:
            _add(words, word[:2], word[2:])
        elif word.startswith("-") and word != "-":
            words.options[word] = ""
        elif not words.verb:
            words.verb = word
        else:
            words.units.append(word)
    if words.verb not in ("set-default", "list-units"):
        words.units = [unit if "." in unit else f"{unit}.service" for unit in words.units]
    return words


def _add(words: Words, option: str, value: str) -> None:
    """Repeated options add up: `-p A -p B` is `-p A,B`."""
    known = words.options.get(option)
    words.options[option] = f"{known},{value}" if known else value
