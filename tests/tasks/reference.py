"""The network of the modular-addition task as one would write it without knowing better."""

import math

import torch
from torch import nn

from specdyn.tasks import OneLayerTransformer


class Reference(nn.Module):
    """Sends every example through ``nn.TransformerEncoderLayer``, with the weights of ours."""

    def __init__(self, ours: OneLayerTransformer, heads: int, hidden: int) -> None:
        super().__init__()
        width = ours.embedding.embedding_dim
        self.embedding, self.decoder, self.positions = ours.embedding, ours.decoder, ours.positions
        self.layer = nn.TransformerEncoderLayer(width, heads, hidden, dropout=0.0, batch_first=True, norm_first=True)
        self.layer.self_attn = ours.attention
        self.layer.linear1, self.layer.linear2 = ours.linear1, ours.linear2
        self.layer.norm1, self.layer.norm2 = ours.norm1, ours.norm2

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        equals = torch.full_like(pairs[:, :1], self.embedding.num_embeddings - 1)
        x = self.embedding(torch.cat([pairs, equals], dim=1)) * math.sqrt(self.embedding.embedding_dim)
        causal = nn.Transformer.generate_square_subsequent_mask(3).to(x)
        return self.decoder(self.layer(x + self.positions, src_mask=causal)[:, -1])
