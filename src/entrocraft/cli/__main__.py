"""`python -m entrocraft.cli`."""

from entrocraft.cli import main

main()
