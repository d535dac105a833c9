"""Any model of timm as an extractor, DINOv2 among them: weights from a local file, pooled features before the head."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from caskit.evaluate.fidelity.extractor import PILLOW, Identity, Outputs, check_resize, resized_rgb
from caskit.manifests.errors import InputError
from caskit.train.images import Images
from caskit.train.weights import file_digest, read_tensors


class TimmModel:
    """A model of timm: what its head pools, [n, D], and its logits where its weights have a classifier.

    Whole images are resized to the side of its pretrained configuration, no crop, then normalised by its constants.
    """

    one_size = False

    def __init__(
        self, name: str, model: str, weights: Path, *, side: int | None, resize: str | None, device: torch.device
    ) -> None:
        """Load the model.

        Args:
            name: of the extractor.
            model: of timm.
            weights: its state dict with timm's keys, every one of them; `.safetensors`, or a `.pth` of tensors alone.
            side: of the images in pixels; None for the model's own.
            resize: `bicubic` or `bilinear`; None for bicubic.
            device: where to compute.

        Raises:
            InputError: timm has no such model, or the file does not hold its weights.
        """
        if not timm.is_model(model):
            raise InputError(f"extractor {name}: timm {timm.__version__} has no model {model!r}")
        tensors = read_tensors(weights)
        config = timm.get_pretrained_cfg(model)
        if config is None or config.input_size[0] != 3:
            raise InputError(f"extractor {name}: timm does not say which images {model} reads, or they are not RGB")
        self._side = side or int(config.input_size[1])
        options: dict[str, Any] = {"num_classes": _num_classes(tensors, config.classifier)}
        if config.fixed_input_size and self._side != int(config.input_size[1]):
            options["dynamic_img_size"] = True  # embeddings of positions are resampled, the weights stay as they are
        self._network = _load(model, tensors, options, weights).to(device).eval()
        self._classifies, self._device = options["num_classes"] > 0, device
        mean, std = ([float(value) for value in values] for values in (config.mean, config.std))
        self._mean, self._std = (torch.tensor(one, device=device).view(1, 3, 1, 1) for one in (mean, std))
        self.identity = Identity(
            name=name,
            digest=file_digest(weights),
            resize=check_resize(name, resize, PILLOW),
            usual_resize=PILLOW[0],
            preprocessing={"model": model, "side": self._side, "mean": mean, "std": std},
        )

    def check(self, images: Images, location: str) -> None:
        """Take any images."""

    def __call__(self, images: Sequence[np.ndarray]) -> Outputs:
        """Return features and logits of images, each [H, W, C] uint8 in its own size."""
        batch = torch.from_numpy(resized_rgb(images, self._side, self.identity.resize)).to(self._device)
        with torch.inference_mode():
            pixels = (batch.permute(0, 3, 1, 2).float() / 255 - self._mean) / self._std
            maps = self._network.forward_features(pixels)
            features: Tensor = self._network.forward_head(maps, pre_logits=True)
            logits: Tensor | None = self._network.forward_head(maps) if self._classifies else None
        if features.dim() != 2:
            shape = "x".join(map(str, features.shape))
            raise InputError(f"extractor {self.identity.name}: gives features of {shape}, must be a vector per image")
        return Outputs(
            features=features.float().cpu().numpy(), logits=None if logits is None else logits.float().cpu().numpy()
        )


def _num_classes(tensors: dict[str, Tensor], classifier: object) -> int:
    """Return how many classes the weights tell apart, by the bias or weight of the head; 0 without one."""
    names = [classifier] if isinstance(classifier, str) else list(classifier or ())  # type: ignore[call-overload]
    found = [tensors[f"{name}.weight"] for name in names if f"{name}.weight" in tensors]
    return int(found[0].shape[0]) if found else 0


def _load(model: str, tensors: dict[str, Tensor], options: dict[str, Any], path: Path) -> Any:
    try:
        network: nn.Module = timm.create_model(model, pretrained=False, **options)
        network.load_state_dict(tensors)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: not the weights of timm's {model} ({reason})") from error
    if not hasattr(network, "forward_head"):
        raise InputError(f"{path}: timm's {model} has no head to take features before")
    return network
