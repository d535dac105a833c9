"""The residual block of encoders and decoders of codes (van den Oord et al. 2017, section 4.1)."""

from torch import Tensor, nn


class Residual(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x)))); with `add_to_activated`, relu(x) + the same."""

    def __init__(self, channels: int, hidden: int, *, add_to_activated: bool = False) -> None:
        super().__init__()
        self.add_to_activated = add_to_activated
        self.conv_0 = nn.Conv2d(channels, hidden, 3, padding=1)
        self.conv_1 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape [N, C, H, W]."""
        activated = x.relu()
        update: Tensor = self.conv_1(self.conv_0(activated).relu())
        return (activated if self.add_to_activated else x) + update
