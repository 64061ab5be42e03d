"""Ed25519 verification by RFC 8032, section 5.1.7, with Python's own integers.

Only public values come by here, so that nothing can leak by how long it takes. It takes a few
milliseconds; ``cryptography`` would add a sixth to what is installed on a device.
"""

import base64
import hashlib

from treadle.errors import SpecError

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_1 = pow(2, (_P - 1) // 4, _P)
# How a public key begins in DER (RFC 8410): the rest are its 32 bytes.
_DER = bytes.fromhex("302a300506032b6570032100")

# Extended coordinates (X, Y, Z, T): x = X/Z, y = Y/Z, x*y = T/Z.
_Point = tuple[int, int, int, int]


def public_key(pem: str) -> bytes:
    """Return the 32 bytes of a public key in PEM. Raises SpecError for anything else."""
    lines = pem.strip().splitlines()
    try:
        der = base64.b64decode("".join(lines[1:-1]), validate=True)
    except ValueError:
        der = b""
    if "PUBLIC KEY" not in pem or len(der) != 44 or not der.startswith(_DER):
        raise SpecError("verify_key holds no public ed25519 key in PEM: "
                        "openssl pkey -in treadle.key -pubout writes one")  # fmt: skip
    return der[len(_DER) :]


def is_signed(text: bytes, signature: bytes, key: bytes) -> bool:
    """Say whether ``signature`` (64 bytes) is the key's (32 bytes), of exactly this text."""
    if len(signature) != 64 or len(key) != 32:
        return False
    public, commitment = _decompressed(key), _decompressed(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    if public is None or commitment is None or scalar >= _ORDER:
        return False
    digest = hashlib.sha512(signature[:32] + key + text).digest()
    challenge = int.from_bytes(digest, "little") % _ORDER
    return _same(_times(scalar, _BASE), _sum(commitment, _times(challenge, public)))


def _sum(one: _Point, other: _Point) -> _Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c = 2 * one[3] * other[3] * _D % _P
    d = 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(scalar: int, point: _Point) -> _Point:
    found = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            found = _sum(found, point)
        point = _sum(point, point)
        scalar >>= 1
    return found


def _same(one: _Point, other: _Point) -> bool:
    return not ((one[0] * other[2] - other[0] * one[2]) % _P
                or (one[1] * other[2] - other[1] * one[2]) % _P)  # fmt: skip


def _decompressed(encoded: bytes) -> _Point | None:
    """Return the point of its 32 bytes (RFC 8032, 5.1.3); None where there is none."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT_OF_MINUS_1 % _P
    if (x * x - square) % _P or (not x and sign):
        return None
    x = _P - x if x & 1 != sign else x
    return x, y, 1, x * y % _P


_BASE = _decompressed((4 * pow(5, -1, _P) % _P).to_bytes(32, "little")) or (0, 1, 1, 0)
