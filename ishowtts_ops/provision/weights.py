"""F5-TTS's weights and the vocoder's: fetched from the model hub, resumed, checked by hash.

The hub names each file's hash: SHA-256 for large files, git's blob SHA-1 for small ones. A file
whose content does not have it is thrown away. What was checked is recorded with its size, so that a
later plan need not read a gigabyte again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ishowtts_ops.config import STATE_DIR, Settings
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host
from ishowtts_ops.provision.ishowtts import IShowTTSConfig, read_ishowtts
from ishowtts_ops.steps import Change, Ledger, Progress

WEIGHTS_DIR = f"{STATE_DIR}/weights"
RECORD_PATH = f"{WEIGHTS_DIR}/checked.json"
DEFAULT_MODEL = "F5TTS_v1_Base"

_CHECKPOINTS = {
    "F5TTS_v1_Base": "F5TTS_v1_Base/model_1250000.safetensors",
    "F5TTS_Base": "F5TTS_Base/model_1200000.safetensors",
}
"""Published checkpoints, as f5_tts/api.py of 1.1.x names them."""

_F5_REPO = "SWivid/F5-TTS"
_VOCOS_REPO = "charactr/vocos-mel-24khz"
_VOCOS_FILES = ("config.yaml", "pytorch_model.bin")


@dataclass(frozen=True)
class HubFile:
    """A file of a model hub's repository and where it lies on the box."""

    repo: str
    name: str

    @property
    def folder(self) -> str:
        return f"{WEIGHTS_DIR}/{self.repo}"

    @property
    def box_path(self) -> str:
        return f"{self.folder}/{self.name}"


@dataclass(frozen=True)
class Weights:
    """Where the engine's weights are, or will be once `fetch` is there.

    Attributes:
        ckpt_file, vocoder_path: box paths; None with random weights.
        fetch: files to have from the hub.
    """

    ckpt_file: str | None
    vocoder_path: str | None
    fetch: tuple[HubFile, ...]


def resolve(host: Host, settings: Settings) -> Weights:
    """Which weights these settings mean, iShowTTS's own configuration taken into account.

    Raises:
        OpsError: a file that was named is missing, or nothing is published under the model's name.
    """
    if settings.f5.weights == "random":
        return Weights(None, None, ())
    theirs = read_ishowtts(host, settings)
    ckpt = settings.f5.ckpt_file or (theirs.ckpt_file if theirs else None)
    vocoder = settings.f5.vocoder_path or (theirs.vocoder_local_path if theirs else None)
    for what, box_path in (("checkpoint", ckpt), ("vocoder", vocoder)):
        if box_path is not None and not host.exists(box_path):
            raise OpsError(
                f"The {what} {box_path} is not on the box.",
                "Correct the path in the configuration, or remove it to have it fetched.",
            )
    fetch: list[HubFile] = []
    if ckpt is None:
        model = settings.f5.model or (theirs.model if theirs else None) or DEFAULT_MODEL
        if model not in _CHECKPOINTS:
            known = ", ".join(sorted(_CHECKPOINTS))
            raise OpsError(
                f"No checkpoint is published under the name {model}.",
                f"Give f5.ckpt_file, or one of these models: {known}.",
            )
        checkpoint = HubFile(_F5_REPO, _CHECKPOINTS[model])
        folder = _in_their_cache(host, theirs, _F5_REPO, (checkpoint.name,))
        if folder is None:
            fetch.append(checkpoint)
        ckpt = f"{folder}/{checkpoint.name}" if folder else checkpoint.box_path
    if vocoder is None:
        files = [HubFile(_VOCOS_REPO, name) for name in _VOCOS_FILES]
        vocoder = _in_their_cache(host, theirs, _VOCOS_REPO, _VOCOS_FILES)
        if vocoder is None:
            fetch += files
            vocoder = files[0].folder
    return Weights(ckpt, vocoder, tuple(fetch))


def _in_their_cache(
    host: Host, theirs: IShowTTSConfig | None, repo: str, names: Sequence[str]
) -> str | None:
    """The folder in iShowTTS's `hf_cache_dir` that has all these files of a repository, as the
    hub's client lays them out: models--OWNER--NAME/snapshots/COMMIT/. What iShowTTS speaks with
    every day need not be fetched again."""
    if theirs is None or theirs.hf_cache_dir is None:
        return None
    base = f"{theirs.hf_cache_dir}/models--{repo.replace('/', '--')}"
    main = host.read_text(f"{base}/refs/main").strip() if host.is_file(f"{base}/refs/main") else ""
    commits = sorted(host.listdir(f"{base}/snapshots"), key=lambda commit: commit != main)
    folders = (f"{base}/snapshots/{commit}" for commit in commits)
    return next((f for f in folders if all(host.is_file(f"{f}/{name}") for name in names)), None)


@dataclass(frozen=True)
class WeightsStep:
    """Every file the engine loads is on the box, and is what the hub says it is."""

    settings: Settings
    ledger: Ledger
    name: str = "weights"
    title: str = "model weights and vocoder"

    def diff(self, host: Host) -> Change | None:
        if self.settings.engine.kind != "f5":
            return None
        checked = _checked(host)
        missing = [
            f for f in resolve(host, self.settings).fetch if not _is_checked(host, f, checked)
        ]
        if not missing:
            return None
        preview = [f"$ fetch {file.repo} {file.name} -> {file.box_path}" for file in missing]
        return Change(
            self.name,
            f"fetch {len(missing)} files of weights from the model hub",
            tuple(preview),
            lambda log: self._fetch(host, missing, log),
        )

    def _fetch(self, host: Host, files: list[HubFile], log: Progress) -> None:
        self.ledger.remember(WEIGHTS_DIR)
        for file in files:
            log(f"fetching {file.repo}/{file.name}")
            digest = _download(host, file, self.settings.f5.hub_endpoint)
            checked = _checked(host)
            size = host.stat(file.box_path).size
            checked[file.box_path] = {"hash": digest, "size": size}
            host.write(RECORD_PATH, json.dumps(checked, indent=1) + "\n")
            log(f"checked {file.name}: {size} bytes, {digest}")


def _checked(host: Host) -> dict[str, dict[str, object]]:
    if not host.is_file(RECORD_PATH):
        return {}
    try:
        record: dict[str, dict[str, object]] = json.loads(host.read_text(RECORD_PATH))
    except ValueError:
        return {}
    return record


def _is_checked(host: Host, file: HubFile, checked: dict[str, dict[str, object]]) -> bool:
    entry = checked.get(file.box_path)
    if entry is None or not host.is_file(file.box_path):
        return False
    return host.stat(file.box_path).size == entry["size"]


def _download(host: Host, file: HubFile, endpoint: str | None) -> str:
    """Fetch one file, resuming a part that is there, and check it. Returns `algorithm:hex`."""
    # Not at the top: it takes a third of a second, and most runs fetch nothing.
    import httpx
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    host.mkdir(file.folder)
    folder = host.path(file.folder)
    try:
        url = hf_hub_url(file.repo, file.name, endpoint=endpoint)
        etag = get_hf_file_metadata(url).etag or ""
        path = Path(hf_hub_download(file.repo, file.name, local_dir=folder, endpoint=endpoint))
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx.HTTPError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OpsError(
            f"{file.repo}/{file.name} could not be fetched: {first}",
            "Run install again: what was fetched so far is kept and the rest is resumed. A mirror"
            " can be named as f5.hub_endpoint, and files that are here already as f5.ckpt_file"
            " and f5.vocoder_path.",
        ) from None
    algorithm, digest = _hash(path, etag)
    if digest != etag:
        path.unlink()
        raise OpsError(
            f"{file.box_path} is damaged: its {algorithm} is {digest}, the hub says {etag}.",
            "It was thrown away; run install again to fetch it anew.",
        )
    return f"{algorithm}:{digest}"


def _hash(path: Path, etag: str) -> tuple[str, str]:
    """The file's hash in the form its etag has: 64 hex digits SHA-256, 40 a git blob's SHA-1."""
    if re.fullmatch(r"[0-9a-f]{40}", etag):
        blob = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        name = "git-sha1"
    else:
        blob = hashlib.sha256()
        name = "sha256"
    for block in _blocks(path):
        blob.update(block)
    return name, blob.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block
