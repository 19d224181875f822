"""The cluster's certificates: two authorities, and a key pair for each component and user."""

import base64
import dataclasses
import datetime as dt
import ipaddress
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from imagetrain_cluster import network

_VALID_DAYS = 3650
_CLOCK_SKEW = dt.timedelta(hours=1)
_API_SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Folder:
    """The PEM files of one cluster."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def create(self, *, nodes: int) -> None:
        """Make everything; about 0.1 s."""
        self.path.mkdir(mode=0o700)
        authority = self._authority("ca")
        front = self._authority("front-proxy-ca")
        self._issue("front-proxy-client", front, name="front-proxy-client")
        addresses = ("127.0.0.1", network.CONTROL_PLANE_ADDRESS, network.API_SERVICE_ADDRESS)
        self._issue("apiserver", authority, name="kube-apiserver", hosts=(*_API_SERVER_NAMES, *addresses))
        self._issue("apiserver-kubelet", authority, name="kube-apiserver-kubelet", group="system:masters")
        self._issue("admin", authority, name="admin", group="system:masters")
        for component in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
            self._issue(component, authority, name=f"system:{component}")
        for number in range(1, nodes + 1):
            hosts = (f"n{number}", network.node_address(number), "127.0.0.1")
            name = f"system:node:n{number}"
            self._issue(f"kubelet-n{number}", authority, name=name, group="system:nodes", hosts=hosts)
        key = ec.generate_private_key(ec.SECP256R1())
        self._write_key("service-account", key)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self.path / "service-account.pub").write_bytes(public)

    def certificate(self, name: str) -> pathlib.Path:
        """Return the certificate file of a component or user."""
        return self.path / f"{name}.crt"

    def key(self, name: str) -> pathlib.Path:
        """Return the key file of a component or user."""
        return self.path / f"{name}.key"

    def base64(self, path: pathlib.Path) -> str:
        """Return a file as kubeconfig files want it."""
        return base64.b64encode(path.read_bytes()).decode("ascii")

    def _authority(self, name: str) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"imagetrain-{name}")])
        usage = _key_usage(signs_certificates=True)
        builder = (
            _builder(subject, subject, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return self._write(name, Identity(certificate=builder.sign(key, hashes.SHA256()), key=key))

    def _issue(
        self, file_name: str, authority: Identity, *, name: str, group: str = "", hosts: tuple[str, ...] = ()
    ) -> None:
        """Write a key pair for `name` (the user), in `group`, valid as a server on `hosts`."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if group:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = (
            _builder(x509.Name(attributes), authority.certificate.subject, key)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
            )
        )
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(authority.key, hashes.SHA256())
        self._write(file_name, Identity(certificate=certificate, key=key))

    def _write(self, name: str, identity: Identity) -> Identity:
        self.certificate(name).write_bytes(identity.certificate.public_bytes(serialization.Encoding.PEM))
        self._write_key(name, identity.key)
        return identity

    def _write_key(self, name: str, key: ec.EllipticCurvePrivateKey) -> None:
        content = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.key(name).touch(mode=0o600)
        self.key(name).write_bytes(content)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + dt.timedelta(days=_VALID_DAYS))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
