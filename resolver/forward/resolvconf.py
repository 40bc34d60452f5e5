"""resolv.conf(5): who the machine asks. Pure, and light: the settings read it before anything else is loaded."""

import ipaddress


def parse_resolv_conf(text: str) -> list[str]:
    """Return the addresses of the `nameserver` lines, in order, each once; what is no address is passed over."""
    found: list[str] = []
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                ipaddress.ip_address(words[1])
            except ValueError:
                continue
            if words[1] not in found:
                found.append(words[1])
    return found
