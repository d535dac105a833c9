"""The projection of the class (Miyato & Koyama 2018, "cGANs with projection discriminator")."""

from torch import Tensor, nn


def projected_scores(features: Tensor, labels: Tensor, score: nn.Linear, embedding: nn.Embedding) -> Tensor:
    """Return `w h + <e(y), h>`, and a bias where the layer has one: [N] float32.

    Args:
        features: h, [N, C].
        labels: y, [N].
        score: w.
        embedding: e.
    """
    projections = (embedding(labels) * features).sum(dim=1)
    scores: Tensor = score(features)[:, 0].float() + projections.float()
    return scores
