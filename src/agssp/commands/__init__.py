"""One module a command: a dataclass of arguments and a `main()`; nothing imports this folder but the command line."""
