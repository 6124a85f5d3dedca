"""`python -m entrocraft`."""

from entrocraft.cli import main

if __name__ == "__main__":
    main(prog_name="entrocraft")
