"""A classifier of caskit's own as an extractor: its features know the dataset's classes, Inception's do not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from caskit.evaluate.fidelity.extractor import CLASSIFIER, Identity, Outputs, check_resize
from caskit.manifests.errors import InputError
from caskit.train.device import num_threads
from caskit.train.images import Images
from caskit.train.training import check_images, load_classifier

OF_RECIPE = "recipe"  # its own test crops; a recipe is part of the classifier's id


class Judge:
    """What the last linear layer of a trained classifier reads, [n, D], and its logits [n, classes]."""

    def __init__(self, folder: Path, *, resize: str | None, device: torch.device) -> None:
        """Load the classifier.

        Args:
            folder: that `caskit train` wrote.
            resize: `recipe` or None.
            device: where to compute.

        Raises:
            InputError: the folder holds no classifier, or one whose network does not end with a linear layer.
            IntegrityError: record or weights are not those that were written.
        """
        chosen = check_resize(CLASSIFIER, resize, (OF_RECIPE,))
        self._classifier = load_classifier(folder, device=device)
        self.one_size = self._classifier.recipe.crop == "none"
        self.identity = Identity(
            name=CLASSIFIER,
            digest=self._classifier.classifier_id,
            resize=chosen,
            usual_resize=OF_RECIPE,
            preprocessing={"recipe": self._classifier.recipe.name},
        )
        layers = [module for module in self._classifier.model.modules() if isinstance(module, nn.Linear)]
        if not layers:
            raise InputError(f"{folder}: its network has no linear layer whose input could be the features")
        self._read: list[Tensor] = []
        layers[-1].register_forward_pre_hook(self._keep)

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._read.append(inputs[0])

    def check(self, images: Images, location: str) -> None:
        """Raise InputError unless the recipe reads such images."""
        check_images(images, self._classifier.recipe, location, channels=self._classifier.channels)

    def __call__(self, images: Sequence[np.ndarray]) -> Outputs:
        """Return features and logits of images, each [H, W, C] uint8."""
        from caskit.train.classifier import prepare  # on use: timm takes seconds to import

        recipe = self._classifier.recipe
        self._read.clear()
        with torch.inference_mode(), num_threads(recipe.threads):
            logits = self._classifier.model(prepare(list(images), recipe, self._classifier.device))
        features = self._read[-1]
        if features.dim() != 2 or len(features) != len(images):
            raise InputError(f"{self._classifier.path}: its last linear layer does not read a vector per image")
        return Outputs(features=features.float().cpu().numpy(), logits=logits.float().cpu().numpy())
