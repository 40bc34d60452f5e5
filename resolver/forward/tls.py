"""What we show and whom we trust when an upstream is asked over TLS (RFC 7858)."""

import ssl

from resolver.errors import ConfigError
from resolver.forward.options import TlsOptions


def client_context(options: TlsOptions) -> ssl.SSLContext:
    """Return the context for `tls [CERT KEY] [CA]`: TLS 1.2 or later, the certificate and its name verified.

    Without CA the system's are trusted; with one, only that. The name is checked against `tls_servername`, or
    the upstream's address without one: whoever connects passes it as `server_hostname`.

    Reads files, and blocks: for the start and for reloads. Raises ConfigError, naming the file.
    """
    try:
        context = ssl.create_default_context(cafile=options.ca_path or None)
    except OSError as error:
        raise ConfigError(options.ca_path, 0, f"{_reason(error)}; a PEM file with CA certificates") from None
    if options.certificate_path:
        pair = f"{options.certificate_path} with {options.key_path}"
        try:
            # The password callback: without it, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(options.certificate_path, options.key_path or None, password=lambda: "")
        except OSError as error:
            problem = f"{_reason(error)}; a PEM certificate and its key, without a password"
            raise ConfigError(pair, 0, problem) from None
    return context


def _reason(error: OSError) -> str:
    """Return OpenSSL's or the system's words without numbers. Some of OpenSSL's errors have none."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").lower().replace("_", " ")
    return error.strerror or type(error).__name__
