"""Groups and interfaces of multicast, for publisher and link."""

import ipaddress
import socket
import struct

__all__ = ["group_request", "interface_index", "is_multicast"]


def is_multicast(host: str) -> bool:
    """Return whether an IP address is that of a group; names are not."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_multicast
    except ValueError:
        return False


def interface_index(name: str) -> int:
    """Return the number of an interface given by name, 0 for "" (the system's choice).

    OSError passes through when there is none of that name.
    """
    return socket.if_nametoindex(name) if name else 0


def group_request(group: str, interface: str) -> bytes:
    """Return `struct ip_mreqn` for an IPv4 group on an interface, given by name, by its own address or as "".

    OSError passes through when there is no such interface.
    """
    address, index = "0.0.0.0", 0
    try:
        address = str(ipaddress.IPv4Address(interface))
    except ValueError:
        index = interface_index(interface)
    return struct.pack("@4s4si", socket.inet_aton(group), socket.inet_aton(address), index)
