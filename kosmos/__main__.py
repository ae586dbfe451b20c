"""``python -m kosmos``: the command where it is not on the path."""

from kosmos.cli.main import main

if __name__ == "__main__":
    main()
