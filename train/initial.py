"""First weights other than those that a model's own code gives."""

import math

import torch
from torch import nn

# Standard deviation of a normal distribution that is cut at two of them.
_CUT_STD = 0.87962566103423978


@torch.no_grad()
def tf_resnet(model: nn.Module) -> None:
    """Set weights as the code of the paper's classifier does (tensorflow/tpu, models/official/resnet/resnet_model.py).

    Convolutions: normal with variance 1 / fan-in, cut at two standard deviations (TensorFlow's variance_scaling).
    Linear layers: normal with 0.01, bias 0. Batch norms are left as the model has them: 1, and 0 where a block ends.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            std = math.sqrt(1 / module.weight[0].numel()) / _CUT_STD
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
