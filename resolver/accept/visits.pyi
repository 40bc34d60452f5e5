"""Types of the compiled visits (`visits.pyx`)."""

from resolver.accept.desk import Desk
from resolver.accept.tcp import TcpServer

class Visits:
    """The connections of one server."""

    def __init__(self, server: TcpServer, desk: Desk) -> None: ...
    def accept(self) -> bool:
        """As `TcpServer.accept`."""

    def look(self) -> None:
        """As `Desk.look`."""
