"""A small Hub on loopback that speaks the Hub's HTTP API to the unmodified clients: the only stand-in of the tests."""

from .faults import EVERY, Fault, Request
from .server import LocalHub

__all__ = ["EVERY", "Fault", "LocalHub", "Request"]
