"""All pictures. Needs matplotlib: `pip install entrocraft[plots]`."""
