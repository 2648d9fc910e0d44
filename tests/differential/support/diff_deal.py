"""Deals features to seeds: in a row of seeds each feature comes up equally often, and a seed has its own features."""

import random
from functools import cache


def hand(seed: int, cards: tuple[str, ...], count: int) -> list[str]:
    """The cards of a seed, each once, out of decks that are shuffled and dealt one after the other."""
    places = range(seed * count, (seed + 1) * count)
    return list(dict.fromkeys(_shuffled(place // len(cards), cards)[place % len(cards)] for place in places))


@cache
def _shuffled(deck, cards):
    return random.Random(f"deck {deck}").sample(cards, len(cards))
