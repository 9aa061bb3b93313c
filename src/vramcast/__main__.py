"""`python -m vramcast` is the command line."""

from vramcast.cli import main

if __name__ == "__main__":
    main()
