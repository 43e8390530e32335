"""peft's name patterns against peft's own rule, and patterns that never end there."""

import random
import re

import pytest
from facewright.core.lora.patterns import NameEnds, PatternError

NAMES = [
    "to_q",
    "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q",
    "down_blocks.1.attentions.1.transformer_blocks.0.attn2.to_k",
    "up_blocks.12.attentions.1.transformer_blocks.0.attn2.to_out.0",
    "mid_block.resnets.0.conv1",
    "conv_in",
]
PATTERNS = [
    *("to_q", "attn1.to_q", "ttn1.to_q", "to_out.0", "conv_in", "conv", "resnets.0.conv1", ""),
    *("^to_q", "^down_blocks.*to_q$", "to_[qk]", "to_[a-q]", r"blocks\.\d+\..*to_out\.0", r"\d+"),
    *(".*", ".*attn1.*", "conv_in|to_k", "to_k$|conv.", "conv.?", "conv_in$", "x*to_q", "t+o_q"),
    *(r"\w+", r"\D*", "to-q", "attn..to_[qkv]", "0.attn[12].to_k", "|to_q", "to_q|", "^conv_in|q"),
]


def theirs(pattern, name):
    return re.match(rf"(.*\.)?({pattern})$", name) is not None


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_hits_what_peft_hits(pattern):
    mine = NameEnds([pattern])
    assert [mine.first(n) is not None for n in NAMES] == [theirs(pattern, n) for n in NAMES]


@pytest.mark.parametrize("cases", [400, pytest.param(5000, marks=pytest.mark.slow)])
def test_drawn_patterns_hit_what_peft_hits_or_are_refused(cases):
    draw = random.Random(7)
    pieces = [*"ab.._0|^$*+?", r"\d", r"\.", r"\w", "[ab]", "[0-9]", "a.b", "(a)", "{2}", "[^a]"]
    taken = hits = 0
    for _ in range(cases):
        pattern = "".join(draw.choices(pieces, k=draw.randint(1, 7)))
        try:
            mine = NameEnds([pattern])
        except PatternError:
            continue
        taken += 1
        for _ in range(8):
            name = ".".join("".join(draw.choices("ab0_", k=draw.randint(1, 4))) for _ in range(3))
            assert (mine.first(name) is not None) == theirs(pattern, name), (pattern, name)
            hits += mine.first(name) is not None
    assert taken > cases / 4 and hits > cases / 8


def test_the_first_of_several_patterns_counts():
    ends = NameEnds(["to_k", "attn1.to_q", "to_q"])
    assert ends.first(NAMES[1]) == "attn1.to_q" and ends.first("x.to_q") == "to_q"
    assert ends.first("x.to_v") is None


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b",
        "((a*)*)*",
        "a{1,9}",
        r"(x)\1",
        "(?=a)",
        "[^a]",
        "[a",
        "*a",
        "a**",
        "a\\",
        "a$b",
        r"\bq",
    ],
)
def test_what_needs_a_regular_expression_is_refused_by_name(pattern):
    with pytest.raises(PatternError, match="regular expression") as caught:
        NameEnds([pattern])
    assert pattern in str(caught.value)


def test_patterns_that_keep_others_busy_are_decided():
    # Each would take `re` longer than anybody waits.
    for pattern in (".*" * 40 + "!", "a*" * 60 + "!", "[ab]*" * 60 + "$"):
        assert NameEnds([pattern]).first("a" * 300 + "?") is None
    with pytest.raises(PatternError, match="at the most"):
        NameEnds([".*a" * 4000])
    with pytest.raises(PatternError, match="at the most"):
        NameEnds(map(str, range(100_000)))
