"""Adversarial images, made by foolbox's attacks: tiny changes that a classifier gets wrong."""

from pixelrobust.attacks.crafting import MINIMAL, Adversarial, craft, round_to_8_bits
from pixelrobust.attacks.lookup import Attack, find_attack

__all__ = ["MINIMAL", "Adversarial", "Attack", "craft", "find_attack", "round_to_8_bits"]
