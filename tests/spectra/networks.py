"""A network that several tests of spectra look at."""

from __future__ import annotations

from torch import Tensor, nn


class Block(nn.Module):
    """A pre-norm transformer block between an embedding and a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.norm = nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 8)
        self.decoder = nn.Linear(8, 10)

    def forward(self, words: Tensor) -> Tensor:
        x = self.embedding(words)
        x = x + self.attention(x, x, x)[0]
        x = x + self.down(self.up(self.norm(x)).relu())
        return self.decoder(x)
