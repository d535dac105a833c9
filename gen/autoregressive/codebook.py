"""The codebook of a VQ-VAE: nearest-neighbour codes whose vectors follow exponential moving averages.

van den Oord et al. 2017, appendix A.1 (EMA updates); Razavi et al. 2019, section 3.1. Two additions against collapse:
the vectors start as encodings of the first batch, and a code that is hardly used is moved onto an encoding of the
current batch (Williams et al. 2020, section 4, "dead code revival").
"""

import torch
from torch import Tensor, nn

from caskit.train.distributed import World

START_SPREAD = 1e-2  # of a batch's encodings, added to those a codebook starts with
USED_ABOVE = 0.01  # of an even use: a code below is not counted as used
REVIVE_EVERY = 10  # steps; a moved code needs some to win encodings
COUNT_FLOOR = 1e-5  # keeps a code without encodings from a division by zero
WEIGHT = "weight"


class Codebook(nn.Module):
    """K vectors of D dimensions. Everything but the vectors is state of training.

    Attributes:
        weight: [K, D], the vectors.
        counts: [K], moving average of a step's encodings per code.
        sums: [K, D], moving average of their sums.
        started: whether the vectors were set from data.
    """

    weight: Tensor
    counts: Tensor
    sums: Tensor
    started: Tensor

    def __init__(self, num_codes: int, size: int, *, decay: float, revive_below: float) -> None:
        """Take K, D, the decay of the averages, and the share of an even use below which a code is moved (0: never)."""
        super().__init__()
        self.num_codes, self.size, self.decay, self.revive_below = num_codes, size, decay, revive_below
        self.register_buffer(WEIGHT, torch.randn(num_codes, size) / size**0.5)
        self.register_buffer("counts", torch.zeros(num_codes))
        self.register_buffer("sums", torch.zeros(num_codes, size))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the code of each vector, [..., D] to [...] int64, ties to the lower code.

        Minimises |e|^2 - 2 v.e, which differs from the squared distance by |v|^2 alone.
        """
        flat = vectors.reshape(-1, self.size)
        scores = torch.addmm(self.weight.square().sum(dim=1), flat, self.weight.t(), alpha=-2)
        return scores.argmin(dim=1).reshape(vectors.shape[:-1])

    def forward(self, codes: Tensor) -> Tensor:
        """Return the vectors of codes, [...] to [..., D]."""
        return nn.functional.embedding(codes, self.weight)

    @torch.no_grad()
    def start(self, vectors: Tensor, num: int) -> None:
        """Set the vectors to encodings of the data.

        Args:
            vectors: [K, D], an encoding for each code.
            num: encodings of a batch.
        """
        self.weight.copy_(vectors)
        self.counts.fill_(num / self.num_codes)
        self.sums.copy_(self.weight * self.counts[:, None])
        self.started.fill_(True)

    @torch.no_grad()
    def update(self, vectors: Tensor, codes: Tensor, world: World) -> Tensor:
        """Move the averages and the vectors by one batch.

        Args:
            vectors: [N, D], encodings.
            codes: [N] int64, their codes.
            world: the processes among which the batch is divided.

        Returns:
            [K], the encodings of each code in the batch.
        """
        counts = world.sum_(torch.bincount(codes, minlength=self.num_codes).to(vectors.dtype))
        sums = world.sum_(torch.zeros_like(self.sums).index_add_(0, codes, vectors))
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        num = self.counts.sum()
        smoothed = (self.counts + COUNT_FLOOR) / (num + self.num_codes * COUNT_FLOOR) * num
        self.weight.copy_(self.sums / smoothed[:, None])
        return counts

    @torch.no_grad()
    def revive(self, replacements: Tensor) -> Tensor:
        """Move every code that is used less than `revive_below` of its even share onto an encoding.

        Args:
            replacements: [K, D], an encoding for each code.

        Returns:
            How many were moved.
        """
        even = self.counts.sum() / self.num_codes
        dead = self.counts < self.revive_below * even
        # A moved code starts above the use below which it would be moved again, so it has some steps to win encodings.
        self.counts.copy_(torch.where(dead, even * min(1.0, 4 * self.revive_below), self.counts))
        self.weight.copy_(torch.where(dead[:, None], replacements, self.weight))
        self.sums.copy_(torch.where(dead[:, None], replacements * self.counts[:, None], self.sums))
        return dead.sum()


def perplexity(counts: Tensor) -> Tensor:
    """Return exp of the entropy of code use, from counts [K]: K where all codes are used alike, 1 where one is."""
    shares = counts / counts.sum().clamp_min(1)
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy.exp()


def usage(codebook: Codebook) -> Tensor:
    """Return the share of codes with at least `revive_below` of an even use (or a hundredth, if that is more)."""
    even = codebook.counts.sum() / codebook.num_codes
    return (codebook.counts >= max(codebook.revive_below, USED_ABOVE) * even).float().mean()


def revives(step: int, revive_below: float) -> bool:
    """Say whether codes that are not used are moved in a step."""
    return revive_below > 0 and step % REVIVE_EVERY == REVIVE_EVERY - 1


def quantise(codebook: Codebook, vectors: Tensor, reviving: bool, world: World) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise the encodings of a batch, and move the codebook.

    Args:
        codebook: begun with this batch if it was not.
        vectors: [N, h, w, D], of this process's share of the batch.
        reviving: move codes that are not used.
        world: the processes among which the batch is divided.

    Returns:
        the codes' vectors as a map [N, D, h, w], whose gradients pass to `vectors` as if nothing had been rounded; the
        commitment loss; how many codes were moved.
    """
    vectors = vectors.float()
    flat = vectors.detach().reshape(-1, codebook.size)
    chosen = flat[torch.randint(len(flat), (codebook.num_codes,)).to(flat.device)]
    if not codebook.started:
        # Encodings that were chosen twice are kept apart by a little of the batch's own spread.
        apart = flat.std(dim=0) * START_SPREAD * torch.randn_like(codebook.weight)
        codebook.start(_of_first(chosen + apart, world), len(flat) * world.size)
    codes = codebook.nearest(flat)
    quantised = codebook(codes).reshape(vectors.shape)
    codebook.update(flat, codes, world)
    revived = codebook.revive(_of_first(chosen, world)) if reviving else torch.zeros((), device=flat.device)
    commitment = nn.functional.mse_loss(vectors, quantised)
    straight = vectors + (quantised - vectors).detach()
    return straight.permute(0, 3, 1, 2), commitment, revived


def _of_first(vectors: Tensor, world: World) -> Tensor:
    """Return rank 0's vectors on all ranks, whose encodings and random numbers differ."""
    return world.sum_(vectors if world.first else torch.zeros_like(vectors))
