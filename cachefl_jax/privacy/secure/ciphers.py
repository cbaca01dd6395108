"""Key agreement, masks and sealed messages, all of them the package `cryptography`'s."""

import numpy as np

from cachefl_jax.errors import UsageError

try:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError as error:
    mend = "pip install 'cachefl_jax[secure]'"
    raise UsageError("cryptography", "no such package", "installed for a secure sum's protocol", mend) from error

NONCE = bytes(12)  # a key seals one message: it is of one pair, one direction and one round


def new_key() -> X25519PrivateKey:
    """A private key."""
    return X25519PrivateKey.generate()


def private_key(secret: bytes) -> X25519PrivateKey:
    """The private key of these 32 bytes."""
    return X25519PrivateKey.from_private_bytes(secret)


def agree(own: X25519PrivateKey, other: bytes, purpose: bytes) -> bytes:
    """32 bytes that the holders of both private keys have in common, and nobody else; `other` is a public key."""
    shared = own.exchange(X25519PublicKey.from_public_bytes(other))
    return HKDF(SHA256(), 32, None, purpose).derive(shared)


def mask(seed: bytes, count: int) -> np.ndarray:
    """uint32 [count] out of 32 bytes, which nobody without them tells from random ones: AES-256 in counter mode."""
    stream = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor().update(bytes(4 * count))
    return np.frombuffer(stream, "<u4")


def seal(key: bytes, text: bytes) -> bytes:
    """The text, encrypted so that a change is noticed; 16 bytes longer."""
    return ChaCha20Poly1305(key).encrypt(NONCE, text, None)


def unseal(key: bytes, sealed: bytes) -> bytes:
    """What was sealed. Raises cryptography.exceptions.InvalidTag: with another key, or changed since."""
    return ChaCha20Poly1305(key).decrypt(NONCE, sealed, None)
