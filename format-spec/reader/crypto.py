"""Chapter 3, primitives: hashes, seals, signatures, HPKE with X-Wing, Argon2id.

The arithmetic is that of packages; here is only how the spec puts it together.
"""

import hashlib

import nacl.bindings
import nacl.exceptions
from blake3 import blake3
from Crypto.Hash import TurboSHAKE128
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from codec import Refused

SEAL_LEN = 40
WRAPPED_LEN = 1168
PUBLIC_LEN = 1216

MOST_MEMORY_KIB = 2097152
MOST_PASSES = 64
MOST_LANES = 16


def digest(data: bytes) -> bytes:
    return blake3(data).digest()


def keyed(key: bytes, data: bytes) -> bytes:
    return blake3(data, key=key).digest()


def derive(context: str, key: bytes, more: bytes = b"", length: int = 32) -> bytes:
    return blake3(key + more, derive_key_context=context).digest(length=length)


def words(context: str, key: bytes, n: int) -> list[int]:
    out = derive(context, key, length=8 * n)
    return [int.from_bytes(out[8 * i : 8 * i + 8], "little") for i in range(n)]


def unseal(key: bytes, ad: bytes, box: bytes) -> bytes:
    """The plaintext of a box: XChaCha20-Poly1305 with the nonce in front."""
    if len(box) < SEAL_LEN:
        raise Refused("crypto", f"a sealed box of {len(box)} bytes")
    try:
        return nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(box[24:], ad, box[:24], key)
    except nacl.exceptions.CryptoError:
        raise Refused("crypto", "a seal does not hold") from None


def seal(key: bytes, ad: bytes, plain: bytes, nonce: bytes) -> bytes:
    """Only the vectors are sealed, with the nonces that they have."""
    return nonce + nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, ad, nonce, key)


def public_of(seed: bytes) -> bytes:
    return nacl.bindings.crypto_sign_seed_keypair(seed)[0]


def sign(seed: bytes, context: str, message: bytes) -> bytes:
    secret = nacl.bindings.crypto_sign_seed_keypair(seed)[1]
    return nacl.bindings.crypto_sign(context.encode() + message, secret)[:64]


def verify(public: bytes, context: str, message: bytes, signature: bytes) -> None:
    """libsodium refuses points of small order and an s that is not reduced, as the spec wants."""
    try:
        nacl.bindings.crypto_sign_open(signature + context.encode() + message, public)
    except nacl.exceptions.CryptoError:
        raise Refused("crypto", f"a signature does not hold ({context})") from None


def argon2id(passphrase: bytes, salt: bytes, memory_kib: int, passes: int, lanes: int) -> bytes:
    for value, most, what in (
        (memory_kib, MOST_MEMORY_KIB, "KiB of memory"),
        (passes, MOST_PASSES, "passes"),
        (lanes, MOST_LANES, "lanes"),
    ):
        if value > most:
            raise Refused("crypto", f"a slot that asks for {value} {what}")
    for end in (b"\r\n", b"\n"):
        if passphrase.endswith(end):
            passphrase = passphrase[: -len(end)]
            break
    try:
        kdf = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory_kib)
    except ValueError as error:
        raise Refused("crypto", f"parameters that Argon2id does not know: {error}") from None
    return kdf.derive(passphrase)


class Recipient:
    """An X-Wing private key: what opens keys that are wrapped to it."""

    def __init__(self, seed: bytes) -> None:
        expanded = hashlib.shake_256(seed).digest(96)
        self.lattice = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        self.curve = X25519PrivateKey.from_private_bytes(expanded[64:])
        self.curve_public = self.curve.public_key().public_bytes_raw()
        self.public = self.lattice.public_key().public_bytes_raw() + self.curve_public
        self.id = digest(self.public)[:16]

    def unwrap(self, info: bytes, wrapped: bytes) -> bytes:
        """HPKE, base mode, single shot, no additional data."""
        try:
            shared = self._decapsulate(wrapped[:1120])
            key, nonce = _key_schedule(shared, info)
            return ChaCha20Poly1305(key).decrypt(nonce, wrapped[1120:], b"")
        except (InvalidTag, ValueError):
            raise Refused("crypto", "a wrapped key does not open") from None

    def _decapsulate(self, encapsulated: bytes) -> bytes:
        of_lattice, of_curve = encapsulated[:1088], encapsulated[1088:]
        first = self.lattice.decapsulate(of_lattice)
        second = self.curve.exchange(X25519PublicKey.from_public_bytes(of_curve))
        label = b"\\.//^\\"
        return hashlib.sha3_256(first + second + of_curve + self.curve_public + label).digest()


def _prefixed(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _key_schedule(shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Of a one-stage KDF: key and base nonce. The exporter secret behind them has no use here."""
    suite = b"HPKE" + bytes.fromhex("647a00120003")
    length = 32 + 12 + 32
    no_psk = _prefixed(b"")
    secrets = no_psk + _prefixed(shared)
    context = b"\x00" + no_psk + _prefixed(info)
    label = b"HPKE-v1" + suite + _prefixed(b"secret") + length.to_bytes(2, "big")
    out = TurboSHAKE128.new(data=secrets + label + context, domain=0x1F).read(length)
    return out[:32], out[32:44]
