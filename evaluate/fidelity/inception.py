"""The Inception of 2015 that IS, FID and KID are defined by, as torch-fidelity has it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from caskit.evaluate.fidelity.extractor import (
    INCEPTION,
    PILLOW,
    Identity,
    Outputs,
    as_rgb,
    check_resize,
    resized_rgb,
)
from caskit.manifests.errors import InputError, RunFailed
from caskit.train.images import Images
from caskit.train.weights import file_digest, read_tensors

SIDE = 299
TENSORFLOW = "tf1-bilinear"  # inside the network, as the original graph did it
LAYERS = ["2048", "logits_unbiased"]  # of FID and KID, and of IS
# Of weights-inception-2015-12-05-6726825d.pth, which torch-fidelity, pytorch-fid and others publish.
PUBLISHED_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


class Inception:
    """Inception v3 of December 2015: pooled features [n, 2048], logits [n, 1008] without their biases.

    Grey images are repeated to three channels, as Pillow's conversion to RGB does.
    """

    one_size = False

    def __init__(self, weights: Path | None, *, resize: str | None, device: torch.device, fetch: bool = True) -> None:
        """Load the network.

        Args:
            weights: a state dict of torch-fidelity's network; None for the published one, fetched where torch keeps
                what it fetches, and refused if its digest is another.
            resize: `tf1-bilinear` (the metrics' definition), or `bicubic` or `bilinear` of Pillow before it.
            device: where to compute.
            fetch: whether the published file may be fetched.

        Raises:
            InputError: the file does not hold this network's weights.
            RunFailed: the published file could not be fetched.
        """
        path = _published(fetch=fetch) if weights is None else weights
        tensors = read_tensors(path)
        digest = file_digest(path)
        if weights is None and digest != PUBLISHED_SHA256:
            raise InputError(f"{path}: sha256 is {digest}, that of the published weights is {PUBLISHED_SHA256}")
        chosen = check_resize(INCEPTION, resize, (TENSORFLOW, *PILLOW))
        self.identity = Identity(
            name=INCEPTION,
            digest=digest,
            resize=chosen,
            usual_resize=TENSORFLOW,
            preprocessing={"side": SIDE},
        )
        self._network, self._device = _build(tensors, path).to(device), device

    def check(self, images: Images, location: str) -> None:
        """Take any images."""

    def __call__(self, images: Sequence[np.ndarray]) -> Outputs:
        """Return features and logits of images, each [H, W, C] uint8 in its own size."""
        if self.identity.resize != TENSORFLOW:
            images = list(resized_rgb(images, SIDE, self.identity.resize))
        shapes = [image.shape[:2] for image in images]
        found: list[tuple[Tensor, ...] | None] = [None] * len(images)
        for shape in dict.fromkeys(shapes):  # the network resizes, so a batch has one size
            places = [place for place, one in enumerate(shapes) if one == shape]
            batch = np.stack([as_rgb(images[place]) for place in places]).transpose(0, 3, 1, 2)
            with torch.inference_mode():
                layers = self._network(torch.from_numpy(np.ascontiguousarray(batch)).to(self._device))
            for row, place in enumerate(places):
                found[place] = tuple(layer[row] for layer in layers)
        features, logits = (
            torch.stack([one[number] for one in found if one is not None]).cpu().numpy() for number in range(2)
        )
        return Outputs(features=features, logits=logits)


def _build(tensors: dict[str, Tensor], path: Path) -> torch.nn.Module:
    """Make torch-fidelity's network. It unpickles a file without restraint, so it gets one of our own making."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with tempfile.TemporaryDirectory(prefix="caskit-inception-") as folder:
        own = Path(folder) / "weights.pth"
        torch.save(tensors, own)
        try:
            network: torch.nn.Module = FeatureExtractorInceptionV3(
                "inception-v3-compat", LAYERS, feature_extractor_weights_path=str(own)
            )
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"{path}: not the weights of the Inception of 2015 ({reason})") from error
    return network


def published_path() -> Path:
    """Return where torch keeps the published file once it is fetched."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return Path(torch.hub.get_dir()) / "checkpoints" / str(URL_INCEPTION_V3).rpartition("/")[2]


def _published(*, fetch: bool) -> Path:
    """Return the path of the published file, fetched if it is not there yet."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path, url = published_path(), str(URL_INCEPTION_V3)
    if path.is_file():
        return path
    if not fetch:
        raise InputError(f"{path}: the published weights are not there; name a file with --weights")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=PUBLISHED_SHA256, progress=False)
    except (OSError, RuntimeError) as error:
        raise RunFailed(
            f"{url}: cannot be fetched ({error}); fetch it elsewhere and name it with --weights FILE"
        ) from error
    return path
