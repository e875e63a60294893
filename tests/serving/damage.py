"""Files as a bad line or somebody of bad will makes them."""

from __future__ import annotations

import random


def damaged(content: bytes, dice: random.Random) -> bytes:
    """Its end cut off, a piece left out, doubled or overwritten, or bits flipped."""
    spoilt = bytearray(content)
    way = dice.randrange(5)
    begin = dice.randrange(len(spoilt))
    length = dice.randrange(1, 2000)
    if way == 0:
        del spoilt[begin:]
    elif way == 1:
        del spoilt[begin : begin + length]
    elif way == 2:
        spoilt[begin:begin] = spoilt[begin : begin + length]
    elif way == 3:
        spoilt[begin : begin + length] = dice.randbytes(length)
    for _ in range(dice.randrange(1 if way == 4 else 0, 20)):
        if spoilt:
            spoilt[dice.randrange(len(spoilt))] ^= 1 << dice.randrange(8)
    return bytes(spoilt)
