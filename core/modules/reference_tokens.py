"""HonestFace's small learned networks: photographs of a person become prompt tokens."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn import LayerNorm, Linear


class Standardise(nn.Module):
    """(x - mean) / deviation per channel, by running averages over all that training showed.

    Statistics of eyes differ little between people beside what they have in common; this leaves
    the differences. Unlike batch normalisation, training and use see the same.
    """

    MEMORY = 1000
    """Samples after which old ones begin to be forgotten."""
    seen: Tensor
    mean: Tensor
    square: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("square", torch.zeros(dim))

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Take (n, dim) into the averages."""
        if len(x):
            self.seen.add_(len(x))
            weight = len(x) / self.seen.clamp(max=self.MEMORY + len(x))
            self.mean.lerp_(x.float().mean(0), weight)
            self.square.lerp_(x.float().square().mean(0), weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim)"""
        variance = (self.square - self.mean.square()).clamp(min=0)
        # Before a second sample there is no deviation to divide by.
        return (x - self.mean) / (variance.sqrt() + 1e-3)


class FacialFeatureExtractor(nn.Module):
    """What the eyes of the chosen reference look like: n1 = 4 tokens (HonestFace, Fig. 2).

    Per eye a colour embedding, from mean and standard deviation of the extractor's first stage,
    and a structure embedding, from its third stage averaged to 4 x 4. The paper says no more than
    "processed"; these are our choice.
    """

    GRID = 4

    def __init__(self, colour: int, structure: int, hidden: int, width: int) -> None:
        """
        Args:
            colour: channels of the extractor's first stage.
            structure: channels of its third stage.
            width: channels of the tokens.
        """
        super().__init__()
        self.colour = _mlp(2 * colour, hidden, width)
        self.structure = _mlp(structure * self.GRID**2, hidden, width)
        self.kind = nn.Parameter(torch.randn(4, width) * 0.02)
        self.nobody = nn.Parameter(torch.randn(4, width) * 0.02)
        self.norm = LayerNorm(width)
        self.proj = Linear(width, width)

    @classmethod
    def statistics(cls, first: Tensor, third: Tensor) -> tuple[Tensor, Tensor]:
        """Stage maps (n, c, h, w) -> colour (n, 2 c) and structure (n, 16 c'); nothing learned."""
        colour = torch.cat([first.mean((2, 3)), first.std((2, 3), correction=0)], 1)
        return colour, F.adaptive_avg_pool2d(third, cls.GRID).flatten(1)

    def forward(self, colour: Tensor, structure: Tensor, known: Tensor) -> Tensor:
        """(b, 2, c), (b, 2, c') of left and right eye, known (b,) bool -> (b, 4, width).

        Where nothing is known the tokens are learned ones, whatever the other inputs hold.
        """
        if self.training:
            for layers, statistics in ((self.colour, colour), (self.structure, structure)):
                if isinstance(first := layers[0], Standardise):
                    first.observe(statistics[known].flatten(0, 1))
        tokens = torch.cat([self.colour(colour), self.structure(structure)], 1) + self.kind
        tokens = self.proj(self.norm(tokens))
        return torch.where(known[:, None, None], tokens, self.nobody)


class FaceIdentityEncoder(nn.Module):
    """Who the references show, whatever their number: n2 = 7 tokens (HonestFace, Fig. 3).

    Learned queries attend over the recogniser's embeddings e_i of the N references:

        pooled_q = sum_i softmax_i(k(e_i) . q / sqrt(h)) e_i

    Values are the embeddings themselves, so that a pooled one stays within their convex hull
    ("without distorting the learned feature space"); only queries and keys are learned. The order
    of the references and empty places among them change nothing.
    """

    def __init__(self, dim: int, queries: int, hidden: int, width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, hidden))
        self.key = Linear(dim, hidden)
        self.proj = Linear(dim, width)
        self.norm = LayerNorm(width)
        # With one reference all queries pool the same vector: this tells the tokens apart.
        self.kind = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.nobody = nn.Parameter(torch.randn(queries, width) * 0.02)

    def pool(self, embeddings: Tensor, valid: Tensor) -> Tensor:
        """(b, N, d), valid (b, N) bool -> (b, queries, d); zeros where no reference is valid."""
        b, n, d = embeddings.shape
        if n == 0:
            return embeddings.new_zeros(b, len(self.queries), d)
        # Unit vectors of d entries: brought to entries of about 1 first.
        keys = self.key(embeddings * math.sqrt(d))
        scores = torch.einsum("q h, b n h -> b q n", self.queries, keys)
        scores = scores / math.sqrt(keys.shape[-1])
        # A row without any reference would be softmax over nothing: it is cut out below.
        masked = scores.masked_fill(~_open(valid)[:, None], float("-inf"))
        values = torch.where(valid[:, :, None], embeddings, 0.0)
        return masked.softmax(-1) @ values

    def forward(self, embeddings: Tensor, valid: Tensor) -> Tensor:
        """(b, N, d) of length 1, valid (b, N) bool, N >= 0 -> (b, queries, width)."""
        empty = ~valid[:, :, None]
        tokens = self.proj(self.pool(embeddings.masked_fill(empty, 0.0), valid))
        tokens = self.norm(tokens) + self.kind
        return torch.where(valid.any(1)[:, None, None], tokens, self.nobody)


class LearnedValuesEncoder(FaceIdentityEncoder):
    """The same with values that are learned, too: plain attention of several heads.

        pooled_q = concat over heads g of sum_i softmax_i(k_g(e_i) . q_g / sqrt(h_g)) v_g(e_i)

    What is pooled may lie anywhere, not only between the embeddings of the references.
    """

    HEADS = 4

    def __init__(self, dim: int, queries: int, hidden: int, width: int) -> None:
        """`dim` and `hidden` are multiples of the heads."""
        super().__init__(dim, queries, hidden, width)
        self.value = Linear(dim, dim)

    def pool(self, embeddings: Tensor, valid: Tensor) -> Tensor:
        """(b, N, d), valid (b, N) bool -> (b, queries, d); zeros where no reference is valid."""
        b, n, d = embeddings.shape
        if n == 0:
            return embeddings.new_zeros(b, len(self.queries), d)
        scaled = embeddings * math.sqrt(d)
        keys, values = (
            rearrange(x, "b n (g h) -> b g n h", g=self.HEADS)
            for x in (self.key(scaled), self.value(scaled))
        )
        queries = rearrange(self.queries, "q (g h) -> g q h", g=self.HEADS).expand(b, -1, -1, -1)
        pooled = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=_open(valid)[:, None, None]
        )
        pooled = rearrange(pooled, "b g q h -> b q (g h)")
        return torch.where(valid.any(1)[:, None, None], pooled, 0.0)


def _open(valid: Tensor) -> Tensor:
    """Where attention may look, (b, N): at what is valid, and anywhere where nothing is."""
    return valid | ~valid.any(1, keepdim=True)


class MixingFusion(nn.Module):
    """n3 = 77 tokens of the embedder and n1 + n2 = 11 of the references -> 77 ("feature fusion").

    p = W [p_L; p_F; p_I] with W = [I | 0] at first: then the prompt is the embedder's, bit for bit.
    The reference tokens are brought to the length of codebook rows before.
    """

    scale: Tensor

    def __init__(self, tokens: int, extra: int) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.eye(tokens))
        self.extra = nn.Parameter(torch.zeros(tokens, extra))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, vre: Tensor, ide: Tensor) -> Tensor:
        """(b, n, k), (b, m, k) -> (b, n, k)."""
        own = torch.einsum("i j, b j k -> b i k", self.own, vre)
        return own + torch.einsum("i j, b j k -> b i k", self.extra, rescaled(ide, self.scale))


class AttentionFusion(nn.Module):
    """The embedder's tokens ask those of the references: p = p_L + g attention(p_L, [p_F; p_I]).

    The gate g is 0 at first: then the prompt is the embedder's, bit for bit.
    """

    scale: Tensor

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v, self.to_out = (Linear(width, width) for _ in range(4))
        self.gate = nn.Parameter(torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, vre: Tensor, ide: Tensor) -> Tensor:
        """(b, n, k), (b, m, k) -> (b, n, k)."""
        ide = rescaled(ide, self.scale)
        # Rows of the codebook may be tiny; the products want entries of about 1.
        asking, asked = vre / self.scale, ide / self.scale
        q, k, v = (
            rearrange(f(x), "b n (h d) -> b h n d", h=self.heads)
            for f, x in ((self.to_q, asking), (self.to_k, asked), (self.to_v, asked))
        )
        found = rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")
        return vre + self.gate * self.scale * self.to_out(found)


class AppendFusion(nn.Module):
    """The embedder's most confident tokens, then those of the references; as many as before in all.

    Tokens of the embedder are sorted by confidence: its last ones make room. Nothing is learned
    here, and the prompt is not the embedder's at first, nor where there are no references.
    """

    scale: Tensor

    def __init__(self, tokens: int, extra: int) -> None:
        super().__init__()
        self.kept = tokens - extra
        self.register_buffer("scale", torch.ones(()))

    def forward(self, vre: Tensor, ide: Tensor) -> Tensor:
        """(b, n, k), (b, m, k) -> (b, n, k): n - m of the first, m of the second."""
        return torch.cat([vre[:, : self.kept], rescaled(ide, self.scale)], 1)


FUSIONS = ("mix", "attention", "append")


def rescaled(tokens: Tensor, scale: Tensor) -> Tensor:
    """Every token (..., k) brought to root mean square `scale`."""
    rms = tokens.square().mean(-1, keepdim=True).add(1e-12).sqrt()
    return tokens / rms * scale


def _mlp(dim: int, hidden: int, width: int) -> nn.Sequential:
    return nn.Sequential(Standardise(dim), Linear(dim, hidden), nn.GELU(), Linear(hidden, width))
