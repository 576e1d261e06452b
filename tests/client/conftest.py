"""What all tests of clients share."""

from pathlib import Path

import certifi
import pytest


@pytest.fixture(scope="session", autouse=True)
def _few_certificates(tmp_path_factory):
    """Nothing is encrypted here, and to read all certificates for each client would take longer than all the rest."""
    first, end, _ = Path(certifi.where()).read_text(encoding="utf-8").partition("-----END CERTIFICATE-----")
    file = tmp_path_factory.mktemp("certificates") / "one.pem"
    file.write_text(f"{first}{end}\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(file))
        yield
