"""Entry point of `python -m scripts`."""

from .cli.main import main

if __name__ == "__main__":
    main()
