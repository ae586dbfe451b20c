"""``python -m kosmos``, which is how torchrun starts the command."""

from kosmos.cli.main import main

if __name__ == "__main__":
    main()
