"""`python -m sadari` is `sadari`."""

from sadari.cli import main

if __name__ == "__main__":
    main()
