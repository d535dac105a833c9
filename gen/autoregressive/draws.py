"""From logits and uniforms to codes, one uniform per code, and the check of such a draw.

A code is chosen by inverting the CDF of its distribution in the order of codes, in float64: code c for the uniform u
where F(c - 1) <= u < F(c). The same arithmetic serves the sampler, which asks which code u falls on, and the audit,
which asks how far u lies outside a recorded code's interval.
"""

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawRule:
    """How logits become probabilities.

    Attributes:
        temperature: divides the logits.
        top_p: keep the most probable codes whose probabilities add up to this, ties to the lower code; 1 keeps all.
    """

    temperature: float = 1.0
    top_p: float = 1.0

    def cumulative(self, logits: Tensor) -> Tensor:
        """Return the CDF after every code, [..., K] to [..., K] float64; not normalised, the last is the mass."""
        scaled = logits.double()
        if self.temperature != 1:
            scaled = scaled / self.temperature
        masses = (scaled - scaled.amax(dim=-1, keepdim=True)).exp_()
        if self.top_p < 1:
            masses *= self._kept(masses)
        return masses.cumsum_(dim=-1)

    def _kept(self, masses: Tensor) -> Tensor:
        """Return which codes are among the most probable that reach top_p, [..., K] bool."""
        ordered, order = masses.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(dim=-1) - ordered
        kept = before < self.top_p * ordered.sum(dim=-1, keepdim=True)
        return torch.zeros_like(kept).scatter(-1, order, kept)


def choose(cumulative: Tensor, uniforms: Tensor) -> Tensor:
    """Return the code each uniform falls on.

    Args:
        cumulative: [..., K] float64, from `DrawRule.cumulative`.
        uniforms: [...] float64 in [0, 1).

    Returns:
        [...] int64. A code without mass is never chosen: its interval is empty.
    """
    # u <= 1 - 2^-53, so the product is below the mass even when it is rounded, and the code found has mass.
    target = uniforms[..., None] * cumulative[..., -1:]
    found = torch.searchsorted(cumulative.contiguous(), target.contiguous(), right=True)
    return found[..., 0].clamp_max(cumulative.shape[-1] - 1)  # a CDF that is not finite gives any code


def excess(cumulative: Tensor, uniforms: Tensor, codes: Tensor) -> Tensor:
    """Return how far each uniform lies outside the interval of a code.

    Args:
        cumulative: [..., K] float64.
        uniforms: [...] float64.
        codes: [...] int64 in 0..K-1.

    Returns:
        [...] float64: 0 inside the closed interval, else the distance to its nearer edge; infinite for a code without
        mass and where the CDF is not finite. It is 0, not just small, for what `choose` returns: the same products are
        compared.
    """
    mass = cumulative[..., -1]
    target = uniforms * mass
    high = cumulative.gather(-1, codes[..., None])[..., 0]
    below = cumulative.gather(-1, (codes - 1).clamp_min(0)[..., None])[..., 0]
    low = torch.where(codes > 0, below, torch.zeros_like(below))
    outside = torch.maximum(low - target, target - high).clamp_min(0) / mass
    impossible = (high <= low) | ~torch.isfinite(mass)
    return torch.where(impossible, torch.full_like(outside, torch.inf), outside)
