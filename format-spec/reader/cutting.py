"""Chapter 6: where a writer cuts chunks and ends nodes. Only the vectors need it."""

from crypto import derive, digest, keyed, words

GEAR = "kist 1 gear table"
NODE_CUT = "kist 1 node cut"

MASKS = {
    9: 0x0000019000353000,
    10: 0x0000590003530000,
    11: 0x0000D90003530000,
    12: 0x0000D90103530000,
    13: 0x0000D90303530000,
    14: 0x0000D90313530000,
    15: 0x0000D90F03530000,
    16: 0x0000D90303537000,
    17: 0x0000D90703537000,
    18: 0x0000D90707537000,
    19: 0x0000D91707537000,
    20: 0x0000D91747537000,
    21: 0x0000D91767537000,
    22: 0x0000D93767537000,
    23: 0x0000D93777537000,
}


def gear(chunker: bytes) -> list[int]:
    return words(GEAR, chunker, 256)


def gear_digest(table: list[int]) -> bytes:
    return digest(b"".join(word.to_bytes(8, "little") for word in table))


def nearest_log2(value: int) -> int:
    low = value.bit_length() - 1
    # Nearer to the upper power if value / 2^low > sqrt(2).
    return low + 1 if value * value > 2 ** (2 * low + 1) else low


def cuts(data: bytes, table: list[int], smallest: int, average: int, largest: int) -> list[int]:
    """The lengths of the chunks of all of `data`."""
    bits = nearest_log2(average)
    strict, loose = MASKS[bits + 1], MASKS[bits - 1]
    lengths, at = [], 0
    while at < len(data):
        length = _first_cut(data, at, table, (smallest, average, largest), strict, loose)
        lengths.append(length)
        at += length
    return lengths


def _first_cut(
    data: bytes,
    at: int,
    table: list[int],
    sizes: tuple[int, int, int],
    strict: int,
    loose: int,
) -> int:
    smallest, average, largest = sizes
    n = min(len(data) - at, largest)
    if n <= smallest:
        return n
    h = 0
    normal = min(average, n)
    for i in range(smallest, n - n % 2):
        h = ((h << 1) + table[data[at + i]]) & 0xFFFFFFFFFFFFFFFF
        if h & (strict if i < normal else loose) == 0:
            return i
    return n


def _draw(chunker: bytes, level: int, what: bytes) -> int:
    hashed = keyed(derive(NODE_CUT, chunker), bytes([level]) + what)
    return int.from_bytes(hashed[:4], "little")


def path_node_ends(chunker: bytes, level: int, path: bytes, item: int, node: int) -> bool:
    if node < 16384 or node >= 262144:
        return node >= 262144
    return _draw(chunker, level, path) * 49152 < item << 32


def extent_node_ends(chunker: bytes, level: int, key: bytes, n: int) -> bool:
    if n < 64 or n >= 4096:
        return n >= 4096
    return _draw(chunker, level, key) * 512 < 1 << 32
