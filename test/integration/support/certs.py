# SPDX-License-Identifier: MIT
"""A certificate authority for tests: root, intermediate, leaves of any kind."""
import datetime
import hashlib
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_rsa_keys = {}  # making one takes its time


def new_key(kind):
    """"ec" (P-256), "ec384", "ed25519", "rsa" (2048), "rsa1024" …; RSA keys of a size are made once."""
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ec384":
        return ec.generate_private_key(ec.SECP384R1())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    size = int(kind[3:] or 2048)
    if size not in _rsa_keys:
        _rsa_keys[size] = rsa.generate_private_key(65537, size)
    return _rsa_keys[size]


def key_text(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption()).decode()


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


class Certificate:
    """A leaf with its chain. chain, key: PEM texts; leaf: PEM of the leaf alone; chain_file, key_file."""

    def __init__(self, folder, number, certificate, key, issuers):
        self.certificate, self.private_key = certificate, key
        self.leaf = pem(certificate)
        self.chain = self.leaf + "".join(pem(issuer) for issuer in issuers)
        self.key = key_text(key)
        self.fingerprint = hashlib.sha256(
            certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
        self.chain_file = folder / f"{number}.chain.pem"
        self.key_file = folder / f"{number}.key.pem"
        self.chain_file.write_text(self.chain)
        self.key_file.write_text(self.key)
        self.key_file.chmod(0o600)


class Authority:
    """Root and intermediate; issue() makes leaves. ca_pem, ca_file: the root."""

    def __init__(self, folder, name="pointsman test"):
        self.folder, self.count = folder, 0
        self.root_key, self.intermediate_key = new_key("ec"), new_key("ec")
        self.root_name = self._name(f"{name} root")
        self.intermediate_name = self._name(f"{name} intermediate")
        self.root = self._sign(self.root_name, self.root_name, self.root_key.public_key(),
                               self.root_key, is_ca=True)
        self.intermediate = self._sign(self.intermediate_name, self.root_name,
                                       self.intermediate_key.public_key(), self.root_key, is_ca=True)
        self.ca_pem = pem(self.root)
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_text(self.ca_pem)

    @staticmethod
    def _name(common, organization="Tests"):
        return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
                          x509.NameAttribute(NameOID.COMMON_NAME, common)])

    @staticmethod
    def _sign(subject, issuer, public_key, signer, names=(), is_ca=False, begin=None, end=None,
              usages=()):
        now = datetime.datetime.utcnow()
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
                   .public_key(public_key).serial_number(x509.random_serial_number())
                   .not_valid_before(begin or now - datetime.timedelta(days=1))
                   .not_valid_after(end or now + datetime.timedelta(days=365))
                   .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), True)
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), False)
                   .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                       signer.public_key()), False))
        sans = []
        for name in names:
            try:
                sans.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                sans.append(x509.DNSName(name))
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(sans), False)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
        return builder.sign(signer, hashes.SHA256())

    def issue(self, names, key="ec", days=30, begin_days=-1, common=None, client=False,
              with_intermediate=True, private_key=None):
        """A leaf for `names` (DNS names, IP addresses) that ends in `days` (negative: has ended)."""
        names = [names] if isinstance(names, str) else list(names)
        private_key = private_key or new_key(key)
        now = datetime.datetime.utcnow()
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        begin = now + datetime.timedelta(days=min(begin_days, days - 1))
        signer, issuer = ((self.intermediate_key, self.intermediate_name) if with_intermediate
                          else (self.root_key, self.root_name))
        certificate = self._sign(self._name(common or (names[0] if names else "client")), issuer,
                                 private_key.public_key(), signer, names, begin=begin,
                                 end=now + datetime.timedelta(days=days), usages=(usage,))
        self.count += 1
        return Certificate(self.folder, self.count, certificate, private_key,
                           [self.intermediate] if with_intermediate else [])
