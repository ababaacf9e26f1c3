"""What TLS trusts and shows, the same for every broker."""

from __future__ import annotations

import ssl

from gateway.errors import ConfigError


def client_context(section: str, ca_file: str, cert_file: str, key_file: str) -> ssl.SSLContext:
    """Verifies the broker's name and certificate, against ``ca_file`` or the system's authorities.

    ``section`` is the part of the configuration the files come from: ``ConfigError`` names the key of one that is wrong.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except OSError as exc:
        raise ConfigError(section, f"{section}.ca_file", f"{ca_file} can't be used: {_text(exc)}") from exc
    if cert_file:
        try:
            # An encrypted key would be asked for on the terminal: with an empty password it is an error instead.
            context.load_cert_chain(cert_file, key_file, password="")
        except OSError as exc:
            files = f"{cert_file} with {key_file}"
            raise ConfigError(section, f"{section}.cert_file", f"{files} can't be used: {_text(exc)}") from exc
    return context


def _text(exc: OSError) -> str:
    return str(exc.strerror or exc).removeprefix("[Errno").strip()
