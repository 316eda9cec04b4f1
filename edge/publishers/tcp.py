"""A TCP server whose every client gets the newest message it can take, and never a backlog."""

from edge.publishers.access import check_access, listen_options, tls_context, warn_if_open
from edge.publishers.listening import listening_socket
from edge.publishers.stream_server import StreamServer
from edge.uri import Uri

__all__ = ["TcpPublisher"]

_QUEUE = 1024  # readers that all connect again when Harrier has started again


class TcpPublisher(StreamServer):
    """`tcp://host:port`: listens there; each client has a latest-value slot, so no reader delays another.

    A result that is replaced in a slot before its turn is counted in `dropped`; changes of state are not replaced,
    and the last one greets whoever connects. Port 0 takes a free port. Options: see ListenOptions.
    """

    @staticmethod
    def check(uri: Uri) -> None:
        """Check address, options and TLS files.

        Raises: ConfigError.
        """
        host, _ = uri.host_port()
        options = listen_options(uri)
        check_access(uri, host, options)
        tls_context(options)

    def __init__(self, uri: Uri) -> None:
        self.check(uri)
        host, port = uri.host_port()
        options = listen_options(uri)
        warn_if_open(uri, host, options)
        server = listening_socket(uri, host, port)
        server.listen(_QUEUE)
        real_host, real_port = server.getsockname()[:2]
        address = f"tcp://[{real_host}]:{real_port}" if ":" in real_host else f"tcp://{real_host}:{real_port}"
        super().__init__(server, address, options, tls_context(options))
