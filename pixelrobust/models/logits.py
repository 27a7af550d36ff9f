"""Networks that give more than their logits."""

from typing import Any

from torch import Tensor, nn


class Logits(nn.Module):
    """A network that gives its logits along with other things, as the logits alone.

    Args:
        network: (B, C, H, W) -> an object with `logits`, (B, K).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = network.training

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K) logits."""
        logits: Tensor = self.network(images).logits
        return logits


def has_logits(outputs: Any) -> bool:
    """Whether a network's outputs are an object with logits in it, as Hugging Face's are."""
    return not isinstance(outputs, Tensor) and isinstance(getattr(outputs, "logits", None), Tensor)
