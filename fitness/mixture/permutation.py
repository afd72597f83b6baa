"""Keyed pseudo-random permutations, computed place by place instead of being stored."""

import hashlib
import math

import numpy as np

ROUNDS = 8
SORTED = 4096
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def keys_of(name: str) -> np.ndarray:
    """The keys of the permutation with a name, (ROUNDS,) uint64; the same on every machine."""
    digest = hashlib.blake2b(name.encode(), digest_size=8 * ROUNDS, person=b"evomix order").digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def permute(places: np.ndarray, n: int, keys: np.ndarray) -> np.ndarray:
    """Apply a keyed pseudo-random permutation of 0..n-1 to some places, (p,) uint64 -> (p,).

    For n up to SORTED, places are sorted by their hashes. Above, it is a generalised Feistel
    network with cycle walking (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002):
    halves in Z_a and Z_b with a * b barely above n, ROUNDS additions of a hash of the other half,
    repeated while the result is n or more. So memory is at most that of max(SORTED, p) places.
    """
    if n <= SORTED:
        hashes = _hash(keys[:1] + np.arange(n, dtype=np.uint64) * GOLDEN)
        return np.argsort(hashes).astype(np.uint64)[places]
    a = math.isqrt(n - 1) + 1
    b = -(-n // a)
    left, right = places // b, places % b
    for number in range(ROUNDS):
        key = keys[number : number + 1]  # an array: NumPy warns of a scalar's overflow
        if number % 2:
            right = (right + _hash(left + key) % b) % b
        else:
            left = (left + _hash(right + key) % a) % a
    moved = left * b + right
    beyond = moved >= n
    if beyond.any():
        moved[beyond] = permute(moved[beyond], n, keys)
    return moved


def _hash(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014), elementwise on uint64."""
    values = (values ^ (values >> 30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> 27)) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> 31)
